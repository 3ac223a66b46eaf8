"""The list of commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tfcnn import experiments, studies

ROOT = Path(__file__).parents[1]


def test_every_command_is_listed_without_tensorflow() -> None:
    program = ("import runpy, sys\n"
               "try: runpy.run_module('tfcnn', run_name='__main__')\n"
               "except SystemExit as end: assert not end.code, end.code\n"
               "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")]
    tools = {path.stem for path in (ROOT / "tfcnn").glob("*.py") if 'if __name__ == "__main__":' in path.read_text()}
    tools |= {path.parent.name for path in (ROOT / "tfcnn").glob("*/__main__.py")}
    measuring = {path.stem for path in (ROOT / "tfcnn" / "experiments").glob("[a-z]*.py")}
    assert measuring >= set(experiments.recipes())
    assert sorted(listed) == sorted([*measuring, *studies.studies(), *tools - {"__main__", "trainings"}])
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines() if line)


def test_an_argument_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-m", "tfcnn", "alexnet"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "alexnet" in done.stderr
