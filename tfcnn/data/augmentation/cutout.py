"""Cutout: a black square at a random position; and the mask of a rectangle, which cutmix needs, too."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcnn.data.augmentation.random_numbers import draws_of, uniforms


def cutout(images: tf.Tensor, seeds: tf.Tensor, side: int) -> tf.Tensor:
    """Blackens a square around a random pixel (DeVries and Taylor 2017, section 3.2).

    The square may extend beyond the image. DeVries and Taylor cut after normalization, to the mean of the images; here
    it comes before normalization, and the square is black.

    Args:
      images: [batch, height, width, channels], uint8 or float32.
      seeds: [batch], uint64.
      side: of the square, in pixels.
    """
    draws = uniforms(seeds, draws_of("cutout"))
    top, left = (tf.cast(draws[:, axis] * images.shape[1 + axis], tf.int32) - side // 2 for axis in range(2))
    return images * (1 - rectangle_mask(images, top, top + side, left, left + side))


def rectangle_mask(images: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor, left: tf.Tensor, right: tf.Tensor
                   ) -> tf.Tensor:
    """1 inside of a rectangle, 0 elsewhere.

    Args:
      images: [batch, height, width, channels]: gives shape and dtype.
      top, bottom, left, right: [batch], int32: the first row and column inside, and the first beyond.

    Returns:
      [batch, height, width, channels], in the dtype of the images, to multiply them with: that is many times as fast as
      `tf.where`.
    """
    height, width, channels = images.shape[1:]
    rows = np.arange(height, dtype=np.int32)
    # Columns repeated for the channels: cheap here, expensive once they are combined with the rows.
    columns = np.repeat(np.arange(width, dtype=np.int32), channels)
    in_rows = tf.cast((rows >= top[:, None]) & (rows < bottom[:, None]), images.dtype)
    in_columns = tf.cast((columns >= left[:, None]) & (columns < right[:, None]), images.dtype)
    return tf.reshape(in_rows[:, :, None] * in_columns[:, None, :], (-1, height, width, channels))
