"""Training on several devices: same weights as on one, random numbers, accumulation, clipping, and float16.

TensorFlow fixes the number of logical CPU devices once per process. Therefore a new process computes everything once,
and the tests check the results it saved.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked
from tfcnn import experiments, networks
from tfcnn.networks import inception, layers, resnet, vgg
from tfcnn.networks.layers import normalization, winograd
from tfcnn.recipe import Recipe, UsageError, flat
from tfcnn.runs import RunFolder
from tfcnn.training import devices
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import Setup, prepare, train

STEPS = 20
# These networks amplify rounding errors. They are trained with a low learning rate, without ReLU (its gradient is
# discontinuous), and without Winograd convolution (its rounding depends on the number of images per device): see
# BUILD_NOTES.md#weights-on-one-device-and-on-several.
DELICATE = {"inception": 0.0001, "vgg": 0.0003, "resnet": 0.0003}
# Building a network's graph for four devices takes up to 40 seconds, and is the same code for all networks.
COUNTS = {name: (2, 4) if name in ("alexnet", "lenet") else (2,) for name in networks.names()}
WHOLE = ("graph", 1, 1)
PARTS = [("graph", 1, 4), ("graph", 2, 2), ("eager", 1, 4), ("xla", 2, 2)]
NORMALIZED: list[tuple[str, dict[str, Any], int]] = [
    ("whole", {}, 1), ("parts", {"accumulate": 2}, 1),
    *((execution, {"synchronize": False, "execution": execution}, 2) for execution in ("graph", "eager", "xla"))]
WIDTH = 10_000


def recipes() -> dict[str, Recipe]:
    """Returns one recipe per network: an experiment's, made small, without dropout, with gradient clipping."""
    found: dict[str, Recipe] = {}
    for recipe in experiments.recipes().values():
        if recipe.network not in found:
            smallest = next(iter(networks.find(recipe.network).VARIANTS.values())).smallest
            off = {name: 0 for name in ("dropout", "ema", "lookahead", "warmup_epochs")
                   if name in flat(recipe.to_dict())}
            found[recipe.network] = recipe.replace(
                dataset="folder", validation=0.2, batch_size=8, image_size=max(smallest, 8), clip_norm=0.3,
                learning_rate=DELICATE.get(recipe.network, 0.003), accumulate=1,
                precision="float32", **off,
                **{"variant": "fashion"} if recipe.network == "mlp" else {},
                **{"activation": "elu"} if recipe.network in DELICATE else {})
    return found


@contextmanager
def fewer_layers() -> Iterator[None]:
    """Within the context, the largest networks have fewer blocks and filters, but layers of the same kinds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.BLOCKS, 20, (1, 1, 1))
        patch.setattr(vgg, "_FILTERS", (8, 16, 32, 32, 32))
        patch.setitem(vgg._COLUMNS, "D", vgg._COLUMNS["A"])
        patch.setattr(inception, "TABLE_1", [row for row in inception.TABLE_1 if row[0] in ("3a", "5b")])
        yield


@contextmanager
def basic_operations() -> Iterator[None]:
    """Within the context, layers use TensorFlow's basic operations instead of compiled or fused ones.

    On one device, batch normalization is computed by its definition. The sums of the fused operation have larger errors
    than these tests allow where means are large compared with standard deviations.
    """
    ours = layers.BatchNormalization.call

    def call(self: layers.BatchNormalization, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return ours(self, inputs, training=training)
        mean, variance = tf.nn.moments(inputs, list(range(len(inputs.shape) - 1)))
        self._update_moving_statistics(mean, variance)
        return tf.nn.batch_normalization(inputs, mean, variance, self.beta, self.gamma, self.epsilon)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layers.BatchNormalization, "call", call)
        patch.setattr(normalization, "_as_one_loop", lambda function, x: function)
        patch.setattr(winograd, "is_faster", lambda shape, filters, direct: False)
        yield


class Run:
    """Runs steps of a recipe on `count` devices."""

    def __init__(self, recipe: Recipe, data_dir: str, count: int) -> None:
        self.setup: Setup = prepare(recipe, data_dir, count)
        self._batches = self.setup.training_batches(0)
        self._run = Steps(recipe, self.setup.strategy, self.setup.model, self.setup.optimizer).run

    def steps(self, count: int) -> np.ndarray:
        return self._run(self._batches, tf.constant(count)).numpy()

    @property
    def weights(self) -> list[np.ndarray]:
        return self.setup.model.get_weights()


def draws(count: int) -> dict[str, Any]:
    """Returns the outputs of random layers for inputs of -1, as [layer][device, WIDTH] arrays.

    "first" and "second" are two successive calls; "again" repeats the second after its random state was restored.
    """
    recipe = Recipe(experiment="e", network="n", batch_size=4)
    devices.set_up(recipe)
    strategy = devices.strategy(recipe, count)
    with strategy.scope():
        image = keras.Input([WIDTH])
        model = keras.Model(image, [layers.drop(image, 0.5, "drop"), layers.activate(image, "rrelu", "rrelu"),
                                    keras.layers.GaussianNoise(1.0)(image)])

    @tf.function
    def run() -> Any:
        return strategy.run(model, args=(-tf.ones([1, WIDTH]),), kwargs={"training": True})

    def call() -> list[np.ndarray]:
        return [np.concatenate([part.numpy() for part in strategy.experimental_local_results(output)])
                for output in run()]

    devices.separate_seeds(strategy, model)
    first = call()
    saved = [generator.numpy() for generator in devices.seed_generators(model)]
    second = call()
    for generator, value in zip(devices.seed_generators(model), saved):
        generator.assign(value)  # the same value on all devices, as a checkpoint restores it
    devices.separate_seeds(strategy, model)
    return {"first": first, "second": second, "again": call()}


def overflow(data_dir: str, count: int) -> list[dict[str, Any]]:
    """Runs steps in float16 that start with a loss scale far too large, and returns what each one did."""
    run = Run(recipes()["lenet"].replace(precision="float16", keep_precision=True), data_dir, count)
    run.setup.optimizer.dynamic_scale.assign(2.0 ** 40)
    seen = []
    for _ in range(45):
        before = run.weights
        scale = float(run.setup.optimizer.dynamic_scale.numpy())
        row, = run.steps(1)
        after = float(run.setup.optimizer.dynamic_scale.numpy())
        seen.append({"scale": scale, "after": after, "loss": row[0], "norm": row[2],
                     "moved": any(not np.array_equal(one, other) for one, other in zip(before, run.weights)),
                     "finite": all(np.isfinite(weight).all() for weight in run.weights)})
    return seen


def compute(class_folders: str, few: str, out: str) -> None:
    """Computes everything that the tests check and saves it in `out`."""
    devices._divide_cpu(4)
    # The graphs run only briefly: optimizing them takes longer than it saves.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    results: dict[Any, Any] = {}
    for name, recipe in recipes().items():
        with fewer_layers(), basic_operations() if name in DELICATE else nullcontext():
            for count in (1, *COUNTS[name]):
                run = Run(recipe, class_folders, count)
                before = run.weights
                rows, after = run.steps(STEPS), run.weights
                if count == 1:
                    rows_of_one, alone = rows, after
                trained = [weight.trainable for weight in run.setup.model.weights]
                results[name, count] = rows, rows_of_one, *compare(trained, before, alone, after)
    plain = recipes()["lenet"].replace(optimizer="sgd", momentum=0.0, clip_norm=0.0, learning_rate=0.1, batch_size=16)
    for execution, count, parts in (WHOLE, *PARTS):
        run = Run(plain.replace(execution=execution, accumulate=parts, l2=0.01), class_folders, count)
        results["parts", execution, count, parts] = (run.steps(5), run.weights)
    for name, changes, count in NORMALIZED:
        run = Run(plain.replace(normalization="batch", **changes), class_folders, count)
        rows, model = run.steps(1), run.setup.model
        averages = [run.setup.strategy.experimental_local_results(weight.value)
                    for weight in model.non_trainable_weights]
        copied = [[copy.numpy() for copy in copies] for copies in averages]
        rows_after = run.steps(2)
        results["normalized", name] = rows, copied, (
            rows_after, [weight.numpy() for weight in model.trainable_weights])
    for precision in ("float32", "float16"):
        for clip_norm in (0.0, 0.5):
            run = Run(plain.replace(precision=precision, keep_precision=True, clip_norm=clip_norm), class_folders, 2)
            before = run.weights
            results["clip", precision, clip_norm] = (run.steps(1), before, run.weights)
    for count in (1, 2, 4):
        results["draws", count] = draws(count)
    for count in (1, 2):
        results["overflow", count] = overflow(class_folders, count)
    for count in (1, 4):
        tiny = recipes()["lenet"].replace(epochs=2, validation=0.25)
        results["few", count] = RunFolder(train(tiny, Path(out, str(count)), data_dir=few, devices=count).workdir)
    normalized = recipes()["lenet"].replace(normalization="batch", execution="xla")
    try:
        prepare(normalized, class_folders, 2)
    except UsageError as error:
        results["xla"] = str(error)
    Path(out, "results").write_bytes(pickle.dumps(results))


@pytest.fixture(scope="module")
def results(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    out, few = tmp_path_factory.mktemp("devices"), tmp_path_factory.mktemp("few")
    for part, count in (("train", 4), ("test", 1)):
        for folder in (class_folders / part).iterdir():
            (few / part / folder.name).mkdir(parents=True)
            for image in sorted(folder.iterdir())[:count]:
                (few / part / folder.name / image.name).write_bytes(image.read_bytes())
    done = Forked(compute, str(class_folders), str(few), str(out), cwd=out, env=environment(out)).completed()
    assert done.returncode == 0, done.stderr[-4000:]
    return pickle.loads((out / "results").read_bytes())


def compare(trained: list[bool], before: list[np.ndarray], alone: list[np.ndarray], after: list[np.ndarray]
            ) -> tuple[float, float, float]:
    """Returns how far the weights `after` training are from those of one device, `alone`.

    Three numbers: the largest error of a weight, relative to the weight where that is above 1; the largest error of a
    variable, relative to its change in training; and the error of all trained variables together, relative to theirs.
    """
    def norm(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
        return sum(float(np.square(one.astype(np.float64) - other).sum()) for one, other in zip(ones, others)) ** 0.5

    of_weights = max(float((np.abs(many - one) / np.maximum(np.abs(one), 1)).max()) for many, one in zip(after, alone))
    of_updates = max(norm([many], [one]) / max(norm([one], [first]), 1e-12)
                     for many, one, first in zip(after, alone, before))
    chosen = [[weight for weight, counts in zip(weights, trained) if counts] for weights in (after, alone, before)]
    return of_weights, of_updates, norm(chosen[0], chosen[1]) / norm(chosen[1], chosen[2])


def _difference(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("name, count", [(name, count) for name, counts in COUNTS.items() for count in counts])
def test_several_devices_train_the_weights_of_one_device(name: str, count: int, results: dict) -> None:
    rows, rows_of_one, of_weights, of_updates, of_update = results[name, count]
    assert len(rows) == STEPS and rows_of_one[:, 2].max() > recipes()[name].clip_norm  # clipping had an effect
    assert of_weights < 1e-5  # relative for moving averages, which reach 20
    # Weights that hardly change would pass the check above. Variables of a delicate network may have a gradient near
    # zero, of which rounding is a larger share.
    assert of_update < 0.01 and (of_updates < 0.02 or name in DELICATE)
    # Columns: loss, accuracy, norm of the gradient, and norm of each variable's gradient. The last are the most
    # sensitive to rounding and are not compared for delicate networks.
    columns = 3 if name in DELICATE else None
    np.testing.assert_allclose(rows[:, :columns], rows_of_one[:, :columns], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("execution, count, parts", PARTS)
def test_gradient_accumulation_trains_the_weights_of_the_whole_batch(execution: str, count: int, parts: int,
                                                                     results: dict) -> None:
    rows, weights = results["parts", execution, count, parts]
    whole_rows, whole = results["parts", *WHOLE]
    assert _difference(weights, whole) < 1e-6
    np.testing.assert_allclose(rows, whole_rows, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("execution", ["graph", "eager", "xla"])
def test_unsynchronized_devices_normalize_their_own_images(execution: str, results: dict) -> None:
    """Each device acts like one device on part of the batch; all devices hold the same moving averages."""
    first_row, averages, (rows, weights) = results["normalized", execution]
    whole_row, whole_averages, _ = results["normalized", "whole"]
    part_row, _, (part_rows, part_weights) = results["normalized", "parts"]
    np.testing.assert_allclose(np.concatenate([first_row, rows]), np.concatenate([part_row, part_rows]), rtol=1e-4,
                               atol=1e-6)
    assert _difference(weights, part_weights) < 1e-6 and abs(first_row[0, 0] - whole_row[0, 0]) > 1e-4
    for first, second in averages:
        np.testing.assert_array_equal(first, second)
    # The inputs of the first layer are equal in both runs. So the mean of the batch is the average of the means of its
    # halves, and the average of their variances lacks the variance between the halves.
    (mean, _), (variance, _) = averages[:2]
    (whole_mean,), (whole_variance,) = whole_averages[:2]
    np.testing.assert_allclose(mean, whole_mean, rtol=1e-4, atol=1e-6)
    assert (variance < whole_variance).all() and (variance > 0.5 * whole_variance).all()


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_clipping_scales_the_whole_gradient(precision: str, results: dict) -> None:
    """Plain gradient descent changes weights by learning rate times gradient, so NumPy can compute the norm."""
    def step(clip_norm: float) -> tuple[float, np.ndarray]:
        rows, before, after = results["clip", precision, clip_norm]
        moved = np.concatenate([(a - b).ravel() for a, b in zip(after, before)]).astype(np.float64) / 0.1
        return rows[0, 2], moved

    norm, moved = step(0.0)
    assert np.linalg.norm(moved) == pytest.approx(norm, rel=1e-4) and norm > 0.6
    clipped_norm, clipped = step(0.5)
    assert clipped_norm == pytest.approx(norm, rel=1e-5)  # the norm before clipping
    np.testing.assert_allclose(clipped, moved * 0.5 / norm, atol=1e-6)


@pytest.mark.parametrize("count", [2, 4])
def test_each_device_draws_separate_random_numbers(count: int, results: dict) -> None:
    made, alone = results["draws", count], results["draws", 1]
    for layer in range(3):
        outputs = np.concatenate([made["first"][layer], made["second"][layer]])
        assert outputs.shape == (2 * count, WIDTH)
        centred = outputs - outputs.mean(axis=1, keepdims=True)
        correlations = np.corrcoef(centred) - np.eye(2 * count)
        assert np.abs(correlations).max() < 5 / WIDTH ** 0.5  # devices and calls are uncorrelated
        # The first device draws the numbers of a run on one device; a restored state continues its sequence.
        np.testing.assert_array_equal(made["first"][layer][0], alone["first"][layer][0])
        np.testing.assert_array_equal(made["second"][layer], made["again"][layer])
    dropped = np.concatenate([made["first"][0], made["second"][0]])
    assert set(np.unique(dropped)) == {-2.0, 0.0}
    np.testing.assert_allclose((dropped == 0).mean(axis=1), 0.5, atol=5 * 0.5 / WIDTH ** 0.5)
    divided = -1 / made["first"][1]
    assert 3 <= divided.min() < 3.01 and 7.99 < divided.max() <= 8


@pytest.mark.parametrize("count", [1, 2])
def test_float16_recovers_from_an_overflow(count: int, results: dict) -> None:
    seen = results["overflow", count]
    skipped = [step for step in seen if step["after"] < step["scale"]]
    assert len(skipped) > 10 and seen.index(skipped[-1]) < len(seen) - 5
    for step in seen:
        assert np.isfinite(step["loss"]) and step["finite"]
        assert step["moved"] == (step not in skipped) == (step["norm"] > 0)
        assert step["after"] == step["scale"] / (2 if step in skipped else 1)
    assert seen[-1]["loss"] < seen[0]["loss"]


def test_fewer_images_than_devices_are_each_evaluated_once(results: dict) -> None:
    one, four = results["few", 1].read_result(), results["few", 4].read_result()
    assert four["replicas"] == 4 and four["dataset"]["validation_images"] == four["dataset"]["test_images"] == 3
    assert four["test"]["images"] == 3
    assert four["test"]["loss"] == pytest.approx(one["test"]["loss"], rel=1e-5)
    for row, other in zip(results["few", 4].read_metrics(), results["few", 1].read_metrics(), strict=True):
        assert row["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-5)
        assert 3 * row["validation_accuracy"] == pytest.approx(round(3 * other["validation_accuracy"]))


def test_xla_with_synchronized_batch_normalization_is_refused(results: dict) -> None:
    assert "--execution=graph, or --nosynchronize" in results["xla"] and "\n" not in results["xla"]


@pytest.mark.parametrize("changes, count", [
    ({"batch_size": 24}, 5), ({"batch_size": 24, "accumulate": 5}, 1), ({"batch_size": 24, "accumulate": 8}, 4),
    ({"batch_size": 2}, 4), ({}, -1)], ids=str)
def test_indivisible_batch_or_a_negative_number_is_a_usage_error(changes: dict, count: int) -> None:
    with pytest.raises(UsageError, match="does not divide" if changes else "--devices=-1 must be at least 0") as caught:
        devices.strategy(Recipe(experiment="e", network="n", **changes), count)
    assert "\n" not in str(caught.value)
