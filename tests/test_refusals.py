"""What the system refuses: one line that says what happened and what to do, and what was saved stays as it was."""

from __future__ import annotations

import argparse
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

from tests.conftest import environment
from tests.crash_injection import STAGES, find
from tests.data_files import write_folder
from tests.forked import Forked, run_module
from tests.users import drop_privileges
from tfcnn import console, exit_status, files

FLAGS = ("--dataset=folder", "--data_dir=data", "--epochs=2", "--batch_size=4", "--validation=0", "--workdir=run")


def _become_file(folder: Path) -> None:
    folder.rename("elsewhere")
    folder.touch()


def _forbid(folder: Path) -> None:
    drop_privileges()
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o500)


def _limit(folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


# What happens to the run's folder -> what the line says.
EVENTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "removed": (shutil.rmtree, "the folder {run} is missing, or was removed or renamed"),
    "renamed": (lambda folder: folder.rename("elsewhere"), "the folder {run} is missing, or was removed or renamed"),
    "a file": (_become_file, "{run} is a file: put a folder in its place"),
    "read-only": (_forbid, "change the permissions of {run}"),
    "limited": (_limit, "let this process write larger files (see `ulimit -f`)"),
}


def _happening(event: str, stage: str, call: int) -> None:
    """Runs an experiment; something happens to its folder when it enters a stage for the given time."""
    owner, name = find(STAGES[stage])
    function, calls = getattr(owner, name), iter(range(1, 1000))

    def happen_and_call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == call:
            EVENTS[event][0](Path("run"))
        return function(*arguments, **options)

    setattr(owner, name, happen_and_call)
    run_module("tfcnn.experiments.lenet5", *FLAGS)


@pytest.mark.parametrize("event, stage, call", [
    ("renamed", "steps", 2), ("removed", "tables", 3), ("a file", "checkpoint", 2), ("read-only", "tables", 3),
    ("limited", "network", 1)])
def test_what_happens_to_the_folder_of_a_run_is_said(event: str, stage: str, call: int, tmp_path: Path) -> None:
    """In the second epoch: before events are written, before the checkpoint, the tables, or the network."""
    write_folder(tmp_path / "data", size=(28, 28), mode="L")
    done = Forked(_happening, event, stage, call, cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.returncode == 2, done.stderr
    line, = done.stderr.splitlines()
    assert line.startswith("error: cannot ") and "run/" in line and "make room" not in line
    assert EVENTS[event][1].format(run=tmp_path / "run") in line
    assert (tmp_path / "run").is_dir() == (event in ("read-only", "limited"))  # it is not made again
    folder = tmp_path / ("run" if (tmp_path / "run").is_dir() else "elsewhere")
    if event != "removed":
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o700)
        assert not (folder / "result.json").exists() and not list(folder.rglob("*unfinished*"))
        sums = list((folder / "checkpoints").glob("*.sha256"))
        assert sums and not subprocess.run(["sha256sum", "--quiet", "-c", *sums], cwd=folder / "checkpoints").returncode


# Errors


@pytest.mark.parametrize("number, remedy", [
    (errno.ENOSPC, "make room"), (errno.EDQUOT, "make room"), (errno.EROFS, "make the file system writable"),
    (errno.EFBIG, "ulimit -f"), (errno.EMFILE, "ulimit -n"), (errno.EIO, "check the disk"),
    (errno.ENAMETOOLONG, "a shorter name"), (errno.ESTALE, "mount it again")])
def test_the_remedy_fits_the_reason(number: int, remedy: str, tmp_path: Path) -> None:
    """Errors of Python, of TensorFlow, and of HDF5, which has the number in its text only."""
    file = tmp_path / "file"
    for error in (OSError(number, os.strerror(number), str(file)),
                  tf.errors.UnknownError(None, None, f"{file}; {os.strerror(number)}"),
                  OSError(f"Can't write data (file write failed: time = now, errno = {number}, error message = ...)")):
        message = str(files.usage_error(f"cannot write {file}", error, file))
        assert message.startswith(f"cannot write {file}: ") and "\n" not in message
        assert remedy in message and ("make room" in message) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_tensorflow_s_own_errors_are_understood(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, words in (("/dev/full", "make room"), (tmp_path / "none" / "x", f"folder {tmp_path / 'none'} is missing"),
                        (tmp_path / "file" / "x", f"{tmp_path / 'file'} is a file")):
        with pytest.raises(tf.errors.OpError) as caught, tf.io.TFRecordWriter(str(path)) as writer:
            writer.write(bytes(2**20))
            writer.flush()
        message = str(files.usage_error("cannot write", caught.value, Path(path)))
        assert words in message and "\n" not in message


def test_a_refusal_that_no_one_caught_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        with open("/dev/full", "w") as file:
            file.write("x")
        return 0

    def missing() -> int:
        return len(os.listdir("/no/folder"))

    for action, words in ((full, "cannot go on: No space left on device; make room"),
                          (missing, "cannot use /no/folder: No such file or directory")):
        with pytest.raises(SystemExit) as end:
            exit_status.end_process(action)
        assert end.value.code == 2 and capsys.readouterr().err.startswith(f"error: {words}")
        assert console.run(console.Parser(), lambda arguments: action(), []) == 2
        assert capsys.readouterr().err.startswith(f"error: {words}")


@pytest.mark.parametrize("bug", [OSError(errno.EINVAL, "Invalid argument"), OSError("no number"),
                                 ConnectionRefusedError(errno.ECONNREFUSED, "refused"), ValueError("x")])
def test_a_bug_still_shows_its_traceback(bug: Exception) -> None:
    def fail(arguments: argparse.Namespace | None = None) -> int:
        raise bug

    for run in (lambda: exit_status.end_process(fail), lambda: console.run(console.Parser(), fail, [])):
        with pytest.raises(type(bug)) as caught:
            run()
        assert caught.value is bug
