"""The trained sub-sampling of LeNet-5."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfcnn")
class AverageSubsampling2D(keras.layers.Layer):
    """The sum over each 2x2 window, times a trained coefficient, plus a trained bias: one of each for every channel.

    Windows do not overlap; an odd last row or column is left out. The coefficients are drawn uniformly from -0.6 to 0.6
    (appendix A of the source, for units with four inputs); the biases start at zero.

    Input: `[batch, height, width, channels]`; output: `[batch, height // 2, width // 2, channels]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B, layers S2 and S4, before the squashing function.
    """

    pool_size = strides = (2, 2)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1:]
        uniform = keras.initializers.RandomUniform(-2.4 / 4, 2.4 / 4)
        self.coefficient = self.add_weight(name="coefficient", shape=channels, initializer=uniform)
        self.bias = self.add_weight(name="bias", shape=channels, initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return 4 * tf.nn.avg_pool2d(inputs, 2, 2, "VALID") * self.coefficient + self.bias

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = input_shape
        return batch, height and height // 2, width and width // 2, channels
