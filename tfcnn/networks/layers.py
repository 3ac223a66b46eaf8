"""Layers that the papers need and Keras lacks, or runs slowly, and what the networks' shared options stand for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor


def activate(x: KerasTensor, activation: str, name: str) -> KerasTensor:
    """The activation, one of `networks.ACTIVATIONS`, as a layer of its own."""
    if activation == "prelu":
        # One slope a channel, at first 0.25: He et al. 2015, "Delving deep into rectifiers", section 2.1.
        return keras.layers.PReLU(keras.initializers.Constant(0.25), name=name,
                                  shared_axes=list(range(1, len(x.shape) - 1)))(x)
    if activation == "rrelu":
        return RandomizedReLU(name=name)(x)
    return keras.layers.Activation(activation, name=name)(x)


def drop(x: KerasTensor, rate: float, name: str) -> KerasTensor:
    """Dropout with the rate, in [0, 1); no layer at all for 0."""
    return keras.layers.Dropout(rate, name=name)(x) if rate else x


def initializer(choice: str, paper: str | keras.Initializer) -> str | keras.Initializer:
    """What a layer takes for the choice, one of `networks.INITIALIZERS`: for `paper`, what the paper has.

    An initializer gives the same values whenever it is called, so `paper` is to be made anew for each layer.
    """
    return paper if choice == "paper" else choice


@keras.saving.register_keras_serializable(package="tfcnn")
class RandomizedReLU(keras.layers.Layer):
    """`x` where it is positive, elsewhere `x / a` with `a` drawn for each activation from 3 to 8, evenly.

    At inference `a` is its mean, 5.5. Input and output: any shape.

    Source: Xu, Wang, Chen and Li 2015, "Empirical evaluation of rectified activations in convolutional network",
    section 2.4.
    """

    _LOWEST, _HIGHEST = 3.0, 8.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        divisor: Any = (self._LOWEST + self._HIGHEST) / 2
        if training:
            divisor = keras.random.uniform(tf.shape(inputs), self._LOWEST, self._HIGHEST, dtype=inputs.dtype,
                                           seed=self.seed_generator)
        return tf.where(inputs > 0, inputs, inputs / divisor)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape


@keras.saving.register_keras_serializable(package="tfcnn")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, with TensorFlow's fused operation where it can be used.

    The same arguments, weights and results as Keras's, which takes the mean, the variance and the output in passes of
    their own. Over several replicas, where the statistics must be exchanged in between (`synchronized`), and for
    inputs without height and width it is Keras's.

    Input and output: `[batch, height, width, channels]` or `[batch, channels]`.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithms 1 and 2.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if len(inputs.shape) != 4 or self.axis not in (-1, 3) or mask is not None or (
                training and self.synchronized and replicas > 1):
            return super().call(inputs, training=training, mask=mask)
        training = bool(training and self.trainable)
        channels = inputs.shape[-1]
        scale = tf.ones([channels]) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        offset = tf.zeros([channels]) if self.beta is None else tf.convert_to_tensor(self.beta)
        statistics = [tf.zeros([0])] * 2 if training else [
            tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=statistics[0], variance=statistics[1], epsilon=self.epsilon,
            is_training=training)
        if training:
            # The operation gives the variance for a sample, divided by n - 1; Keras, and so what a saved network
            # expects, divides by n.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            variance = variance * ((count - 1) / count)
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs


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
