"""Learning-rate schedules against their formulas, and training steps against NumPy."""

from __future__ import annotations

import math
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcnn import _compat
from tfcnn.data.parts import bounded
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import devices, optimizers, schedules
from tfcnn.training.steps import Steps

STEPS = 10  # steps per epoch
EPOCHS = 12


def _rates(**changes) -> np.ndarray:
    recipe = Recipe(experiment="", network="", epochs=EPOCHS, learning_rate=0.4, **changes)
    schedule = schedules.schedule(recipe, STEPS)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    rates = np.array([float(schedule(tf.constant(step, tf.int64))) for step in range(EPOCHS * STEPS)])
    np.testing.assert_array_equal(rates, [float(again(step)) for step in range(EPOCHS * STEPS)])
    return rates


def _half_cosine(done: float) -> float:
    return 0.5 + 0.5 * math.cos(math.pi * done)


def _triangle(step: int) -> float:
    """The release writes it as an interpolation between three points."""
    return float(np.interp(step, [0, 0.23 * 120, 120], [0.4 * 0.2, 0.4, 0.4 * 0.07]))


@pytest.mark.parametrize("changes, formula", [
    ({"schedule": "constant"}, lambda step: 0.4),
    ({"schedule": "step", "decay_epochs": "3,7.5"}, lambda step: 0.4 if step < 30 else 0.04 if step < 75 else 0.004),
    ({"schedule": "exponential", "decay_epochs": "2", "decay_rate": 0.5}, lambda step: 0.4 * 0.5 ** (step / 20)),
    ({"schedule": "inverse_time", "decay_epochs": "2", "decay_rate": 0.5}, lambda step: 0.4 / (1 + 0.5 * step / 20)),
    ({"schedule": "cosine"}, lambda step: 0.4 * _half_cosine(step / 120)),
    ({"schedule": "one_cycle"}, lambda step: 0.4 * (1 / 25 + 24 / 25 * step / 36) if step < 36
     else 0.4 * _half_cosine((step - 36) / 84)),
    ({"schedule": "triangle"}, _triangle),
    ({"schedule": "constant", "warmup_epochs": 2.0}, lambda step: 0.4 * min((step + 1) / 20, 1)),
    ({"schedule": "step", "decay_epochs": "3", "warmup_epochs": 1.0},
     lambda step: (0.4 if step < 30 else 0.04) * min((step + 1) / 10, 1)),
    ({"schedule": "cosine", "warmup_epochs": 2.0},
     lambda step: 0.4 * (step + 1) / 20 if step < 20 else 0.4 * _half_cosine((step - 20) / 100)),
    ({"schedule": "exponential", "decay_epochs": "2", "decay_rate": 0.5, "warmup_epochs": 1.0},
     lambda step: 0.4 * (step + 1) / 10 if step < 10 else 0.4 * 0.5 ** ((step - 10) / 20)),
    ({"schedule": "inverse_time", "decay_epochs": "2", "decay_rate": 0.5, "warmup_epochs": 1.0},
     lambda step: 0.4 * (step + 1) / 10 if step < 10 else 0.4 / (1 + 0.5 * (step - 10) / 20)),
    # these have a rise of their own, whatever the warm-up
    ({"schedule": "triangle", "warmup_epochs": 2.0}, _triangle),
    ({"schedule": "one_cycle", "warmup_epochs": 2.0}, lambda step: 0.4 * (1 / 25 + 24 / 25 * step / 36) if step < 36
     else 0.4 * _half_cosine((step - 36) / 84)),
], ids=lambda value: str(value) if isinstance(value, dict) else "formula")
def test_schedules_follow_their_formulas(changes: dict, formula) -> None:
    expected = [formula(step) for step in range(EPOCHS * STEPS)]
    np.testing.assert_allclose(_rates(**changes), expected, rtol=2e-5, atol=1e-7)


def test_without_the_private_method_of_keras_only_one_device_can_train(monkeypatch: pytest.MonkeyPatch) -> None:
    """On several devices gradients would be summed twice."""
    monkeypatch.setattr(_compat, "apply_without_reduction", lambda optimizer: False)
    recipe = Recipe(experiment="", network="")
    optimizers.optimizer(recipe, 0.1, [])
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: types.SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(UsageError, match="--devices=1"):
        optimizers.optimizer(recipe, 0.1, [])


BATCH, FEATURES, CLASSES = 8, 5, 3


class _Regression:
    """Softmax regression trained by `Steps`, and its gradient in NumPy."""

    def __init__(self, **changes) -> None:
        self.recipe = Recipe(experiment="", network="", batch_size=BATCH, **{"learning_rate": 0.1} | changes)
        devices.set_up(self.recipe)
        self.strategy = devices.strategy(self.recipe)
        with self.strategy.scope(), devices.precision(self.recipe):
            inputs = keras.Input((FEATURES,))
            layer = keras.layers.Dense(CLASSES, bias_initializer="ones", dtype="float32")
            self.model = keras.Model(inputs, layer(inputs))
            self.optimizer = optimizers.optimizer(
                self.recipe, schedules.schedule(self.recipe, STEPS), self.model.trainable_variables)
        self.steps = Steps(self.recipe, self.strategy, self.model, self.optimizer)
        random = np.random.default_rng(0)
        self.images = random.normal(size=(BATCH, FEATURES)).astype(np.float32)
        self.labels = random.integers(0, CLASSES, BATCH).astype(np.int32)

    @property
    def weights(self) -> list[np.ndarray]:
        return [variable.numpy().astype(np.float64) for variable in self.model.trainable_variables]

    def run(self, steps: int) -> np.ndarray:
        dataset = tf.data.Dataset.from_tensors((self.images, self.labels)).repeat()
        batches = iter(self.strategy.experimental_distribute_dataset(bounded(dataset)))
        return self.steps.run(batches, tf.constant(steps)).numpy()

    def gradient(self, kernel: np.ndarray, bias: np.ndarray) -> tuple[float, list[np.ndarray]]:
        """Loss, and its gradient in kernel and bias with the recipe's penalties."""
        logits = self.images @ kernel + bias
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        smooth = self.recipe.label_smoothing
        targets = np.eye(CLASSES)[self.labels] * (1 - smooth) + smooth / CLASSES
        loss = -(targets * np.log(shares)).sum(axis=1).mean()
        error = (shares - targets) / BATCH
        kernel_gradient = self.images.T @ error + self.recipe.l2 * kernel + self.recipe.l1 * np.sign(kernel)
        return loss, [kernel_gradient, error.sum(axis=0)]


@pytest.mark.parametrize("changes", [
    {}, {"label_smoothing": 0.2}, {"l2": 0.3}, {"l1": 0.2}, {"execution": "eager"}, {"execution": "xla"}], ids=str)
def test_step_of_sgd_is_that_of_numpy(changes: dict) -> None:
    regression = _Regression(optimizer="sgd", **changes)
    for _ in range(3):
        before = regression.weights
        loss, gradient = regression.gradient(*before)
        row = regression.run(1)[0]
        right = ((regression.images @ before[0] + before[1]).argmax(axis=1) == regression.labels).mean()
        norms = [np.linalg.norm(part) for part in gradient]
        np.testing.assert_allclose(row, [loss, right, math.hypot(*norms), *norms], rtol=1e-4)
        for new, old, part in zip(regression.weights, before, gradient):
            np.testing.assert_allclose(new, old - 0.1 * part, rtol=1e-5, atol=1e-6)


def _momentum(state: dict, gradient: np.ndarray, step: int) -> np.ndarray:
    state["v"] = 0.9 * state.get("v", 0) - 0.1 * gradient  # Krizhevsky et al. 2012, section 5
    return state["v"]


def _nesterov(state: dict, gradient: np.ndarray, step: int) -> np.ndarray:
    return 0.9 * _momentum(state, gradient, step) - 0.1 * gradient  # Sutskever et al. 2013, equations 3 and 4, shifted


def _adam(state: dict, gradient: np.ndarray, step: int) -> np.ndarray:
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient  # Kingma and Ba 2015, section 2, in its last paragraph's form
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * gradient ** 2
    return -0.1 * math.sqrt(1 - 0.999 ** step) / (1 - 0.9 ** step) * state["m"] / (np.sqrt(state["v"]) + 1e-7)


def _rmsprop(state: dict, gradient: np.ndarray, step: int) -> np.ndarray:
    state["v"] = 0.9 * state.get("v", 0) + 0.1 * gradient ** 2  # Hinton's lecture 6e, with momentum on the step
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * gradient / np.sqrt(state["v"] + 1e-7)
    return -state["m"]


def _adagrad(state: dict, gradient: np.ndarray, step: int) -> np.ndarray:
    state["v"] = state.get("v", 0.1) + gradient ** 2  # Duchi et al. 2011, from Keras's starting value
    return -0.1 * gradient / np.sqrt(state["v"] + 1e-7)


@pytest.mark.parametrize("name, rule", [
    ("momentum", _momentum), ("nesterov", _nesterov), ("adam", _adam), ("adamw", _adam), ("rmsprop", _rmsprop),
    ("adagrad", _adagrad)])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_optimizers_follow_their_papers(name: str, rule, decay: float) -> None:
    regression = _Regression(optimizer=name, weight_decay=decay)
    weights, states = regression.weights, [{}, {}]
    for step in range(1, 6):
        _, gradient = regression.gradient(*weights)
        decayed = [weights[0] * (1 - 0.1 * decay), weights[1]]  # decoupled, and the bias is left alone
        weights = [old + rule(state, part, step) for old, state, part in zip(decayed, states, gradient)]
    regression.run(5)
    for new, expected in zip(regression.weights, weights):
        np.testing.assert_allclose(new, expected, rtol=2e-4, atol=1e-5)


def test_one_call_of_many_steps_equals_many_calls() -> None:
    together, apart = _Regression(optimizer="adam"), _Regression(optimizer="adam")
    rows = together.run(6)
    np.testing.assert_array_equal(rows, np.concatenate([apart.run(2), apart.run(1), apart.run(3)]))
    for one, other in zip(together.weights, apart.weights):
        np.testing.assert_array_equal(one, other)


def test_float16_skips_the_step_that_overflows_and_lowers_the_scale() -> None:
    regression = _Regression(optimizer="sgd", precision="float16")
    regression.images *= 1e36  # the scaled gradient overflows float32
    before, scale = regression.weights, regression.optimizer.dynamic_scale.numpy()
    regression.run(1)
    for new, old in zip(regression.weights, before):
        np.testing.assert_array_equal(new, old)
    assert regression.optimizer.dynamic_scale.numpy() == scale / 2
    regression.images *= 1e-36
    regression.run(1)
    assert not np.array_equal(regression.weights[0], before[0])


@pytest.mark.parametrize("clip_norm", [0.0, 0.2])
def test_norms_and_clipping_do_not_depend_on_float16s_scale(clip_norm: float) -> None:
    rows, weights = [], []
    for scale in (1.0, 2.0 ** 70):  # whose square is no float32
        regression = _Regression(optimizer="sgd", precision="float16", clip_norm=clip_norm)
        regression.optimizer.dynamic_scale.assign(scale)
        rows.append(regression.run(1))
        weights.append(regression.weights[0])
    np.testing.assert_allclose(*rows, rtol=1e-5)
    np.testing.assert_allclose(*weights, rtol=1e-5, atol=1e-7)
    assert rows[0][0, 2] > 0.2


def test_evaluation_weights_the_images() -> None:
    regression = _Regression()
    weights = np.array([1, 1, 0, 1, 0, 1, 1, 1], np.float32)
    dataset = tf.data.Dataset.from_tensors((regression.images, regression.labels, weights))
    batches = iter(regression.strategy.experimental_distribute_dataset(bounded(dataset.repeat(2))))
    totals = regression.steps.evaluate(batches, tf.constant(2)).numpy()
    kernel, bias = regression.weights
    logits = regression.images @ kernel + bias
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(BATCH), regression.labels]
    right = logits.argmax(axis=1) == regression.labels
    np.testing.assert_allclose(totals, [2 * (losses * weights).sum(), 2 * (right * weights).sum(), 12], rtol=1e-5)
