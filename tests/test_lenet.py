"""Tests LeNet-5 against its paper and against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests.numpy_layers import average_pool, convolution, random, shake, weights
from tfcnn.networks import layers, lenet
from tfcnn.recipe import UsageError

# Table I as printed: a row per map of S2, a column per map of C3.
TABLE_1 = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""
CONNECTED = np.array([[cell == "X" for cell in row.split()] for row in TABLE_1.split("\n") if row])

ORIGINAL: dict[str, Any] = {"variant": "original"}
RADIAL_BASIS: dict[str, Any] = {"variant": "original", "output": "radial_basis"}


def images(count: int = 4, size: int = 32) -> np.ndarray:
    return random(count, size, size, 1)


def squash(x: np.ndarray) -> np.ndarray:
    """Equation 6, with the constants of appendix A."""
    return 1.7159 * np.tanh(2 / 3 * x)


def subsample(x: np.ndarray, coefficient: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Section II.B: each unit sums its four inputs, multiplies by a coefficient and adds a bias."""
    count, height, width, channels = x.shape
    y = np.empty((count, height // 2, width // 2, channels))
    for row, column, channel in np.ndindex(y.shape[1:]):
        four = x[:, 2 * row:2 * row + 2, 2 * column:2 * column + 2, channel].astype(np.float64)
        y[:, row, column, channel] = four.sum(axis=(1, 2)) * coefficient[channel] + bias[channel]
    return y


def convolve_connected(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """C3: one 5x5 convolution for each X of table I, column by column."""
    y = np.zeros((*convolution(x[..., :1], kernel[..., :1, np.newaxis]).shape[:3], 16))
    weight = 0
    for filter_ in range(16):
        for map_ in range(6):
            if CONNECTED[map_, filter_]:
                patch = kernel[:, :, weight, np.newaxis, np.newaxis]
                y[..., filter_] += convolution(x[..., map_:map_ + 1], patch)[..., 0]
                weight += 1
    assert weight == kernel.shape[-1]
    return y + bias


def connections(layer: keras.layers.Layer) -> int:
    """Counts the connections of all units of a layer, biases included, by changing one input at a time."""
    shape = layer.input.shape[1:]
    silent = np.asarray(layer(np.zeros((1, *shape), np.float32)))
    alone = np.asarray(layer(np.eye(math.prod(shape), dtype=np.float32).reshape(-1, *shape)))
    return np.count_nonzero(alone != silent) + silent.size * hasattr(layer, "bias")


@pytest.mark.parametrize("options, counts", [
    (ORIGINAL, {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164, "logits": 850}),
    (RADIAL_BASIS, {"C1": 156, "S2": 12, "C3": 1516, "S4": 32, "C5": 48_120, "F6": 10_164}),
    ({}, {"C1": 156, "C3": 2416, "C5": 48_120, "F6": 10_164, "logits": 850})], ids=str)
def test_layers_have_the_papers_numbers_of_parameters(options: dict[str, Any], counts: dict[str, int]) -> None:
    model = lenet.build(**options)
    assert {layer.name: layer.count_params() for layer in model.layers if layer.weights} == counts
    assert len(model.trainable_variables) == len(model.weights)
    assert sum(counts.values()) == model.count_params()


def test_original_has_the_papers_numbers_of_connections() -> None:
    model = lenet.build(**RADIAL_BASIS)
    shake(model)
    found = {name: connections(model.get_layer(name)) for name in ("C1", "S2", "C3", "S4", "C5", "F6")}
    assert found == {"C1": 122_304, "S2": 5880, "C3": 151_600, "S4": 2000, "C5": 48_120, "F6": 10_164}
    assert sum(found.values()) + 84 * 10 == 340_908  # the end of section II.B


@pytest.mark.parametrize("options", [ORIGINAL, RADIAL_BASIS, {}], ids=str)
def test_stages_match_the_paper(options: dict[str, Any]) -> None:
    model = lenet.build(**options)
    for before, layer in zip(model.layers, model.layers[1:]):
        assert layer.input is before.output
    assert [(layer.name, layer.output.shape[1:]) for layer in model.layers if "activation" not in layer.name] == [
        ("images", (32, 32, 1)), ("C1", (28, 28, 6)), ("S2", (14, 14, 6)), ("C3", (10, 10, 16)), ("S4", (5, 5, 16)),
        ("C5", (1, 1, 120)), ("flatten", (120,)), ("F6", (84,)), ("logits", (10,))]
    squashed = ["C1", "C3", "C5", "F6"] if options == {} else ["C1", "S2", "C3", "S4", "C5", "F6"]
    assert [layer.input._keras_history.operation.name for layer in model.layers
            if layer.name.endswith("_activation")] == squashed


def test_c3_has_one_convolution_per_connection_of_table_1() -> None:
    layer = lenet.build(**ORIGINAL).get_layer("C3")
    kernel, bias = random(5, 5, 60, seed=1), random(16, seed=2)
    layer.set_weights([kernel, bias])
    x = random(2, 14, 14, 6)
    np.testing.assert_allclose(layer(x), convolve_connected(x, kernel, bias), rtol=1e-4, atol=1e-4)
    assert CONNECTED.sum() == 60 and [len(seen) for seen in lenet.C3_SEES] == list(CONNECTED.sum(axis=0))


def test_gradient_of_a_connection_is_summed_over_positions() -> None:
    layer = layers.SparseConnectionConv2D([[0, 2], [1], [0, 1, 2]], 2)
    x, cotangent = random(2, 4, 4, 3), random(2, 3, 3, 3, seed=1)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x) * cotangent)
    kernel = layer.get_weights()[0]
    gradient = np.asarray(tape.gradient(total, layer.kernel.value))
    seen, filters = [0, 2, 1, 0, 1, 2], [0, 0, 1, 2, 2, 2]
    for row, column, weight in np.ndindex(kernel.shape):
        patch = x[:, row:row + 3, column:column + 3, seen[weight]]
        np.testing.assert_allclose(gradient[row, column, weight], np.sum(patch * cotangent[..., filters[weight]]),
                                   rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_subsampling_scales_the_sum_of_four_inputs(size: tuple[int, int]) -> None:
    layer = layers.AverageSubsampling2D()
    x = random(2, *size, 3)
    layer.build(x.shape)
    layer.set_weights([random(3, seed=1), random(3, seed=2)])
    y = np.asarray(layer(x))
    np.testing.assert_allclose(y, subsample(x, *layer.get_weights()), rtol=1e-5, atol=1e-5)
    assert layer.compute_output_shape(x.shape) == y.shape


def test_scaled_tanh_of_one_is_one() -> None:
    np.testing.assert_allclose(layers.scaled_tanh(tf.constant([-1.0, 0.0, 1.0, 100.0])), [-1, 0, 1, 1.7159], atol=1e-4)


def test_radial_basis_outputs_are_negative_squared_distances() -> None:
    layer = layers.RadialBasis([[1.0, -1.0, 0.5], [0.0, 2.0, 1.0]])
    x = 3 * random(5, 3)
    y = np.asarray(layer(x))
    for row, point in np.ndindex(5, 2):
        distance = sum((x[row, j] - layer.points[point][j]) ** 2 for j in range(3))
        assert y[row, point] == pytest.approx(-distance, rel=1e-5)


def test_digit_codes_are_bitmaps_of_width_7_and_height_12() -> None:
    codes = np.array(lenet.digit_codes())
    assert codes.shape == (10, 84) and set(np.unique(codes)) == {-1, 1}
    pictures = codes.reshape(10, 12, 7)
    assert np.all(pictures[1, 1:11, 3:5] == 1)  # the stem of the 1
    assert np.all(pictures[7, 1] == 1) and np.all(pictures[2, 10] == 1)  # the top of the 7, the foot of the 2
    assert np.all(pictures[5, 2:5, 0] == 1) and np.all(pictures[5, 2:5, 2:] == -1)  # the 5 opens to the right
    np.testing.assert_array_equal(pictures[[0, 8], :, ::-1], pictures[[0, 8]])  # 0 and 8 are symmetric
    differing = (codes[:, np.newaxis] != codes).sum(axis=-1) + 84 * np.eye(10, dtype=int)
    assert differing.min() >= 10


def test_cross_entropy_of_radial_basis_logits_matches_the_papers_loss() -> None:
    model = lenet.build(**RADIAL_BASIS)
    f6 = keras.Model(model.input, model.get_layer("F6_activation").output)
    x, labels = images(), np.array([3, 0, 7, 9])
    states, codes = np.asarray(f6(x), np.float64), np.array(lenet.digit_codes())
    penalties = ((states[:, np.newaxis] - codes) ** 2).sum(axis=-1)  # equation 7
    criterion = penalties[range(4), labels] + np.log(np.exp(-penalties).sum(axis=-1))  # equation 9, for each example
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x))
    np.testing.assert_allclose(loss, criterion, rtol=1e-4)


@pytest.mark.parametrize("options", [ORIGINAL, RADIAL_BASIS, {}], ids=str)
def test_logits_match_numpy(options: dict[str, Any]) -> None:
    model = lenet.build(**options)
    shake(model)
    of = weights(model)
    x = inputs = images()
    x = squash(convolution(x, *of("C1")))
    x = squash(subsample(x, *of("S2"))) if options else average_pool(x, 2, 2)
    x = squash(convolve_connected(x, *of("C3")) if options else convolution(x, *of("C3")))
    x = squash(subsample(x, *of("S4"))) if options else average_pool(x, 2, 2)
    x = squash(convolution(x, *of("C5"))).reshape(4, -1)
    x = squash(x @ of("F6")[0] + of("F6")[1])
    if options == RADIAL_BASIS:
        x = -((x[:, np.newaxis] - np.array(lenet.digit_codes())) ** 2).sum(axis=-1)
    else:
        x = x @ of("logits")[0] + of("logits")[1]
    np.testing.assert_allclose(model(inputs), x, rtol=1e-4, atol=1e-5)


def test_initial_weights_have_the_papers_range() -> None:
    keras.utils.set_random_seed(0)
    model = lenet.build(**ORIGINAL)
    of = weights(model)
    for name, fan_in in (("C1", 25), ("C5", 400), ("F6", 120), ("logits", 84)):
        _assert_uniform(of(name)[0], 2.4 / fan_in)
    start = 0
    for seen in CONNECTED.sum(axis=0):
        _assert_uniform(of("C3")[0][..., start:start + seen], 2.4 / (25 * seen))
        start += seen
    for name in ("S2", "S4"):
        assert 0.1 < np.abs(of(name)[0]).max() < 0.601
    assert not any(np.any(layer.bias.numpy()) for layer in model.layers if hasattr(layer, "bias"))


def _assert_uniform(values: np.ndarray, bound: float) -> None:
    """Checks that values are uniform in [-bound, bound]; the tolerances allow for as few as 75 values."""
    assert 0.9 * bound < np.abs(values).max() < 1.001 * bound
    assert abs(values.mean()) < 0.3 * bound and abs(values.std() * math.sqrt(3) / bound - 1) < 0.3


def test_connections_of_c3_are_initialized_independently_with_their_filters_fan_in() -> None:
    keras.utils.set_random_seed(0)
    kernel = weights(lenet.build(**ORIGINAL, initializer="he_normal"))("C3")[0]
    assert len({kernel[..., connection].tobytes() for connection in range(60)}) == 60
    for part, seen in ((kernel[..., :18], 3), (kernel[..., 18:54], 4), (kernel[..., 54:], 6)):
        assert part.std() == pytest.approx(math.sqrt(2 / (25 * seen)), rel=0.2)


@pytest.mark.parametrize("variant", ["original", "modern"])
def test_batch_normalization_precedes_the_activation_of_each_convolution(variant: str) -> None:
    model = lenet.build(variant, normalization="batch")
    names = [layer.name for layer in model.layers]
    for name in ("C1", "C3", "C5"):
        index = names.index(name)
        assert names[index + 1:index + 3] == [f"{name}_normalization", f"{name}_activation"]
        assert isinstance(model.layers[index + 1], layers.BatchNormalization) and len(model.layers[index].weights) == 1
    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers) == 3


def test_dropout_follows_c5_and_f6() -> None:
    model = lenet.build(dropout=0.3)
    before = {layer.name: (layer.rate, layer.input._keras_history.operation.name) for layer in model.layers
              if isinstance(layer, keras.layers.Dropout)}
    assert before == {"C5_dropout": (0.3, "flatten"), "F6_dropout": (0.3, "F6_activation")}
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in lenet.build().layers)


def test_larger_images_give_c5_more_positions() -> None:
    model = lenet.build(**ORIGINAL, image_size=36)
    assert model.get_layer("C5").output.shape[1:] == (2, 2, 120)
    assert model.count_params() == 60_850 + 84 * 3 * 120


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("options", [ORIGINAL, RADIAL_BASIS], ids=str)
def test_low_precision_has_float32_logits_and_gradients(precision: str, options: dict[str, Any], policy: Any) -> None:
    exact = lenet.build(**options)
    shake(exact)
    policy(precision)
    model = lenet.build(**options)
    model.set_weights(exact.get_weights())
    assert model.get_layer("C3").compute_dtype == precision.removeprefix("mixed_")
    x = images()
    with tf.GradientTape() as tape:
        logits = model(x)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2, 3], logits))
    assert logits.dtype == tf.float32
    np.testing.assert_allclose(logits, exact(x), atol=0.02 * np.abs(exact(x)).max())
    for gradient in tape.gradient(loss, [variable.value for variable in model.trainable_variables]):
        assert gradient.dtype == tf.float32 and np.all(np.isfinite(gradient)) and np.any(gradient)


def test_gradients_in_graph_and_xla_match_eager_execution() -> None:
    model = lenet.build(**ORIGINAL)
    shake(model)

    def gradients(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    x = tf.constant(images(2))
    eager = gradients(x)
    for compiled in (False, True):
        for one, other in zip(tf.function(gradients, jit_compile=compiled)(x), eager):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("layer", [
    layers.SparseConnectionConv2D([[0, 1], [2]], 3, False, layers.FanInUniform(1.0), name="C3"),
    layers.AverageSubsampling2D(name="S2")], ids=lambda layer: layer.name)
def test_layer_is_restored_from_its_configuration(layer: keras.layers.Layer) -> None:
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    x = random(2, 6, 6, 3)
    layer.build(x.shape)
    again.build(x.shape)
    assert type(again) is type(layer) and again.name == layer.name
    assert again.get_config() == layer.get_config()
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


@pytest.mark.parametrize("options, message", [
    ({"variant": "original_radial_basis"}, "variant='original_radial_basis' must be one of modern, original"),
    ({"output": "softmax"}, "output='softmax' must be one of dense, radial_basis"),
    ({"output": "radial_basis", "classes": 100},
     "output=radial_basis has bitmaps for 10 digits, not for classes=100: use output=dense"),
    ({"normalization": "local_response"}, "normalization='local_response' must be one of none, batch"),
    ({"activation": "squash"}, "activation='squash' must be one of scaled_tanh, relu, leaky_relu, prelu, rrelu, elu, "
                               "tanh, sigmoid"),
    ({"image_size": 31}, "image_size=31 must be at least 32 for this network"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and less than 1")])
def test_invalid_option_value_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        lenet.build(**options)
    assert str(error.value) == message
