"""Test-time augmentation: several views of each image, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from tfcnn.trained import prediction
from tfcnn.trained.network import TrainedNetwork

_SHIFT = 2  # pixels


def views(images: np.ndarray, kind: str, padding: int = 4) -> Iterator[np.ndarray]:
    """The views of images in memory, of the network's size.

    Args:
      images: uint8 [batch, height, width, channels].
      kind: one of `published.VIEWS`. `none`: the image; `mirror`: the image, and mirrored from left to right; `shift`:
        moved by -2, 0 or 2 pixels up or down and left or right, with zeros around it; `six`: the image, and moved by a
        pixel to the upper left and to the lower right, with margins that mirror it, each also mirrored (Jordan 2024,
        the released airbench94.py); `ten_crop`: the centre and the four corners of the image with zeros around it, each
        also mirrored (Krizhevsky et al. 2012, section 4.1).
      padding: how many zeros `ten_crop` puts on each side, as the random crops of the training images.

    Yields:
      For each view uint8 [batch, height, width, channels].
    """
    if kind == "none":
        yield images
    elif kind == "mirror":
        yield images
        yield images[:, :, ::-1]
    elif kind == "shift":
        for row in (-_SHIFT, 0, _SHIFT):
            for column in (-_SHIFT, 0, _SHIFT):
                yield _moved(images, row, column)
    elif kind == "six":
        for step in (0, -1, 1):
            moved = _moved(images, step, step, "reflect")
            yield moved
            yield moved[:, :, ::-1]
    elif kind == "ten_crop":
        for row, column in ((0, 0), *((row, column) for row in (-padding, padding) for column in (-padding, padding))):
            crop = _moved(images, row, column)
            yield crop
            yield crop[:, :, ::-1]
    else:
        raise ValueError(f"no such kind of views: {kind}")


def logits(network: TrainedNetwork, images: np.ndarray, kind: str, batch_size: int) -> np.ndarray:
    """A network's logits, averaged over views.

    Of `six` views the image itself and its mirror image count twice, as in the released airbench94.py, which averages
    logits instead of probabilities.

    Args:
      images: uint8 [batch, height, width, channels], of the network's size.
      kind: as for `views`.
      batch_size: how many images are computed at a time.

    Returns:
      [batch, classes]; of several views the logarithm of the mean of their probabilities.
    """
    seen = [network.logits_of_fitted(view, batch_size) for view in views(images, kind, network.recipe.padding())]
    if kind == "six":
        seen += seen[:2]
    return prediction.together(seen)


def _moved(images: np.ndarray, row: int, column: int, margin_mode: Literal["constant", "reflect"] = "constant"
           ) -> np.ndarray:
    """Images moved by so many pixels down and to the right; around them are zeros, or their mirror image."""
    margin = max(abs(row), abs(column))
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)], margin_mode)
    height, width = images.shape[1:3]
    return padded[:, margin - row:margin - row + height, margin - column:margin - column + width]
