"""Metrics of a classifier against scikit-learn, SciPy, published formulas worked out by hand, and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

from tfcnn.trained import metrics, prediction

CLASSES = 7


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Logits of 900 images, right for about two thirds of them, too confident; and the labels. No image of class 6."""
    random = np.random.default_rng(0)
    labels = random.integers(0, CLASSES - 1, 900)
    logits = random.normal(0, 4, (900, CLASSES))
    logits[np.arange(900), labels] += 6
    return logits.astype(np.float32), labels.astype(np.int32)


@pytest.mark.parametrize("correct, images", [(0, 20), (20, 20), (9342, 10000), (1, 3)])
def test_accuracy_interval_is_wilsons(correct: int, images: int) -> None:
    interval = stats.binomtest(correct, images).proportion_ci(0.95, "wilson")
    assert metrics.accuracy_interval(correct, images) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_paired_difference_counts_the_images_in_which_two_differ() -> None:
    one, other = np.array([1, 1, 1, 0, 1, 0, 0, 1], bool), np.array([1, 0, 1, 0, 0, 1, 0, 1], bool)
    found = metrics.paired_difference(one, other)
    # Two images are won, one is lost: mean 1/8, mean square 3/8.
    half = 1.959964 * math.sqrt((3 / 8 - 1 / 64) / 8)
    assert found["difference"] == 1 / 8
    assert found["interval"] == pytest.approx([1 / 8 - half, 1 / 8 + half], abs=1e-6)


def test_loss_and_top_accuracy_are_scikit_learns(answers) -> None:
    logits, labels = answers
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(prediction.softmax(logits), probabilities, atol=1e-6)
    assert metrics.mean_loss(logits, labels) == pytest.approx(
        sklearn_metrics.log_loss(labels, probabilities, labels=range(CLASSES)))
    for count in (1, 5):
        assert metrics.top_accuracy(logits, labels, count) == pytest.approx(
            sklearn_metrics.top_k_accuracy_score(labels, logits, k=count, labels=range(CLASSES)))


def test_classes_and_confusion_are_counted(answers) -> None:
    logits, labels = answers
    predicted = logits.argmax(axis=1)
    confusion = metrics.confusion(logits, labels)
    for name, values in enumerate(metrics.per_class(logits, labels, [str(number) for number in range(CLASSES)])):
        own, taken = labels == name, predicted == name
        both = (own & taken).sum()
        assert values["name"] == str(name) and values["images"] == own.sum() == confusion[name].sum()
        assert confusion[name, name] == both and confusion[:, name].sum() == taken.sum()
        assert values["recall"] == (pytest.approx(both / own.sum()) if own.any() else 0)
        assert values["precision"] == (pytest.approx(both / taken.sum()) if taken.any() else 0)


def test_calibration_error_puts_a_confidence_of_one_into_the_last_bin() -> None:
    # Ten images of two classes: nine with a confidence of exactly 1, of which six are right, and one with 0.5.
    logits = np.array([[200.0, -200.0]] * 9 + [[0.0, 0.0]])
    labels = np.array([0] * 6 + [1] * 3 + [0])
    counts, confidences, accuracies = metrics.reliability(logits, labels)
    assert counts[metrics.BINS - 1] == 9 and counts[7] == 1 and counts.sum() == 10
    assert confidences[-1] == 1 and accuracies[-1] == pytest.approx(6 / 9)
    assert metrics.calibration_error(logits, labels) == pytest.approx(0.9 * (1 - 6 / 9) + 0.1 * 0.5)


def test_temperature_makes_the_loss_smallest(answers) -> None:
    logits, labels = answers
    temperature = metrics.fit_temperature(logits, labels)
    losses = {factor: metrics.mean_loss(logits / (temperature * factor), labels) for factor in (0.99, 1, 1.01)}
    assert temperature > 1.5 and losses[1] < min(losses[0.99], losses[1.01])
    assert metrics.calibration_error(logits, labels, temperature) < metrics.calibration_error(logits, labels)
    assert metrics.fit_temperature(logits * 3, labels) == pytest.approx(3 * temperature, rel=1e-3)


def test_mean_of_members_is_that_of_their_probabilities(answers) -> None:
    members = np.stack([answers[0], -answers[0], np.full_like(answers[0], 1000)])
    mean = np.mean([prediction.softmax(member) for member in members], axis=0)
    np.testing.assert_allclose(prediction.softmax(prediction.log_mean(members)), mean, atol=1e-6)
