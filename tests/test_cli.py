"""The command line of an experiment: usage errors, and an output that is closed early."""

from __future__ import annotations

import subprocess
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.conftest import ROOT, command, environment
from tfcnn import cli
from tfcnn.recipe import UsageError


@pytest.mark.parametrize("argument, word", [
    ("--epoch=3", "epoch"), ("--epochs=many", "epochs"), ("--epochs=0", "epochs"), ("--epochs", "epochs"),
    ("--learning_rate=fast", "learning_rate"), ("--learning_rate=nan", "learning_rate"), ("--optimizer=lion", "lion"),
    ("--variant=googlenet", "googlenet"), ("--augment=perhaps", "perhaps"), ("--precision=int8", "int8"),
    ("epochs=3", "epochs=3"), ("--flagfile=/nowhere/x", "/nowhere/x"), ("--validation=1.5", "validation"),
    ("--batch_size=-3", "batch_size"), ("--devices=-1", "devices")])
def test_a_usage_error_is_one_line_and_status_2(argument: str, word: str, tmp_path: Path, run_command) -> None:
    done = run_command(argument, "--dataset=sample")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and word in lines[0]
    assert not list(tmp_path.iterdir())


def test_a_closed_output_is_no_error() -> None:
    program = subprocess.Popen(command("--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(ROOT))
    assert program.stdout and program.stderr
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 141  # what a shell says of a program that SIGPIPE ended
    program.stderr.close()


@pytest.mark.parametrize("files, own", [
    ({"result.json": '{"experiment": "scaling"}', "README.md": ""}, True),
    ({"README.md": "", "scaling.png": ""}, True),  # of a run that was interrupted before it had another result
    ({"result.json": '{"experiment": "frameworks", "complete": false}'}, False),
    ({"result.json": '{"experiment": "alexnet"}', "curves.png": ""}, False),
    ({"README.md": ""}, False), ({"README.md": "", "setup.cfg": "", "report.png": ""}, False)])
def test_a_benchmark_replaces_its_own_results_only(files: dict[str, str], own: bool, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match="exists already"), cli._result_folder("scaling", str(tmp_path), False):
        pass
    with nullcontext() if own else pytest.raises(UsageError, match="holds something else than a result of scaling"):
        with cli._result_folder("scaling", str(tmp_path), True):
            pass
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_an_old_result_is_not_reported_as_measured_now(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "result.json").write_text('{"experiment": "scaling"}')

    def interrupted(values: object, workdir: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        cli.measure("scaling", {}, interrupted, ["scaling", f"--workdir={tmp_path}", "--overwrite"])
    assert "measured" not in capsys.readouterr().err
