"""Crops of streamed images: which window of an image the network sees, for training and for evaluation.

A window is float32 [4]: the top, left, height and width of a rectangle, in pixels of the encoded image. The network
sees it as a square of `size` pixels; `image_windows.decode_window` decodes no more than that.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcnn.recipe import UsageError


def shorter_side(size: int) -> int:
    """The shorter side, in pixels, of the resized image whose centre of `size` pixels is evaluated.

    256 for ImageNet's 224 (and for AlexNet's variant of 227), in proportion for other sizes.
    """
    return 256 if 224 <= size <= 227 else round(size * 256 / 224)


def centre_window(shape: tf.Tensor, size: int) -> tf.Tensor:
    """The evaluation crop: the centre, after the shorter side is resized to 256 for a size of 224.

    Args:
      shape: float32 [2], the image's height and width.
      size: pixels of the crop.
    """
    extent = size * _scale(shape, size)
    return tf.concat([(shape - extent) / 2, [extent, extent]], 0)


def alexnet_window(shape: tf.Tensor, draws: tf.Tensor, size: int) -> tf.Tensor:
    """AlexNet's training crop (Krizhevsky et al. 2012, sections 2 and 4.1).

    The shorter side is resized to 256 and the centre of 256x256 cropped; a random square of that is the crop.

    Args:
      shape: float32 [2], the image's height and width.
      draws: float32 [2], random in [0, 1): the row and the column.
      size: pixels of the crop.
    """
    scale, side = _scale(shape, size), shorter_side(size)
    offset = tf.floor(draws * (side - size + 1))
    return tf.concat([(shape - side * scale) / 2 + offset * scale, [size * scale, size * scale]], 0)


def resized_window(shape: tf.Tensor, draws: tf.Tensor, least: float = 0.08) -> tf.Tensor:
    """ImageNet's standard training crop (Szegedy et al. 2015, section 6): of random size, aspect ratio and position.

    The share of the area is uniform from `least` to 1, the aspect ratio log-uniform from 3/4 to 4/3. The crop is the
    first of ten attempts that fits in the image; if none does, it is the largest in the centre with an allowed ratio.

    Args:
      shape: float32 [2], the image's height and width.
      draws: float32 [attempts, 4], random in [0, 1): area, aspect ratio, row and column.
      least: smallest share of the area.
    """
    area = tf.reduce_prod(shape) * (least + (1.0 - least) * draws[:, 0])
    ratio = tf.exp((2 * draws[:, 1] - 1) * np.float32(np.log(4 / 3)))  # width / height
    extents = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], 1)))
    fits = tf.reduce_all((extents <= shape) & (extents >= 1), 1)
    windows = tf.concat([tf.floor(draws[:, 2:] * (shape - extents + 1)), extents], 1)
    largest = tf.minimum(shape, tf.round(shape[::-1] * np.float32(4 / 3)))
    fallback = tf.concat([tf.floor((shape - largest) / 2), largest], 0)
    return tf.where(tf.reduce_any(fits), windows[tf.argmax(fits)], fallback)


def largest_square(shape: tf.Tensor) -> tf.Tensor:
    """The largest square in the centre: at AlexNet's 256 pixels a side, its ten test crops are cut from it."""
    side = tf.reduce_min(shape)
    return tf.concat([(shape - side) / 2, [side, side]], 0)


def _scale(shape: tf.Tensor, size: int) -> tf.Tensor:
    """Pixels of the image per pixel of the resized image."""
    return tf.reduce_min(shape) / shorter_side(size)


def ten_crops(images: tf.Tensor, size: int) -> tf.Tensor:
    """The four corners and the centre, then their mirror images (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [batch, height, width, channels], of any dtype.
      size: pixels of each crop.

    Returns:
      [batch, 10, size, size, channels].

    Raises:
      UsageError: the images are smaller than a crop.
    """
    height, width = images.shape[1:3]
    if min(height, width) < size:
        raise UsageError(f"images of {height}x{width} pixels have no crops of {size}x{size} pixels: choose a smaller "
                         "size")
    bottom, right = height - size, width - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = tf.stack([images[:, top:top + size, left:left + size] for top, left in corners], 1)
    return tf.concat([crops, tf.reverse(crops, [3])], 1)
