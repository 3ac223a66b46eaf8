"""Tests that gradients of biases are right in every precision: TensorFlow's own is not, in bfloat16 on a CPU."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfcnn import networks
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


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("layer", CREATED)
def test_gradient_of_a_bias_is_the_sum_over_all_positions(layer: str, dtype: str) -> None:
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
    np.testing.assert_allclose(tape.gradient(loss, created.bias.value), exact,
                               rtol=1e-5 if dtype == "float32" else 2 ** -7)


@pytest.mark.parametrize("name", networks.names())
def test_networks_have_no_layer_whose_bias_has_a_wrong_gradient(name: str) -> None:
    found = {layer.name for layer in networks.find(name).build().layers
             if type(layer) in (keras.layers.Conv2D, keras.layers.Dense)}
    assert not found
