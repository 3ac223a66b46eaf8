"""The pictures of an evaluation: confusion matrix, reliability diagram, and the most confident mistakes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from PIL import Image

from tfcnn import drawing
from tfcnn.contact_sheet import contact_sheet
from tfcnn.trained import metrics
from tfcnn.trained.evaluation import Evaluation
from tfcnn.trained.prediction import softmax

_STYLE = {"font.size": 9, "legend.frameon": False}
_MISTAKES = 25
_MOST_NUMBERS = 20  # classes whose counts are legible in the cells


def draw(evaluation: Evaluation) -> dict[str, bytes]:
    """The pictures of an evaluation as PNG files, by their names."""
    return {"confusion.png": confusion(evaluation.record), "calibration.png": calibration(evaluation),
            "mistakes.png": mistakes(evaluation)}


def confusion(record: dict[str, Any]) -> bytes:
    """The confusion matrix, rows the true class, each cell coloured by its share of the row."""
    counts, names = np.array(record["confusion"]), [drawing.plain(name) for name in record["class_names"]]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(3.0 + 0.42 * len(names), 12.0)

    def draw_on(figure: Any) -> None:
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, vmin=0, vmax=1))  # so that a few errors can be seen
        axes.set(xlabel="predicted class", ylabel="true class",
                 title=f"{record['accuracy']:.2%} of {record['images']:,} images are right")
        if len(names) <= 2 * _MOST_NUMBERS:
            axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
            axes.set_yticks(range(len(names)), names)
        if len(names) <= _MOST_NUMBERS:
            for row, column in np.argwhere(counts):
                axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=8,
                          color="white" if shares[row, column] > 0.3 else "black")

    return _drawn(draw_on, (side + 0.6, side))


def calibration(evaluation: Evaluation) -> bytes:
    """The reliability diagram: accuracy beside confidence, and how many images have which confidence."""
    record = evaluation.record["calibration"]
    curves = [("as trained", 1.0, record["ece"], "#B2182B")]
    if record["temperature"]:
        curves.append((f"temperature {record['temperature']:.2f}", record["temperature"], record["ece_after"],
                       "#2166AC"))

    def draw_on(figure: Any) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", label="calibrated")
        edges = np.linspace(0, 1, metrics.BINS + 1)
        for label, temperature, error, colour in curves:
            counts, confidences, accuracies = metrics.reliability(evaluation.logits, evaluation.labels, temperature)
            there = counts > 0
            # Wilson's interval: a bin of a few images says little.
            intervals = np.array([metrics.accuracy_interval(round(share * count), count)
                                  for share, count in zip(accuracies[there], counts[there])])
            reach = np.abs(intervals.T - accuracies[there])
            above.errorbar(confidences[there], accuracies[there], reach, marker="o", markersize=4, linestyle="",
                           linewidth=1, color=colour, label=f"{label}: error {error:.3f}")
            below.stairs(counts, edges, color=colour)
        above.set(ylabel="accuracy", title="Accuracy beside confidence", ylim=(0, 1.02))
        above.legend()
        below.set(xlabel="confidence", ylabel="images", yscale="log", xlim=(0, 1.02))

    return _drawn(draw_on, (4.4, 4.8))


def mistakes(evaluation: Evaluation) -> bytes:
    """The images that the networks are most confident about and wrong, with the true and the predicted class."""
    probabilities = softmax(evaluation.logits)
    predicted, names = probabilities.argmax(axis=1), evaluation.record["class_names"]
    confidences = np.where(predicted == evaluation.labels, -1, probabilities.max(axis=1))
    worst = np.argsort(-confidences, kind="stable")[:_MISTAKES]
    worst = worst[confidences[worst] >= 0]
    if not len(worst):
        return _png(np.full((1, 1, 3), 255, np.uint8))
    captions = [[f"is {names[evaluation.labels[index]]}", f"{confidences[index]:.0%} {names[predicted[index]]}"]
                for index in worst]
    return _png(contact_sheet(evaluation.images.at(worst.tolist()), captions))


def _drawn(draw_on: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    with drawing.figure(_STYLE, figsize=size, dpi=150, layout="constrained") as figure:
        draw_on(figure)
        return drawing.png(figure)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
