"""ResNet against its paper and against NumPy; against keras.applications in test_imagenet_weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tests.numpy_layers import max_pool, random, relu, shake
from tfcnn.networks import input_shape, layers, resnet
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import UsageError

# Table 1. For each depth: the stages conv2_x to conv5_x, each as (number of blocks, kernel sizes, filters), and the
# number of multiply-adds, which the paper calls FLOPs.
TWO, THREE = (3, 3), (1, 3, 1)
TABLE_1: dict[int, tuple[list[tuple[int, tuple[int, ...], tuple[int, ...]]], float]] = {
    18: ([(2, TWO, (64, 64)), (2, TWO, (128, 128)), (2, TWO, (256, 256)), (2, TWO, (512, 512))], 1.8e9),
    34: ([(3, TWO, (64, 64)), (4, TWO, (128, 128)), (6, TWO, (256, 256)), (3, TWO, (512, 512))], 3.6e9),
    50: ([(3, THREE, (64, 64, 256)), (4, THREE, (128, 128, 512)), (6, THREE, (256, 256, 1024)),
          (3, THREE, (512, 512, 2048))], 3.8e9),
    101: ([(3, THREE, (64, 64, 256)), (4, THREE, (128, 128, 512)), (23, THREE, (256, 256, 1024)),
           (3, THREE, (512, 512, 2048))], 7.6e9),
    152: ([(3, THREE, (64, 64, 256)), (8, THREE, (128, 128, 512)), (36, THREE, (256, 256, 1024)),
           (3, THREE, (512, 512, 2048))], 11.3e9)}


def trainable(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def convolutions(model: keras.Model, shortcuts: bool = False) -> list[keras.layers.Conv2D]:
    """Returns the convolutions in order; with the projections of shortcuts only if `shortcuts` is true."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)
            and (shortcuts or not layer.name.endswith("_shortcut"))]


def described(model: keras.Model) -> list[tuple[int, int, int]]:
    """Describes each convolution as the paper's tables do: kernel size, height of the output, filters."""
    return [(layer.kernel_size[0], *layer.output.shape[2:]) for layer in convolutions(model)]


@pytest.fixture
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Initializes kernels to zero, for tests that ignore initial weights: drawing millions of them is slow."""
    monkeypatch.setattr(layers, "initializer", lambda choice, paper: "zeros")


@pytest.mark.parametrize("depth", TABLE_1)
def test_layers_shapes_and_cost_match_table_1(depth: int, unfilled: None) -> None:
    stages, cost = TABLE_1[depth]
    model = resnet.build(depth, stem="7x7")
    expected = [(7, 112, 64)]
    for (count, sizes, widths), height in zip(stages, (56, 28, 14, 7)):
        expected += [(size, height, width) for size, width in zip(sizes, widths)] * count
    # The first 1x1 convolution of a bottleneck block has the stride, so all three have outputs of the same height.
    assert described(model) == expected and len(expected) + 1 == depth
    assert model.get_layer("pool1").output.shape[1:] == (56, 56, 64)
    for stage, (count, _, widths) in enumerate(stages, 2):
        height = 224 // 2 ** stage
        assert model.get_layer(f"conv{stage}_{count}_activation").output.shape[1:] == (height, height, widths[-1])
    assert model.get_layer("average_pool").output.shape[1:] == stages[-1][2][-1:]
    products = math.prod(model.get_layer("logits").kernel.shape)
    for layer in convolutions(model, shortcuts=True):
        products += math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:3])
    assert products == pytest.approx(cost, abs=0.08e9)


@pytest.mark.parametrize("depth, n", [(20, 3), (32, 5), (44, 7), (56, 9), (110, 18)])
def test_layers_and_shapes_match_section_4_2(depth: int, n: int, unfilled: None) -> None:
    model = resnet.build(depth)
    # "output map size 32x32 16x16 8x8, # layers 1+2n 2n 2n, # filters 16 32 64"
    assert described(model) == [(3, 32, 16)] * (1 + 2 * n) + [(3, 16, 32)] * 2 * n + [(3, 8, 64)] * 2 * n
    assert depth == 6 * n + 2
    assert model.get_layer("average_pool").output.shape[1:] == (64,)
    assert not [layer for layer in convolutions(model, shortcuts=True) if layer.name.endswith("_shortcut")]


def test_stage_shapes_of_small_images_in_a_network_of_four_stages(unfilled: None) -> None:
    stages = [model.get_layer(f"conv{stage}_2_activation").output.shape[1:]
              for model in [resnet.build(18)] for stage in (2, 3, 4, 5)]
    assert stages == [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]


def test_number_of_parameters_of_each_kind_of_shortcut(unfilled: None) -> None:
    models = {shortcut: resnet.build(20, shortcut=shortcut) for shortcut in OPTIONS["resnet"]["shortcut"].choices}
    assert trainable(models["paper"]) == trainable(models["A"]) == trainable(models["none"]) == 269_722
    widened = 16 * 32 + 32 * 64 + 2 * (32 + 64)  # two projections and their batch normalization
    assert trainable(models["B"]) == 269_722 + widened == 272_474
    kept = 3 * 16 * 16 + 2 * 32 * 32 + 2 * 64 * 64 + 2 * (3 * 16 + 2 * 32 + 2 * 64)
    assert trainable(models["C"]) == 269_722 + widened + kept
    additions = {shortcut: sum(isinstance(layer, keras.layers.Add) for layer in model.layers)
                 for shortcut, model in models.items()}
    assert additions == {"paper": 9, "A": 9, "B": 9, "C": 9, "none": 0}
    assert described(models["none"]) == described(models["A"]) == described(models["C"])
    assert models["none"].name == "plain20"


def test_each_convolution_is_followed_by_batch_normalization(unfilled: None) -> None:
    model = resnet.build(20, shortcut="C")
    normalizations = {layer.input: layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)}
    found = convolutions(model, shortcuts=True)
    assert len(found) == len(normalizations)
    for layer in found:
        normalization = normalizations[layer.output]
        assert normalization.name == f"{layer.name}_normalization" and not layer.use_bias
        assert (normalization.momentum, normalization.epsilon, normalization.synchronized) == (0.9, 1e-5, True)
    model = resnet.build(20, shortcut="C", normalization="none")
    assert not [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    assert all(layer.use_bias for layer in convolutions(model, shortcuts=True))


# Outputs and gradients


def in_numpy(model: keras.Model, x: np.ndarray, blocks: tuple[int, ...], shortcut: str) -> np.ndarray:
    """Computes the logits of a network of two-convolution blocks in NumPy, from the weights of `model`."""
    names = {layer.name for layer in model.layers}
    weights = numpy_layers.weights(model)

    def pad(x: np.ndarray, margin: int) -> np.ndarray:
        return np.pad(x, [(0, 0), (margin, margin), (margin, margin), (0, 0)])

    def convolve(x: np.ndarray, name: str, strides: int = 1) -> np.ndarray:
        kernel, *bias = weights(name)
        x = numpy_layers.convolution(pad(x, len(kernel) // 2), kernel, *bias, strides=strides)
        if f"{name}_normalization" in names:
            x = numpy_layers.batch_normalization(x, *weights(f"{name}_normalization"), epsilon=1e-5)
        return x

    def shorten(x: np.ndarray, name: str, strides: int, channels: int) -> np.ndarray | float:
        changes = strides > 1 or x.shape[-1] < channels
        if shortcut == "none":
            return 0.0
        if shortcut == "C" or (shortcut == "B" and changes):
            return convolve(x, f"{name}_shortcut", strides)
        zeros = np.zeros((*x.shape[:-1], channels - x.shape[-1]))
        return np.concatenate([x, zeros], axis=-1)[:, ::strides, ::strides]

    if len(weights("conv1")[0]) == 7:
        x = max_pool(pad(relu(convolve(x, "conv1", 2)), 1), 3, 2)
    else:
        x = relu(convolve(x, "conv1"))
    for stage, count in enumerate(blocks, 2):
        for name in (f"conv{stage}_{number}" for number in range(1, count + 1)):
            strides = 2 if stage > 2 and name.endswith("_1") else 1
            residual = convolve(relu(convolve(x, f"{name}_conv1", strides)), f"{name}_conv2")
            x = relu(residual + shorten(x, name, strides, residual.shape[-1]))
    kernel, bias = weights("logits")
    return x.mean(axis=(1, 2)) @ kernel + bias


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("shortcut, normalization", [
    ("A", "batch"), ("B", "batch"), ("C", "batch"), ("none", "batch"), ("A", "none"), ("C", "none"), ("none", "none")])
def test_logits_of_three_stages_match_numpy(shortcut: str, normalization: str, size: int) -> None:
    model = resnet.build(20, shortcut=shortcut, normalization=normalization, image_size=size)
    shake(model)
    if shortcut == "none":
        for layer in convolutions(model):  # otherwise the signal vanishes within twenty layers
            layer.kernel.assign(1.8 * layer.kernel)
    x = random(3, size, size, 3)
    expected = in_numpy(model, x, (3, 3, 3), shortcut)
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert np.ptp(expected[:, 0]) > 0.01 * np.abs(expected).max()  # the logits depend on the images


@pytest.mark.parametrize("stem, size", [("7x7", 40), ("3x3", 9)])
def test_logits_of_four_stages_match_numpy(stem: str, size: int, unfilled: None) -> None:
    model = resnet.build(18, stem=stem, classes=5, image_size=size)
    shake(model)
    x = random(2, size, size, 3)
    expected = in_numpy(model, x, (2, 2, 2, 2), "B")
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def gradients(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """Returns the gradients of the cross-entropy in training mode, computed in a compiled graph."""
    weights = [variable.value for variable in model.trainable_variables]

    @tf.function
    def run() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            labels = np.arange(len(x)) % 10
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x, training=True)))
        return tape.gradient(loss, weights)

    return [gradient.numpy() for gradient in run()]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_low_precision_trains_float32_weights(precision: str, policy: Any) -> None:
    options: dict[str, Any] = {"image_size": 16, "shortcut": "A"}
    exact = resnet.build(**options)
    shake(exact)
    policy(precision)
    model = resnet.build(**options)
    model.set_weights(exact.get_weights())
    x = random(8, 16, 16, 3)
    assert model.get_layer("conv4_1_shortcut").output.dtype == precision.removeprefix("mixed_")
    assert model(x).dtype == tf.float32
    np.testing.assert_allclose(model(x), exact(x), atol=0.05 * np.abs(exact(x)).max())
    for variable, gradient in zip(model.trainable_variables, gradients(model, x), strict=True):
        assert gradient.dtype == np.float32 and np.all(np.isfinite(gradient)) and np.any(gradient), variable.path


# Initial weights, which also keep a network without batch normalization trainable


def spread(layer: keras.layers.Conv2D) -> float:
    """Returns the standard deviation of the kernel, as a multiple of He initialization's."""
    kernel = layer.kernel.numpy()
    return kernel.std() * math.sqrt(math.prod(kernel.shape[:-1]) / 2)


def test_initial_weights_are_gaussian_as_in_he_et_al_2015() -> None:
    model = resnet.build(20, shortcut="C")
    for layer in (*convolutions(model, shortcuts=True), model.get_layer("logits")):
        assert spread(layer) == pytest.approx(1, rel=4 / math.sqrt(2 * math.prod(layer.kernel.shape))), layer.name
    kernel = model.get_layer("conv4_3_conv2").kernel.numpy()
    assert np.mean(np.abs(kernel) > 2 * kernel.std()) == pytest.approx(0.0455, abs=0.005)  # not truncated
    assert not np.array_equal(kernel, model.get_layer("conv4_3_conv1").kernel)


@pytest.mark.parametrize("depth, blocks, last", [(20, 9, 2), (50, 16, 3)])
def test_without_normalization_residual_branches_have_fixup_initialization(depth: int, blocks: int, last: int) -> None:
    model = resnet.build(depth, normalization="none")
    for layer in convolutions(model, shortcuts=True):
        number = layer.name.rpartition("_conv")[2] if "_conv" in layer.name else ""
        expected = 1.0 if not number else 0.0 if number == str(last) else blocks ** (-1 / (2 * last - 2))
        tolerance = 4 / math.sqrt(2 * math.prod(layer.kernel.shape))
        assert spread(layer) == pytest.approx(expected, rel=tolerance, abs=0), layer.name
        assert not np.any(layer.bias.numpy())


def test_another_initializer_keeps_its_scale_and_the_zeros_of_fixup() -> None:
    model = resnet.build(20, normalization="none", initializer="orthogonal", image_size=8)
    assert not any(np.any(layer.kernel.numpy()) for layer in convolutions(model) if layer.name.endswith("_conv2"))
    kernel = model.get_layer("conv3_2_conv1").kernel.numpy().reshape(-1, 32)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(32), atol=1e-4)


def test_without_normalization_110_layers_start_as_their_shortcuts_and_train() -> None:
    model = resnet.build(110, normalization="none", image_size=8)
    parts = keras.Model(model.input, [model.get_layer("conv1_activation").output,
                                      model.get_layer("conv4_18_activation").output])
    x = random(4, 8, 8, 3)
    first, final = (np.asarray(part) for part in parts(x))
    np.testing.assert_array_equal(final[..., :16], first[:, ::4, ::4])
    assert not np.any(final[..., 16:])

    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)  # the paper's learning rate
    losses = []
    for _ in range(5):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(4), model(x, training=True)))
        losses.append(float(loss))
        optimizer.apply(tape.gradient(loss, [variable.value for variable in model.trainable_variables]),
                        model.trainable_variables)
    assert np.all(np.isfinite(losses)) and max(losses) < 1.5 * losses[0] and losses[-1] < losses[0], losses
    assert all(np.any(layer.kernel.numpy()) for layer in convolutions(model))


@pytest.mark.parametrize("shortcut, depth, lowest, highest", [
    # The expected mean square is 1. Random weights deviate from it: more so in narrow layers and in deep networks.
    ("B", 110, 0.2, 5.0), ("C", 20, 0.02, 10.0), ("none", 20, 0.02, 10.0)])
def test_without_normalization_the_signal_neither_vanishes_nor_explodes(shortcut: str, depth: int, lowest: float,
                                                                        highest: float) -> None:
    keras.utils.set_random_seed(0)
    model = resnet.build(depth, shortcut=shortcut, normalization="none")
    outputs = [layer.output for layer in model.layers if layer.name.endswith("_activation")
               and (shortcut == "none" or "_conv" not in layer.name)]
    squares = [float(np.mean(np.square(output))) for output in keras.Model(model.input, outputs)(random(4, 32, 32, 3))]
    assert lowest < min(squares) and max(squares) < highest, squares


@pytest.mark.parametrize("options, message", [
    ({"depth": 21}, "depth=21 must be one of 20, 32, 44, 56, 110, 18, 34, 50, 101, 152"),
    ({"depth": 20, "stem": "7x7"}, "stem='7x7' is for depths 18, 34, 50, 101 and 152: depth=20 needs stem='3x3'"),
    ({"stem": "5x5"}, "stem='5x5' must be one of 3x3, 7x7"),
    ({"shortcut": "D"}, "shortcut='D' must be one of paper, A, B, C, none"),
    ({"normalization": "local_response"}, "normalization='local_response' must be one of batch, none"),
    ({"activation": "rleu"}, "activation='rleu' must be one of relu, leaky_relu, prelu, rrelu, elu, tanh, sigmoid"),
    ({"image_size": -1}, "image_size=-1 must be at least 1 for this network")])
def test_an_invalid_option_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        resnet.build(**options)
    assert str(error.value) == message


def test_the_stem_determines_the_input_shape_and_the_number_of_classes(unfilled: None) -> None:
    for stem, size, classes in (("3x3", 32, 10), ("7x7", 224, 1000)):
        assert input_shape("resnet", {"depth": 18, "stem": stem}) == (size, size, 3)
        model = resnet.build(18, stem=stem)
        assert model.input_shape == (None, size, size, 3) and model.output_shape == (None, classes)
    with pytest.raises(UsageError, match="stem='x' must be one of 3x3, 7x7"):
        input_shape("resnet", {"stem": "x"})
