"""The networks without convolution, against their sources and against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests.numpy_layers import batch_normalization, random, relu, shake, weights
from tfcnn.networks import layers, mlp
from tfcnn.recipe import UsageError

# Images of 4x4 pixels: the first layer has few weights; everything else is as published.
SMALL: dict[str, Any] = {"image_size": 4}


def images(size: int = 4, channels: int = 3) -> np.ndarray:
    return random(5, size, size, channels)


def parameters(model: keras.Model) -> dict[str, list[tuple[int, ...]]]:
    """Maps the name of each layer that has parameters to their shapes."""
    return {layer.name: [tuple(variable.shape) for variable in layer.weights]
            for layer in model.layers if layer.weights}


def order(model: keras.Model) -> list[str]:
    """Returns the names of the layers, and checks that each one's input is the output of the one before."""
    for before, layer in zip(model.layers, model.layers[1:]):
        assert layer.input is before.output
    return [layer.name for layer in model.layers]


def normalize(x: np.ndarray) -> np.ndarray:
    """Scales each image's activations to mean 0 and variance 1, as the authors' SubtractMeanAndNormalizeH does."""
    x = x - x.mean(axis=1, keepdims=True)
    return x / x.std(axis=1, keepdims=True)


def test_wide_and_linear_layers_have_no_bias() -> None:
    assert parameters(mlp.build(**SMALL)) == {
        "zero_bias1": [(48, 4000)], "linear1": [(4000, 1000)], "zero_bias2": [(1000, 4000)],
        "linear2": [(4000, 1000)], "zero_bias3": [(1000, 4000)], "linear3": [(4000, 1000)],
        "zero_bias4": [(1000, 4000)], "logits": [(4000, 10), (10,)]}
    assert parameters(mlp.build("bottleneck_short", **SMALL)) == {
        "zero_bias1": [(48, 4000)], "linear1": [(4000, 1000)], "zero_bias2": [(1000, 4000)],
        "logits": [(4000, 10), (10,)]}


def test_parameters_of_the_fashion_network_match_its_source() -> None:
    model = mlp.build("fashion")
    assert [layer.count_params() for layer in model.layers if layer.weights] == [200_960, 32_896, 12_900, 1010]


def test_parameters_of_the_networks_of_zhang_et_al_and_of_the_equal_pair() -> None:
    model = mlp.build("three_layers")
    assert [layer.count_params() for layer in model.layers if layer.weights] == [
        28 * 28 * 3 * 512 + 512, 512 * 512 + 512, 512 * 512 + 512, 5130]
    bottleneck, plain = (mlp.build(variant) for variant in ("bottleneck_small", "plain_small"))
    assert plain.count_params() == pytest.approx(bottleneck.count_params(), rel=0.0002)
    rectifiers = [sum(layer.name.endswith("_activation") for layer in model.layers) for model in (bottleneck, plain)]
    assert rectifiers == [4, 4]
    assert [units * 8 for units in mlp.HIDDEN["bottleneck_small"].values()] == list(mlp.HIDDEN["bottleneck"].values())


def test_order_of_the_layers() -> None:
    assert order(mlp.build("bottleneck_short", **SMALL)) == [
        "images", "flatten", "images_dropout",
        "zero_bias1", "zero_bias1_activation", "zero_bias1_normalization", "zero_bias1_dropout",
        "linear1", "linear1_normalization", "linear1_dropout",
        "zero_bias2", "zero_bias2_activation", "zero_bias2_dropout", "logits"]
    assert order(mlp.build("fashion")) == [
        "images", "flatten", "dense1", "dense1_activation", "dense1_dropout", "dense2", "dense2_activation",
        "dense2_dropout", "dense3", "dense3_activation", "dense3_dropout", "logits"]
    assert order(mlp.build("plain", normalization="batch", **SMALL))[:5] == [
        "images", "flatten", "dense1", "dense1_normalization", "dense1_activation"]
    assert order(mlp.build("bottleneck_short", normalization="batch", dropout=0.0, **SMALL)) == [
        "images", "flatten", "zero_bias1", "zero_bias1_normalization", "zero_bias1_activation", "linear1",
        "linear1_normalization", "zero_bias2", "zero_bias2_normalization", "zero_bias2_activation", "logits"]


@pytest.mark.parametrize("variant, rate, activation", [
    ("bottleneck", 0.1, keras.activations.relu), ("bottleneck_short", 0.1, keras.activations.relu),
    ("plain", None, keras.activations.relu), ("fashion", 0.4, keras.activations.tanh)])
def test_dropout_and_activation_match_the_sources(variant: str, rate: float | None, activation: Any) -> None:
    model = mlp.build(variant, **SMALL)
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    dense = sum(isinstance(layer, keras.layers.Dense) for layer in model.layers)
    assert rates == ([] if rate is None else [rate] * (dense - (variant == "fashion")))
    functions = [layer.activation for layer in model.layers if isinstance(layer, keras.layers.Activation)]
    assert functions == [activation] * len([name for name in mlp.HIDDEN[variant] if "linear" not in name])


@pytest.mark.parametrize("variant", ["bottleneck", "bottleneck_short", "bottleneck_small"])
@pytest.mark.parametrize("normalization", ["layer", "none"])
def test_logits_of_bottleneck_networks_match_numpy(variant: str, normalization: str) -> None:
    model = mlp.build(variant, normalization=normalization, **SMALL)
    shake(model)
    of = weights(model)
    x = images()
    y = x.reshape(5, -1).astype(np.float64)
    for number in range(1, 3 if variant == "bottleneck_short" else 5):
        if number > 1:
            y = y @ of(f"linear{number - 1}")[0]
            y = normalize(y) if normalization == "layer" else y
        y = relu(y @ of(f"zero_bias{number}")[0])
        if normalization == "layer" and f"linear{number}" in mlp.HIDDEN[variant]:
            y = normalize(y)
    y = y @ of("logits")[0] + of("logits")[1]
    np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-3 * np.abs(y).max())


@pytest.mark.parametrize("variant, normalization", [
    ("plain", "none"), ("plain", "batch"), ("fashion", "none"), ("one_layer", "none"), ("three_layers", "batch")])
def test_logits_of_plain_networks_match_numpy(variant: str, normalization: str) -> None:
    model = mlp.build(variant, normalization=normalization, **SMALL)
    shake(model)
    of = weights(model)
    x = images(channels=1 if variant == "fashion" else 3)
    y = x.reshape(5, -1).astype(np.float64)
    for name in mlp.HIDDEN[variant]:
        kernel, *bias = of(name)
        y = y @ kernel
        y = batch_normalization(y, *of(f"{name}_normalization"), 1e-5) if normalization == "batch" else y + bias[0]
        y = np.tanh(y) if variant == "fashion" else relu(y)
    y = y @ of("logits")[0] + of("logits")[1]
    np.testing.assert_allclose(model(x), y, rtol=1e-4, atol=1e-4 * np.abs(y).max())


def test_the_order_of_the_pixels_does_not_matter() -> None:
    model = mlp.build("bottleneck_short", **SMALL)
    x, permutation = images(), np.random.default_rng(0).permutation(48)
    y = np.asarray(model(x))
    model.get_layer("zero_bias1").kernel.assign(weights(model)("zero_bias1")[0][permutation])
    np.testing.assert_allclose(model(x.reshape(5, -1)[:, permutation].reshape(x.shape)), y, rtol=1e-3, atol=1e-5)
    assert not np.allclose(model(x), y, atol=1e-2)


def test_initial_weights_are_those_of_glorot_and_of_he() -> None:
    of = weights(mlp.build("bottleneck_short", **SMALL))
    for kernel in (of("zero_bias1")[0], of("linear1")[0]):  # Glorot uniform
        bound = np.sqrt(6 / sum(kernel.shape))
        assert 0.999 * bound < np.abs(kernel).max() < 1.001 * bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    for variant in ("fashion", "plain"):  # He initialization
        for layer in mlp.build(variant, **SMALL).layers[1:-1]:
            if layer.weights:
                kernel = layer.get_weights()[0]
                assert kernel.std() == pytest.approx(np.sqrt(2 / len(kernel)), rel=0.06)


@pytest.mark.parametrize("precision, variant, normalization", [
    ("mixed_bfloat16", "plain", "batch"), ("mixed_float16", "plain", "batch"),
    ("mixed_float16", "bottleneck_short", "layer")])  # a CPU without bfloat16 would need 40 s for this one
def test_low_precision_trains_float32_weights(precision: str, variant: str, normalization: str, policy: Any) -> None:
    options = {"variant": variant, "normalization": normalization, "dropout": 0.0, **SMALL}
    exact = mlp.build(**options)
    policy(precision)
    model = mlp.build(**options)
    model.set_weights(exact.get_weights())
    x = images()
    np.testing.assert_allclose(model(x), exact(x), atol=0.03 * np.abs(exact(x)).max())
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2, 3, 4], logits))
    assert logits.dtype == tf.float32
    for gradient in tape.gradient(loss, [variable.value for variable in model.trainable_variables]):
        assert gradient.dtype == tf.float32 and np.all(np.isfinite(gradient)) and np.any(gradient)


def test_batch_normalization_replaces_the_bias() -> None:
    model = mlp.build("fashion", normalization="batch", dropout=0.0)
    assert [len(layer.weights) for layer in model.layers if isinstance(layer, keras.layers.Dense)] == [1, 1, 1, 2]
    assert sum(isinstance(layer, layers.BatchNormalization) for layer in model.layers) == 3


@pytest.mark.parametrize("options, message", [
    ({"variant": "wide"}, "variant='wide' must be one of bottleneck, bottleneck_short, plain, fashion, "
                          "bottleneck_small, plain_small, one_layer, three_layers"),
    ({"normalization": "local_response"}, "normalization='local_response' must be one of paper, layer, batch, none"),
    ({"activation": "linear"}, "activation='linear' must be one of relu, leaky_relu, prelu, rrelu, elu, tanh, sigmoid"),
    ({"image_size": -1}, "image_size=-1 must be at least 1 for this network"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and less than 1")])
def test_an_invalid_option_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        mlp.build(**options)
    assert str(error.value) == message
