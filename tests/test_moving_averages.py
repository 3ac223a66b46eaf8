"""Moving averages of the weights against NumPy: on one device and on two, whatever the number of steps in a call."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked
from tfcnn.networks import layers
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import devices, optimizers, schedules
from tfcnn.training.checkpoints import Checkpoints, Progress
from tfcnn.training.steps import Steps

BATCH, FEATURES, CLASSES = 8, 5, 3
DECAY = 0.6  # the decay that grows reaches it after 13 steps
CALLS = (1, 4, 2, 9)


class Run:
    """A network with batch normalization, trained by `Steps` on batches of random images."""

    def __init__(self, count: int, ema: float = DECAY, precision: str = "float32") -> None:
        recipe = Recipe(experiment="", network="", batch_size=BATCH, optimizer="momentum", learning_rate=0.2, ema=ema,
                        precision=precision)
        devices.set_up(recipe)
        self.strategy = devices.strategy(recipe, count)
        with self.strategy.scope(), devices.precision(recipe):
            inputs = keras.Input((FEATURES,))
            hidden = keras.layers.Dense(4, use_bias=False, dtype="float32")(inputs)
            hidden = layers.BatchNormalization(momentum=0.7, dtype="float32")(hidden)
            self.model = keras.Model(inputs, keras.layers.Dense(CLASSES, dtype="float32")(hidden))
            rate = schedules.schedule(recipe, 10)
            self.optimizer = optimizers.optimizer(recipe, rate, self.model.trainable_variables)
        self.steps = Steps(recipe, self.strategy, self.model, self.optimizer)
        random = np.random.default_rng(0)
        images = random.normal(size=(sum(CALLS), BATCH, FEATURES)).astype(np.float32)
        labels = random.integers(0, CLASSES, (sum(CALLS), BATCH)).astype(np.int32)
        self._batches = devices.distribute(self.strategy, tf.data.Dataset.from_tensor_slices((images, labels)).repeat())

    def train(self, count: int) -> list[np.ndarray]:
        """Runs steps in one call; returns the weights after it."""
        self.steps.run(self._batches, tf.constant(count))
        return self.model.get_weights()

    @property
    def averages(self) -> list[np.ndarray]:
        """The weights that are evaluated: the averages."""
        before = self.model.get_weights()
        with self.steps.averages.assigned():
            found = self.model.get_weights()
        for one, other in zip(before, self.model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        return found


def compute(out: str) -> None:
    """Trains on one device and on two, in calls of one step and of several, and saves all weights and averages."""
    devices._divide_cpu(2)
    results = {}
    for count in (1, 2):
        single, grouped = Run(count), Run(count)
        weights, averages = zip(*((single.train(1), single.averages) for _ in range(sum(CALLS))))
        for calls in CALLS:
            grouped.train(calls)
        copies = [[copy.numpy() for copy in single.strategy.experimental_local_results(average)]
                  for average in single.steps.averages.variables]
        results[count] = {"weights": weights, "averages": averages, "grouped": grouped.averages, "copies": copies}
    Path(out, "results").write_bytes(pickle.dumps(results))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, Any]]:
    out = tmp_path_factory.mktemp("averages")
    done = Forked(compute, str(out), cwd=out, env=environment(out)).completed()
    assert done.returncode == 0, done.stderr[-4000:]
    return pickle.loads((out / "results").read_bytes())


def shares(steps: int) -> np.ndarray:
    """The share of the weights after each of the steps in their average, as a closed formula."""
    decays = [0.0] + [min(DECAY, (1 + updates) / (10 + updates)) for updates in range(1, steps)]
    return np.array([(1 - decay) * np.prod(decays[step + 1:]) for step, decay in enumerate(decays)])


@pytest.mark.parametrize("count", [1, 2])
def test_averages_of_weights_and_statistics_are_those_of_numpy(count: int, results: dict) -> None:
    weights, averages = results[count]["weights"], results[count]["averages"]
    for steps in range(1, sum(CALLS) + 1):
        assert shares(steps).sum() == pytest.approx(1) and shares(steps)[0] <= 1.0001 / steps
        for values, found in zip(zip(*weights[:steps]), averages[steps - 1], strict=True):
            expected = np.tensordot(shares(steps), np.array(values, np.float64), axes=1)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert all(np.abs(last - found).max() > 1e-3 for last, found in zip(weights[-1], averages[-1]))


@pytest.mark.parametrize("count", [1, 2])
def test_several_steps_in_a_call_give_the_same_bits(count: int, results: dict) -> None:
    for grouped, single in zip(results[count]["grouped"], results[count]["averages"][-1], strict=True):
        np.testing.assert_array_equal(grouped, single)


def test_two_devices_hold_the_averages_of_one(results: dict) -> None:
    for one, two, copies in zip(results[1]["averages"][-1], results[2]["averages"][-1], results[2]["copies"]):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)


def test_step_that_loss_scaling_skips_does_not_spoil_the_average() -> None:
    run = Run(1, precision="float16")
    run.optimizer.dynamic_scale.assign(float("inf"))  # the first gradients are not finite
    first = run.train(1)
    for found, weight in zip(run.averages, first, strict=True):
        np.testing.assert_array_equal(found, weight)


def test_checkpoint_without_averages_is_refused_in_one_line(tmp_path: Path) -> None:
    before, run = Run(1), Run(1)
    before.train(1)
    Checkpoints(tmp_path, before.model, before.optimizer, Progress(step=1)).save()
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    first = run.model.get_weights()
    with pytest.raises(UsageError, match=r"--ema.* --overwrite") as error:
        Checkpoints(tmp_path, run.model, run.optimizer, Progress(), averages=run.steps.averages.variables).restore()
    assert len(str(error.value).splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    for one, other in zip(first, run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_run_without_averages_resumes_from_a_checkpoint_that_knows_none(tmp_path: Path) -> None:
    before, run = Run(1, ema=0.0), Run(1, ema=0.0)
    trained = before.train(2)
    state = tf.train.Checkpoint(model=before.model, optimizer=before.optimizer, seeds=[], progress=Progress(step=2),
                                best=[])  # as they were before there were averages
    Checkpoints(tmp_path, before.model, before.optimizer, Progress(step=1)).save()
    written = Checkpoints(tmp_path, before.model, before.optimizer, Progress(step=2))
    written._state = state
    written.save()
    progress = Progress()
    Checkpoints(tmp_path, run.model, run.optimizer, progress, averages=run.steps.averages.variables).restore()
    assert progress.step == 2
    for one, other in zip(trained, run.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
