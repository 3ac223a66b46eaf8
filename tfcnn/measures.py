"""What a study measures of its runs: each measure is a number with a unit, computed from the folders of runs.

The runs are those of one arm and one seed: one run, or the members of an ensemble. A run that has diverged has no
value, which is NaN, unless its measure says what it counts as.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import itertools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tfcnn import files
from tfcnn.runs import OBSERVED, TIMINGS, RunFolder
from tfcnn.startup import import_tensorflow

_BATCH = 128
_FIRST_IMAGES = 1000  # whose activations are counted


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number that is measured of the runs of one arm and one seed.

    Attributes:
      name: its column in runs.csv.
      title: what an axis says, with the unit.
      of: takes the runs' folders and the folder of the data set, which may be None, and gives the number.
      diverged: what a run counts as whose loss was not finite; NaN: as nothing.
    """

    name: str
    title: str
    of: Callable[[Sequence[RunFolder], str | None], float]
    diverged: float = math.nan


def _of_result(*path: str) -> Callable[[Sequence[RunFolder], str | None], float]:
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        result: Any = runs[0].read_result()
        for key in path:
            result = result[key]
        return float(result)

    return value


def _last_error(column: str) -> Callable[[Sequence[RunFolder], str | None], float]:
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        return 100 * (1 - runs[0].read_metrics()[-1][column])

    return value


def _test_error(runs: Sequence[RunFolder], data_dir: str | None) -> float:
    return 100 * (1 - runs[0].read_result()["test"]["accuracy"])


TEST_ERROR = Measure("test_error", "test error, %", _test_error)
TEST_LOSS = Measure("test_loss", "test loss", _of_result("test", "loss"))
TRAIN_ERROR = Measure("train_error", "training error in the last epoch, %", _last_error("accuracy"))
# Of ten classes: a network that has diverged is as good as chance.
TRAIN_ERROR_OR_CHANCE = Measure("train_error_or_chance", "training error, % (90 if diverged)", _last_error("accuracy"),
                                diverged=90.0)
TRAIN_LOSS = Measure("train_loss", "training loss in the last epoch",
                     lambda runs, data_dir: runs[0].read_metrics()[-1]["loss"])
SECONDS = Measure("seconds", "training time, s", _of_result("train_seconds"))
RUN_SECONDS = Measure("run_seconds", "seconds from start to end",
                      lambda runs, data_dir: sum(map(_run_seconds, runs)))
PARAMETERS = Measure("parameters", "parameters", _of_result("parameters"))


@functools.cache
def version(study: str) -> str:
    """A digest of the code that measures, and of the study's, which chooses thresholds: what other code has measured is
    measured anew.
    """
    root = Path(__file__).parent
    paths = [Path(__file__), root / "silent_units.py", *sorted((root / "trained").glob("*.py")),
             *sorted((root / "description").glob("*.py")), *root.glob(f"studies/{study}.py")]
    return hashlib.sha256("".join(map(files.code_without_words, paths)).encode()).hexdigest()[:10]


def generalization_gap() -> Measure:
    """The test error minus the training error of the last epoch, in points."""
    return Measure("generalization_gap", "test error minus training error, points",
                   lambda runs, data_dir: TEST_ERROR.of(runs, data_dir) - TRAIN_ERROR.of(runs, data_dir))


def epochs_to(error: float) -> Measure:
    """Epochs until a training error is reached, interpolated between the ends of epochs; NaN if it is never reached.

    The error of an epoch is that of its images as they came, while the network learnt. It counts as that of its end,
    and so an error is reached up to half an epoch earlier than this says.

    Args:
      error: in percent.
    """
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        return _crossing(_errors(runs[0], "accuracy"), error)

    return Measure(f"epochs_to_{error:g}", f"epochs to {error:g}% training error", value)


def seconds_to(error: float) -> Measure:
    """Seconds of training until an error is reached, as `epochs_to`. Compilation counts, validation does not."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        epochs = _crossing(_errors(runs[0], "accuracy"), error)
        if not math.isfinite(epochs):
            return math.nan
        seconds = [0.0, *itertools.accumulate(_epoch_seconds(runs[0]))]
        whole = min(int(epochs), len(seconds) - 2)
        return seconds[whole] + (epochs - whole) * (seconds[whole + 1] - seconds[whole])

    return Measure(f"seconds_to_{error:g}", f"seconds to {error:g}% training error", value)


def steps_to_loss(loss: float) -> Measure:
    """Steps until the training loss is reached, as `epochs_to`; NaN if it never is."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        rows = runs[0].read_metrics()
        return _crossing([row["loss"] for row in rows], loss) * rows[0]["step"]

    return Measure(f"steps_to_loss_{loss:g}", f"steps to a training loss of {loss:g}", value)


def test_error_with(views: str) -> Measure:
    """The test error, in percent, with several views of each test image: `mirror`, `shift`, `six` or `ten_crop`."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        return 100 * (1 - evaluated(runs, data_dir, views)["accuracy"])

    return Measure(f"test_error_{views}", f"test error with {views.replace('_', ' ')} views, %", value)


def gain_by(views: str) -> Measure:
    """How much lower the test error is with several views of each test image, in points: see `test_error_with`."""
    return Measure(f"gain_by_{views}", f"test error without minus with {views.replace('_', ' ')} views, points",
                   lambda runs, data_dir: 100 * (evaluated(runs, data_dir, views)["accuracy"]
                                                 - evaluated(runs, data_dir)["accuracy"]))


def ensemble_error() -> Measure:
    """The test error, in percent, of the mean of the runs' probabilities."""
    return Measure("ensemble_error", "test error, %",
                   lambda runs, data_dir: 100 * (1 - evaluated(runs, data_dir)["accuracy"]))


def calibration_error() -> Measure:
    """The expected calibration error over 15 bins, in points, of the mean of the runs' probabilities."""
    return Measure("calibration_error", "calibration error, points",
                   lambda runs, data_dir: 100 * evaluated(runs, data_dir)["calibration"]["ece"])


def observed(name: str, title: str, epoch: int | None) -> Measure:
    """What a run's callbacks have observed, in percent, at the end of an epoch; None for the mean over all epochs."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        numbers = json.loads((runs[0].path / OBSERVED).read_text())[name]
        return 100 * (statistics.fmean(numbers) if epoch is None else numbers[epoch])

    return Measure(name, title, value)


def come_back() -> Measure:
    """The share of the silent units, in percent, that are no longer silent an epoch later, over all epochs of a run.

    See `silent_units`. NaN if no unit was silent at the end of an epoch before the last one.
    """
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        shares = json.loads((runs[0].path / OBSERVED).read_text())
        before = sum(shares["silent"][:-1])
        return 100 * sum(shares["resurrected"]) / before if before else math.nan

    return Measure("come_back", "silent units that come back, %", value)


def zero_activations() -> Measure:
    """The share of zeros, in percent, among the activations of all layers, on the first test images."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        network = _load(runs[0])
        from tfcnn.silent_units import activations
        from tfcnn.trained import data

        test = data.load(network, data_dir=data_dir).test
        pixels = network.normalization.apply(test.at(range(min(_FIRST_IMAGES, len(test)))))
        outputs = activations(network.model).predict_on_batch(pixels)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return 100 * sum((output == 0).sum() for output in outputs) / sum(output.size for output in outputs)

    return Measure("zero_activations", "activations that are zero, %", value)


def zero_share(threshold: float) -> Measure:
    """The share of the kernels' weights, in percent, whose magnitude is below a threshold."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        kernels = [kernel.numpy() for kernel in _kernels(_load(runs[0]))]
        return 100 * sum((abs(kernel) < threshold).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels)

    return Measure("zeros", f"weights below {threshold:g}, %", value)


def error_with_zeros(threshold: float) -> Measure:
    """The test error, in percent, with all weights of the kernels set to zero whose magnitude is below a threshold."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        network = _load(runs[0])
        for kernel in _kernels(network):
            weights = kernel.numpy()
            kernel.assign(weights * (abs(weights) >= threshold))
        from tfcnn.trained import evaluation
        return 100 * (1 - evaluation.evaluate([network], data_dir=data_dir).record["accuracy"])

    return Measure("error_with_zeros", "test error with these set to zero, %", value)


def _load(run: RunFolder) -> Any:
    """The trained network of a run."""
    import_tensorflow()
    from tfcnn import trained

    return trained.load(run.path)


def _kernels(network: Any) -> list[Any]:
    return [weight for weight in network.model.trainable_weights if weight.name == "kernel"]


def evaluated(runs: Sequence[RunFolder], data_dir: str | None, views: str = "none") -> dict[str, Any]:
    """What evaluation.json says of the runs' networks, together, on their test set, without temperature scaling."""
    import_tensorflow()
    from tfcnn.trained import evaluation, prediction

    found = [_logits(run.path, data_dir, views) for run in runs]
    logits = prediction.together([own for own, _, _ in found])
    return evaluation.measure(logits, *found[0][1:])


@functools.lru_cache(maxsize=64)  # the members of one ensemble are those of larger ones, and have several measures
def _logits(run: Path, data_dir: str | None, kind: str) -> tuple[Any, Any, Sequence[str]]:
    """A network's logits on its test set, averaged over views: [images, classes]; the labels; the classes' names."""
    import_tensorflow()
    import numpy as np

    from tfcnn import trained
    from tfcnn.trained import data, views

    network = trained.load(run)
    loaded, rows, labels = data.load(network, data_dir=data_dir), [], []
    for images, classes in loaded.test.batches(_BATCH):
        rows.append(views.logits(network, images, kind, _BATCH))
        labels.append(classes)
    return np.concatenate(rows), np.concatenate(labels), loaded.class_names


def multiply_accumulates() -> Measure:
    """Millions of multiply-accumulates for one image."""
    def value(runs: Sequence[RunFolder], data_dir: str | None) -> float:
        models = [_load(run).model for run in runs]
        from tfcnn.description import analysis

        return sum(analysis.describe(model).multiply_accumulates for model in models) / 1e6

    return Measure("multiply_accumulates", "million multiply-accumulates an image", value)


def _run_seconds(run: RunFolder) -> float:
    """From start to end of a run that was not interrupted: with its data, compilation, cached features and test."""
    result = run.read_result()
    begin, end = (datetime.fromisoformat(result[name]) for name in ("started", "finished"))
    return (end - begin).total_seconds()


def _errors(run: RunFolder, column: str) -> list[float]:
    return [100 * (1 - row[column]) for row in run.read_metrics()]


def _epoch_seconds(run: RunFolder) -> list[float]:
    with open(run.path / TIMINGS, newline="", encoding="utf-8") as file:
        return [float(row["seconds"]) for row in csv.DictReader(file)]


def _crossing(values: Sequence[float], threshold: float) -> float:
    """Where a falling sequence first reaches a threshold, in epochs; the first value stands at the end of epoch 1.

    Between two epochs the sequence is interpolated linearly. NaN if it never reaches the threshold.
    """
    for number, value in enumerate(values):
        if value <= threshold:
            if not number:
                return 1.0
            before = values[number - 1]
            return number + (before - threshold) / (before - value)
    return math.nan
