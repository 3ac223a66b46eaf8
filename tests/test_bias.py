"""Tests that gradients of biases are right in every precision: TensorFlow's own is not, in bfloat16 on a CPU."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfcnn.networks import layers

SIZE = (16, 33, 33, 4)
CREATED = {
    "Conv2D": lambda dtype: layers.Conv2D(6, 3, padding="same", dtype=dtype),
    "Conv2D with stride": lambda dtype: layers.Conv2D(6, 3, 2, dtype=dtype),
    "GroupedConv2D": lambda dtype: layers.GroupedConv2D(6, 3, groups=2, dtype=dtype),
    "SparseConnectionConv2D": lambda dtype: layers.SparseConnectionConv2D([[0], [1, 2]], 3, dtype=dtype),
    "PatchWhitening": lambda dtype: layers.PatchWhitening(dtype=dtype),
    "Dense": lambda dtype: layers.Dense(6, dtype=dtype),
}


@pytest.mark.parametrize("dtype, tolerance", [
    ("float32", 1e-5), ("mixed_bfloat16", 2 ** -7), ("mixed_float16", 2 ** -9)])
@pytest.mark.parametrize("layer", CREATED)
def test_gradient_of_a_bias_is_the_sum_over_all_positions(layer: str, dtype: str, tolerance: float) -> None:
    images = tf.random.stateless_normal(SIZE, [0, 1])
    created = CREATED[layer](dtype)
    inputs = tf.reshape(images, (-1, SIZE[-1])) if layer == "Dense" else images
    created.build(inputs.shape)
    with tf.GradientTape() as tape:
        outputs = created(tf.cast(inputs, created.compute_dtype), training=True)
        weights = tf.random.stateless_uniform(outputs.shape, [0, 2], dtype=tf.float32)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
    exact = weights.numpy().astype(np.float64).reshape(-1, weights.shape[-1]).sum(axis=0)
    assert exact.min() > 1000
    np.testing.assert_allclose(tape.gradient(loss, created.bias.value), exact, rtol=tolerance)


def test_networks_are_built_of_our_layers_with_biases() -> None:
    files = list(Path(layers.__file__).parents[1].glob("*.py"))
    assert len(files) > 8 and any("layers.Dense(" in file.read_text() for file in files)
    for file in files:
        for kind in ("Dense", "Conv2D"):
            assert f"keras.layers.{kind}(" not in file.read_text(), file
