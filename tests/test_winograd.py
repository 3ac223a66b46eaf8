"""Tests Winograd convolution against direct convolution in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcnn import processor
from tfcnn.networks import layers
from tfcnn.networks.layers import winograd

# (batch, height, width, channels, filters): whole tiles; images smaller than a tile; tiles that cross the bottom and
# right borders of the image.
SHAPES = [(2, 8, 4, 5, 3), (3, 2, 2, 4, 6), (1, 6, 9, 2, 2)]


def _with_gradients(convolve, images, kernel, upstream) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch([images, kernel])
        outputs = convolve(images, kernel)
    return [part.numpy() for part in (outputs, *tape.gradient(outputs, [images, kernel], output_gradients=upstream))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_outputs_and_gradients_match_direct_convolution(shape: tuple[int, ...]) -> None:
    batch, height, width, channels, filters = shape
    random = np.random.default_rng(0)
    arguments = [random.standard_normal(size) for size in (
        (batch, height, width, channels), (3, 3, channels, filters), (batch, height, width, filters))]
    expected = _with_gradients(lambda images, kernel: tf.nn.conv2d(images, kernel, 1, "SAME"),
                               *map(tf.constant, arguments))
    single = [tf.constant(argument, tf.float32) for argument in arguments]
    for found, wanted in zip(_with_gradients(winograd.convolve, *single), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_layer_matches_keras_and_uses_winograd_only_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *arguments: calls.append(arguments) or convolve(*arguments))
    monkeypatch.setattr(winograd, "_fewest_weights", lambda: 1)
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 1)
    images = tf.random.stateless_normal((2, 8, 4, 5), [0, 1])
    keras.utils.set_random_seed(0)
    ours, keras_own = (kind(3, 3, padding="same", activation="relu", bias_initializer="ones")
                       for kind in (layers.Conv2D, keras.layers.Conv2D))
    for layer in (ours, keras_own):
        layer.build(images.shape)
    keras_own.set_weights(ours.get_weights())
    np.testing.assert_array_equal(ours(images), keras_own(images))
    assert not calls
    np.testing.assert_allclose(ours(images, training=True), keras_own(images), atol=1e-5)
    assert len(calls) == 1


@pytest.mark.parametrize("options", [{"strides": 2}, {"padding": "valid"}, {"dilation_rate": 2}, {"groups": 3}],
                         ids=str)
def test_unsupported_convolutions_are_direct_in_training_too(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd, "_fewest_weights", lambda: 1)
    monkeypatch.setattr(winograd, "_FEWEST_TILES", 1)
    images = tf.random.stateless_normal((2, 12, 12, 6), [0, 1])
    layer = layers.Conv2D(3, 3, **{"padding": "same"} | options)
    np.testing.assert_array_equal(layer(images, training=True), layer(images))


@pytest.mark.parametrize("shape, filters, expected", [
    ((128, 8, 8, 64), 64, True), ((128, 8, 8, 32), 64, False), ((31, 8, 8, 64), 64, False), ((32, 8, 8, 64), 64, True),
    ((128, 2, 2, 512), 512, True), ((9999, 1, 2, 512), 512, False), ((None, 8, 8, 64), 64, False)])
def test_which_shapes_use_winograd(shape: tuple, filters: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx2"}))
    assert winograd.is_faster(shape, filters, tf.float32) is expected


@pytest.mark.parametrize("direct, shape, filters, expected", [
    ("float32", (128, 16, 16, 64), 64, False), ("float32", (128, 16, 16, 64), 128, True),
    ("bfloat16", (128, 4, 4, 512), 512, False)])
def test_winograd_needs_float32_and_more_channels_on_processors_with_avx512(
        direct: str, shape: tuple, filters: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx2", "avx512bw"}))
    assert winograd.is_faster(shape, filters, tf.as_dtype(direct)) is expected
