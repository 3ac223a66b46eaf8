"""Random crops of images in memory: the padded crop and the resized crop.

Crops of streamed images, which are chosen before decoding, are in `tfcnn/data/streamed_crops.py`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcnn.data.augmentation import resampling
from tfcnn.data.augmentation.random_numbers import quantile, uniform_quantiles
from tfcnn.data.augmentation.resampling import AffineMap


def crop(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], padding: float) -> AffineMap:
    """Zero padding, then a random crop of the old size (He et al. 2016, section 4.2).

    Args:
      source: the map composed so far, see `resampling`.
      draws: two, [batch, 1, 1], uniform in [0, 1): the row and the column of the crop.
      size: (height, width) of the images.
      padding: pixels on each side.
    """
    down, right = (tf.floor(draw * (2 * padding + 1)) - padding for draw in draws)
    return resampling.shift(source, right, down)


def resized_crop(source: AffineMap, draws: list[tf.Tensor], size: tuple[int, int], least: float) -> AffineMap:
    """A random part of the image, enlarged to its size (Szegedy et al. 2015, section 6).

    The share of the area is uniform from `least` to 1, the aspect ratio log-uniform from 3/4 to 4/3. A ratio that does
    not fit in the image is replaced by the nearest one that does, where Szegedy et al. draw again. The part ends at the
    centre of the image's last pixels, not half a pixel beyond, where there is nothing to interpolate with.

    Args:
      source: the map composed so far, see `resampling`.
      draws: four, [batch, 1, 1], uniform in [0, 1): area, aspect ratio, row and column.
      size: (height, width) of the images.
      least: the smallest share of the area.
    """
    side = quantile(np.sqrt(uniform_quantiles(least, 1)), draws[0])
    aspect = quantile((4 / 3) ** uniform_quantiles(-0.5, 0.5), draws[1])
    aspect = tf.minimum(tf.maximum(aspect, side), 1.0 / side)
    across, along = tf.minimum(side * aspect, 1.0), tf.minimum(side / aspect, 1.0)
    down = (draws[2] - 0.5) * (1.0 - along) * (size[0] - 1)
    right = (draws[3] - 0.5) * (1.0 - across) * (size[1] - 1)
    return resampling.shift(resampling.scale(source, across, along), right, down)
