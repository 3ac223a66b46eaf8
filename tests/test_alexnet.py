"""Tests AlexNet against its paper and against NumPy."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tests.numpy_layers import max_pool, relu, shake
from tfcnn.networks import alexnet
from tfcnn.recipe import UsageError

# Options for the smallest images the paper's network accepts: fast, and only fc6 and the logits have fewer weights.
SMALL: dict[str, Any] = {"classes": 10, "image_size": 67}


@functools.cache
def built(variant: str) -> keras.Model:
    """Builds a variant as published. Cached, because initializing 60 million parameters is slow."""
    return alexnet.build(**alexnet.VARIANTS[variant].options)


def trainable(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def stages(model: keras.Model) -> list[tuple[str, tuple[int, ...]]]:
    """Returns the name and output shape of each layer except activations, and checks that no layer branches."""
    for before, layer in zip(model.layers, model.layers[1:]):
        assert layer.input is before.output
    return [(layer.name, layer.output.shape[1:]) for layer in model.layers if not layer.name.endswith("_activation")]


def images(size: int, count: int = 4, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(0).normal(size=(count, size, size, 3)).astype(np.float32)


def gradients(model: keras.Model, x: np.ndarray) -> list[np.ndarray]:
    """Returns the gradients of the cross-entropy in training mode, computed in a graph."""
    labels = np.arange(len(x)) % model.output.shape[-1]
    weights = [variable.value for variable in model.trainable_variables]

    @tf.function
    def run() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return tape.gradient(loss, weights)

    return [gradient.numpy() for gradient in run()]


def test_parameters_of_the_small_network_on_24x24_crops_and_with_100_classes() -> None:
    assert trainable(alexnet.build(image_size=24)) == 1_068_298
    assert trainable(alexnet.build(classes=100)) == 1_756_426 + 90 * 193


def test_stages_of_the_small_network() -> None:
    assert stages(built("cifar")) == [
        ("images", (32, 32, 3)), ("conv1", (32, 32, 64)), ("pool1", (16, 16, 64)), ("norm1", (16, 16, 64)),
        ("conv2", (16, 16, 64)), ("norm2", (16, 16, 64)), ("pool2", (8, 8, 64)), ("flatten", (4096,)),
        ("local3", (384,)), ("local4", (192,)), ("logits", (10,))]


def test_parameters_of_the_small_network_in_zhang_et_al_2017() -> None:
    assert trainable(alexnet.build(image_size=28)) == 1_387_786  # their table 1, "Alexnet"


def test_four_layers_match_cuda_convnet() -> None:
    model = built("cifar_four_layers")
    assert stages(model) == [
        ("images", (32, 32, 3)), ("conv1", (32, 32, 32)), ("pool1", (16, 16, 32)), ("norm1", (16, 16, 32)),
        ("conv2", (16, 16, 32)), ("pool2", (8, 8, 32)), ("norm2", (8, 8, 32)), ("conv3", (8, 8, 64)),
        ("pool3", (4, 4, 64)), ("flatten", (1024,)), ("logits", (10,))]
    names = [layer.name for layer in model.layers]
    assert names.index("pool1") < names.index("conv1_activation") < names.index("conv2")
    for name, deviation in (("conv1", 0.0064), ("conv2", 0.01), ("conv3", 0.01), ("logits", 0.01)):
        kernel, bias = numpy_layers.weights(model)(name)
        assert kernel.std() == pytest.approx(deviation, rel=0.05) and not bias.any()


@pytest.mark.parametrize("normalization", ["local_response", "local_response_pixels", "none", "batch"])
def test_logits_of_the_four_layers_match_numpy(normalization: str) -> None:
    model = alexnet.build("cifar_four_layers", image_size=13, normalization=normalization, activation="tanh")
    shake(model)
    of = numpy_layers.weights(model)

    def normalize(y: np.ndarray) -> np.ndarray:
        if not normalization.startswith("local_response"):
            return y
        alpha = 0.001 / 9 * (4096 if normalization == "local_response_pixels" else 1)
        return numpy_layers.response_normalization(y, 4, 1.0, alpha, 0.75)

    def convolve(y: np.ndarray, name: str) -> np.ndarray:
        y = numpy_layers.convolution(y, *of(name), padding="same")
        return numpy_layers.batch_normalization(y, *of(f"{name}_normalization"), 1e-5) if normalization == "batch" \
            else y

    x = images(13, scale=30.0)
    y = normalize(np.tanh(max_pool(convolve(x, "conv1"), 3, 2, "same")))
    y = normalize(numpy_layers.average_pool(np.tanh(convolve(y, "conv2")), 3, 2, "same"))
    y = numpy_layers.average_pool(np.tanh(convolve(y, "conv3")), 3, 2, "same")
    y = y.reshape(len(y), -1) @ of("logits")[0] + of("logits")[1]
    np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-3 * np.abs(y).max())


@pytest.mark.parametrize("variant, placement, before", [
    ("cifar", "after", {"local3": "local3_activation", "local4": "local4_activation"}),
    ("cifar", "before", {"local3": "local3", "local4": "local4"}),
    ("cifar", "convolutions", {"pool1": "pool1", "pool2": "pool2", "local3": "local3_activation",
                               "local4": "local4_activation"}),
    ("cifar_four_layers", "after", {"flatten": "flatten"}),
    ("cifar_four_layers", "before", {"conv3": "conv3_normalization"}),
    ("cifar_four_layers", "convolutions", {"pool1": "conv1_activation", "pool2": "pool2", "flatten": "flatten"}),
    ("one_tower", "convolutions", {"pool1": "pool1", "pool2": "pool2", "pool5": "pool5", "fc6": "fc6_activation",
                                   "fc7": "fc7_activation"})])
def test_dropout_is_where_it_is_placed(variant: str, placement: str, before: dict[str, str]) -> None:
    size = {"image_size": 67} if variant == "one_tower" else {}
    model = alexnet.build(variant, dropout=0.3, dropout_placement=placement, normalization="batch",
                          initializer="he_normal", **size)
    found = {layer.name.removesuffix("_dropout"): layer.input._keras_history.operation.name
             for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert found == before


def test_biases_of_hidden_layers_start_higher_by_the_option() -> None:
    model = alexnet.build("one_tower", image_size=67, classes=3, bias=0.5)
    biases = {weight.path.split("/")[-2]: np.unique(weight.numpy()).tolist() for weight in model.trainable_weights
              if weight.name == "bias"}
    assert biases == {"conv1": [0.5], "conv2": [1.5], "conv3": [0.5], "conv4": [1.5], "conv5": [1.5], "fc6": [1.5],
                      "fc7": [1.5], "logits": [0.0]}


@pytest.mark.parametrize("variant", ["paper", "one_tower"])
def test_stages_match_the_paper(variant: str) -> None:
    found = stages(built(variant))
    assert found == [
        ("images", (227, 227, 3)), ("conv1", (55, 55, 96)), ("norm1", (55, 55, 96)), ("pool1", (27, 27, 96)),
        ("conv2", (27, 27, 256)), ("norm2", (27, 27, 256)), ("pool2", (13, 13, 256)), ("conv3", (13, 13, 384)),
        ("conv4", (13, 13, 384)), ("conv5", (13, 13, 256)), ("pool5", (6, 6, 256)), ("flatten", (9216,)),
        ("fc6", (4096,)), ("fc6_dropout", (4096,)), ("fc7", (4096,)), ("fc7_dropout", (4096,)), ("logits", (1000,))]
    # The caption of figure 2 gives the neurons of conv2 to the last layer. (Its 253,440 for conv1 is not 55 * 55 * 96.)
    neurons = {name: math.prod(shape) for name, shape in found}
    assert [neurons[name] for name in ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "logits")] == [
        186_624, 64_896, 64_896, 43_264, 4096, 4096, 1000]


def test_kernel_shapes_and_initial_values_match_the_paper() -> None:
    model = built("paper")
    kernels = {layer.name: layer.kernel.shape for layer in model.layers if layer.weights}
    assert {name: kernels[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5")} == {  # section 3.5
        "conv1": (11, 11, 3, 96), "conv2": (5, 5, 48, 256), "conv3": (3, 3, 256, 384), "conv4": (3, 3, 192, 384),
        "conv5": (3, 3, 192, 256)}
    ones = {name for name in kernels if np.all(model.get_layer(name).bias.numpy() == 1)}
    zeros = {name for name in kernels if np.all(model.get_layer(name).bias.numpy() == 0)}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}  # section 5
    assert zeros == {"conv1", "conv3", "logits"}
    for name in kernels:
        values = model.get_layer(name).kernel.numpy()
        assert abs(values.std() - 0.01) < 1e-4 and abs(values.mean()) < 2e-4, name


@pytest.mark.parametrize("normalization", ["local_response", "none"])
def test_logits_of_the_small_network_match_numpy(normalization: str) -> None:
    model = alexnet.build(image_size=9, normalization=normalization)
    shake(model)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    x = inputs = images(9, scale=300)  # large enough for normalization to matter

    def convolve(x: np.ndarray, name: str) -> np.ndarray:
        return relu(numpy_layers.convolution(x, *weights[name], padding="same"))

    def normalize(x: np.ndarray) -> np.ndarray:
        return x if normalization == "none" else numpy_layers.response_normalization(x, 4, 1.0, 0.001 / 9, 0.75)

    x = normalize(max_pool(convolve(x, "conv1"), 3, 2, "same"))
    x = max_pool(normalize(convolve(x, "conv2")), 3, 2, "same").reshape(len(x), -1)
    for name in ("local3", "local4"):
        x = relu(x @ weights[name][0] + weights[name][1])
    x = x @ weights["logits"][0] + weights["logits"][1]
    np.testing.assert_allclose(model(inputs), x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize("variant, groups", [("paper", 2), ("one_tower", 1)])
def test_logits_of_the_papers_network_match_numpy(variant: str, groups: int) -> None:
    model = alexnet.build(variant, **SMALL)
    shake(model)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    x = inputs = images(67, count=2, scale=300)

    def convolve(x: np.ndarray, name: str, groups: int = 1, strides: int = 1, padding: str = "same") -> np.ndarray:
        return relu(numpy_layers.convolution(x, *weights[name], strides, padding, groups))

    def normalize(x: np.ndarray) -> np.ndarray:
        return numpy_layers.response_normalization(x, 2, 2.0, 1e-4, 0.75)

    x = max_pool(normalize(convolve(x, "conv1", strides=4, padding="valid")), 3, 2)
    x = max_pool(normalize(convolve(x, "conv2", groups)), 3, 2)
    x = convolve(convolve(convolve(x, "conv3"), "conv4", groups), "conv5", groups)
    x = max_pool(x, 3, 2).reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        x = relu(x @ weights[name][0] + weights[name][1])
    x = x @ weights["logits"][0] + weights["logits"][1]
    np.testing.assert_allclose(model(inputs), x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize("options", [{}, {"normalization": "none"}, {"dropout": 0.5}, {"variant": "paper", **SMALL},
                                     {"variant": "one_tower", **SMALL}], ids=str)
def test_every_parameter_has_a_gradient(options: dict[str, Any]) -> None:
    model = alexnet.build(**options)
    for variable, gradient in zip(model.trainable_variables, gradients(model, images(model.input.shape[1]))):
        assert np.all(np.isfinite(gradient)) and np.any(gradient), variable.path
    # Units with tanh do not die, so every filter has a gradient.
    model = alexnet.build(**options | {"activation": "tanh", "dropout": 0.0})
    for variable, gradient in zip(model.trainable_variables, gradients(model, images(model.input.shape[1]))):
        filters = np.abs(gradient).reshape(-1, gradient.shape[-1]).max(axis=0)
        assert np.all(np.isfinite(filters)) and np.all(filters > 0), variable.path


@pytest.mark.parametrize("precision, options", [
    ("mixed_bfloat16", {}), ("mixed_float16", {}), ("mixed_bfloat16", {"variant": "paper", "dropout": 0.0, **SMALL})],
    ids=str)
def test_low_precision_has_float32_logits_and_gradients(precision: str, options: dict[str, Any], policy: Any) -> None:
    exact = alexnet.build(**options)
    policy(precision)
    model = alexnet.build(**options)
    model.set_weights(exact.get_weights())
    x = images(model.input.shape[1])
    assert model.get_layer("conv2").compute_dtype == precision.removeprefix("mixed_")
    assert model(x).dtype == tf.float32
    np.testing.assert_allclose(model(x), exact(x), atol=0.03 * np.abs(exact(x)).max())
    for gradient in gradients(model, x):
        assert gradient.dtype == np.float32 and np.all(np.isfinite(gradient)) and np.any(gradient)


def test_training_differs_from_inference_only_by_dropout() -> None:
    for options in ({}, {"variant": "paper", "dropout": 0.0, **SMALL}):
        model = alexnet.build(**options)
        x = images(model.input.shape[1])
        np.testing.assert_array_equal(model(x, training=True), model(x, training=False))
        assert not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers)

    model = alexnet.build("paper", **SMALL)
    shake(model)
    hidden = keras.Model(model.input, {layer.name: layer.output for layer in model.layers[1:]})
    x = images(67, count=8)
    training, inference = hidden(x, training=True), hidden(x, training=False)
    np.testing.assert_array_equal(training["fc6_activation"], inference["fc6_activation"])
    for values in (training, inference):
        for name in ("fc6", "fc7"):
            before, after = np.asarray(values[f"{name}_activation"]), np.asarray(values[f"{name}_dropout"])
            if values is training:
                assert abs(np.mean(after[before > 0] > 0) - 0.5) < 0.05
                np.testing.assert_allclose(after[after > 0], 2 * before[after > 0])
            else:
                np.testing.assert_array_equal(after, before)


def test_dropout_of_the_small_network_follows_its_dense_layers() -> None:
    found = {layer.name: layer.rate for layer in alexnet.build(dropout=0.3).layers
             if isinstance(layer, keras.layers.Dropout)}
    assert found == {"local3_dropout": 0.3, "local4_dropout": 0.3}


@pytest.mark.parametrize("variant", ["cifar", "paper"])
def test_activation_follows_every_layer_except_the_last(variant: str) -> None:
    model = alexnet.build(variant, activation="tanh", **SMALL)
    found = {layer.name: layer.activation for layer in model.layers if isinstance(layer, keras.layers.Activation)}
    assert list(found) == [f"{layer.name}_activation" for layer in model.layers if hasattr(layer, "kernel")][:-1]
    assert set(found.values()) == {keras.activations.tanh}
    for name in found:
        before = model.get_layer(name.removesuffix("_activation"))
        assert before.activation is keras.activations.linear and model.get_layer(name).input is before.output


def test_batch_normalization_precedes_the_activation_of_each_convolution() -> None:
    for variant, convolutions in (("cifar", 2), ("paper", 5)):
        model = alexnet.build(variant, normalization="batch", **SMALL)
        kinds = [type(layer).__name__ for layer in model.layers]
        indices = [index for index, kind in enumerate(kinds) if kind == "BatchNormalization"]
        assert len(indices) == convolutions and "LocalResponseNormalization" not in kinds
        assert all("Conv2D" in kinds[index - 1] and kinds[index + 1] == "Activation" for index in indices)


@pytest.mark.parametrize("options, message", [
    ({"variant": "alexnet2"}, "variant='alexnet2' must be one of cifar, paper, one_tower, cifar_four_layers"),
    ({"normalization": "layer"}, "normalization='layer' must be one of local_response, local_response_pixels, "
     "none, batch"),
    ({"activation": "rleu"}, "activation='rleu' must be one of relu, leaky_relu, prelu, rrelu, elu, tanh, sigmoid"),
    ({"classes": 0}, "classes=0 must be at least 1"),
    ({"image_size": -1}, "image_size=-1 must be at least 1 for this network"),
    ({"variant": "paper", "image_size": 66}, "image_size=66 must be at least 67 for this network"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and less than 1"),
    ({"dropout": -0.1}, "dropout=-0.1 must be at least 0 and less than 1"),
    ({"dropout": float("nan")}, "dropout=nan must be at least 0 and less than 1")])
def test_invalid_option_value_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        alexnet.build(**options)
    assert str(error.value) == message
