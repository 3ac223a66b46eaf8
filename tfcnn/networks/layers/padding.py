"""Padding of channels, for the shortcuts of ResNet."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="tfcnn")
class PadChannels(keras.layers.Layer):
    """Appends channels of zeros until there are `filters` channels.

    Input: `[batch, height, width, channels]` with at most `filters` channels; output: `[batch, height, width,
    filters]`.

    Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", section 3.3, option A.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [0, self.filters - inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filters": self.filters}
