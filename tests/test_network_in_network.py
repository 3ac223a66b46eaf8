"""Network in Network against its released definition and against NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tests.numpy_layers import relu, shake
from tfcnn.networks import network_in_network


def stages(model: keras.Model) -> list[tuple[str, tuple[int, ...]]]:
    """Returns name and output shape of each layer except activations, and checks that there are no branches."""
    for before, layer in zip(model.layers, model.layers[1:]):
        assert layer.input is before.output
    return [(layer.name, layer.output.shape[1:]) for layer in model.layers if not layer.name.endswith("_activation")]


def test_stages_and_kernels_match_the_released_network() -> None:
    model = network_in_network.build()
    assert stages(model) == [
        ("images", (32, 32, 3)),
        ("conv1", (32, 32, 192)), ("cccp1", (32, 32, 160)), ("cccp2", (32, 32, 96)),
        ("pool1", (16, 16, 96)), ("pool1_dropout", (16, 16, 96)),
        ("conv2", (16, 16, 192)), ("cccp3", (16, 16, 192)), ("cccp4", (16, 16, 192)),
        ("pool2", (8, 8, 192)), ("pool2_dropout", (8, 8, 192)),
        ("conv3", (8, 8, 192)), ("cccp5", (8, 8, 192)), ("cccp6", (8, 8, 10)), ("logits", (10,))]
    kernels = {layer.name: layer.kernel.shape for layer in model.layers if layer.weights}
    assert {name: shape[:2] for name, shape in kernels.items()} == {
        "conv1": (5, 5), "conv2": (5, 5), "conv3": (3, 3), **{f"cccp{number}": (1, 1) for number in range(1, 7)}}
    assert {layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)} == {0.5}


def caffe_pool(x: np.ndarray, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Pools windows of 3x3 with stride 2. As in Caffe, the last window may extend beyond the edge."""
    rows, columns = (math.ceil((length - 3) / 2) + 1 for length in x.shape[1:3])
    return np.stack([np.stack([reduce(x[:, 2 * row:2 * row + 3, 2 * column:2 * column + 3], axis=(1, 2))
                               for column in range(columns)], axis=1) for row in range(rows)], axis=1)


@pytest.mark.parametrize("name, reduce", [("pool1", np.max), ("pool2", np.mean)])
def test_pooling_matches_caffe(name: str, reduce: Callable[..., np.ndarray]) -> None:
    pool = network_in_network.build().get_layer(name)
    x = numpy_layers.random(2, *pool.input.shape[1:3], 3)
    expected = caffe_pool(x, reduce)
    assert expected.shape[1:3] == pool.output.shape[1:3]
    np.testing.assert_allclose(pool(x), expected, rtol=1e-5, atol=1e-6)


def mlpconv(model: keras.Model, x: np.ndarray, *names: str) -> np.ndarray:
    """Computes equation 2 of the paper: at each position, a multilayer perceptron sees the patch around it."""
    weights, layers = numpy_layers.weights(model), {layer.name for layer in model.layers}

    def normalize(x: np.ndarray, name: str) -> np.ndarray:
        if f"{name}_normalization" not in layers:
            return x
        return numpy_layers.batch_normalization(x, *weights(f"{name}_normalization"), epsilon=1e-5)

    x = relu(normalize(numpy_layers.convolution(x, *weights(names[0]), padding="same"), names[0]))
    for name in names[1:]:
        kernel, *bias = weights(name)
        x = x @ kernel[0, 0].astype(np.float64) + (bias[0] if bias else 0.0)
        x = relu(normalize(x, name)) if name != "cccp6" else x  # "cccp6" is linear, unlike in the released network
    return x


@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_blocks_and_logits_match_numpy(normalization: str) -> None:
    model = network_in_network.build(image_size=8, classes=5, normalization=normalization)
    shake(model)
    images = numpy_layers.random(3, 8, 8, 3)
    blocks = keras.Model(model.input, [model.get_layer(name).output for name in ("cccp2_activation",
                                                                                 "cccp4_activation", "cccp6")])
    first = mlpconv(model, images, "conv1", "cccp1", "cccp2")
    second = mlpconv(model, caffe_pool(first, np.max), "conv2", "cccp3", "cccp4")
    third = mlpconv(model, caffe_pool(second, np.mean), "conv3", "cccp5", "cccp6")
    for found, expected in zip([*blocks(images), model(images)], [first, second, third, third.mean(axis=(1, 2))]):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert third.min() < 0 < third.max()


def test_batch_normalization_precedes_each_activation_and_replaces_the_bias() -> None:
    model = network_in_network.build(normalization="batch")
    kinds = [type(layer).__name__ for layer in model.layers]
    indices = [index for index, kind in enumerate(kinds) if kind == "BatchNormalization"]
    assert len(indices) == 8
    assert all(kinds[index - 1] == "Conv2D" and kinds[index + 1] == "Activation" for index in indices)
    assert not any(model.layers[index - 1].use_bias for index in indices) and model.get_layer("cccp6").use_bias


def test_initial_weights_have_the_published_distribution() -> None:
    for variable in network_in_network.build().trainable_variables:
        values = np.asarray(variable)
        if variable.name == "kernel":
            assert values.std() == pytest.approx(0.05, rel=0.1) and abs(values.mean()) < 0.01, variable.path
        else:
            assert not np.any(values)


def test_dropout_can_be_chosen() -> None:
    rates = {layer.name: layer.rate for layer in network_in_network.build(dropout=0.2).layers
             if isinstance(layer, keras.layers.Dropout)}
    assert rates == {"pool1_dropout": 0.2, "pool2_dropout": 0.2}
    assert "dropout" not in str([layer.name for layer in network_in_network.build(dropout=0.0).layers])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_class_feature_maps_are_averaged_in_float32(precision: str, policy: Any) -> None:
    exact = network_in_network.build(image_size=16)
    shake(exact)
    policy(f"mixed_{precision}")
    model = network_in_network.build(image_size=16)
    model.set_weights(exact.get_weights())
    x = numpy_layers.random(2, 16, 16, 3)
    assert model.get_layer("cccp5").compute_dtype == precision
    assert model.get_layer("cccp6").compute_dtype == "float32" and model(x).dtype == tf.float32
    np.testing.assert_allclose(model(x), exact(x), atol=0.05 * np.abs(exact(x)).max())
