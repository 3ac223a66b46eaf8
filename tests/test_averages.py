"""Averages of the weights against NumPy: on one device and on two, whatever the number of steps in a call."""

from __future__ import annotations

import itertools
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
from tfcnn.training.lookahead import Lookahead
from tfcnn.training.steps import Steps

BATCH, FEATURES, CLASSES = 8, 5, 3
DECAY = 0.6  # the decay that grows reaches it after 13 steps
CALLS = (1, 4, 2, 9)
STEPS = sum(CALLS)
INTERVAL = 3  # of Lookahead; the last step is not one after which the weights are moved
KINDS = {"moving averages": {"ema": DECAY}, "lookahead": {"lookahead": INTERVAL},
         "lookahead, eager": {"lookahead": INTERVAL, "execution": "eager"}}


class Run:
    """A network with batch normalization, trained by `Steps` on batches of random images."""

    def __init__(self, count: int, **settings: Any) -> None:
        recipe = Recipe(experiment="", network="", batch_size=BATCH, optimizer="momentum", learning_rate=0.2,
                        **settings or KINDS["moving averages"])
        devices.set_up(recipe)
        self.strategy = devices.strategy(recipe, count)
        with self.strategy.scope(), devices.precision(recipe):
            inputs = keras.Input((FEATURES,))
            hidden = keras.layers.Dense(4, use_bias=False, dtype="float32")(inputs)
            hidden = layers.BatchNormalization(momentum=0.7, dtype="float32")(hidden)
            self.model = keras.Model(inputs, keras.layers.Dense(CLASSES, dtype="float32")(hidden))
            rate = schedules.schedule(recipe, 10)
            self.optimizer = optimizers.optimizer(recipe, rate, self.model.trainable_variables)
        self.steps = Steps(recipe, self.strategy, self.model, self.optimizer, STEPS)
        random = np.random.default_rng(0)
        images = random.normal(size=(STEPS, BATCH, FEATURES)).astype(np.float32)
        labels = random.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)
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
    for count, kind in itertools.product((1, 2), KINDS):
        single, grouped = Run(count, **KINDS[kind]), Run(count, **KINDS[kind])
        weights, averages = zip(*((single.train(1), single.averages) for _ in range(STEPS)))
        for calls in CALLS:
            grouped.train(calls)
        local = single.strategy.experimental_local_results
        copies = [[copy.numpy() for copy in local(value)] for value in (
            *single.steps.averages.variables, *(weight.value for weight in single.model.weights))]
        results[count, kind] = {"weights": weights, "averages": averages, "grouped": grouped.averages, "copies": copies}
    Path(out, "results").write_bytes(pickle.dumps(results))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int, str], dict[str, Any]]:
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
    weights, averages = (results[count, "moving averages"][name] for name in ("weights", "averages"))
    for steps in range(1, STEPS + 1):
        assert shares(steps).sum() == pytest.approx(1) and shares(steps)[0] <= 1.0001 / steps
        for values, found in zip(zip(*weights[:steps]), averages[steps - 1], strict=True):
            expected = np.tensordot(shares(steps), np.array(values, np.float64), axes=1)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert all(np.abs(last - found).max() > 1e-3 for last, found in zip(weights[-1], averages[-1]))


@pytest.mark.parametrize("kind", ["lookahead", "lookahead, eager"])
@pytest.mark.parametrize("count", [1, 2])
def test_lookahead_is_that_of_numpy(count: int, kind: str, results: dict) -> None:
    plain = Run(1, ema=0.0)  # NumPy moves its weights
    slow, moved = plain.model.get_weights(), 0.0
    found = results[count, kind]
    for step, weights, averages in zip(range(1, STEPS + 1), found["weights"], found["averages"], strict=True):
        fast = plain.train(1)
        if step % INTERVAL == 0:
            back = 0.95 ** INTERVAL * (step / STEPS) ** 3
            slow = [new + back * (old - new) for old, new in zip(slow, fast, strict=True)]
            moved = max(np.abs(new - old).max() for old, new in zip(slow, fast))
            plain.model.set_weights(slow)
        for expected, value in zip([*plain.model.get_weights(), *slow], [*weights, *averages], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert moved > 0.01
    assert any(np.abs(last - kept).max() > 1e-3 for last, kept in zip(found["weights"][-1], found["averages"][-1]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [1, 2])
def test_several_steps_in_a_call_give_the_same_bits(count: int, kind: str, results: dict) -> None:
    for grouped, single in zip(results[count, kind]["grouped"], results[count, kind]["averages"][-1], strict=True):
        np.testing.assert_array_equal(grouped, single)


@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_hold_the_averages_of_one(kind: str, results: dict) -> None:
    both = results[1, kind], results[2, kind]
    for one, two in zip(*(found["averages"][-1] for found in both), strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5)
    for copies in both[1]["copies"]:  # of the averages and of the weights
        assert len(copies) == 2
        np.testing.assert_array_equal(*copies)


def test_step_that_loss_scaling_skips_does_not_spoil_the_average() -> None:
    run = Run(1, ema=DECAY, precision="float16")
    run.optimizer.dynamic_scale.assign(float("inf"))  # the first gradients are not finite
    first = run.train(1)
    for found, weight in zip(run.averages, first, strict=True):
        np.testing.assert_array_equal(found, weight)


def test_lookahead_stays_as_it_is_after_its_last_step() -> None:
    """A benchmark trains on and on."""
    run = Run(1, lookahead=INTERVAL)
    run.train(3 * STEPS)
    assert all(np.isfinite(weight).all() and np.abs(weight).max() < 100 for weight in run.averages)
    with pytest.raises(ValueError, match="needs the steps"):
        Lookahead(INTERVAL, 0, run.strategy, run.model)


def test_step_that_loss_scaling_skips_moves_no_weight() -> None:
    run = Run(1, lookahead=1, precision="float16")
    run.train(2)
    before = [weight.numpy() for weight in run.model.trainable_weights]
    run.optimizer.dynamic_scale.assign(float("inf"))
    run.train(1)
    for weight, value in zip(run.model.trainable_weights, before, strict=True):
        np.testing.assert_allclose(weight.numpy(), value, rtol=1e-6)


def test_before_its_first_move_lookahead_keeps_the_first_weights() -> None:
    run = Run(1, lookahead=INTERVAL)
    first = run.model.get_weights()
    run.train(INTERVAL - 1)
    for kept, weight in zip(run.averages, first, strict=True):
        np.testing.assert_array_equal(kept, weight)


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
