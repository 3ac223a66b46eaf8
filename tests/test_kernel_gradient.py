"""Tests the gradient of a kernel as a convolution, against TensorFlow's own gradients in float64."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfcnn import processor
from tfcnn.networks import layers
from tfcnn.networks.layers import kernel_gradient

# (height, width), (height, width of the kernel), (vertical, horizontal stride), padding
CASES = [
    ((7, 5), (3, 3), (1, 1), "same"),
    ((8, 6), (3, 3), (2, 2), "same"),  # with padding after the pixels only
    ((7, 8), (3, 3), (2, 3), "same"),
    ((8, 8), (5, 4), (1, 2), "same"),
    ((8, 8), (1, 3), (1, 1), "same"),
    ((6, 7), (3, 2), (1, 1), "valid"),
    ((8, 8), (3, 3), (2, 2), "valid"),  # no output sees the last pixels
    ((9, 6), (1, 2), (3, 3), "same"),
]


@pytest.mark.parametrize("execution, size, kernel_size, strides, padding", [
    *(("eager", *case) for case in CASES),
    *((execution, *case) for execution in ("graph", "xla") for case in CASES[1:3])], ids=str)
def test_outputs_and_gradients_match_direct_convolution(execution: str, size: tuple, kernel_size: tuple, strides: tuple,
                                                        padding: str) -> None:
    random = np.random.default_rng(0)
    images, kernel = random.standard_normal((4, *size, 5)), random.standard_normal((*kernel_size, 5, 3))
    weights = None
    found = {}
    for name, dtype, convolve in (
            ("direct", tf.float64, lambda images, kernel: tf.nn.conv2d(images, kernel, strides, padding.upper())),
            ("ours", tf.float32, lambda images, kernel: kernel_gradient.convolve(images, kernel, strides, padding))):
        variables = [tf.constant(images, dtype), tf.constant(kernel, dtype)]
        if weights is None:
            weights = random.standard_normal(convolve(*variables).shape)

        def run(variables: list, weights: tf.Tensor, convolve: Any = convolve) -> list:
            with tf.GradientTape() as tape:
                tape.watch(variables)
                outputs = convolve(*variables)
                sum_of_all = tf.reduce_sum(outputs * weights)
            return [outputs, *tape.gradient(sum_of_all, variables)]

        if execution != "eager" and name == "ours":
            run = tf.function(run, jit_compile=execution == "xla")
        found[name] = run(variables, tf.constant(weights, dtype))
    for ours, direct in zip(found["ours"], found["direct"], strict=True):
        np.testing.assert_allclose(ours, direct, rtol=0, atol=1e-5 * np.abs(direct).max())


@pytest.mark.parametrize("instructions, policy, size, stride, used", [
    (["avx512bw", "avx512_bf16"], "mixed_bfloat16", 8, 1, True),
    (["avx512bw", "avx512_bf16"], "mixed_bfloat16", 16, 2, True),
    (["avx512bw", "avx512_bf16"], "mixed_bfloat16", 9, 1, False),
    (["avx512bw", "avx512_bf16"], "float32", 8, 1, False),
    (["avx512bw", "avx512_bf16", "amx_bf16"], "mixed_bfloat16", 8, 1, False),
    (["avx512bw"], "mixed_bfloat16", 8, 1, False)])
def test_layer_uses_it_for_few_pixels_in_bfloat16_in_training(
        instructions: list[str], policy: str, size: int, stride: int, used: bool, monkeypatch: pytest.MonkeyPatch
        ) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    calls = []
    convolve = kernel_gradient.convolve
    monkeypatch.setattr(kernel_gradient, "convolve", lambda *arguments: calls.append(arguments) or convolve(*arguments))
    images = tf.random.stateless_normal((4, size, size, 5), [0, 1])
    layer = layers.Conv2D(3, 3, stride, padding="same", activation="relu", bias_initializer="ones", dtype=policy)
    inference = layer(images)
    assert not calls
    with tf.GradientTape() as tape:
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert len(calls) == used
    np.testing.assert_array_equal(tf.cast(outputs, tf.float32), tf.cast(inference, tf.float32))
    kernel, bias = (tf.cast(weight, tf.float64) for weight in layer.trainable_variables)
    with tf.GradientTape() as exact_tape:
        exact_tape.watch([kernel, bias])
        exact = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float64), kernel, stride, "SAME") + bias)
        exact_loss = tf.reduce_sum(exact ** 2)
    for found, wanted in zip(tape.gradient(loss, layer.trainable_variables), exact_tape.gradient(
            exact_loss, [kernel, bias]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("shape, kernel_size, strides, padding, expected", [
    ((128, 8, 8, 64), (3, 3), (1, 1), "same", True), ((128, 9, 8, 64), (3, 3), (1, 1), "same", False),
    ((128, 16, 16, 64), (3, 3), (2, 2), "same", True), ((128, 17, 16, 64), (3, 3), (2, 2), "same", False),
    ((128, 10, 10, 64), (3, 3), (1, 1), "valid", True), ((128, 8, 8, 64), (1, 1), (1, 1), "same", False),
    ((None, 8, 8, 64), (3, 3), (1, 1), "same", False)])
def test_which_shapes_use_it(shape: tuple, kernel_size: tuple, strides: tuple, padding: str, expected: bool,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset({"avx512_bf16"}))
    assert kernel_gradient.is_faster(shape, kernel_size, strides, padding, tf.bfloat16) is expected
