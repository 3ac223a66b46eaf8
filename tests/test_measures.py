"""What a study measures of a run, on runs that were written by hand; see also test_studies, for trained ones."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.toy_run import complete_run
from tfcnn import measures
from tfcnn.measures import Measure
from tfcnn.runs import OBSERVED, RunFolder

# The training error is lowest in the second epoch, and the loss in the last one.
ROWS = [{"epoch": 1, "step": 10, "loss": 2.0, "accuracy": 0.5, "validation_accuracy": 0.35},
        {"epoch": 2, "step": 20, "loss": 1.5, "accuracy": 0.8, "validation_accuracy": 0.45},
        {"epoch": 3, "step": 30, "loss": 0.75, "accuracy": 0.7, "validation_accuracy": 0.65}]


@pytest.fixture
def runs(tmp_path: Path) -> list[RunFolder]:
    """Two runs, of which most measures are of the first."""
    first = complete_run(tmp_path / "first", test={"accuracy": 0.64, "loss": 1.25, "images": 50}, train_seconds=61.5,
                         parameters=12345, started="2026-11-29T23:59:30+00:00", finished="2026-11-30T00:01:00+00:00")
    second = complete_run(tmp_path / "second", test={"accuracy": 0.9, "loss": 0.3, "images": 50}, train_seconds=8.0,
                          parameters=99, started="2026-11-30T01:00:00+00:00", finished="2026-11-30T01:00:20.500+00:00")
    first.write_metrics(ROWS)
    first.write_timings([{"epoch": epoch, "seconds": 10.0 * epoch} for epoch in (1, 2, 3)])
    return [first, second]


@pytest.mark.parametrize("measure, expected", [
    (measures.TEST_ERROR, 36.0), (measures.TEST_LOSS, 1.25), (measures.TRAIN_ERROR, 30.0),
    (measures.TRAIN_ERROR_OR_CHANCE, 30.0), (measures.TRAIN_LOSS, 0.75), (measures.SECONDS, 61.5),
    (measures.RUN_SECONDS, 110.5),  # 90 of the first and 20.5 of the second
    (measures.PARAMETERS, 12345), (measures.generalization_gap(), 6.0),
    # 40% lies between 50% at the end of the first epoch and 20% at that of the second.
    (measures.epochs_to(40), 1 + 1 / 3), (measures.seconds_to(40), 10 + 20 / 3),
    (measures.steps_to_loss(1.0), 10 * (2 + 2 / 3)),
], ids=lambda value: value.name if isinstance(value, Measure) else "")
def test_measures_of_a_run(measure: Measure, expected: float, runs: list[RunFolder]) -> None:
    assert measure.of(runs, None) == pytest.approx(expected, rel=1e-12)


def test_a_diverged_run_counts_as_chance_where_the_measure_says_so() -> None:
    assert measures.TRAIN_ERROR_OR_CHANCE.diverged == 90
    for measure in (measures.TEST_ERROR, measures.TRAIN_ERROR, measures.generalization_gap()):
        assert math.isnan(measure.diverged)


def test_what_callbacks_observe_is_of_an_epoch_or_the_mean_of_all(runs: list[RunFolder]) -> None:
    (runs[0].path / OBSERVED).write_text(json.dumps({"silent": [0.5, 0.2, 0.1], "resurrected": [0.0, 0.3, 0.05]}))
    assert measures.observed("silent", "", 0).of(runs, None) == pytest.approx(50)
    assert measures.observed("silent", "", -1).of(runs, None) == pytest.approx(10)
    assert measures.observed("silent", "", None).of(runs, None) == pytest.approx(100 * 0.8 / 3)
    # Of all 0.7 that were silent at the end of the first two epochs, 0.35 are not an epoch later.
    assert measures.come_back().of(runs, None) == pytest.approx(50)
    (runs[0].path / OBSERVED).write_text(json.dumps({"silent": [0.0, 0.0, 0.1], "resurrected": [0.0, 0.0, 0.0]}))
    assert math.isnan(measures.come_back().of(runs, None))
