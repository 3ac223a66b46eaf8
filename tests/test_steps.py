"""The compiled computations: labels as class probabilities, and several crops per image."""

from __future__ import annotations

import tfcnn.networks.layers  # noqa: F401 - before anything imports TensorFlow
import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcnn.data.parts import bounded
from tfcnn.recipe import Recipe
from tfcnn.training.steps import Steps

CLASSES, SHAPE = 4, (3, 3, 2)


def _steps(**changes) -> tuple[Steps, keras.Model]:
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE)
    model = keras.Model(images, keras.layers.Dense(CLASSES)(keras.layers.Flatten()(images)))
    optimizer = keras.optimizers.SGD(0.0)
    optimizer.build(model.trainable_variables)
    recipe = Recipe(experiment="", network="", batch_size=6, **changes)
    return Steps(recipe, tf.distribute.get_strategy(), model, optimizer), model


def _softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _logits(model: keras.Model, images: np.ndarray) -> np.ndarray:
    kernel, bias = model.get_weights()
    return images.reshape(len(images), -1).astype(np.float64) @ kernel + bias


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_of_mixed_labels_is_that_of_numpy(smoothing: float) -> None:
    steps, model = _steps(label_smoothing=smoothing)
    random = np.random.default_rng(0)
    images = random.normal(size=(6, *SHAPE)).astype(np.float32)
    shares = random.dirichlet(np.ones(CLASSES), 6).astype(np.float32)
    batches = iter(bounded(tf.data.Dataset.from_tensors((images, shares))))
    (loss, accuracy, *_), = steps.run(batches, tf.constant(1)).numpy()
    logits = _logits(model, images)
    targets = shares * (1 - smoothing) + smoothing / CLASSES
    assert loss == pytest.approx(-(targets * np.log(_softmax(logits))).sum(axis=1).mean(), rel=1e-5)
    assert accuracy == pytest.approx((logits.argmax(1) == shares.argmax(1)).mean(), abs=1e-6)


def test_one_hot_labels_train_like_integer_labels() -> None:
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(6, *SHAPE)).astype(np.float32), random.integers(0, CLASSES, 6, np.int32)
    rows = []
    for given in (labels, np.eye(CLASSES, dtype=np.float32)[labels]):
        steps, _ = _steps(label_smoothing=0.1)
        batches = iter(bounded(tf.data.Dataset.from_tensors((images, given))))
        rows.append(steps.run(batches, tf.constant(1)).numpy())
    np.testing.assert_array_equal(*rows)


def test_probabilities_of_crops_are_averaged() -> None:
    """Krizhevsky et al. 2012, section 4.1: the mean of the probabilities, not of the logits."""
    steps, model = _steps()
    random = np.random.default_rng(0)
    images = 2 * random.normal(size=(5, 10, *SHAPE)).astype(np.float32)
    labels = random.integers(0, CLASSES, 5, np.int32)
    weights = np.array([1, 1, 1, 1, 0], np.float32)
    batches = iter(bounded(tf.data.Dataset.from_tensors((images, labels, weights))))
    totals = steps.evaluate(batches, tf.constant(1)).numpy()
    probabilities = _softmax(_logits(model, images.reshape(50, *SHAPE)).reshape(5, 10, CLASSES)).mean(axis=1)
    losses = -np.log(probabilities[range(5), labels])
    assert totals[0] == pytest.approx((losses * weights).sum(), rel=1e-5)
    assert totals[1] == ((probabilities.argmax(1) == labels) * weights).sum() and totals[2] == 4
