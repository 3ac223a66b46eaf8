"""Layers that the papers need and Keras lacks, or runs slowly."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

# The activations that the option of that name allows: all of them are Keras's own, by Keras's names.
ACTIVATIONS = ("relu", "leaky_relu", "elu", "tanh", "sigmoid")


@keras.saving.register_keras_serializable(package="tfcnn")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by a power of the sum of squares over the neighbouring channels at its position.

    `y[c] = x[c] / (bias + alpha * sum(x[j] ** 2 for j from c - depth_radius to c + depth_radius)) ** beta`, where `j`
    stays within the channels. The layer has no parameters. It computes in float32 under every dtype policy.

    Input and output: `[batch, height, width, channels]`, where only the channels must be known beforehand.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3, whose constants are the defaults.

    Args:
      depth_radius: neighbours on each side that count, `n // 2` in the paper.
      bias: the constant that keeps the divisor from zero, `k` in the paper.
      alpha: the factor of the sum (of the sum, not of the mean as in Caffe, cuDNN and PyTorch).
      beta: the power.

    Raises:
      ValueError: the radius is not a whole number from 0, or the bias is not positive.
    """

    def __init__(self, depth_radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(depth_radius, int) or depth_radius < 0:
            raise ValueError(f"depth_radius={depth_radius} must be a whole number from 0")
        if not bias > 0:
            raise ValueError(f"bias={bias} must be positive")
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channel = np.arange(input_shape[-1])
        window = np.abs(channel[:, np.newaxis] - channel) <= self.depth_radius
        self._window = window[np.newaxis, np.newaxis].astype(np.float32)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._normalize(tf.cast(inputs, tf.float32)), inputs.dtype)

    def _normalize(self, inputs: tf.Tensor) -> tf.Tensor:
        # On a CPU, forward and backward together, tf.nn.local_response_normalization takes two to four times as long,
        # and these lines with the gradient that TensorFlow derives of them 10 to 35% longer: see BUILD_NOTES.md.
        # The window's zeros and ones are exact in TensorFloat-32 too; alpha would not be, so it stays outside.
        @tf.custom_gradient
        def normalize(x: tf.Tensor) -> Any:
            norm = self.bias + self.alpha * self._window_sum(x * x)
            if self.beta == 0.75:  # two square roots cost far less than a power
                root = tf.math.rsqrt(norm)
                scale = root * tf.sqrt(root)
            else:
                scale = norm ** -self.beta
            y = x * scale

            def gradient(dy: tf.Tensor) -> tf.Tensor:
                return dy * scale - 2 * self.alpha * self.beta * x * self._window_sum(dy * y / norm)

            return y, gradient

        return normalize(inputs)

    def _window_sum(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, self._window, strides=1, padding="VALID")

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"depth_radius": self.depth_radius, "bias": self.bias, "alpha": self.alpha,
                                       "beta": self.beta}


@keras.saving.register_keras_serializable(package="tfcnn")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D(groups=...)` with the same arguments, weights and result, one convolution a group.

    TensorFlow's CPU kernels have no gradient of a grouped convolution (in float32 oneDNN lends one, in bfloat16 and
    float16 nothing does), so Keras compiles it with XLA, which takes six times as long.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.5, where a group is what one GPU holds.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        convolve = super().convolution_op
        pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1))
        return tf.concat([convolve(*pair) for pair in pairs], axis=-1)
