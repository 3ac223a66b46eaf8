"""Normalization: over the batch, on one replica or several, and over neighbouring channels."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn.networks.layers import precision, replicas


@keras.saving.register_keras_serializable(package="tfcnn")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, by TensorFlow's fused operation where that is possible.

    Arguments, weights and results are Keras's, which computes the mean, the variance and the output in separate passes
    over memory. One default differs: the layer is synchronized. Over several replicas, which must have the same number
    of images, the statistics are those of the global batch, from one exchange between the replicas.

    Input and output: `[batch, height, width, channels]` or `[batch, channels]`.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithms 1 and 2.
    """

    def __init__(self, *, synchronized: bool = True, **kwargs: Any) -> None:
        super().__init__(synchronized=synchronized, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        rank = len(inputs.shape)
        if self.axis not in (-1, rank - 1) or mask is not None or rank not in (2, 4):
            return super().call(inputs, training=training, mask=mask)
        training = bool(training and self.trainable)
        channels = inputs.shape[-1]
        scale = tf.ones([channels]) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        offset = tf.zeros([channels]) if self.beta is None else tf.convert_to_tensor(self.beta)
        context = tf.distribute.get_replica_context()
        images = tf.cast(inputs, precision.normalized_in(inputs.dtype, channels))
        images = images if rank == 4 else images[:, tf.newaxis, tf.newaxis]
        if training and self.synchronized and context and context.num_replicas_in_sync > 1:
            outputs, mean, variance = _normalize_over_replicas(
                images, scale, offset, self.epsilon, context, self.name)
        else:
            statistics = [tf.zeros([0])] * 2 if training else [
                tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)]
            outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=images, scale=scale, offset=offset, mean=statistics[0], variance=statistics[1], epsilon=self.epsilon,
                is_training=training)
            # The operation divides by n - 1, as for a sample. Keras divides by n, which a saved network relies on.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            variance *= (count - 1) / count
        if training:
            self._update_moving_statistics(mean, variance)
        return tf.cast(outputs if rank == 4 else outputs[:, 0, 0], inputs.dtype)

    def _update_moving_statistics(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))


def _normalize_over_replicas(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float,
                             context: tf.distribute.ReplicaContext, name: str
                             ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by the images of all replicas.

    Replicas exchange two numbers for each channel, once for the outputs and once for the gradient.

    Args:
      x: the images of this replica, `[batch, height, width, channels]`.
      scale: `[channels]`.
      offset: `[channels]`.
      epsilon: added to the variance.
      context: the replica context.
      name: the name of the layer.

    Returns:
      The normalized images, and the mean and the variance of each channel over all replicas.
    """
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)

    @tf.custom_gradient
    def normalize(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
        arguments = {"x": x, "scale": scale, "offset": offset, "epsilon": epsilon}
        _, own_mean, own_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True, **arguments)
        # The variance over all replicas is the mean of their variances plus the variance of their means. Sums of
        # squares would need the difference of two large numbers.
        own = tf.stack([own_mean, own_variance * ((count - 1) / count)])
        means, variances = tf.unstack(replicas.gather(own, context, f"{name}/statistics"), axis=1)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.math.squared_difference(means, mean), axis=0)
        outputs, *_ = tf.raw_ops.FusedBatchNormV3(mean=mean, variance=variance, is_training=False, **arguments)

        def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            dx, d_scale, d_offset = _gradients_of_constants(dy, x, scale, mean, variance, epsilon)
            sums = replicas.sum_over_replicas(tf.stack([d_scale, d_offset]), context, f"{name}/gradient")
            means = sums / (context.num_replicas_in_sync * count)
            return _as_one_loop(_input_gradient, x)(dx, x, mean, variance, scale, means, epsilon), d_scale, d_offset

        return (outputs, mean, variance), gradient

    return normalize(x, scale, offset)


def _gradients_of_constants(dy: tf.Tensor, x: tf.Tensor, scale: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor,
                            epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients of inputs, scale and offset as if mean and variance did not depend on the inputs."""
    if not tf.config.list_physical_devices("GPU"):
        dx, d_scale, d_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=x, scale=scale, reserve_space_1=mean, reserve_space_2=variance,
            reserve_space_3=tf.zeros([0]), epsilon=epsilon, is_training=False)
        return dx, d_scale, d_offset
    # On a GPU the fused operation has no deterministic version of this.
    wide, root = tf.cast(dy, tf.float32), tf.math.rsqrt(variance + epsilon)
    normalized = (tf.cast(x, tf.float32) - mean) * root
    return (tf.cast(wide * (scale * root), x.dtype), tf.reduce_sum(wide * normalized, axis=[0, 1, 2]),
            tf.reduce_sum(wide, axis=[0, 1, 2]))


def _input_gradient(dx: tf.Tensor, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, scale: tf.Tensor,
                    means: tf.Tensor, epsilon: float) -> tf.Tensor:
    """The gradient of the inputs, which mean and variance depend on.

    With `r = 1 / sqrt(variance + epsilon)` and `n = (x - mean) * r`, so that `y = scale * n + offset`, it is
    (Ioffe and Szegedy 2015, section 3, equations for the derivatives, put together)

        dL/dx = scale * r * (dy - E[dy] - n * E[dy * n])
              = dx - scale * r * (E[dy] + (x - mean) * r * E[dy * n])

    where `E` is the mean over the global batch and all positions.

    Args:
      dx: `scale * r * dy`, the gradient for constant mean and variance.
      x: the inputs.
      mean: of each channel.
      variance: of each channel.
      scale: of each channel.
      means: `E[dy * n]` and `E[dy]`, the means of the gradients of scale and offset.
      epsilon: as in the layer.
    """
    root = tf.math.rsqrt(variance + epsilon)
    slope = -scale * tf.square(root) * means[0]
    shift = -scale * root * means[1] - slope * mean
    return tf.cast(tf.cast(dx, tf.float32) + (tf.cast(x, tf.float32) * slope + shift), x.dtype)


def _as_one_loop(function: Callable[..., Any], x: tf.Tensor) -> Callable[..., Any]:
    """Compiles a function of `x` into one pass over memory on a CPU, where TensorFlow takes one for each operation."""
    return function if tf.config.list_physical_devices("GPU") else _compiled(function, x.device, x.shape, x.dtype)


@functools.cache
def _compiled(function: Callable[..., Any], *_: Any) -> Callable[..., Any]:
    # One for each kind of input, because TensorFlow warns of a function that is traced many times.
    return tf.function(function, jit_compile=True)


@keras.saving.register_keras_serializable(package="tfcnn")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by a power of the sum of squares over the neighbouring channels at its position.

    `y[c] = x[c] / (bias + alpha * sum(x[j] ** 2 for j from c - depth_radius to c + depth_radius)) ** beta`, where `j`
    stays within the channels. The layer has no parameters. It computes in float32 under every dtype policy.

    Input and output: `[batch, height, width, channels]`; only the number of channels must be known in advance.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3, whose constants are the defaults.

    Args:
      depth_radius: number of neighbours on each side, `n // 2` in the paper.
      bias: constant that keeps the divisor positive, `k` in the paper.
      alpha: factor of the sum (Caffe, cuDNN and PyTorch multiply the mean instead).
      beta: exponent of the divisor.

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
        # A convolution over the channels and a gradient of our own: faster on a CPU than
        # tf.nn.local_response_normalization, see docs/performance.md#local-response-normalization. The window's zeros
        # and ones are exact in TensorFloat-32; alpha would not be, so it is applied outside of the convolution.
        @tf.custom_gradient
        def normalize(x: tf.Tensor) -> Any:
            norm = self.bias + self.alpha * self._window_sum(x * x)
            if self.beta == 0.75:  # two square roots are much cheaper than a power
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
