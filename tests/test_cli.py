"""The command line of an experiment: usage errors, and an output that is closed early."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, command, environment


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
