"""The command line of the suite's tools: flag files, one-line errors, exit statuses."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tfcnn import console, describe


def parser() -> console.Parser:
    found = console.Parser(prog="python -m tfcnn.toy")
    found.add_argument("--number", type=int, default=0)
    found.add_argument("words", nargs="*")
    return found


def run(*words: str) -> tuple[int, list[argparse.Namespace]]:
    """The exit status, and what the command was called with."""
    calls: list[argparse.Namespace] = []

    def command(arguments: argparse.Namespace) -> int:
        calls.append(arguments)
        return 7

    return console.run(parser(), command, words), calls


def test_the_status_is_that_of_the_command() -> None:
    status, (arguments,) = run("--number=3", "a", "b")
    assert status == 7 and arguments.number == 3 and arguments.words == ["a", "b"]


def test_a_bad_argument_is_one_line_and_status_2(capsys: pytest.CaptureFixture) -> None:
    assert run("--number=three") == (2, [])
    error, = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and "three" in error and error.endswith("see python -m tfcnn.toy --help")


def test_a_flag_file_stands_for_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "toy.flags"
    file.write_text("# a comment\n--number=5\n")
    status, (arguments,) = run("a", f"--flagfile={file}")
    assert status == 7 and arguments.number == 5 and arguments.words == ["a"]


def test_a_missing_flag_file_is_one_line_and_status_2(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(f"--flagfile={tmp_path / 'none.flags'}") == (2, [])
    error, = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and "none.flags" in error


def test_describe_takes_a_flag_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "describe.flags"
    file.write_text("--variant=paper\n--format=json\n")
    assert describe.main(["alexnet", f"--flagfile={file}"]) == 0
    assert "60965224" in capsys.readouterr().out
