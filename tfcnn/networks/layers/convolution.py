"""Convolutions: faster ones for training on a CPU, grouped ones, and those whose filters see only some channels."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn.networks.layers import kernel_gradient, precision, winograd
from tfcnn.networks.layers.bias import add_bias


@keras.saving.register_keras_serializable(package="tfcnn")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same arguments, weights and result, which trains faster on a CPU.

    In training a 3x3 convolution with stride 1 that multiplies in float32 is computed by Winograd's algorithm, and
    the gradient of a kernel in bfloat16 as another convolution or as products of matrices, where that is faster: see
    `winograd.py` and `kernel_gradient.py`. All others are TensorFlow's own. On a processor without instructions for
    bfloat16 or float16 they multiply numbers of that type as float32, which is ten times as fast, and round the sums.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if self.data_format != "channels_last":
            return super().call(inputs)
        outputs = self._convolve(inputs, training)
        if self.use_bias:
            outputs = add_bias(outputs, self.bias)
        outputs = tf.cast(outputs, inputs.dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        return precision.in_faster_dtype(super().convolution_op, inputs, kernel)

    def _convolve(self, inputs: tf.Tensor, training: bool) -> tf.Tensor:
        """The outputs without bias; by Winograd's algorithm in float32, otherwise in the dtype of the inputs."""
        if training and self._is_plain():
            dtype = precision.faster_dtype(inputs.dtype)
            if (self.kernel_size == (3, 3) and self.strides == (1, 1) and self.padding == "same"
                    and winograd.is_faster(inputs.shape, self.filters, dtype)):
                return winograd.convolve(tf.cast(inputs, tf.float32), tf.cast(self.kernel, tf.float32))
            form = kernel_gradient.faster_form(
                inputs.shape, self.filters, self.kernel_size, self.strides, self.padding, dtype)
            if form is not None:
                return kernel_gradient.convolve(
                    inputs, tf.cast(self.kernel, dtype), self.strides, self.padding, form)
        return self.convolution_op(inputs, self.kernel)

    def _is_plain(self) -> bool:
        return self.dilation_rate == (1, 1) and self.groups == 1 and not tf.config.list_physical_devices("GPU")


@keras.saving.register_keras_serializable(package="tfcnn")
class GroupedConv2D(Conv2D):
    """`keras.layers.Conv2D(groups=...)` with the same arguments, weights and result, as one convolution for each group.

    TensorFlow has no gradient of a grouped convolution on a CPU, except in float32 with oneDNN. Keras therefore
    compiles the layer with XLA, which takes six times as long.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.5, where each of two GPUs holds one group.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        convolve = super().convolution_op
        pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1))
        return tf.concat([convolve(*pair) for pair in pairs], axis=-1)


@keras.saving.register_keras_serializable(package="tfcnn")
class SparseConnectionConv2D(keras.layers.Layer):
    """A convolution whose filters each see only some of the input's channels, with stride 1 and without padding.

    The kernel has weights for existing connections only: its shape is `[kernel_size, kernel_size, connections]`, with
    the channels of the first filter before those of the second, and so on. A product with a matrix of zeros and ones
    spreads them over an ordinary kernel, zero elsewhere, which is cheaper than one convolution for each filter.

    Input: `[batch, height, width, channels]`; output: `[batch, height - kernel_size + 1, width - kernel_size + 1,
    filters]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B, layer C3, table I.

    Args:
      channels_seen: for each filter the channels that it sees, counted from 0.
      kernel_size: height and width of the kernels.
      use_bias: whether to add a bias to the output of each filter.
      kernel_initializer: draws the first values of each filter separately, by the filter's own number of inputs.
    """

    def __init__(self, channels_seen: Sequence[Sequence[int]], kernel_size: int, use_bias: bool = True,
                 kernel_initializer: str | keras.Initializer = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels_seen = [list(seen) for seen in channels_seen]
        self.filters = len(self.channels_seen)
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        connections = [(channel, number) for number, seen in enumerate(self.channels_seen) for channel in seen]
        self._positions = np.zeros((len(connections), input_shape[-1], self.filters), np.float32)
        for connection, (channel, number) in enumerate(connections):
            self._positions[connection, channel, number] = 1.0
        size = self.kernel_size
        self.kernel = self.add_weight(name="kernel", shape=(size, size, len(connections)),
                                      initializer=self._first_values)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def _first_values(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        # A copy for each filter, because an initializer returns the same values each time it is called.
        return tf.concat([tf.squeeze(self.kernel_initializer.clone()((*shape[:2], len(seen), 1), dtype), -1)
                          for seen in self.channels_seen], axis=-1)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = tf.tensordot(self.kernel, tf.cast(self._positions, inputs.dtype), 1)
        outputs = precision.in_faster_dtype(functools.partial(tf.nn.conv2d, strides=1, padding="VALID"), inputs, kernel)
        return add_bias(outputs, self.bias) if self.use_bias else outputs

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, *sizes, _ = input_shape
        return (batch, *(size and size - self.kernel_size + 1 for size in sizes), self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "channels_seen": self.channels_seen, "kernel_size": self.kernel_size, "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}


@keras.saving.register_keras_serializable(package="tfcnn")
class PartialConv2D(SparseConnectionConv2D):
    """`SparseConnectionConv2D` in a file that was saved before it got that name. Do not use it for anything else.

    A class and not another name of the same class, because Keras finds a layer's weights in the file by its class name.
    """
