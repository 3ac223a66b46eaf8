"""The README: its length, its test command, the tour of the house. The rest is in test_docs.py."""

from __future__ import annotations

from tests import pages
from tests.conftest import ROOT
from tfcnn.runs import published

README = pages.text("README.md")
TOUR = pages.text("docs/house.md")


def test_readme_has_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


def test_ci_runs_the_readmes_test_command() -> None:
    command = ".venv/bin/python -m pytest"
    assert f"```sh\n{command}\n```" in README
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_folder_and_top_level_module_is_in_the_tour() -> None:
    package = ROOT / "tfcnn"
    parts = [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    parts += [f"{path.parent.relative_to(package).as_posix()}/" for path in package.rglob("*/__init__.py")]
    missing = [part for part in parts if f"(../tfcnn/{part})" not in TOUR]
    assert not missing and "(docs/house.md)" in README


def test_first_screen_has_commands_picture_and_results() -> None:
    start = README.index("python -m tfcnn.experiments.alexnet")
    assert start < README.index("python -m pytest") < README.index("![") < README.index("## Results")
    assert README[:README.index("## Results")].count("\n") < 25


def test_results_have_every_published_row() -> None:
    table = README[README.index("<!-- results: begin"):README.index("<!-- results: end -->")]
    for row in published.ROWS:
        assert f"| [{row.network}](tfcnn/experiments/{row.experiment}.py) | {row.data} |" in table
