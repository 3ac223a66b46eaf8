"""The README does what it says: its commands parse, its code runs, its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, environment
from tfcnn import cli
from tfcnn.experiments.alexnet import RECIPE

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
EXAMPLES = [line.split("#")[0] for line in README.splitlines() if line.startswith("alexnet ")]


def test_python_blocks_run(tmp_path: Path) -> None:
    build, train = PYTHON
    assert len(build.splitlines()) == 3
    program = tmp_path / "notebook.py"
    # An epoch of a few steps instead of one of the whole sample: what is tested is the code, not the accuracy.
    program.write_text(build + train.replace("epochs=1", "epochs=1, validation=0.95, batch_size=100"))
    done = subprocess.run([sys.executable, str(program)], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert "1,756,426" in done.stdout
    assert 0 < float(done.stdout.split()[-1]) < 1
    assert (tmp_path / "runs" / "notebook" / "result.json").exists()


@pytest.mark.parametrize("line", EXAMPLES)
def test_examples_of_flags_are_right(line: str) -> None:
    arguments = [word for word in shlex.split(line) if not word.startswith("--flagfile")]
    recipe, values = cli.parse(RECIPE, arguments)
    assert len(arguments) == 1 or recipe != RECIPE or any(values[name].present for name in values)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 8


def test_ci_runs_the_readmes_test_command() -> None:
    command = ".venv/bin/python -m pytest"
    assert f"```sh\n{command}\n```" in README
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("page", ["README.md", "BUILD_NOTES.md", "experiments/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert page == "BUILD_NOTES.md" or links
    for link in links:
        assert ((ROOT / page).parent / link).exists(), link


def test_every_module_is_in_the_tour() -> None:
    for path in (ROOT / "tfcnn").rglob("*.py"):
        name = path.relative_to(ROOT)
        inside = [str(parent) + "/" for parent in name.parents]
        assert path.name == "__init__.py" or any(f"({place})" in README for place in [str(name), *inside]), name


def test_speeds_are_those_of_the_recorded_run() -> None:
    """Of every network in experiments/frameworks: the default mode, PyTorch's best, and the ratios."""
    networks, in_bfloat16 = (json.loads((ROOT / "experiments" / name / "result.json").read_text())["networks"]
                             for name in ("frameworks", "frameworks_bfloat16"))
    table = README.split("the best of PyTorch's:\n\n")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) == len(networks) == 8
    for line, (network, precisions) in zip(table, networks.items()):
        _, _, default, pytorch, ratio, _, share, _, bfloat16, _ = (cell.strip(" *") for cell in line.split("|"))
        found = precisions["float32"]
        assert bfloat16 == f"{in_bfloat16[network]['bfloat16']['over_pytorch']:.2f}"
        assert [default, pytorch] == [f"{found['arms'][mode]['median']:,.0f}"
                                      for mode in ("graph", found["best_pytorch"])]
        assert [ratio, share] == [f"{found[name]:.2f}" for name in ("over_pytorch", "share_of_ceiling")]
