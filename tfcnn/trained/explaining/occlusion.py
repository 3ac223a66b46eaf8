"""Occlusion: how much a class loses when a part of the image is hidden.

*Source*: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2. There a
grey square hides the part, and the map shows the probability of the class. Here the square has the mean of the image's
own normalized values, which is no bright spot on a black background; and the map shows how much the logit falls, as for
the gradient: a probability near 1 hardly falls.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_SHARE = 5  # the side of the square is a fifth of the image's
_BATCH = 128


def square(height: int, width: int) -> tuple[int, int]:
    """The side of the square that hides a part of an image, and by how much it moves, in pixels."""
    side = max(1, round(min(height, width) / _SHARE))
    return side, max(1, side // 3)


def occlusion(logits: Callable[[np.ndarray], np.ndarray], inputs: np.ndarray, classes: np.ndarray, side: int,
              stride: int) -> np.ndarray:
    """By how much the logit of a class falls: the mean over all squares that hide a pixel.

    Args:
      logits: the network, from normalized images, `[batch, height, width, channels]`, to logits.
      inputs: normalized images, `[batch, height, width, channels]`.
      classes: the class that is explained in each, `[batch]`.
      side: of the square, in pixels.
      stride: by how much the square moves.

    Returns:
      `[batch, height, width]`; positive where the pixel speaks for the class.
    """
    rows, columns = (_starts(length, side, stride) for length in inputs.shape[1:3])
    maps = []
    for image, number in zip(inputs, classes):
        hidden = [image]
        for row in rows:
            for column in columns:
                copy = image.copy()
                copy[row:row + side, column:column + side] = image.mean(axis=(0, 1))
                hidden.append(copy)
        scores = np.concatenate([logits(np.stack(hidden[start:start + _BATCH]))[:, number]
                                 for start in range(0, len(hidden), _BATCH)])
        falls = iter(scores[0] - scores[1:])
        total, count = np.zeros(image.shape[:2]), np.zeros(image.shape[:2])
        for row in rows:
            for column in columns:
                total[row:row + side, column:column + side] += next(falls)
                count[row:row + side, column:column + side] += 1
        maps.append(total / count)
    return np.stack(maps)


def _starts(length: int, side: int, stride: int) -> list[int]:
    """Where the square begins along an axis; the last one ends at the edge."""
    return sorted({*range(0, length - side, stride), length - side})
