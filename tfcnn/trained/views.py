"""Test-time augmentation: several views of each image, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

KINDS = ("none", "mirror", "shift", "ten_crop")
_SHIFT = 2  # pixels


def views(images: np.ndarray, kind: str, padding: int = 4) -> Iterator[np.ndarray]:
    """The views of images in memory, of the network's size.

    Args:
      images: uint8 [batch, height, width, channels].
      kind: `none`: the image; `mirror`: the image, and mirrored from left to right; `shift`: moved by -2, 0 or 2 pixels
        up or down and left or right, with zeros around it; `ten_crop`: the centre and the four corners of the image
        with zeros around it, each also mirrored (Krizhevsky et al. 2012, section 4.1).
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
    elif kind == "ten_crop":
        for row, column in ((0, 0), *((row, column) for row in (-padding, padding) for column in (-padding, padding))):
            crop = _moved(images, row, column)
            yield crop
            yield crop[:, :, ::-1]
    else:
        raise ValueError(f"no such kind of views: {kind}")


def _moved(images: np.ndarray, row: int, column: int) -> np.ndarray:
    """Images moved by so many pixels down and to the right, with zeros where there is nothing."""
    margin = max(abs(row), abs(column))
    padded = np.pad(images, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
    height, width = images.shape[1:3]
    return padded[:, margin - row:margin - row + height, margin - column:margin - column + width]
