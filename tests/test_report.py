"""The page that shows everything: what it has, that it stands alone, and where it draws an interval."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import shutil
from pathlib import Path

import pytest

from tfcnn import claims, report, studies, study
from tfcnn.recipe import UsageError
from tfcnn.verdict import Claim

ROOT = Path(__file__).parents[1]


class _Elements(html.parser.HTMLParser):
    """Collects what a page refers to, its headings and the elements that are open."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        self.sources += [str(values[name]) for name in ("src", "href") if name in values]
        if tag not in ("meta", "img", "br", "line", "rect", "hr", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "rect"):
            assert self.open.pop() == tag


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one recorded study, of made-up numbers."""
    for name in ("README.md", "setup.cfg", "docs/networks.md", "tfcnn/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    one = studies.studies()["relu_against_tanh"]
    arms = [{"label": arm.label, "recipe": one.recipe(arm, "full").to_dict(), "search": {},
             "runs": [{"seed": seed, "runs": [f"run-seed{seed}"], "curves": {"accuracy": [0.5, 0.8]},
                       **{measure.name: 2.0 + number + 0.01 * seed for measure in one.measures}}
                      for seed in range(3)]} for number, arm in enumerate(one.arms)]
    record = {"name": one.name, "question": one.question, "source": one.source, "scale": "full", "arms": arms,
              "measures": {measure.name: measure.title for measure in one.measures}, "claims": [], "commit": "none"}
    folder = tmp_path / "work" / one.name
    folder.mkdir(parents=True)
    (folder / study.RECORD).write_text(json.dumps(record))
    (folder / study.ROWS).write_text("")
    (folder / study.FIGURE).write_bytes(study.draw(one, record))
    claims.record_study(folder, tmp_path)
    return tmp_path


def test_page_has_results_ledger_studies_and_networks_and_stands_alone(repository: Path) -> None:
    for path, text in claims.stale_pages(repository).items():
        path.write_text(text)
    assert not claims.stale_pages(repository)
    page = report.page(repository)
    elements = _Elements()
    elements.feed(page)
    assert not elements.open
    assert elements.sources and all(source.startswith(("#", "data:image/png;base64,")) for source in elements.sources)
    one = studies.studies()["relu_against_tanh"]
    assert page.count(one.question) >= 2 and "ResNet-56" in page and "googlenet_auxiliary" in page
    assert all(claim.statement in page for claim in one.claims)
    assert page.count("<svg") == len(one.claims)
    # tanh took 3.00 to 3.02 epochs, ReLU 2.00 to 2.02: a factor of 1.5, which is above 1.1 and below 3
    verdicts = {claim.name: found["verdict"] for _, claim, found in claims.ledger(claims.recorded(repository))}
    assert (verdicts["relu-faster"], verdicts["relu-three-times"]) == ("REPRODUCED", "NOT REPRODUCED")
    others = sum(len(each.claims) for each in studies.studies().values()) - len(one.claims)
    assert f"<b>{others}</b>not yet run" in " ".join(page.split()).replace("<b> ", "<b>")
    assert "×1.50" in (repository / "README.md").read_text()


def test_interval_is_drawn_to_scale() -> None:
    claim = Claim("name", "statement", "source", "none", "error", {"A": 1, "B": -1}, smallest=1.0)
    drawn = report.interval(claim, {"measured": 2.0, "interval": [1.5, 2.5]})
    assert drawn and 0 < drawn.none < drawn.bounds[0] < drawn.low < drawn.measured < drawn.high < 1
    assert (drawn.high - drawn.low) / (drawn.bounds[0] - drawn.none) == pytest.approx(1.0)
    assert report.interval(claim, {"measured": 2.0, "interval": None}) is None
    found = {"measured": 0.1, "interval": [-0.2, 0.6]}
    negative = report.interval(dataclasses.replace(claim, smallest=-1.0), found)
    assert negative and 0 < negative.bounds[0] < negative.low < negative.none < negative.high < 1
    without = report.interval(dataclasses.replace(claim, effect=False), found)
    assert without and 0 < without.bounds[0] < without.low < without.none < without.high < without.bounds[1] < 1


def test_out_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([f"--out={tmp_path / 'nothing' / 'report.html'}"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write")


def test_a_recorded_study_that_is_not_in_the_suite_is_one_line(repository: Path) -> None:
    folder = repository / "experiments" / "studies"
    shutil.copytree(folder / "relu_against_tanh", folder / "forgotten")
    with pytest.raises(UsageError, match="studies/forgotten is of no study of the suite: rename or remove it"):
        report.page(repository)


def test_a_sample_does_not_replace_what_was_recorded_at_full_scale(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "relu_against_tanh"
    record = json.loads((folder / study.RECORD).read_text())
    (folder / study.RECORD).write_text(json.dumps(record | {"scale": "sample"}))
    with pytest.raises(UsageError, match="is of the sample scale"):
        claims.record_study(folder, repository)


def test_command_records_a_study_renders_it_and_prints_the_ledger(repository: Path, monkeypatch: pytest.MonkeyPatch,
                                                                  capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(repository)
    page = repository / "experiments/studies/relu_against_tanh" / claims.PAGE
    shutil.rmtree(page.parent)
    assert claims.main(["record", "work/relu_against_tanh"]) == 0
    assert claims.main(["render", "--check"]) == 1 and "| Arm |" not in page.read_text()
    assert claims.main(["render"]) == 0 and claims.main(["render", "--check"]) == 0
    one = studies.studies()["relu_against_tanh"]
    assert all(claim.statement in page.read_text() for claim in one.claims)
    capsys.readouterr()
    assert claims.main([]) == 0
    printed = capsys.readouterr().out
    assert all(f"relu_against_tanh/{claim.name}: " in printed and claim.statement in printed for claim in one.claims)
    assert claims.main(["record", "work/nothing"]) == 2 and capsys.readouterr().err.startswith("error: ")


def test_a_study_without_its_figure_is_not_recorded(repository: Path) -> None:
    folder, recorded = repository / "work" / "relu_against_tanh", repository / "experiments/studies/relu_against_tanh"
    (folder / study.FIGURE).unlink()
    (folder / study.ROWS).write_text("new")
    with pytest.raises(UsageError, match="cannot be recorded: it lacks figure.png; run the study again"):
        claims.record_study(folder, repository)
    assert (recorded / study.ROWS).read_text() == ""
