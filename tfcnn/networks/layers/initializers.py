"""First values of weights: what the option `initializer` stands for, and the initializers of single papers."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def initializer(choice: str, paper: str | keras.Initializer) -> str | keras.Initializer:
    """Returns the initializer that a layer takes for a value of the option `initializer`.

    Args:
      choice: one of `options.INITIALIZERS`.
      paper: what `paper` stands for. Make a new one for each layer: a Keras initializer returns the same values each
        time it is called.
    """
    return paper if choice == "paper" else choice


@keras.saving.register_keras_serializable(package="tfcnn")
class FanInUniform(keras.initializers.Initializer):
    """Draws uniformly from `-limit / n` to `limit / n`, where `n` is the number of inputs of a unit, its fan-in.

    Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", appendix
    A, whose limit is the default.

    Args:
      limit: the bound for a unit with one input.
    """

    def __init__(self, limit: float = 2.4) -> None:
        self.limit = limit

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        bound = self.limit / math.prod(shape[:-1])
        return keras.initializers.RandomUniform(-bound, bound)(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"limit": self.limit}


@keras.saving.register_keras_serializable(package="tfcnn")
class Dirac(keras.initializers.Initializer):
    """Makes the first filters of a convolution copy its input channels; the others get values of another initializer.

    Source: Zagoruyko and Komodakis 2017, "DiracNets"; for the first filters only: Jordan 2024, "94% on CIFAR-10 in 3.29
    seconds on a single GPU".

    Args:
      rest: gives the values of the filters for which no input channel is left, as if it gave those of all filters.
    """

    def __init__(self, rest: keras.Initializer) -> None:
        self.rest = keras.initializers.get(rest)

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        height, width, channels, filters = shape
        copies = min(channels, filters)
        kernel = np.zeros((height, width, channels, copies), np.float32)
        kernel[height // 2, width // 2, range(copies), range(copies)] = 1
        return tf.concat([tf.cast(kernel, dtype or tf.float32), self.rest(shape, dtype)[..., copies:]], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {"rest": keras.saving.serialize_keras_object(self.rest)}
