"""The process of note 004: what each stage asks for, its verdict in words, and where the process stops."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tfcnn import experiments, workflow
from tfcnn.experiments import alexnet, resnet
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import RunFolder
from tfcnn.workflow import Lengths

SHORT = Lengths(overfit_epochs=3, range_epochs=6, trials=5, search_epochs=1, epochs=3)


class _Trainings:
    """Stands for `Trainings`: losses follow from the recipe; no network is trained."""

    def __init__(self, folder: Path, best: float = 0.01, accuracy: float = 1.0, helps: bool = True) -> None:
        self.root, self.best, self.accuracy, self.helps = folder, best, accuracy, helps
        self.trained: list[Recipe] = []

    def complete(self, recipes: list[Recipe]) -> None:
        for recipe in recipes:
            self.trained.append(recipe)
            folder = self.folder(recipe)
            folder.path.mkdir()
            folder.write_metrics([self._row(recipe, epoch) for epoch in range(recipe.epochs)])

    def _row(self, recipe: Recipe, epoch: int) -> dict[str, Any]:
        rate = recipe.learning_rate
        if recipe.schedule == "exponential":
            rate *= recipe.decay_rate ** ((epoch + 0.5) / recipe.epochs)
            loss = 1 + abs(math.log10(rate / self.best)) / 2
        else:
            loss = 2.0 / (epoch + 1)
        validation = [2.0, 1.0, 1.5][epoch % 3] if recipe.augment == "none" else 0.5 if self.helps else 2.0
        return {"epoch": epoch + 1, "step": epoch + 1, "loss": loss, "accuracy": self.accuracy if epoch else 0.5,
                "validation_loss": validation, "validation_accuracy": self.validation_accuracy(recipe)}

    def folder(self, recipe: Recipe) -> RunFolder:
        return RunFolder(self.root / str(self.trained.index(recipe)))

    def has_ended(self, recipe: Recipe) -> bool:
        return recipe in self.trained

    def has_diverged(self, recipe: Recipe) -> bool:
        return False

    def validation_accuracy(self, recipe: Recipe) -> float:
        return 0.9 - abs(math.log10(recipe.learning_rate / self.best)) / 10


class _Wavering(_Trainings):
    """All images are right after the first and the third step, and not after the second."""

    def _row(self, recipe: Recipe, epoch: int) -> dict[str, Any]:
        return super()._row(recipe, epoch) | {"accuracy": 0.5 if epoch == 1 else 1.0}


def test_images_count_as_right_from_the_step_from_which_they_stay_so(tmp_path: Path) -> None:
    stage = workflow.overfit(alexnet.RECIPE, 3, _Wavering(tmp_path))
    assert stage.passed and "right from step 3 on" in stage.verdict


def test_all_stages_pass_and_each_asks_for_what_the_note_says(tmp_path: Path) -> None:
    trainings = _Trainings(tmp_path)
    stages = workflow.run(alexnet.RECIPE, SHORT, trainings, tmp_path / "out")  # type: ignore[arg-type]
    assert [stage.name for stage in stages] == list(workflow._PANELS) and all(stage.passed for stage in stages)
    ten, test, *trials, plain, last = trainings.trained
    assert (ten.train_images, ten.batch_size, ten.epochs) == (10, 10, 3)
    assert all(recipe.augment == "none" and not recipe.l2 and not recipe.weight_decay for recipe in (ten, test))
    assert len(trials) == 5 and {trial.train_images for trial in trials} == {1000}
    best = max(trials, key=trainings.validation_accuracy)
    assert (plain.learning_rate, plain.l2, plain.train_images) == (best.learning_rate, best.l2, 0)
    assert last == plain.replace(augment="standard", dropout=0.5)
    # The range test's chosen rate is a third of the rate of the lowest loss, and the search is around it.
    centre = stages[1].found["rate"]
    assert centre == pytest.approx(10 ** -2.5 / 3)  # the lower one of the two half decades around 0.01
    assert all(centre / 10.1 <= trial.learning_rate <= centre * 10.1 for trial in trials)
    assert "epoch 2 of 3" in stages[3].verdict and "0.5 instead of 1.5" in stages[4].verdict
    record = json.loads((tmp_path / "out" / workflow.RECORD).read_text())
    assert [stage["verdict"] for stage in record["stages"]] == [stage.verdict for stage in stages]
    assert (tmp_path / "out" / workflow.FIGURE).read_bytes()[:4] == b"\x89PNG"


def test_the_process_stops_where_ten_images_cannot_be_fitted(tmp_path: Path) -> None:
    trainings = _Trainings(tmp_path, accuracy=0.7)
    stages = workflow.run(alexnet.RECIPE, SHORT, trainings, tmp_path / "out")  # type: ignore[arg-type]
    assert len(stages) == 1 == len(trainings.trained) and not stages[0].passed and "only 70%" in stages[0].verdict


def test_regularization_that_does_not_help_is_said_so(tmp_path: Path) -> None:
    stages = workflow.run(resnet.RECIPE, SHORT, _Trainings(tmp_path, helps=False),  # type: ignore[arg-type]
                          tmp_path / "out")
    assert "does not help" in stages[-1].verdict and not stages[-1].passed and len(stages) == 5


def test_points_of_the_search_cover_the_intervals_and_are_the_same_again() -> None:
    intervals = ((1e-3, 1e-1), (1e-6, 1e-2))
    found = workflow.points(16, intervals)
    assert found == workflow.points(16, intervals)
    for axis, (low, high) in enumerate(intervals):
        quarters = [int(4 * math.log(point[axis] / low) / math.log(high / low) - 1e-9) for point in found]
        assert all(3 <= quarters.count(quarter) <= 5 for quarter in range(4))  # even, as random points are not


def test_an_unknown_experiment_is_refused() -> None:
    with pytest.raises(UsageError, match="--experiment=nothing must be one of alexnet, "):
        workflow.recipe_for("nothing", "sample")


@pytest.mark.parametrize("name", experiments.recipes())
def test_the_plain_recipe_of_every_experiment_has_no_regularization(name: str) -> None:
    plain = workflow.unregularized(experiments.recipes()[name])
    options = plain.network_options()
    assert not any((plain.l1, plain.l2, plain.shift_l2, plain.weight_decay, plain.label_smoothing, plain.ema,
                    plain.lookahead, options.get("dropout")))
    assert not plain.augmentations() and plain.schedule == "constant" and plain.validation
