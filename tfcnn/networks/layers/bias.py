"""Adding a bias, with a gradient that is right in bfloat16, too, and the dense layer that uses it."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def add_bias(outputs: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """`tf.nn.bias_add`, whose gradient with respect to the bias is summed in float32 if it is in bfloat16.

    On a CPU TensorFlow's own (`BiasAddGrad`, 2.21) sums numbers of bfloat16 in bfloat16, which has eight bits: a sum
    that has reached 256 no longer changes when 1 is added. Of a sum over 64 images of 32x32 pixels a hundredth is left.

    Args:
      outputs: `[..., channels]`.
      bias: `[channels]`; it is cast to the dtype of the outputs.
    """
    bias = tf.cast(bias, outputs.dtype)
    if outputs.dtype != tf.bfloat16:
        return tf.nn.bias_add(outputs, bias)

    @tf.custom_gradient
    def add(outputs: tf.Tensor, bias: tf.Tensor) -> Any:
        # `tf.reduce_sum` of numbers of bfloat16 sums in float32 and rounds the sum.
        return tf.nn.bias_add(outputs, bias), lambda upstream: (
            upstream, tf.reduce_sum(upstream, axis=list(range(len(upstream.shape) - 1))))

    return add(outputs, bias)


@keras.saving.register_keras_serializable(package="tfcnn")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with the same arguments, weights and result, and the right gradient in bfloat16."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        outputs = keras.ops.matmul(inputs, self.kernel)
        if self.use_bias:
            outputs = add_bias(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)
