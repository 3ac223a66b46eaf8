"""Tests Winograd convolution against direct convolution in float64, and the dtype in which convolutions run."""

import platform
import sys

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
    monkeypatch.setattr(winograd, "_fewest_weights", lambda direct: 1)
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
    monkeypatch.setattr(winograd, "_fewest_weights", lambda direct: 1)
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
    ("bfloat16", (128, 8, 8, 256), 256, False), ("bfloat16", (128, 4, 4, 512), 512, True),
    ("bfloat16", (128, 2, 2, 512), 512, False)])
def test_winograd_needs_more_channels_on_processors_with_avx512(direct: str, shape: tuple, filters: int, expected: bool,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx2", "avx512bw"}))
    assert winograd.is_faster(shape, filters, tf.as_dtype(direct)) is expected


def test_instructions_include_those_of_every_x86_64_processor() -> None:
    known = processor.instructions()
    if platform.machine() == "x86_64" and sys.platform == "linux":
        assert {"fpu", "sse2"} <= known  # every x86-64 processor has these
        assert "flags" not in known and ":" not in known
    else:
        assert not known


@pytest.mark.parametrize("instructions, slow", [
    (["avx2"], ["bfloat16", "float16"]), (["avx512bw"], ["float16"]), (["avx512bw", "avx512_fp16"], []),
    ([], [])], ids=str)
def test_dtypes_without_native_instructions_are_convolved_in_float32(instructions: list[str], slow: list[str],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    multiplied = []
    convolve = tf.nn.conv2d
    monkeypatch.setattr(tf.nn, "conv2d", lambda inputs, *rest, **options: (
        multiplied.append(inputs.dtype) or convolve(inputs, *rest, **options)))
    for name in ("float32", "bfloat16", "float16"):
        layer = layers.SparseConnectionConv2D([[0], [1]], 3, dtype=name if name == "float32" else f"mixed_{name}")
        layer.build((None, 6, 6, 2))
        layer(tf.zeros((1, 6, 6, 2), name))
    assert multiplied == [tf.float32 if name in slow else name for name in ("float32", "bfloat16", "float16")]


@pytest.mark.parametrize("narrow", ["bfloat16", "float16"])
def test_low_precision_convolution_rounds_each_sum_once(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx2"}))
    images = tf.cast(tf.random.stateless_normal((2, 6, 6, 5), [0, 1]), narrow)
    layer = layers.Conv2D(3, 5, use_bias=False, dtype=f"mixed_{narrow}")
    outputs = layer(images)
    assert outputs.dtype == narrow
    kernel = tf.cast(layer.kernel.value, narrow)
    exact = tf.nn.conv2d(tf.cast(images, tf.float64), tf.cast(kernel, tf.float64), 1, "VALID")
    rounding = {"bfloat16": 2.0 ** -8, "float16": 2.0 ** -10}[narrow]
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), exact, rtol=rounding, atol=1e-3)
