"""Evaluates trained networks on a part of a data set: metrics, an ensemble's gain, and the logits themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcnn.data import datasets
from tfcnn.recipe import UsageError
from tfcnn.trained import metrics, prediction, views
from tfcnn.trained.network import TrainedNetwork

PARTS = ("test", "validation", "train")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What some networks, or one, make of a part of a data set.

    Attributes:
      record: the contents of evaluation.json.
      logits: [images, classes], in the data set's order; of several networks or views the logarithm of the mean of
        their probabilities.
      labels: int32 [images].
      images: uint8 [images, height, width, channels], as the first network was given them.
    """

    record: dict[str, Any]
    logits: np.ndarray
    labels: np.ndarray
    images: np.ndarray


def evaluate(networks: Sequence[TrainedNetwork], dataset: str = "", data_dir: str | None = None, part: str = "test",
             tta: str = "none") -> Evaluation:
    """Evaluates networks on a part of a data set; several are an ensemble, the mean of their probabilities.

    Args:
      networks: one or several, with the same classes.
      dataset: name of the data set; empty for the one that the first network was trained on.
      data_dir: its folder, as in `tfcnn.data.datasets.load`.
      part: one of `PARTS`; the validation part is what the first network's run held out.
      tta: test-time augmentation, one of `views.KINDS`.

    Raises:
      UsageError: the data set is unavailable or has other classes, the run held no validation images out, or the
        networks have different classes.
    """
    first = networks[0]
    for network in networks[1:]:
        if network.class_names != first.class_names:
            raise UsageError(f"{network.name} has other classes than {first.name}: "
                             f"{_listed(network.class_names)}; {_listed(first.class_names)}")
    name = dataset or first.recipe.dataset
    if part == "validation" and not _held_out(first, name):
        raise UsageError(f"{first.name} held no validation images of {name} out: choose another --split")
    data = load_data(first, name, data_dir)
    split: datasets.Split = getattr(data, part)
    labels = split.labels
    logits = [_logits(network, split.images, tta) for network in networks]
    together = prediction.log_mean(np.stack(logits)) if len(logits) > 1 else logits[0]
    record: dict[str, Any] = {"sources": [network.name for network in networks], "dataset": name, "source": data.source,
                              "split": part, "tta": tta, "class_names": list(data.class_names)}
    record |= measure(together, labels, data.class_names)
    if _held_out(first, name):
        held_out = [_logits(network, data.validation.images, tta) for network in networks]
        record["calibration"] |= calibrated(
            together, labels, prediction.log_mean(np.stack(held_out)) if len(held_out) > 1 else held_out[0],
            data.validation.labels)
    if len(networks) > 1:
        record["members"] = [_beside(together, own, labels, network.name) for own, network in zip(logits, networks)]
    elif tta != "none":
        record["members"] = [_beside(together, _logits(first, split.images, "none"), labels, f"{first.name}, one view")]
    return Evaluation(record, together, labels, first.fit(split.images))


def load_data(network: TrainedNetwork, name: str = "", data_dir: str | None = None) -> datasets.Dataset:
    """Loads a data set for a network, split as in its training, with the network's labels.

    A network whose classes are only numbered gets the data set's names.

    Args:
      network: the network.
      name: name of the data set; empty for the one that the network was trained on.
      data_dir: its folder.

    Raises:
      UsageError: the data set is unavailable or not known, or has other classes, or the network was trained on streamed
        images.
    """
    recipe = network.recipe
    if recipe.stream:
        raise UsageError(f"{network.name} was trained on streamed images, cut from larger ones, and data sets are read "
                         "into memory here: its result.json has its test accuracy")
    name = name or recipe.dataset
    if not name:
        raise UsageError(f"{network.name} does not say which data set it was trained on: give --dataset, here or in "
                         "its conversion")
    data = datasets.load(name, data_dir, validation=recipe.validation, seed=recipe.seed,
                         image_size=network.image_size or network.input_shape[:2])
    order = _label_order(network, name, data.class_names)
    train, validation, test = (datasets.Split(part.images, order[part.labels])
                               for part in (data.train, data.validation, data.test))
    class_names = data.class_names if network.numbered else network.class_names
    return dataclasses.replace(data, class_names=class_names, train=train, validation=validation, test=test)


def measure(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """The metrics of logits, as in evaluation.json; the calibration without temperature scaling."""
    correct = int((logits.argmax(axis=1) == labels).sum())
    return {
        "images": len(labels),
        "accuracy": correct / len(labels),
        "accuracy_interval": list(metrics.accuracy_interval(correct, len(labels))),
        "top5_accuracy": metrics.top_accuracy(logits, labels, 5),
        "loss": metrics.mean_loss(logits, labels),
        "classes": metrics.per_class(logits, labels, class_names),
        "confusion": metrics.confusion(logits, labels).tolist(),
        "calibration": {"ece": metrics.calibration_error(logits, labels), "temperature": None, "ece_after": None},
    }


def calibrated(logits: np.ndarray, labels: np.ndarray, held_out: np.ndarray, held_out_labels: np.ndarray
               ) -> dict[str, float]:
    """The temperature that fits the logits of held-out images, and the calibration error with it."""
    temperature = metrics.fit_temperature(held_out, held_out_labels)
    return {"temperature": temperature, "ece_after": metrics.calibration_error(logits, labels, temperature)}


def _beside(together: np.ndarray, own: np.ndarray, labels: np.ndarray, name: str) -> dict[str, Any]:
    """A member's own metrics, and how much more accurate the ensemble is."""
    right, own_right = (values.argmax(axis=1) == labels for values in (together, own))
    return {"source": name, "accuracy": float(own_right.mean()), "loss": metrics.mean_loss(own, labels),
            **metrics.paired_difference(right, own_right)}


def _logits(network: TrainedNetwork, images: np.ndarray, tta: str) -> np.ndarray:
    fitted, batch = network.fit(images), network.recipe.batch_size  # the batch of the run's own test
    parts = [network.logits(view, batch) for view in views.views(fitted, tta, network.recipe.crop_padding)]
    return prediction.log_mean(np.stack(parts)) if len(parts) > 1 else parts[0]


def _held_out(network: TrainedNetwork, dataset: str) -> bool:
    """Whether the network's run held out images of this data set."""
    return dataset == network.recipe.dataset and bool(network.result["dataset"]["validation_images"])


def _label_order(network: TrainedNetwork, dataset: str, names: Sequence[str]) -> np.ndarray:
    """The network's label for each label of the data set, int32."""
    if network.numbered and len(names) == len(network.class_names):
        return np.arange(len(names), dtype=np.int32)
    if sorted(names) != sorted(network.class_names):
        raise UsageError(f"{dataset} has other classes than {network.name}: {_listed(names)}; the network has "
                         f"{_listed(network.class_names)}")
    return np.array([network.class_names.index(name) for name in names], np.int32)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
