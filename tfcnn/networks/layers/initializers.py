"""First values of weights: what the option `initializer` stands for, and the initializer of LeNet-5."""

from __future__ import annotations

import math
from typing import Any

import keras
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
