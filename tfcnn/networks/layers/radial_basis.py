"""The radial basis functions at the output of LeNet-5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfcnn")
class RadialBasis(keras.layers.Layer):
    """The negative squared Euclidean distance from each of several fixed points.

    Input: `[batch, features]`; output: `[batch, points]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B; the output is the negative of equation 7.

    Args:
      points: `[points, features]`.
    """

    def __init__(self, points: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.points = [list(point) for point in points]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: len(self.points[0])})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        points = tf.constant(self.points, inputs.dtype)
        return -tf.reduce_sum(tf.math.squared_difference(inputs[:, tf.newaxis], points), axis=-1)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape[0], len(self.points)

    def multiply_accumulates(self, input_shape: tuple[Any, ...], output_shape: tuple[Any, ...]) -> int:
        """Multiply-accumulates for one input, as `tfcnn.describe` counts them: one for each feature of each point."""
        return input_shape[-1] * output_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"points": self.points}
