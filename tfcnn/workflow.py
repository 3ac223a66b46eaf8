"""The process of note 004 for a network on new data: overfit, search, train, regularize; each stage with a verdict.

    python -m tfcnn.studies.workflow --experiment=NAME

The stages, as the note has them: a few images must be fitted perfectly, or the code is wrong. Learning rate and weight
decay are searched on 1,000 images, without regularization. Some epochs on all images show whether both losses fall.
Where the validation loss no longer falls with the training loss, dropout and augmentation are introduced. Before the
search, a learning-rate range test (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3)
finds the rates at which the loss falls: one run whose rate grows from step to step.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import drawing, experiments, files
from tfcnn.recipe import Recipe, Scalar, UsageError
from tfcnn.runs import METRICS
from tfcnn.runs.curves import STYLE
from tfcnn.trainings import SAMPLE_SECONDS, Trainings

RECORD, FIGURE = "workflow.json", "figure.png"
_VALIDATION, _TRAINING = drawing.COLOURS[:2]
_RATES = (1e-5, 10.0)  # of the range test
_DECAYS = (1e-6, 1e-2)  # of the search
_EDGE = 0.05  # of the searched interval, on a logarithmic scale
_OVERFITTED = 0.999  # training accuracy
_BATCH = 32  # at most: 1,000 images make 31 steps

Row = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How much each stage trains.

    Attributes:
      overfit_epochs: on ten images.
      range_epochs: of the range test, on 1,000 images.
      trials: of the search.
      search_epochs: of each trial, on 1,000 images.
      epochs: on all images, without and with regularization.
    """

    overfit_epochs: int = 60
    range_epochs: int = 24
    trials: int = 16
    search_epochs: int = 10
    epochs: int = 20


SCALES = {"full": Lengths(), "sample": Lengths(trials=6, search_epochs=4, epochs=8)}


@dataclasses.dataclass(frozen=True)
class Stage:
    """What a stage found.

    Attributes:
      name: of the stage.
      verdict: in words.
      passed: whether the process can go on.
      found: what was measured, as plain data.
    """

    name: str
    verdict: str
    passed: bool
    found: Mapping[str, Any]


def recipe_for(experiment: str, scale: str) -> Recipe:
    """The recipe that the process tunes: an experiment's, on the sample or on its own data.

    Raises:
      UsageError: there is no such experiment that trains a network.
    """
    recipes = experiments.recipes()
    if experiment not in recipes:
        raise UsageError(f"--experiment={experiment} must be one of {', '.join(recipes)}")
    on_sample = {"dataset": "sample", **experiments.samples()[experiment]} if scale == "sample" else {}
    return recipes[experiment].replace(**on_sample)


def unregularized(recipe: Recipe) -> Recipe:
    """The recipe without augmentation, dropout, penalties, smoothing, averages, and with a constant rate."""
    changes: dict[str, Scalar] = {"augment": "none", "l1": 0.0, "l2": 0.0, "shift_l2": 0.0, "weight_decay": 0.0,
                                  "label_smoothing": 0.0, "ema": 0.0, "lookahead": 0, "schedule": "constant",
                                  "warmup_epochs": 0.0, "decay_epochs": ""}
    if "dropout" in recipe.options:
        changes["dropout"] = 0.0
    return recipe.replace(**changes)


def regularized(recipe: Recipe, tuned: Recipe) -> Recipe:
    """The tuned recipe with the experiment's augmentation, or the standard one, and with dropout of at least a half."""
    changes: dict[str, Scalar] = {"augment": recipe.augment if recipe.augment != "none" else "standard"}
    if "dropout" in recipe.options:
        changes["dropout"] = max(0.5, float(recipe.network_options()["dropout"]))
    return tuned.replace(**changes)


def process(experiment: str, scale: str, jobs: int, data_dir: str | None, workdir: Path) -> None:
    """Runs the process for an experiment, and writes to `workdir/workflow-EXPERIMENT`.

    Args:
      experiment: its name.
      scale: `full`: on the experiment's data set; `sample`: on the sample, where no run starts after eight minutes.
      jobs: number of processes that train at the same time.
      data_dir: folder of the data set, as in `train`.
      workdir: as of the studies, whose runs it shares.

    Raises:
      UsageError: no such experiment, or the data is unavailable, or a folder cannot be used.
    """
    recipe, folder = recipe_for(experiment, scale), (
        workdir / f"workflow-{experiment}{'' if scale == 'full' else f'-{scale}'}")
    trainings = Trainings(f"workflow of {experiment}", workdir / "runs", jobs, data_dir,
                          SAMPLE_SECONDS if scale == "sample" else math.inf)
    run(recipe, SCALES[scale], trainings, folder)
    print(f"written: {folder}")


def run(recipe: Recipe, lengths: Lengths, trainings: Trainings, folder: Path) -> list[Stage]:
    """Goes through the stages until one of them fails or time is up; writes workflow.json and the figure to `folder`.

    Args:
      recipe: the experiment's, see `recipe_for`.
      lengths: how much each stage trains.
      trainings: trains.
      folder: where to write.
    """
    # In all stages, because a learning rate that was found with one batch size is not the best for another.
    plain = unregularized(recipe).replace(batch_size=min(_BATCH, recipe.batch_size), accumulate=1)
    stages: list[Stage] = []
    tuned = plain.replace(epochs=lengths.epochs)

    def add(stage: Stage) -> bool:
        stages.append(stage)
        print(f"{stage.name}: {stage.verdict}", flush=True)
        _write(recipe, stages, folder)
        return stage.passed

    if not add(overfit(plain, lengths.overfit_epochs, trainings)):
        return stages
    few = plain.replace(train_images=1000)
    if not add(range_test(few, lengths.range_epochs, trainings)):
        return stages
    if not add(search(few, lengths, float(stages[-1].found["rate"]), trainings)):
        return stages
    tuned = tuned.replace(learning_rate=stages[-1].found["learning_rate"], l2=stages[-1].found["l2"])
    if add(fit(tuned, trainings)):
        add(regularize(regularized(recipe, tuned), stages[-1].found, trainings))
    return stages


def overfit(recipe: Recipe, epochs: int, trainings: Trainings) -> Stage:
    """Ten images, one step an epoch: if they cannot be fitted, the code or the architecture is wrong."""
    rows = _train(recipe.replace(train_images=10, batch_size=10, epochs=epochs), trainings)
    if not rows:
        return _unreached("overfit ten images")
    last_wrong = max((int(row["epoch"]) for row in rows if row["accuracy"] < _OVERFITTED), default=0)
    ended = last_wrong < len(rows)
    verdict = (f"all ten are right from step {last_wrong + 1} on, the loss ends at {rows[-1]['loss']:.2g}: the code "
               "works and the architecture can learn" if ended else
               f"only {100 * rows[-1]['accuracy']:.0f}% are right after {len(rows)} steps: lower the learning rate, or "
               "look for a mistake in the network, the labels or the loss")
    return Stage("overfit ten images", verdict, ended, {"loss": [row["loss"] for row in rows],
                                                        "accuracy": [row["accuracy"] for row in rows]})


def range_test(recipe: Recipe, epochs: int, trainings: Trainings) -> Stage:
    """One run whose learning rate grows from 0.00001 to 10; the chosen rate is a third of that of the lowest loss."""
    lowest, highest = _RATES
    rows = _train(recipe.replace(epochs=epochs, learning_rate=lowest, schedule="exponential",
                                 decay_rate=highest / lowest, decay_epochs=str(epochs)), trainings)
    finite = [row["loss"] for row in rows if math.isfinite(row["loss"])]
    if not finite:
        return _unreached("learning-rate range test")
    rates = [lowest * (highest / lowest) ** ((number + 0.5) / epochs) for number in range(len(finite))]
    best = min(range(len(finite)), key=lambda number: finite[number])
    falls = finite[best] < 0.9 * finite[0]
    verdict = (f"the loss is lowest at a rate of about {rates[best]:.2g}, and {_after(len(finite), best, epochs)}; a "
               f"third of that, {rates[best] / 3:.2g}, is the centre of the search" if falls else
               "the loss does not fall at any rate: look for a mistake in the network or the data")
    return Stage("learning-rate range test", verdict, falls, {"rates": rates, "loss": finite, "rate": rates[best] / 3})


def _after(measured: int, best: int, epochs: int) -> str:
    if measured < epochs:
        return "the run diverges beyond"
    return "it rises beyond" if best + 1 < measured else "has not risen at the highest rate"


def search(recipe: Recipe, lengths: Lengths, centre: float, trainings: Trainings) -> Stage:
    """Learning rates within a factor of ten of the centre, and weight decays, at quasi-random points."""
    intervals = ((centre / 10, centre * 10), _DECAYS)
    trials = [recipe.replace(epochs=lengths.search_epochs, learning_rate=rate, l2=decay)
              for rate, decay in points(lengths.trials, intervals)]
    trainings.complete(trials)
    rows = [{"learning_rate": trial.learning_rate, "l2": trial.l2,
             "validation_accuracy": trainings.validation_accuracy(trial)} for trial in trials if
            trainings.has_ended(trial)]
    if not rows or max(row["validation_accuracy"] for row in rows) < 0:
        return _unreached("search")
    best = max(rows, key=lambda row: row["validation_accuracy"])
    place = _place(best["learning_rate"], intervals[0])
    verdict = (f"of {len(rows)} trials the best has a learning rate of {best['learning_rate']:.2g} and a weight decay "
               f"of {best['l2']:.1g}, with {100 * best['validation_accuracy']:.1f}% of the validation images right; "
               + ("the rate lies inside the interval" if _EDGE < place < 1 - _EDGE else
                  "the rate lies at the edge of the interval: search further"))
    return Stage("search", verdict, True, {"trials": rows, "learning_rate": best["learning_rate"], "l2": best["l2"]})


def points(count: int, intervals: Sequence[tuple[float, float]]) -> list[tuple[float, ...]]:
    """Halton's points, scrambled with seed 0, on logarithmic scales within the intervals."""
    from scipy.stats import qmc

    unit = qmc.Halton(len(intervals), rng=0).random(count)
    return [tuple(float(f"{low * (high / low) ** value:.3g}") for value, (low, high) in zip(row, intervals))
            for row in unit]


def _place(value: float, interval: tuple[float, float]) -> float:
    return math.log(value / interval[0]) / math.log(interval[1] / interval[0])


def fit(recipe: Recipe, trainings: Trainings) -> Stage:
    """Some epochs on all images: do both losses fall?"""
    rows = _train(recipe, trainings)
    if not rows:
        return _unreached("all images")
    lowest = min(range(len(rows)), key=lambda number: rows[number]["validation_loss"])
    falls = rows[-1]["loss"] < rows[0]["loss"] and lowest > 0 and not trainings.has_diverged(recipe)
    if not falls:
        verdict = "training and validation loss do not both fall: the architecture or the rate is not right, start over"
    elif lowest + 1 == len(rows):
        verdict = "both losses still fall at the end: the architecture looks good, and more epochs would help"
    else:
        verdict = (f"both losses fall, and the validation loss is lowest after epoch {lowest + 1} of {len(rows)}: the "
                   "architecture looks good, and it is time to regularize")
    return Stage("all images", verdict, falls, _losses(rows))


def regularize(recipe: Recipe, before: Mapping[str, Any], trainings: Trainings) -> Stage:
    """The same with dropout and augmentation: is the validation loss lower?"""
    rows = _train(recipe, trainings)
    if not rows:
        return _unreached("regularization")
    old, new = before["validation_loss"][-1], rows[-1]["validation_loss"]
    changed = f"the validation loss ends at {new:.3g} instead of {old:.3g}"
    verdict = f"{changed}: regularization helps" if new < old else \
        f"{changed}: regularization does not help yet; give it more epochs, or regularize less"
    return Stage("regularization", verdict, new < old, _losses(rows) | {"before": dict(before)})


def _losses(rows: Sequence[Row]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in ("loss", "validation_loss", "validation_accuracy")}


def _train(recipe: Recipe, trainings: Trainings) -> list[Row]:
    """The rows of metrics.csv of a recipe's run, of a diverged one those before; empty without time to start it."""
    trainings.complete([recipe])
    run = trainings.folder(recipe)
    return list(run.read_metrics()) if trainings.has_ended(recipe) and (run.path / METRICS).is_file() else []


def _unreached(name: str) -> Stage:
    return Stage(name, "no result: the loss was not finite at once, or time was up", False, {})


def _write(recipe: Recipe, stages: Sequence[Stage], folder: Path) -> None:
    record = {"experiment": recipe.experiment, "dataset": recipe.dataset,
              "stages": [dataclasses.asdict(stage) for stage in stages]}
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / RECORD, json.dumps(record, indent=1) + "\n")
    drawing.warn_if_not(lambda: files.write(folder / FIGURE, draw(stages)), folder / FIGURE)


def draw(stages: Sequence[Stage]) -> bytes:
    """A panel for each stage, its verdict below, as a PNG."""
    import textwrap

    with drawing.figure(STYLE, figsize=(3.1 * 5, 3.9), dpi=150, layout="constrained") as figure:
        for panel, stage in zip(figure.subplots(1, 5), [*stages, *[None] * (5 - len(stages))]):
            if stage is None:
                panel.axis("off")
                continue
            panel.set_title(stage.name)
            if stage.found:
                _PANELS[stage.name](panel, stage.found)
            panel.text(0, -0.24, "\n".join(textwrap.wrap(stage.verdict, 44)), transform=panel.transAxes, va="top",
                       fontsize=8, color="0.15" if stage.passed else _TRAINING)
        return drawing.png(figure)


def _draw_overfit(panel: Any, found: Mapping[str, Any]) -> None:
    panel.semilogy(range(1, len(found["loss"]) + 1), found["loss"], color=_TRAINING)
    panel.set_xlabel("step")
    panel.set_ylabel("training loss")


def _draw_range(panel: Any, found: Mapping[str, Any]) -> None:
    panel.semilogx(found["rates"], found["loss"], color=_TRAINING, marker="o", markersize=3)
    panel.axvline(found["rate"], color="0.4", linestyle=":")
    panel.set_ylim(0, 1.5 * found["loss"][0])
    panel.set_xlabel("learning rate")
    panel.set_ylabel("training loss")


def _draw_search(panel: Any, found: Mapping[str, Any]) -> None:
    good = [trial for trial in found["trials"] if trial["validation_accuracy"] >= 0]
    dots = panel.scatter([trial["learning_rate"] for trial in good], [trial["l2"] for trial in good], s=45,
                         c=[100 * trial["validation_accuracy"] for trial in good], cmap="viridis")
    panel.plot([found["learning_rate"]], [found["l2"]], marker="o", markersize=12, markerfacecolor="none", color="0.2")
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel("learning rate")
    panel.set_ylabel("weight decay")
    panel.figure.colorbar(dots, ax=panel, label="validation accuracy, %")


def _draw_losses(panel: Any, found: Mapping[str, Any]) -> None:
    epochs = range(1, len(found["loss"]) + 1)
    panel.plot(epochs, found["loss"], color=_TRAINING, linestyle="--", label="training")
    panel.plot(epochs, found["validation_loss"], color=_VALIDATION, label="validation")
    if "before" in found:
        panel.plot(epochs, found["before"]["validation_loss"], color="0.6", label="validation before")
    panel.set_ylim(0)
    panel.set_xlabel("epoch")
    panel.set_ylabel("loss")
    panel.legend(fontsize=8)


_PANELS: Mapping[str, Callable[[Any, Mapping[str, Any]], None]] = {
    "overfit ten images": _draw_overfit, "learning-rate range test": _draw_range, "search": _draw_search,
    "all images": _draw_losses, "regularization": _draw_losses}
