"""The table of times to an accuracy: the shortest training that reaches it, beside PyTorch's measured speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toy_run import complete_run
from tfcnn.experiments.frameworks import RECIPES
from tfcnn.experiments.resnet import RECIPE
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.pages import BEGIN, END, stale_pages
from tfcnn.runs.time_to_accuracy import EARLIER_PROCESSOR, GOALS, Goal, render_times

GOAL = [Goal("ResNet-20", 90, "resnet20")]


def _runs(root: Path, epochs: int, *accuracies: float, name: str = "timed", **changes: str) -> list[RunFolder]:
    data = {"name": "cifar10", "source": "binary version", "train_images": 50_000, "validation_images": 0,
            "test_images": 10_000}
    return [complete_run(root / "experiments" / "resnet" / f"{name}-{epochs}-epochs-seed{seed}",
                         RECIPE.replace(epochs=epochs, decay_epochs="1", seed=seed), accuracy=accuracy, dataset=data,
                         epochs=epochs, train_seconds=30.0 * epochs + seed, **changes)
            for seed, accuracy in enumerate(accuracies)]


def _lines(runs: list[RunFolder], root: Path, goals: list[Goal]) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")]
            for line in render_times(runs, root, goals).splitlines()[2:]]


def _cells(runs: list[RunFolder], root: Path) -> list[str]:
    line, = _lines(runs, root, GOAL)
    return line


def test_the_shortest_training_whose_mean_reaches_the_goal_is_shown(tmp_path: Path) -> None:
    runs = _runs(tmp_path, 10, 0.89, 0.905) + _runs(tmp_path, 20, 0.899, 0.901, 0.90) + _runs(tmp_path, 30, 0.92)
    assert _cells(runs, tmp_path) == [
        "[ResNet-20](tfcnn/experiments/resnet.py)", "90", "**90.00 ± 0.10** (n = 3)", "20", "10 min 01 s",
        "not measured", EARLIER_PROCESSOR,
        ", ".join(f"[{name}](experiments/resnet/timed-20-epochs-seed{seed})"
                  for seed, name in enumerate(("timed-20-epochs-seed0", "1", "2")))]


def test_a_repeated_seed_is_no_training_of_its_own(tmp_path: Path) -> None:
    runs = _runs(tmp_path, 20, 0.8995, 0.8985, 0.899) + _runs(tmp_path, 20, 0.9002, name="timed-again")
    assert _cells(runs, tmp_path)[2] == "not yet: 89.90 ± 0.05 (n = 3)"


def test_a_goal_that_no_training_reaches_is_not_met_yet(tmp_path: Path) -> None:
    assert _cells([], tmp_path)[2:] == ["not yet measured", "", "", "", "", ""]
    runs = _runs(tmp_path, 10, 0.8999) + _runs(tmp_path, 20, 0.88, 0.89)
    assert _cells(runs, tmp_path)[2:] == [
        "not yet: 89.99 (n = 1)", "10", "5 min 00 s", "not measured", EARLIER_PROCESSOR,
        "[timed-10-epochs-seed0](experiments/resnet/timed-10-epochs-seed0)"]


def test_a_goal_with_other_views_needs_an_evaluation_of_every_run(tmp_path: Path) -> None:
    runs = _runs(tmp_path, 10, 0.88, 0.89)
    goal = [Goal("ResNet-20", 90, "resnet20", "six")]
    for run, accuracy, views, expected in ((runs[0], 0.90, "six", "not yet measured"),
                                           (runs[1], 0.92, "ten_crop", "not yet measured"),
                                           (runs[1], 0.92, "six", "**91.00 ± 1.41** (n = 2)")):
        (run.path / "evaluation").mkdir(exist_ok=True)
        (run.path / "evaluation" / "evaluation.json").write_text(json.dumps(
            {"tta": views, "accuracy": accuracy, "members": []}))
        line, = render_times(runs, tmp_path, goal).splitlines()[2:]
        assert [cell.strip() for cell in line.strip("|").split("|")][1:3] == ["90, six views", expected]


def test_runs_that_were_not_trained_for_it_do_not_count(tmp_path: Path) -> None:
    assert _cells(_runs(tmp_path, 60, 0.92, name="fast"), tmp_path)[2] == "not yet measured"


def _benchmark(root: Path, processor: str, **modes: object) -> None:
    folder = root / "experiments" / f"frameworks_{processor.split()[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"machine": processor, "networks": {
        "resnet20": {"bfloat16": {"arms": modes}}, "lenet5": {"float32": {"arms": modes}}}}))


def test_pytorchs_fastest_mode_gives_its_time(tmp_path: Path) -> None:
    _benchmark(tmp_path, EARLIER_PROCESSOR, graph={"median": 900.0}, pytorch={"median": 400.0},
               pytorch_compiled={"median": 500.0}, pytorch_channels_last={})
    runs = _runs(tmp_path, 20, 0.91)
    # 20 epochs of 50,000 images at 500 images/s
    assert _cells(runs, tmp_path)[5] == "33 min 20 s (500 images/s)"
    _benchmark(tmp_path, EARLIER_PROCESSOR, graph={"median": 900.0}, pytorch={"failed": "no memory"})
    assert _cells(runs, tmp_path)[5] == "not measured"


def test_each_processor_has_a_line_with_pytorchs_speed_on_it(tmp_path: Path) -> None:
    _benchmark(tmp_path, EARLIER_PROCESSOR, pytorch={"median": 500.0})
    _benchmark(tmp_path, "Xeon (AMX), 2 cores", pytorch={"median": 1000.0})
    runs = [*_runs(tmp_path, 20, 0.91),
            *_runs(tmp_path, 20, 0.91, 0.92, name="timed-fast", processor="Xeon (AMX), 2 cores"),
            *_runs(tmp_path, 30, 0.90, name="timed-old", processor="Opteron, 2 cores"),
            *_runs(tmp_path, 30, 0.89, name="timed-oldest", processor="Cyrix, 2 cores")]
    lines = _lines(runs, tmp_path, GOAL)
    assert [(line[2], line[5], line[6]) for line in lines] == [
        ("**91.00** (n = 1)", "33 min 20 s (500 images/s)", EARLIER_PROCESSOR),
        ("**91.50 ± 0.71** (n = 2)", "16 min 40 s (1,000 images/s)", "Xeon (AMX), 2 cores"),
        ("**90.00** (n = 1)", "not measured", "Opteron, 2 cores")]


def test_a_training_that_reaches_a_higher_goal_stands_there_unless_nothing_else_reaches_the_lower_one(
        tmp_path: Path) -> None:
    goals = [Goal("ResNet-20", accuracy, "resnet20") for accuracy in (90, 92, 94, 95)]
    runs = [*_runs(tmp_path, 10, 0.91), *_runs(tmp_path, 20, 0.945, processor="Xeon (AMX), 2 cores")]
    assert [(line[1], line[2], line[3]) for line in _lines(runs, tmp_path, goals)] == [
        ("90", "**91.00** (n = 1)", "10"), ("92", "**94.50** (n = 1)", "20"), ("94", "**94.50** (n = 1)", "20"),
        ("95", "not yet: 94.50 (n = 1)", "20")]


def test_a_recorded_benchmark_has_the_speeds_beside_the_earlier_runs() -> None:
    recorded = Path(__file__).parents[1] / "experiments" / "frameworks_bfloat16" / "result.json"
    assert json.loads(recorded.read_text())["machine"] == EARLIER_PROCESSOR


def test_timed_runs_are_in_the_second_table_of_the_readme_only(tmp_path: Path) -> None:
    _runs(tmp_path, 20, 0.91)
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    first, second = stale_pages(tmp_path)[tmp_path / "README.md"].split("**Time to accuracy**")
    assert "timed-20" not in first and "timed-20" in second


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.network)
def test_every_goal_has_its_row(goal: Goal) -> None:
    assert goal.row.dataset == "cifar10" and goal.benchmarked_as in RECIPES and 0 < goal.accuracy < 100
