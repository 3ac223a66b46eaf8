"""Geometric augmentation: from the draws of each image to the source position of every pixel.

Operations that follow each other are composed into one map before anything is read, so that an image is interpolated
once, and pixels that one operation moves out of the image can be brought back by another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfcnn.augmentations import MIRRORS, Operation
from tfcnn.data.augmentation import resampling
from tfcnn.data.augmentation.crop import crop, resized_crop
from tfcnn.data.augmentation.random_numbers import (DRAWS, bits, draws_of, lowest_bits, quantile, uniform_quantiles,
                                                    uniforms)
from tfcnn.data.augmentation.resampling import AffineMap

# Each operation takes the map composed so far, its draws ([batch, 1, 1] each), the size of the images in pixels, and
# its own arguments; it returns the composed map.


def mirror(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int]) -> AffineMap:
    """Left to right, half of the images."""
    return resampling.mirror(source, draws[0] < 0.5)


def alternating_mirror(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int]) -> AffineMap:
    """Left to right, an image in every other epoch."""
    return resampling.mirror(source, draws[0] > 0)


def rotate(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], degrees: float) -> AffineMap:
    """Around the centre, by an angle uniform in [-degrees, degrees]."""
    angles = _angles(degrees)
    return resampling.rotate(source, quantile(np.cos(angles), draws[0]), quantile(np.sin(angles), draws[0]))


def shear(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], degrees: float) -> AffineMap:
    """Rows slide sideways; what was upright is tilted by an angle uniform in [-degrees, degrees]."""
    return resampling.shear(source, across=quantile(np.tan(_angles(degrees)), draws[0]), along=0.0)


def translate(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], distance: float) -> AffineMap:
    """In both directions, uniform up to `distance`: in pixels, or below 1 as a share of the side."""
    down, right = (distance * (1 if distance >= 1 else pixels) * (2.0 * draw - 1.0)
                   for draw, pixels in zip(draws, size))
    return resampling.shift(source, right, down)


def zoom(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], share: float) -> AffineMap:
    """Both sides by one factor, log-uniform from 1 / (1 + share) to 1 + share."""
    factor = quantile((1 + share) ** uniform_quantiles(-1, 1), draws[0])
    return resampling.scale(source, factor, factor)


_AFFINE: dict[str, Callable[..., AffineMap]] = {
    "mirror": mirror, "alternating_mirror": alternating_mirror, "crop": crop, "resized_crop": resized_crop,
    "rotate": rotate, "shear": shear, "translate": translate, "zoom": zoom}
GEOMETRIC = (*_AFFINE, "elastic")


def moves_whole_pixels(operations: Sequence[Operation]) -> bool:
    """Whether the operations only move pixels by whole numbers of pixels, so that nothing is interpolated."""
    return {operation.name for operation in operations} <= {*MIRRORS, "crop"}


def source_map(seeds: tf.Tensor, operations: Sequence[Operation], size: tuple[int, int]
               ) -> tuple[AffineMap, tf.Tensor | None]:
    """Where each pixel of the result comes from.

    Args:
      seeds: [batch], uint64, of `random_numbers.image_seeds`.
      operations: geometric ones, in the order in which they are applied.
      size: (height, width) of the images.

    Returns:
      The composed map, and the displacement field of a local warping, [batch, 2, height, width], or None.
    """
    source, field = resampling.IDENTITY, None
    affine = [operation for operation in operations if operation.name in _AFFINE]
    numbers = [draw for operation in affine for draw in draws_of(operation.name)]
    drawn = {}
    if numbers:
        drawn = dict(zip(numbers, tf.unstack(uniforms(seeds, numbers)[..., None, None], len(numbers), 1)))
    for operation in reversed(affine):  # from the result back to the source
        own = [drawn[draw] for draw in draws_of(operation.name)]
        if operation.name == "alternating_mirror":
            own = [lowest_bits(seeds)[:, None, None]]
        source = _AFFINE[operation.name](source, own, size, *operation.arguments)
    for operation in operations:
        if operation.name == "elastic":
            # Wherever it is in the list, its field is added to the positions in the source.
            field = resampling.warp(_noise(seeds, *size), *operation.arguments)
    return source, field


def _angles(degrees: float) -> np.ndarray:
    """The quantiles of an angle between -degrees and degrees, in radians."""
    return np.radians(uniform_quantiles(-degrees, degrees))


def _noise(seeds: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The noise of a local warping: [batch, 2, height, width], odd whole numbers from -255 to 255, float32."""
    count = 2 * height * width
    # Eight bytes per draw: after smoothing, finer numbers would make no difference.
    first = DRAWS["elastic"][0]
    noise = tf.bitcast(bits(seeds, range(first, first + math.ceil(count / 8))), tf.uint8)
    noise = tf.reshape(noise, (-1, 8 * math.ceil(count / 8)))[:, :count]
    return tf.reshape(2.0 * tf.cast(noise, tf.float32) - 255.0, (-1, 2, height, width))
