"""Bilinear sampling in NumPy, in double precision: a reference for resampling."""

from __future__ import annotations

import numpy as np


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns and rows of all pixels, counted from the centre of the image: [height, width] each."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    return columns - (width - 1) / 2, rows - (height - 1) / 2


def bilinear(images: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The images at positions counted from their centre, with zeros outside.

    Args:
      images: [n, height, width, channels].
      x, y: [n, height, width], pixels to the right and down.
    """
    height, width = images.shape[1:3]
    x, y = (np.broadcast_to(axis, images.shape[:3]) for axis in (x + (width - 1) / 2, y + (height - 1) / 2))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    number = np.arange(len(images))[:, None, None]
    result = np.zeros(images.shape)
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        weight = (1 - np.abs(x - column)) * (1 - np.abs(y - row))
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        pixels = images[number, row.clip(0, height - 1), column.clip(0, width - 1)]
        result += (weight * inside)[..., None] * pixels
    return result
