"""Tests the suite's layers against NumPy in float64, TensorFlow and Keras."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked
from tests.numpy_layers import batch_normalization, convolution, random, response_normalization
from tfcnn.networks import layers
from tfcnn.networks.layers import BatchNormalization, GroupedConv2D, LocalResponseNormalization
from tfcnn.training import devices

# With these constants, unlike the paper's, neighbouring channels matter even for inputs close to 1.
STRONG: dict[str, Any] = {"depth_radius": 2, "bias": 1.5, "alpha": 0.4, "beta": 0.75}


def output_and_gradient(layer: Callable, x: tf.Tensor, weight: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the layer's output, and the gradient with respect to `x` of the output's sum weighted by `weight`."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * weight)
    return y, tape.gradient(loss, x)


def test_response_normalization_has_the_papers_constants_by_default() -> None:
    layer = LocalResponseNormalization()
    assert {name: layer.get_config()[name] for name in STRONG} == {
        "depth_radius": 2, "bias": 2.0, "alpha": 1e-4, "beta": 0.75}
    # Seven channels of value 100. By hand: 2 + 1e-4 * 100^2 * (window of 3, 4, 5, 5, 5, 4, 3 channels).
    y = np.asarray(layer(np.full((1, 1, 1, 7), 100, np.float32)))[0, 0, 0]
    np.testing.assert_allclose(y, 100 / np.array([5, 6, 7, 7, 7, 6, 5]) ** 0.75, rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 5, 16])
@pytest.mark.parametrize("constants", [
    STRONG, STRONG | {"depth_radius": 0}, STRONG | {"depth_radius": 4}, STRONG | {"beta": 0.5}, STRONG | {"beta": 1.0}],
    ids=str)
def test_response_normalization_follows_the_papers_formula(channels: int, constants: dict[str, Any]) -> None:
    x = 2 * random(2, 3, 4, channels)
    y = np.asarray(LocalResponseNormalization(**constants)(x))
    np.testing.assert_allclose(y, response_normalization(x, **constants), rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [2, 9])
@pytest.mark.parametrize("beta", [0.75, 0.6])
def test_response_normalization_gradient_matches_finite_differences(channels: int, beta: float) -> None:
    constants = STRONG | {"beta": beta}
    x, weight = random(1, 2, 2, channels), random(1, 2, 2, channels, seed=1)
    _, gradient = output_and_gradient(LocalResponseNormalization(**constants), tf.constant(x), weight)
    expected, step = np.empty(x.shape), 1e-5
    for index in np.ndindex(x.shape):
        high, low = x.astype(np.float64), x.astype(np.float64)
        high[index] += step
        low[index] -= step
        difference = (response_normalization(high, **constants) - response_normalization(low, **constants))
        expected[index] = np.sum(difference * weight) / (2 * step)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("radius", [2, 4])
def test_response_normalization_matches_tensorflow(radius: int) -> None:
    constants = STRONG | {"depth_radius": radius}
    x, weight = tf.constant(3 * random(4, 9, 7, 96)), random(4, 9, 7, 96, seed=1)
    ours = output_and_gradient(LocalResponseNormalization(**constants), x, weight)
    theirs = output_and_gradient(lambda x: tf.nn.local_response_normalization(x, **constants), x, weight)
    for our, their in zip(ours, theirs):
        np.testing.assert_allclose(our, their, atol=2e-5)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_response_normalization_of_unknown_shapes_matches_eager_execution(compiled: bool) -> None:
    layer = LocalResponseNormalization(**STRONG)
    layer.build((None, None, None, 6))
    unknown = tf.TensorSpec([None, None, None, 6])
    function = tf.function(lambda x, weight: output_and_gradient(layer, x, weight), [unknown, unknown],
                           jit_compile=compiled)
    for shape in ((1, 3, 5, 6), (4, 2, 2, 6)):
        x, weight = tf.constant(random(*shape)), tf.constant(random(*shape, seed=1))
        for one, other in zip(function(x, weight), output_and_gradient(layer, x, weight)):
            np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("precision, unit", [("bfloat16", 2.0 ** -8), ("float16", 2.0 ** -11)])
def test_response_normalization_in_low_precision_rounds_only_its_output(precision: str, unit: float) -> None:
    layer = LocalResponseNormalization(**STRONG, dtype=f"mixed_{precision}")
    x = tf.cast(500 * random(2, 3, 3, 12), precision)  # the squares exceed float16's range
    weight = random(2, 3, 3, 12, seed=1)
    y, gradient = output_and_gradient(layer, x, weight)
    assert y.dtype == gradient.dtype == tf.as_dtype(precision)
    exact = response_normalization(tf.cast(x, tf.float64).numpy(), **STRONG)
    np.testing.assert_allclose(tf.cast(y, tf.float64), exact, rtol=1.01 * unit)
    full, _ = output_and_gradient(LocalResponseNormalization(**STRONG), tf.cast(x, tf.float32), weight)
    assert full.dtype == tf.float32
    np.testing.assert_array_equal(y, tf.cast(full, precision))
    assert np.all(np.isfinite(tf.cast(gradient, tf.float32)))


def test_response_normalization_second_derivative_matches_automatic_differentiation() -> None:
    layer, x = LocalResponseNormalization(**STRONG), tf.constant(random(1, 1, 2, 5))

    def derived(x: tf.Tensor) -> tf.Tensor:
        window = tf.linalg.band_part(tf.ones([5, 5]), 2, 2)
        return x * (1.5 + 0.4 * tf.einsum("bhwj,ji->bhwi", x * x, window)) ** -0.75

    np.testing.assert_allclose(derived(x), layer(x), atol=1e-6)
    seconds = []
    for function in (layer, derived):
        with tf.GradientTape() as outer:
            outer.watch(x)
            _, gradient = output_and_gradient(function, x, tf.range(5.0))
            norm = tf.reduce_sum(gradient ** 2)
        seconds.append(outer.gradient(norm, x))
    np.testing.assert_allclose(*seconds, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"depth_radius": -1}, {"depth_radius": 2.5}, {"bias": 0.0}])
def test_response_normalization_rejects_invalid_constants(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LocalResponseNormalization(**wrong)


def test_response_normalization_is_restored_from_its_configuration() -> None:
    layer = LocalResponseNormalization(3, 1.5, 0.4, 0.6, name="norm1")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is LocalResponseNormalization and again.name == "norm1"
    np.testing.assert_array_equal(again(random(2, 3, 3, 9)), layer(random(2, 3, 3, 9)))


def test_a_network_saved_by_an_older_version_still_loads(tmp_path: Path) -> None:
    """The file uses every class of `layers`, under its old name and module; the expected outputs are as old."""
    saved = Path(__file__).parent / "saved_by_older_versions"
    model = keras.saving.load_model(saved / "every_layer.keras", safe_mode=True)
    found = {type(layer) for layer in model.layers}
    classes = {kind for kind in vars(layers).values() if isinstance(kind, type) and issubclass(kind, keras.Layer)}
    newer = {layers.SparseConnectionConv2D, layers.PatchWhitening, layers.Dense, layers.GELU}  # than the file
    assert found >= classes - newer
    sparse, = {type(model.get_layer(name)) for name in ("C3", "C4")}
    assert issubclass(sparse, layers.SparseConnectionConv2D)
    model.save(tmp_path / "again.keras")
    with np.load(saved / "every_layer.npz") as arrays:
        for loaded in (model, keras.saving.load_model(tmp_path / "again.keras", safe_mode=True)):
            np.testing.assert_allclose(loaded(arrays["images"]), arrays["logits"], rtol=1e-5)


def _compare_two_replicas() -> None:
    devices._divide_cpu(2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    with strategy.scope():
        images = keras.Input((5, 5, 4))
        x = GroupedConv2D(8, 3, groups=2)(images)
        x = LocalResponseNormalization(2, 1.5, 0.4, 0.75)(x)
        model = keras.Model(images, keras.layers.Flatten()(x))

    def gradients(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    x = tf.constant(random(6, 5, 5, 4))
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: x[3 * context.replica_id_in_sync_group:][:3])
    run = tf.function(lambda x: [strategy.reduce("SUM", value, axis=None) for value in strategy.run(gradients, (x,))])
    for one, other in zip(run(halves), gradients(x)):
        assert np.abs(other).max() > 0.1
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_two_replicas_have_the_gradient_of_one_device(tmp_path: Path) -> None:
    """Runs in a new process, because the number of logical CPU devices is fixed once per process."""
    done = Forked(_compare_two_replicas, cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("execution", ["eager", "graph", "xla"])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_at_its_rate_and_scales_the_rest(rate: float, precision: str, execution: str) -> None:
    layer = layers.Dropout(rate, seed=1, dtype=precision)
    call = layer if execution == "eager" else tf.function(layer, jit_compile=execution == "xla")
    x = tf.ones((999, 1001), layer.compute_dtype)  # an odd number of elements
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = call(x, training=True)
    gradient = tape.gradient(y, x)
    kept = tf.cast(y, tf.float64).numpy() != 0
    np.testing.assert_array_equal(y, gradient)
    np.testing.assert_allclose(tf.cast(y, tf.float64), kept / (1 - rate), rtol=2.0 ** -8)
    noise = math.sqrt(rate * (1 - rate) / kept.size)
    assert abs((1 - kept.mean()) - rate) < 5 * noise
    flat = kept.ravel()[:-1]
    both_kept = (flat[::2] & flat[1::2]).mean()  # neighbours come from the two halves of one random number
    assert abs(both_kept - (1 - rate) ** 2) < 5 * noise
    again = tf.cast(call(x, training=True), tf.float64).numpy() != 0
    assert abs((kept & again).mean() - (1 - rate) ** 2) < 5 * noise
    np.testing.assert_array_equal(call(x, training=False), x)


def test_dropout_is_determined_by_its_seed() -> None:
    x = tf.ones((7, 11))
    first, second = layers.Dropout(0.5, seed=3), layers.Dropout.from_config(layers.Dropout(0.5, seed=3).get_config())
    np.testing.assert_array_equal(first(x, training=True), second(x, training=True))
    assert np.any(first(x, training=True) != layers.Dropout(0.5, seed=4)(x, training=True))


@pytest.mark.parametrize("strides, padding, groups", [(1, "same", 2), (2, "valid", 2), (1, "valid", 3)])
def test_grouped_convolution_matches_one_convolution_per_group(strides: int, padding: str, groups: int) -> None:
    layer = GroupedConv2D(12, 3, strides=strides, padding=padding, groups=groups, bias_initializer="random_normal")
    x = random(2, 7, 7, 6)
    y = np.asarray(layer(x))
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 3, 6 // groups, 12)
    np.testing.assert_allclose(y, convolution(x, kernel, bias, strides, padding, groups), atol=1e-5)


def test_grouped_convolution_runs_one_convolution_operation_per_group() -> None:
    layer = GroupedConv2D(8, 3, groups=2)
    layer.build((None, 6, 6, 4))
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([None, 6, 6, 4])).graph
    assert [operation.type for operation in graph.get_operations()].count("Conv2D") == 2


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
def test_grouped_convolution_gradient_matches_keras(precision: str, compiled: bool) -> None:
    x = random(2, 6, 6, 4)
    ours = GroupedConv2D(8, 3, groups=2, activation="tanh", dtype=precision)
    theirs = keras.layers.Conv2D(8, 3, groups=2, activation="tanh")
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())

    @tf.function(jit_compile=compiled)
    def gradients(x: tf.Tensor) -> list[tuple[tf.Tensor, ...]]:
        found = []
        for layer in (ours, theirs):
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(tf.cast(layer(x), tf.float32) ** 2)
            found.append(tape.gradient(loss, (x, layer.kernel.value, layer.bias.value)))
        return found

    tolerance = {"float32": 1e-5, "mixed_bfloat16": 0.05, "mixed_float16": 0.01}[precision]
    for our, their in zip(*gradients(tf.constant(x))):
        assert our.dtype == tf.float32
        np.testing.assert_allclose(our, their, atol=tolerance * np.abs(their).max())


# Batch normalization


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = tuple(range(x.ndim - 1))
    return x.astype(np.float64).mean(axes), x.astype(np.float64).var(axes)


def both(shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> list[keras.layers.BatchNormalization]:
    """Returns our layer and Keras's, with equal weights."""
    found = [kind(momentum=0.8, epsilon=1e-3, dtype=dtype, **options)
             for kind in (BatchNormalization, keras.layers.BatchNormalization)]
    generator = np.random.default_rng(2)
    for layer in found:
        layer.build(shape)
    values = [generator.uniform(0.5, 1.5, variable.shape) for variable in found[0].weights]
    for layer in found:
        layer.set_weights(values)
    return found


def outcome(layer: keras.layers.Layer, x: tf.Tensor, training: bool, compiled: bool) -> dict[str, np.ndarray]:
    """Returns the output, the gradients and the moving statistics by name."""
    weight = tf.constant(random(*x.shape, seed=3))

    def run(x: tf.Tensor) -> tuple[Any, ...]:
        variables = {variable.name: variable.value for variable in layer.trainable_variables}
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * weight)
        return y, tape.gradient(loss, {"x": x, **variables})

    y, derivatives = (tf.function(run) if compiled else run)(x)
    assert y.dtype == derivatives["x"].dtype == x.dtype
    return {"y": y, **{f"gradient of {name}": value for name, value in derivatives.items()},
            **{variable.name: variable.value for variable in layer.non_trainable_variables}}


@pytest.mark.parametrize("options", [{}, {"center": False}, {"scale": False}, {"center": False, "scale": False},
                                     {"trainable": False}, {"synchronized": False}], ids=str)
@pytest.mark.parametrize("shape", [(7, 5, 4, 6), (7, 6), (7, 5, 4, 16)], ids=str)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_batch_normalization_matches_keras(options: dict[str, Any], shape: tuple[int, ...], training: bool,
                                           precision: str) -> None:
    x = tf.cast(3 * random(*shape) + 1, precision.removeprefix("mixed_"))
    ours, theirs = (outcome(layer, x, training, compiled=False) for layer in both(shape, precision, **options))
    assert list(ours) == list(theirs)
    tolerance = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "mixed_float16": 3e-3}[precision]
    for name in ours:
        one, other = (tf.cast(values[name], tf.float32).numpy() for values in (ours, theirs))
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max(), err_msg=name)


def test_batch_normalization_follows_algorithms_1_and_2() -> None:
    x = 3 * random(7, 5, 4, 6) + 1
    layer = both(x.shape)[0]
    gamma, beta, moving_mean, moving_variance = layer.get_weights()
    expected = batch_normalization(x, gamma, beta, moving_mean, moving_variance, 1e-3)
    np.testing.assert_allclose(layer(x, training=False), expected, rtol=1e-5, atol=1e-5)
    mean, variance = moments(x)
    expected = batch_normalization(x, gamma, beta, mean, variance, 1e-3)
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, 0.8 * moving_mean + 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.8 * moving_variance + 0.2 * variance, rtol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_in_bfloat16_rounds_once_where_its_kernels_are_slow(training: bool) -> None:
    """With 24 channels, which are no multiple of 16, all is computed in float32."""
    x = tf.cast(3 * random(7, 5, 4, 24) + 1, "bfloat16")
    layer = both(x.shape, "mixed_bfloat16")[0]
    gamma, beta, *averages = layer.get_weights()
    exact = tf.cast(x, tf.float64).numpy()
    expected = batch_normalization(exact, gamma, beta, *(moments(exact) if training else averages), 1e-3)
    outputs = layer(x, training=training)
    assert outputs.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), expected, rtol=2.0 ** -8, atol=1e-5)


@pytest.mark.parametrize("channels, gpus, dtype", [
    (16, 0, "bfloat16"), (208, 0, "bfloat16"), (24, 0, "float32"), (1000, 0, "float32"), (24, 1, "bfloat16")])
def test_batch_normalization_in_bfloat16_uses_kernels_that_are_fast(
        channels: int, gpus: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["card"] * gpus)
    layer = both((7, channels), "mixed_bfloat16")[0]
    function = tf.function(lambda x: layer(x, training=True))
    graph = function.get_concrete_function(tf.TensorSpec([7, channels], tf.bfloat16)).graph
    operation, = (one for one in graph.get_operations() if one.type == "FusedBatchNormV3")
    assert operation.get_attr("T") == dtype


@pytest.mark.parametrize("shape", [(7, 5, 4, 6), (7, 6)], ids=str)
def test_batch_normalization_is_compiled_by_xla_on_one_replica(shape: tuple[int, ...]) -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    x = 3 * random(*shape) + 1
    with strategy.scope():
        layer = both(shape)[0]
    gamma, beta, *_ = layer.get_weights()
    compiled = tf.function(lambda x: layer(x, training=True), jit_compile=True)
    outputs = tf.function(lambda x: strategy.run(compiled, (x,)))(tf.constant(x))
    np.testing.assert_allclose(outputs, batch_normalization(x, gamma, beta, *moments(x), 1e-3), rtol=1e-5, atol=1e-5)


def _compare_normalization(gpu: bool) -> None:
    """Compares two replicas with the definition in float64, for images and vectors.

    The means are large compared with the standard deviations, and differ much between the replicas. `gpu` selects the
    implementation for GPUs, here run on the CPU.
    """
    devices._divide_cpu(2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice())
    listed = tf.config.list_physical_devices
    tf.config.list_physical_devices = lambda kind=None: ["one"] if gpu and kind == "GPU" else listed(kind)
    for shape, dtype, tolerance in (((6, 5, 4, 3), "float32", 2e-4), ((6, 5, 4, 3), "mixed_bfloat16", 0.02),
                                    ((8, 3), "float32", 2e-4), ((2, 3), "float32", 2e-4)):
        half = shape[0] // 2
        apart = np.repeat([0, 3], half).reshape(-1, *[1] * (len(shape) - 1))
        x, weight = tf.constant(random(*shape) + apart + 10, tf.float32), tf.constant(random(*shape), tf.float32)
        gamma, beta = random(3) + 1, random(3)
        with strategy.scope():
            layer = BatchNormalization(dtype=dtype, epsilon=1e-3, momentum=0.0)
            layer.build(shape)
            layer.set_weights([gamma, beta, np.zeros(3), np.ones(3)])

        def work() -> list[tf.Tensor]:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            part = slice(number * half, (number + 1) * half)
            with tf.GradientTape() as tape:
                inputs = x[part]
                tape.watch(inputs)
                outputs = tf.cast(layer(tf.cast(inputs, layer.compute_dtype), training=True), tf.float32)
                loss = tf.reduce_sum(outputs * weight[part])
            return [outputs, *tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])]

        results = [strategy.experimental_local_results(result) for result in tf.function(strategy.run)(work)]
        outputs, d_x = (np.concatenate([part.numpy() for part in result]) for result in results[:2])
        d_gamma, d_beta = (sum(part.numpy() for part in result) for result in results[2:])

        rounded = tf.cast(tf.cast(x, layer.compute_dtype), tf.float64)
        with tf.GradientTape() as tape:
            exact = [rounded, tf.constant(gamma, tf.float64), tf.constant(beta, tf.float64)]
            tape.watch(exact)
            mean, variance = tf.nn.moments(exact[0], list(range(len(shape) - 1)))
            normalized = (exact[0] - mean) * tf.math.rsqrt(variance + 1e-3)
            expected = normalized * exact[1] + exact[2]
            loss = tf.reduce_sum(expected * tf.cast(weight, tf.float64))
        for one, other in zip([outputs, d_x, d_gamma, d_beta], [expected, *tape.gradient(loss, exact)], strict=True):
            scale = max(np.abs(other).max(), 1)
            np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)
        np.testing.assert_allclose(layer.moving_mean.value, mean, rtol=1e-5)
        np.testing.assert_allclose(layer.moving_variance.value, variance, rtol=1e-4)


@pytest.mark.parametrize("gpu", [False, True])
def test_batch_normalization_uses_statistics_of_the_global_batch(gpu: bool, tmp_path: Path) -> None:
    """Runs in a new process, because the number of logical CPU devices is fixed once per process."""
    done = Forked(_compare_normalization, gpu, cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.returncode == 0, done.stderr


def test_batch_normalization_is_one_operation_in_a_graph() -> None:
    ours, theirs = both((7, 5, 4, 6))
    function = tf.function(lambda x, training: ours(x, training=training))
    x = tf.TensorSpec([None, None, None, 6])
    for training in (True, False):
        kinds = [operation.type for operation in function.get_concrete_function(x, training).graph.get_operations()]
        assert kinds.count("FusedBatchNormV3") == 1
    x = tf.constant(random(7, 5, 4, 6))
    for training in (True, False):
        one, other = (outcome(layer, x, training, compiled=True) for layer in (ours, theirs))
        for name in one:
            np.testing.assert_allclose(one[name], other[name], atol=1e-4, err_msg=name)
