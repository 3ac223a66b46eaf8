"""Standard streams that are full, closed or ASCII, signals that are ignored, and arguments that are no text."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import command, environment
from tests.forked import Forked, run_module
from tfcnn.arguments import expanded
from tfcnn.recipe import UsageError

FLAGS = ("--dataset=folder", "--data_dir=data", "--batch_size=8", "--validation=0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory, with the data of 16 training and 4 test images."""
    root = tmp_path_factory.mktemp("streams")
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("test", 2)):
        for label in ("a", "b"):
            (root / "data" / part / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(
                    root / "data" / part / label / f"{number}.png")
    return root


def _redirected(action: str, module: str, *arguments: str) -> None:
    """Runs a module after something was done to its streams or signals; called in a process of its own."""
    if action == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif action == "messages full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    elif action == "no reader":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    elif action == "ignoring":
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen(["sh", "-c", "while kill -INT $0 && kill -TERM $0; do sleep 0.1; done", str(os.getpid())],
                         stderr=subprocess.DEVNULL)
    run_module(module, *arguments)


def _run(folder: Path, action: str, *arguments: str, module: str = "tfcnn.experiments.lenet5"
         ) -> subprocess.CompletedProcess:
    return Forked(_redirected, action, module, *arguments, cwd=folder, env=environment(folder)).completed()


@pytest.mark.parametrize("action, status", [("full", 2), ("no reader", 141)])
def test_an_output_that_takes_no_more_ends_a_command(action: str, status: int, folder: Path) -> None:
    done = _run(folder, action, "lenet", module="tfcnn.describe")
    assert done.returncode == status, done.stderr
    assert len(done.stderr.splitlines()) == (status == 2) and "Traceback" not in done.stderr


@pytest.mark.parametrize("action, status", [("full", 2), ("no reader", 141)])
def test_training_whose_output_is_lost_can_be_resumed(action: str, status: int, folder: Path) -> None:
    lost = _run(folder, action, *FLAGS, "--epochs=1", f"--workdir={action}")
    assert lost.returncode == status and "Traceback" not in lost.stderr
    assert "resume: " in lost.stderr
    assert lost.stderr.count("error: ") == (status == 2)
    again = _run(folder, "messages full", *FLAGS, "--epochs=1", f"--workdir={action}")
    assert again.returncode == 0 and (folder / action / "result.json").exists()


def test_ignored_signals_stay_ignored(folder: Path) -> None:
    done = _run(folder, "ignoring", *FLAGS, "--epochs=2", "--workdir=ignoring")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "ignoring" / "result.json").read_text())["epochs"] == 2


def test_streams_that_are_closed_at_the_start_are_dev_null(folder: Path) -> None:
    closing = "exec " + " ".join(f"'{word}'" for word in command(
        *FLAGS, "--epochs=1", "--workdir=closed", experiment="lenet5")) + " <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", closing], cwd=folder, env=environment(folder)).returncode == 0
    assert (folder / "closed" / "result.json").exists()


@pytest.mark.parametrize("encoding, shown", [("ascii", b"\\xe9"), ("utf-8", "é".encode()), ("latin-1", b"\xe9")])
def test_any_text_can_be_printed(encoding: str, shown: bytes, folder: Path) -> None:
    program = ("from tfcnn.exit_status import end_process\n"
               "end_process(lambda: print('\\u00e9', '\\udcff', flush=True) or 0)")
    done = subprocess.run([*command()[:1], "-c", program], capture_output=True, cwd=folder,
                          env=environment(folder) | {"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stdout, done.stderr) == (0, shown + b" \xff\n", b"")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_flag_file_is_utf_8_or_has_a_byte_order_mark(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "file.flags"
    file.write_text("# comment\n\n--data_dir=é\r\n--epochs=3\n", encoding=encoding)
    assert expanded(["a", f"--flagfile={file}", "b"]) == ["a", "--data_dir=é", "--epochs=3", "b"]
    assert expanded(["--flagfile", str(file), "--", "--flagfile=x"])[-2:] == ["--", "--flagfile=x"]


@pytest.mark.parametrize("content, word", [
    ("é".encode("latin-1"), "UTF-8"), ("--a".encode("utf-16-le"), "zero byte"), (b"\x89PNG\r\n\x1a\n\0\xff", "UTF-8"),
    (b"--flagfile=file.flags", "itself"), (b"--flagfile=.", "directory"), (b"--flagfile=no", "No such file"),
    (b"--flagfile", "needs the name")])
def test_a_flag_file_that_cannot_be_used_is_a_usage_error(
        content: bytes, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.flags").write_bytes(content)
    with pytest.raises(UsageError, match=word):
        expanded(["--flagfile=file.flags"])


def test_an_argument_that_is_not_utf_8_is_one_line_before_anything_is_written(folder: Path) -> None:
    before = sorted(folder.iterdir())
    for flag in ("workdir", "data_dir", "flagfile"):
        done = _run(folder, "", *FLAGS, f"--{flag}=no\udcff")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
        assert "not text in UTF-8" in done.stderr
    assert sorted(folder.iterdir()) == before
