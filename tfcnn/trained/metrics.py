"""Metrics of a classifier, from its logits and the labels: accuracy with its interval, classes, calibration.

Counts per class come from scikit-learn; what it lacks is here: Wilson's interval, the calibration error, temperature
scaling, and the interval of a paired difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import optimize
from sklearn import metrics

from tfcnn.trained.prediction import log_softmax

BINS = 15  # of the calibration error: Guo et al. 2017, section 5
_Z = 1.959963984540054  # 95% of a normal distribution lie within so many standard deviations


def accuracy_interval(correct: int, images: int) -> tuple[float, float]:
    """Wilson's 95% interval of an accuracy (Wilson 1927): it stays within [0, 1], also for few errors."""
    share, z2 = correct / images, _Z ** 2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = _Z * math.sqrt(share * (1 - share) / images + z2 / (4 * images ** 2)) / (1 + z2 / images)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(correct: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """How much more accurate one classifier is than another on the same images.

    Args:
      correct: bool [images], where it is right.
      other: bool [images], where the other is right.

    Returns:
      `difference` of the accuracies, and its `interval`, 95%, by the normal approximation for the mean of the images'
      differences, which are -1, 0 or 1.
    """
    differences = correct.astype(float) - other.astype(float)
    mean, half = differences.mean(), _Z * differences.std() / math.sqrt(len(differences))
    return {"difference": float(mean), "interval": [float(mean - half), float(mean + half)]}


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross-entropy, in nats."""
    return float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())


def top_accuracy(logits: np.ndarray, labels: np.ndarray, count: int) -> float:
    """The share of the images whose label is among the `count` classes with the largest logits."""
    own = logits[np.arange(len(labels)), labels]
    return float(((logits > own[:, None]).sum(axis=1) < count).mean())


def per_class(logits: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class: name, number of images, precision, recall and F1; 0 where one is undefined."""
    values = metrics.precision_recall_fscore_support(
        labels, logits.argmax(axis=1), labels=range(len(names)), zero_division=0.0)
    return [{"name": name, "images": int(images), "precision": float(precision), "recall": float(recall),
             "f1": float(f1)} for name, precision, recall, f1, images in zip(names, *values)]


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many images of each class (rows) are taken for each class (columns): int64 [classes, classes]."""
    return metrics.confusion_matrix(labels, logits.argmax(axis=1), labels=range(logits.shape[1]))


def reliability(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0
                ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Accuracy beside confidence, the probability of the predicted class, in `BINS` bins of equal width.

    A confidence at an edge belongs to the bin above it; 1.0 belongs to the last bin.

    Returns:
      Number of images, mean confidence and accuracy of each bin; the last two are 0 in an empty bin.
    """
    confidences = np.exp(log_softmax(logits / temperature).max(axis=1))
    right = logits.argmax(axis=1) == labels
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    counts, sums, correct = (np.bincount(bins, values, BINS) for values in (None, confidences, right))
    return counts, sums / np.maximum(counts, 1), correct / np.maximum(counts, 1)


def calibration_error(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """The expected calibration error (Guo et al. 2017, equation 3): mean of |accuracy - confidence| over the images."""
    counts, confidences, accuracies = reliability(logits, labels, temperature)
    return float((counts * np.abs(accuracies - confidences)).sum() / counts.sum())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The number to divide logits by that makes the loss smallest (Guo et al. 2017, section 4.2); in [0.01, 100].

    Args:
      logits: of images that the network was not trained on.
      labels: their classes.
    """
    found = optimize.minimize_scalar(lambda power: mean_loss(logits / 10 ** power, labels), bounds=(-2, 2),
                                     method="bounded", options={"xatol": 1e-6})
    return float(10 ** found.x)
