"""Tests the other forms of a kernel's gradient, against TensorFlow's own gradients in float64."""

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
    ((8, 6), (1, 1), (1, 1), "same"),
    ((7, 8), (1, 1), (2, 3), "same"),
]
# Instructions of processors that do not multiply bfloat16, that do, and that multiply matrices of it.
OLD, BFLOAT16, AMX = ["avx512bw"], ["avx512bw", "avx512_bf16"], ["avx512bw", "avx512_bf16", "amx_bf16"]


@pytest.mark.parametrize("form", ["convolution", "products"])
@pytest.mark.parametrize("execution, size, kernel_size, strides, padding", [
    *(("eager", *case) for case in CASES),
    *((execution, *case) for execution in ("graph", "xla") for case in CASES[1:3])], ids=str)
def test_outputs_and_gradients_match_direct_convolution(execution: str, size: tuple, kernel_size: tuple, strides: tuple,
                                                        padding: str, form: str) -> None:
    random = np.random.default_rng(0)
    images, kernel = random.standard_normal((4, *size, 5)), random.standard_normal((*kernel_size, 5, 3))
    weights = None
    found = {}
    for name, dtype, convolve in (
            ("direct", tf.float64, lambda images, kernel: tf.nn.conv2d(images, kernel, strides, padding.upper())),
            ("ours", tf.float32, lambda images, kernel: kernel_gradient.convolve(
                images, kernel, strides, padding, form))):
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


@pytest.mark.parametrize("instructions, policy, size, stride, channels, form", [
    (BFLOAT16, "mixed_bfloat16", 8, 1, 5, "convolution"), (BFLOAT16, "mixed_bfloat16", 16, 2, 5, "convolution"),
    (BFLOAT16, "mixed_bfloat16", 9, 1, 5, None), (BFLOAT16, "float32", 8, 1, 5, None),
    (AMX, "mixed_bfloat16", 8, 1, 96, "products"), (AMX, "mixed_bfloat16", 8, 2, 96, "convolution"),
    (AMX, "mixed_bfloat16", 8, 1, 5, None), (AMX, "float32", 8, 1, 96, None), (OLD, "mixed_bfloat16", 8, 1, 5, None)])
def test_layer_uses_it_for_few_pixels_in_bfloat16_in_training(
        instructions: list[str], policy: str, size: int, stride: int, channels: int, form: str | None,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "instructions", lambda: frozenset(instructions))
    calls = []
    convolve = kernel_gradient.convolve
    monkeypatch.setattr(kernel_gradient, "convolve", lambda *arguments: calls.append(arguments) or convolve(*arguments))
    images = tf.random.stateless_normal((4, size, size, channels), [0, 1])
    layer = layers.Conv2D(channels, 3, stride, padding="same", activation="relu", bias_initializer="ones", dtype=policy)
    inference = layer(images)
    assert not calls
    with tf.GradientTape() as tape:
        outputs = layer(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2)
    assert [arguments[-1] for arguments in calls] == ([] if form is None else [form])
    np.testing.assert_array_equal(tf.cast(outputs, tf.float32), tf.cast(inference, tf.float32))
    kernel, bias = (tf.cast(weight, tf.float64) for weight in layer.trainable_variables)
    with tf.GradientTape() as exact_tape:
        exact_tape.watch([kernel, bias])
        exact = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float64), kernel, stride, "SAME") + bias)
        exact_loss = tf.reduce_sum(exact ** 2)
    for found, wanted in zip(tape.gradient(loss, layer.trainable_variables), exact_tape.gradient(
            exact_loss, [kernel, bias]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=0.02 * np.abs(wanted).max())


@pytest.mark.parametrize("shape, kernel_size, strides, padding, without_amx, with_amx", [
    ((128, 8, 8, 96), (3, 3), (1, 1), "same", "convolution", "products"),
    ((128, 9, 8, 96), (3, 3), (1, 1), "same", None, None),
    ((128, 16, 16, 96), (3, 3), (2, 2), "same", "convolution", "convolution"),
    ((128, 17, 16, 96), (3, 3), (2, 2), "same", None, None),
    ((128, 10, 10, 96), (3, 3), (1, 1), "valid", "convolution", "products"),
    ((128, 8, 8, 96), (5, 5), (1, 1), "same", "convolution", "convolution"),
    ((128, 8, 8, 95), (3, 3), (1, 1), "same", "convolution", None),
    ((128, 8, 8, 96), (1, 1), (1, 1), "same", None, "products"),
    ((128, 16, 16, 96), (1, 1), (2, 2), "same", None, "products"),
    ((128, 32, 32, 8), (1, 1), (1, 1), "same", None, "products"),
    ((128, 32, 32, 96), (1, 1), (2, 2), "same", None, None),
    ((None, 8, 8, 96), (3, 3), (1, 1), "same", None, None)])
def test_which_shapes_use_which_form(
        shape: tuple, kernel_size: tuple, strides: tuple, padding: str, without_amx: str | None, with_amx: str | None,
        monkeypatch: pytest.MonkeyPatch) -> None:
    for instructions, form in ((OLD, None), (BFLOAT16, without_amx), (AMX, with_amx)):
        monkeypatch.setattr(processor, "instructions", lambda known=instructions: frozenset(known))
        assert kernel_gradient.faster_form(shape, 100, kernel_size, strides, padding, tf.bfloat16) == form
