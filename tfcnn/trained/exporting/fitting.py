"""How a picture of any size is fitted to an exported network's input, with Pillow alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfcnn.data import pipeline, streamed_crops
from tfcnn.trained.network import TrainedNetwork


def of(network: TrainedNetwork) -> dict[str, Any]:
    """What `TrainedNetwork.fit` does to a picture, as arguments of Pillow's functions.

    The picture is resized to cover a size and cropped around its centre (`ImageOps.fit` with `size` and `bleed`), cut
    out or padded with zeros (`Image.crop` with `box`), and resized to the network's input, if it does not have that
    size by now (`Image.resize`).

    Returns:
      What can be written as JSON. `size`: width and height in pixels; `bleed`: the fraction of each side that is cut
      off before; `box`: left, top, right and bottom in the picture of this size, in which negative numbers, and those
      beyond it, are padding.
    """
    height, width, channels = network.input_shape
    if network.recipe.stream:  # the shorter side is resized to more than the crop
        bleed = (1 - height / streamed_crops.shorter_side(height)) / 2
        return {"size": [width, height], "bleed": bleed, "box": [0, 0, width, height]}
    rows, columns = network.image_size or (height, width)
    # What is not white in a white image was added around it.
    white = network.fit(np.full((1, rows, columns, channels), 255, np.uint8))[0, ..., 0] > 0
    if white.all():
        top, left, *size = pipeline.window_of_proportions(rows, columns, height, width)
    else:
        size = [height, width]
        top, left = (-int(np.flatnonzero(white.any(axis=axis))[0]) for axis in (1, 0))
    return {"size": [columns, rows], "bleed": 0.0, "box": [left, top, left + size[1], top + size[0]]}
