"""Changes the values of pixels where they are: colour, brightness and contrast.

Every function takes images `[batch, height, width, channels]`, uint8 or float32 from 0 to 255. Those that compute
return float32, neither rounded nor clipped to 0 to 255; those that Pillow defines on bytes take and return uint8.
The bits of an image do not depend on the rest of its batch: see `resampling`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn.data.augmentation import resampling
from tfcnn.data.augmentation.random_numbers import draws_of, normal_quantiles, quantile, uniforms
from tfcnn.data.images import LUMA


def components(images: np.ndarray | Iterable[np.ndarray]) -> np.ndarray:
    """The principal components of the colours of images (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [n, height, width, channels], uint8: the training images, or batches of them.

    Returns:
      [channels, channels], float32. Column i is the i-th principal component of the covariance of the channels times
      its eigenvalue, both for pixels in [0, 1], times 255: in units of pixel values from 0 to 255. The largest
      eigenvalue comes first.
    """
    count = 0
    first: Any = 0.0
    second: Any = 0.0
    for batch in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(batch), 1024):  # a copy in floating point takes eight times the memory
            pixels = batch[start:start + 1024].reshape(-1, batch.shape[-1]).astype(np.float64)
            count += len(pixels)
            first += pixels.sum(axis=0)
            second += pixels.T @ pixels  # whole numbers below 2^53: the sums are exact
    covariance = (second - np.outer(first, first) / count) / count / 255**2
    values, vectors = np.linalg.eigh(covariance)
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, range(len(largest))])  # the sign of an eigenvector is arbitrary
    return (255 * vectors * values)[:, ::-1].astype(np.float32)


def colour_pca(images: tf.Tensor, seeds: tf.Tensor, strength: float, colour_components: np.ndarray) -> tf.Tensor:
    """Adds a random sum of the principal components to all pixels of an image (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [batch, height, width, channels].
      seeds: [batch], uint64.
      strength: the standard deviation of each component's factor, which is normally distributed.
      colour_components: of `components`.
    """
    draws = uniforms(seeds, draws_of("colour_pca")[:images.shape[-1]])
    return shift(images, quantile(strength * normal_quantiles(), draws), colour_components)


def shift(images: tf.Tensor, factors: tf.Tensor, colour_components: np.ndarray) -> tf.Tensor:
    """Adds to all pixels of an image the sum of the components with its own factors, [batch, channels]."""
    # Term by term: a matrix product would round in an order that depends on the batch size.
    terms = [factors[:, index:index + 1] * column for index, column in enumerate(colour_components.T)]
    return _add_row(images, _by_channel(sum(terms[1:], terms[0]), images.shape[2]))


@resampling.compiled  # one pass over memory instead of two
def _add_row(images: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    return _for_each_row(tf.cast(images, tf.float32), row, tf.add)


def brightness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies each image by its factor, [batch]."""
    return tf.cast(images, tf.float32) * factor[:, None, None, None]


def contrast(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies each pixel's distance from the mean grey of its image by the factor, [batch]."""
    height, width, channels = images.shape[1:]
    # Whole numbers have the same sum in any order.
    sums = tf.cast(tf.reduce_sum(tf.cast(to_bytes(images), tf.int32), (1, 2)), tf.float32)
    mean = _grey(sums) if channels == 3 else sums
    rest = (1.0 - factor) * mean[:, 0] * (1.0 / (height * width))
    return tf.cast(images, tf.float32) * factor[:, None, None, None] + rest[:, None, None, None]


def saturation(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies each pixel's distance from its own grey by the factor, [batch]; grey images are unchanged."""
    images = tf.cast(images, tf.float32)
    if images.shape[-1] == 1:
        return images
    factor = factor[:, None, None, None]
    return images * factor + _grey(images) * (1.0 - factor)


def sharpness(images: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiplies each pixel's distance from the mean of its neighbourhood by the factor, [batch].

    The neighbourhood is Pillow's: 3x3 pixels, with weight 5 for the middle one; pixels at the edge are unchanged.
    """
    images = tf.cast(images, tf.float32)
    if min(images.shape[1:3]) < 3:
        return images
    middle = images[:, 1:-1, 1:-1]
    rows = images[:, :-2] + images[:, 1:-1] + images[:, 2:]
    sums = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4.0 * middle
    change = (1.0 - factor)[:, None, None, None] * (sums * (1 / 13) - middle)
    return images + tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]])


def autocontrast(images: tf.Tensor) -> tf.Tensor:
    """Stretches each channel of an image to the whole range from 0 to 255: uint8 to float32."""
    low, high = (tf.cast(extreme(images, (1, 2)), tf.float32) for extreme in (tf.reduce_min, tf.reduce_max))
    factor = tf.where(high > low, 255.0 / tf.maximum(high - low, 1.0), 1.0)
    offset = tf.where(high > low, -low * factor, 0.0)
    width = images.shape[2]
    scaled = _for_each_row(tf.cast(images, tf.float32), _by_channel(factor, width), tf.multiply)
    return _for_each_row(scaled, _by_channel(offset, width), tf.add)


def equalize(images: tf.Tensor) -> tf.Tensor:
    """Flattens the histogram of each channel of an image as Pillow's `ImageOps.equalize` does: uint8 to uint8."""
    height, width, channels = images.shape[1:]
    planes = tf.reshape(tf.transpose(tf.cast(images, tf.int32), (0, 3, 1, 2)), (-1, height * width))
    counts = tf.raw_ops.DenseBincount(input=planes, size=256, weights=tf.zeros(0, tf.int32))
    brightest = tf.gather(counts, tf.reduce_max(planes, 1), batch_dims=1)
    step = ((height * width - brightest) // 255)[:, None]
    table = (tf.cumsum(counts, axis=1, exclusive=True) + step // 2) // tf.maximum(step, 1)
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    start = 256 * (tf.range(tf.shape(images)[0])[:, None] * channels + np.tile(np.arange(channels), width))
    indices = tf.reshape(tf.cast(images, tf.int32), (-1, height, width * channels)) + start[:, None]
    equal = tf.gather_nd(tf.reshape(tf.cast(table, tf.uint8), [-1]), indices[..., None])
    return tf.reshape(equal, (-1, height, width, channels))


def solarize(images: tf.Tensor, threshold: int) -> tf.Tensor:
    """Inverts values at or above the threshold: uint8 to uint8."""
    return images if threshold > 255 else tf.where(images < threshold, images, 255 - images)


def posterize(images: tf.Tensor, bits: int) -> tf.Tensor:
    """Keeps the upper bits, 0 to 8 of them, of each value: uint8 to uint8."""
    return tf.bitwise.bitwise_and(images, tf.constant(256 - 2 ** (8 - bits), tf.uint8))


def to_bytes(images: tf.Tensor) -> tf.Tensor:
    """Rounds and clips to 0 to 255: uint8."""
    return images if images.dtype == tf.uint8 else tf.cast(tf.round(tf.clip_by_value(images, 0.0, 255.0)), tf.uint8)


def _grey(colours: tf.Tensor) -> tf.Tensor:
    """The luma of colours: [..., 3] to [..., 1]."""
    red, green, blue = (colours[..., index:index + 1] * weight for index, weight in enumerate(LUMA))
    return red + green + blue


def _by_channel(values: tf.Tensor, width: int) -> tf.Tensor:
    """[batch, channels] repeated for each pixel of a row: [batch, 1, width * channels]."""
    return tf.tile(values, (1, width))[:, None]


def _for_each_row(images: tf.Tensor, row: tf.Tensor, operation: tf.types.experimental.GenericFunction) -> tf.Tensor:
    """Combines each row of pixels with `row`: several times as fast as broadcasting along three channels."""
    height, width, channels = images.shape[1:]
    flat = operation(tf.reshape(images, (-1, height, width * channels)), row)
    return tf.reshape(flat, (-1, height, width, channels))
