"""Evaluates trained networks on a part of a data set: metrics, an ensemble's gain, and the logits themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tfcnn.recipe import UsageError
from tfcnn.trained import data, metrics, prediction, views
from tfcnn.trained.network import TrainedNetwork


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What some networks, or one, make of a part of a data set.

    Attributes:
      record: the contents of evaluation.json.
      logits: [images, classes], in the data set's order; of several networks or views the logarithm of the mean of
        their probabilities.
      labels: int32 [images].
      images: as the first network was given them.
    """

    record: dict[str, Any]
    logits: np.ndarray
    labels: np.ndarray
    images: data.Images


def evaluate(networks: Sequence[TrainedNetwork], dataset: str = "", data_dir: str | None = None, part: str = "test",
             tta: str = "") -> Evaluation:
    """Evaluates networks on a part of a data set; several are an ensemble, the mean of their probabilities.

    Args:
      networks: one or several, with the same classes.
      dataset: name of the data set; empty for the one that the first network was trained on.
      data_dir: its folder, as in `tfcnn.data.datasets.load`.
      part: `test`, `validation` or `train`; the validation part is what the networks' runs held out.
      tta: test-time augmentation, one of `published.VIEWS`; empty for that of the first network's own test, which is
        `ten_crop` after `--test_crops=10` and otherwise `none`.

    Raises:
      UsageError: the data set is unavailable or has other classes, there are no validation images that no network was
        trained on, or the networks have different classes.
    """
    first = networks[0]
    for network in networks[1:]:
        if network.class_names != first.class_names:
            raise UsageError(f"{network.name} has other classes than {first.name}: "
                             f"{data.listed(network.class_names)}; {data.listed(first.class_names)}")
    name, tta = data.name_of(first, dataset), tta or own_views(first)
    loader = data.Loader(name, data_dir, first)
    loaded = [loader.load(network) for network in networks]
    held_out = all(one.own for one in loaded) and _held_out_the_same(networks)
    if part == "validation" and not held_out:
        raise UsageError(f"{' and '.join(network.name for network in networks)} held no validation images of {name} "
                         f"from there out{'' if len(networks) == 1 else ', or not the same'}: choose another --split")
    logits, labels = _of_all(networks, [getattr(one, part) for one in loaded], tta)
    together = prediction.together(logits)
    class_names = loaded[0].class_names
    record: dict[str, Any] = {"sources": [network.name for network in networks], "dataset": name,
                              "source": loaded[0].source, "split": part, "tta": tta, "class_names": list(class_names)}
    record |= measure(together, labels, class_names)
    if held_out and part != "validation":  # on which the temperature is fitted
        others, their_labels = _of_all(networks, [one.validation for one in loaded], tta)
        record["calibration"] |= calibrated(together, labels, prediction.together(others), their_labels)
    images = getattr(loaded[0], part)
    if len(networks) > 1:
        record["members"] = [_beside(together, own, labels, network.name) for own, network in zip(logits, networks)]
    elif tta != "none":
        single, _ = _of_one(first, images, "none")
        record["members"] = [_beside(together, single, labels, f"{first.name}, one view")]
    return Evaluation(record, together, labels, images)


def own_views(network: TrainedNetwork) -> str:
    """The views that the network's own test averages: one of `published.VIEWS`."""
    return "ten_crop" if network.crops == 10 else "none"


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


def _of_all(networks: Sequence[TrainedNetwork], images: Sequence[data.Images], tta: str
            ) -> tuple[list[np.ndarray], np.ndarray]:
    """The logits of each network, and the labels."""
    found = [_of_one(network, own, tta) for network, own in zip(networks, images)]
    assert all(np.array_equal(labels, found[0][1]) for _, labels in found), "the images come in different orders"
    return [logits for logits, _ in found], found[0][1]


def _of_one(network: TrainedNetwork, images: data.Images, tta: str) -> tuple[np.ndarray, np.ndarray]:
    """The logits of a network, in batches of its run's own test, and the labels."""
    crops = 10 if tta == "ten_crop" and images.larger else 1
    size = -(-network.recipe.batch_size // crops)
    rows, labels = [], []
    for batch, batch_labels in images.batches(size, crops):
        rows.append(views.logits(network, batch, "none" if crops > 1 else tta, size))
        labels.append(batch_labels)
    return np.concatenate(rows), np.concatenate(labels)


def _held_out_the_same(networks: Sequence[TrainedNetwork]) -> bool:
    """Whether the networks' runs held out images, and all of them the same ones."""
    splits = {(network.recipe.dataset, network.recipe.stream, network.recipe.validation, network.recipe.seed)
              for network in networks}
    return len(splits) == 1 and all(network.result["dataset"]["validation_images"] for network in networks)
