"""The filters of the first layer, as images: what the network looks for in the pixels themselves.

*Source*: Krizhevsky, Sutskever and Hinton 2012, figure 3. The weights of a unit of a dense first layer are an image as
large as the input.
"""

from __future__ import annotations

import math

import keras
import numpy as np


def first_filters(model: keras.Model) -> tuple[str, np.ndarray] | None:
    """The filters of the first layer with weights.

    Args:
      model: the network.

    Returns:
      The layer's name, and `[filters, height, width, channels]`, float32; None if its weights are no filters of images.
    """
    for layer in model.layers:
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        values, shape = np.asarray(kernel.numpy(), np.float32), tuple(model.input_shape[1:])
        if values.ndim == 4 and values.shape[2] == shape[2]:
            return layer.name, np.moveaxis(values, -1, 0)
        if values.ndim == 2 and values.shape[0] == math.prod(shape):
            return layer.name, values.T.reshape(-1, *shape)
        return None
    return None


def strongest(filters: np.ndarray, count: int) -> np.ndarray:
    """The numbers of the filters with the largest weights (their sum of squares), at most `count`, in their order."""
    strength = (filters ** 2).sum(axis=(1, 2, 3))
    return np.sort(np.argsort(-strength, kind="stable")[:count])
