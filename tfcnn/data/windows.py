"""Which part of a streamed image the network is shown: the crops of the papers, and decoding no more than these.

A window is float32 [4]: the top, left, height and width of a rectangle, in pixels of the encoded image. It is shown to
the network as a square of `size` pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfcnn.recipe import UsageError


def shorter_side(size: int) -> int:
    """To how many pixels the shorter side of an image is resized of which the centre `size` pixels are evaluated.

    256 for ImageNet's 224 (and for AlexNet's variant of 227), in proportion for others.
    """
    return 256 if 224 <= size <= 227 else round(size * 256 / 224)


def centre_window(shape: tf.Tensor, size: int) -> tf.Tensor:
    """The evaluation crop: the centre, when the shorter side has been resized to 256 for a size of 224.

    Args:
      shape: float32 [2], the image's height and width.
      size: pixels of the crop.
    """
    extent = size * _scale(shape, size)
    return tf.concat([(shape - extent) / 2, [extent, extent]], 0)


def alexnet_window(shape: tf.Tensor, draws: tf.Tensor, size: int) -> tf.Tensor:
    """AlexNet's training crop (Krizhevsky et al. 2012, sections 2 and 4.1).

    The shorter side is resized to 256, the centre of 256x256 taken, and of it a random square.

    Args:
      shape: float32 [2], the image's height and width.
      draws: float32 [2], random in [0, 1): which row and which column.
      size: pixels of the crop.
    """
    scale, side = _scale(shape, size), shorter_side(size)
    offset = tf.floor(draws * (side - size + 1))
    return tf.concat([(shape - side * scale) / 2 + offset * scale, [size * scale, size * scale]], 0)


def resized_window(shape: tf.Tensor, draws: tf.Tensor, least: float = 0.08) -> tf.Tensor:
    """ImageNet's standard training crop (Szegedy et al. 2015, section 6): of a random size, shape and place.

    Its area is a share of the image's from `least` to 1, evenly; its aspect ratio 3/4 to 4/3, a ratio and its inverse
    equally likely. Of ten such the first that fits into the image is taken; if none does, the largest in the centre
    with such a ratio.

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
    """The largest square in the centre: with AlexNet's 256 pixels a side, what its ten test crops are taken of."""
    side = tf.reduce_min(shape)
    return tf.concat([(shape - side) / 2, [side, side]], 0)


def _scale(shape: tf.Tensor, size: int) -> tf.Tensor:
    """Pixels of the image to a pixel of the resized one."""
    return tf.reduce_min(shape) / shorter_side(size)


def decode(encoded: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: int, channels: int) -> tf.Tensor:
    """Decodes, of an image, a window, and resizes it with antialiasing.

    As when the whole image is resized, pixels beside the window take part in those at its edge.

    Args:
      encoded: JPEG or PNG, string.
      window: float32 [2], height and width of the image -> its window.
      size: height and width of the result.
      channels: 1 for grey, 3 for colour.

    Returns:
      [size, size, channels], uint8.
    """
    def around(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The window, and whole pixels [4] that have it and what antialiasing looks at."""
        shown = window(tf.cast(shape, tf.float32))
        margin = tf.maximum(shown[2:] / size, 1) + 1
        first = tf.maximum(tf.cast(tf.floor(shown[:2] - margin), tf.int32), 0)
        last = tf.minimum(tf.cast(tf.math.ceil(shown[:2] + shown[2:] + margin), tf.int32), shape)
        return shown - tf.concat([tf.cast(first, tf.float32), [0, 0]], 0), tf.concat([first, last - first], 0)

    def from_jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        shown, box = around(tf.io.extract_jpeg_shape(encoded)[:2])
        return shown, tf.io.decode_and_crop_jpeg(encoded, box, channels, dct_method="INTEGER_ACCURATE")

    def from_png() -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(encoded, channels)
        shown, box = around(tf.shape(image)[:2])
        return shown, image[box[0]:box[0] + box[2], box[1]:box[1] + box[3]]

    shown, pixels = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
    scale = size / shown[2:]
    resized = tf.raw_ops.ScaleAndTranslate(images=pixels[None], size=[size, size], scale=scale,
                                           translation=-shown[:2] * scale, kernel_type="triangle", antialias=True)
    return tf.ensure_shape(tf.cast(resized[0] + 0.5, tf.uint8), (size, size, channels))


def ten_crops(images: tf.Tensor, size: int) -> tf.Tensor:
    """The four corners and the centre, then their reflections (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [batch, height, width, channels], of any type.
      size: pixels of each crop.

    Returns:
      [batch, 10, size, size, channels].

    Raises:
      UsageError: the images are smaller than a crop.
    """
    height, width = images.shape[1:3]
    if min(height, width) < size:
        raise UsageError(f"no crops of {size}x{size} pixels can be taken of images of {height}x{width}: choose a "
                         "smaller size")
    bottom, right = height - size, width - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = tf.stack([images[:, top:top + size, left:left + size] for top, left in places], 1)
    return tf.concat([crops, tf.reverse(crops, [3])], 1)
