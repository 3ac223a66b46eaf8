"""Activation functions: the layer for each value of the option `activation`, and what Keras lacks or runs slowly."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf
from keras import KerasTensor


def activate(x: KerasTensor, activation: str, name: str) -> KerasTensor:
    """Applies an activation function, one of `options.ACTIVATIONS` or `gelu`, as a layer of its own.

    Args:
      x: the tensor, of any shape.
      activation: the function. `prelu` has one slope for each channel, 0.25 at first: He et al. 2015, "Delving deep
        into rectifiers", section 2.1.
      name: the name of the layer.

    Returns:
      A tensor of the same shape.
    """
    if activation == "prelu":
        return keras.layers.PReLU(keras.initializers.Constant(0.25), name=name,
                                  shared_axes=list(range(1, len(x.shape) - 1)))(x)
    if activation == "rrelu":
        return RandomizedReLU(name=name)(x)
    if activation == "gelu":
        return GELU(name=name)(x)
    return keras.layers.Activation(activation, name=name)(x)


@keras.saving.register_keras_serializable(package="tfcnn")
class GELU(keras.layers.Activation):
    """`keras.layers.Activation("gelu")`, which trains faster on a CPU. Input and output: any shape.

    There, in training, it and its gradient are a loop over memory each, which XLA compiles, instead of fifteen
    operations. They compute in float32 and round the result.

    Source: Hendrycks and Gimpel 2016, "Gaussian error linear units", section 2: x times the normal distribution's
    cumulative function.
    """

    def __init__(self, activation: str = "gelu", **kwargs: Any) -> None:
        super().__init__(activation, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not training or tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        return _gelu(inputs)


@tf.custom_gradient
def _gelu(x: tf.Tensor) -> Any:
    return _gelu_outputs(x), lambda upstream: _gelu_gradient(x, upstream)


@tf.function(jit_compile=True, autograph=False)
def _gelu_outputs(x: tf.Tensor) -> tf.Tensor:
    exact = tf.cast(x, tf.float32)
    return tf.cast(exact * _normal_distribution(exact), x.dtype)


@tf.function(jit_compile=True, autograph=False)
def _gelu_gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    exact = tf.cast(x, tf.float32)
    density = tf.exp(-exact * exact / 2) / math.sqrt(2 * math.pi)
    return tf.cast(tf.cast(upstream, tf.float32) * (_normal_distribution(exact) + exact * density), x.dtype)


def _normal_distribution(x: tf.Tensor) -> tf.Tensor:
    """The share of a standard normal distribution below x."""
    return (1 + tf.math.erf(x / math.sqrt(2))) / 2


@keras.saving.register_keras_serializable(package="tfcnn")
class RandomizedReLU(keras.layers.Layer):
    """`x` where it is positive; elsewhere `x / a`, with `a` drawn uniformly from 3 to 8 for each activation.

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
def scaled_tanh(x: tf.Tensor) -> tf.Tensor:
    """`1.7159 * tanh(2 / 3 * x)`, which is 1 at 1 and -1 at -1.

    Source: LeCun, Bottou, Bengio and Haffner 1998, equation 6 and appendix A.
    """
    return 1.7159 * tf.tanh(2 / 3 * x)
