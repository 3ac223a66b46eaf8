"""Resampling: which position of the source each pixel of the result is read from, and two ways to read it.

Geometric augmentations are affine maps from a pixel of the result to a position in the source. Maps that follow each
other are composed before anything is read, so that an image is interpolated once, and pixels that one map moves out of
the image can be brought back by another.

An `AffineMap` has a row of coefficients for x and one for y: of the result's column, of its row, and of 1,

    x = x0 * column + x1 * row + x2
    y = y0 * column + y1 * row + y2

Each coefficient is a number for all images, or `[batch, 1, 1]`, float32. Columns and rows are counted from the centre
of the image, in pixels. The functions below take the map from the image that they produce and return the map from the
image that they are given: to compose a list of operations, go through it backwards.

The bits of an image do not depend on the rest of its batch, nor on the number of threads: each operation here either
computes one number at a time, or its result is exact.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import numpy as np
import tensorflow as tf

Coefficient: TypeAlias = "float | tf.Tensor"
Row = tuple[Coefficient, Coefficient, Coefficient]
AffineMap = tuple[Row, Row]

IDENTITY: AffineMap = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

# Offsets of pixels are int32, which is what XLA computes fast with.
_ADDRESSABLE = 2 ** 31

# One loop over the pixels, without intermediate results: twice as fast as TensorFlow's operations one by one.
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


# Maps


def mirror(source: AffineMap, mirrored: tf.Tensor) -> AffineMap:
    """Exchanges left and right where `mirrored`, bool `[batch, 1, 1]`."""
    x, y = source
    return _scaled(x, tf.where(mirrored, -1.0, 1.0)), y


def shift(source: AffineMap, right: Coefficient, down: Coefficient) -> AffineMap:
    """Reads `right` and `down` pixels further on: the image moves left and up."""
    x, y = source
    return _added(x, (0.0, 0.0, right)), _added(y, (0.0, 0.0, down))


def scale(source: AffineMap, across: Coefficient, along: Coefficient) -> AffineMap:
    """Reads `across` and `along` times as far from the centre: the image shrinks by these factors."""
    x, y = source
    return _scaled(x, across), _scaled(y, along)


def rotate(source: AffineMap, cosine: Coefficient, sine: Coefficient) -> AffineMap:
    """Rotates the image counter-clockwise around its centre, by the angle of this cosine and sine."""
    x, y = source
    return _added(_scaled(x, cosine), _scaled(y, -sine)), _added(_scaled(x, sine), _scaled(y, cosine))


def shear(source: AffineMap, across: Coefficient, along: Coefficient) -> AffineMap:
    """Slides rows by `across` times their distance from the centre, and columns by `along` times theirs."""
    x, y = source
    return _added(x, _scaled(y, across)), _added(y, _scaled(x, along))


# Reading whole pixels


def addressable(images: tf.Tensor) -> bool:
    """Whether `source_offsets` can tell all pixels of images [n, height, width, channels] apart."""
    return math.prod(images.shape[:3]) < _ADDRESSABLE


def gather(images: tf.Tensor, indices: tf.Tensor, source: AffineMap) -> tf.Tensor:
    """Reads images through a map made of `mirror` and of `shift` by whole pixels; zeros outside of the image.

    Args:
      images: [n, height, width, channels], of any dtype; they must be `addressable`.
      indices: [batch], int32: which of the images.
      source: the map.

    Returns:
      [batch, height, width, channels], of the same dtype.
    """
    return gather_pixels(images, *source_offsets(indices, source, images.shape[1:3]))


def source_offsets(indices: tf.Tensor, source: AffineMap, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The offsets in memory that each row and each column of the result contributes to the index of a source pixel.

    By row and by column, not by pixel: that saves a quarter of the time of the loop over pixels.

    Args:
      indices: [batch], int32: which images.
      source: a map made of `mirror` and of `shift` by whole pixels.
      size: (height, width) of the images.

    Returns:
      [batch, height, 1] and [batch, 1, width], int32. Where the source pixel is outside of the image their sum is
      negative; no sum overflows int32.
    """
    height, width = size
    x, y = (tf.cast(axis, tf.int32) for axis in _positions(source, size))
    rows = tf.where((y >= 0) & (y < height), (indices[:, None, None] * height + y) * width, -width)
    columns = tf.where((x >= 0) & (x < width), x, width - 2**31)
    return rows, columns + tf.zeros_like(indices)[:, None, None]


@compiled
def gather_pixels(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Reads pixels of images [n, height, width, channels] at `source_offsets`; zeros where their sum is negative."""
    flat = tf.reshape(images, (-1, images.shape[-1]))
    indices = rows + columns
    # One comparison bounds both ends: read as unsigned, a negative index is beyond the last pixel.
    bounded = tf.minimum(tf.bitcast(indices, tf.uint32), tf.cast(tf.shape(flat)[0] - 1, tf.uint32))
    values = tf.gather(flat, tf.bitcast(bounded, tf.int32))
    return tf.where((indices >= 0)[..., None], values, tf.zeros([], images.dtype))


# Interpolation


def interpolate(images: tf.Tensor, source: AffineMap, field: tf.Tensor | None = None) -> tf.Tensor:
    """Reads images through any map, bilinearly interpolated, with zeros outside of the image.

    Args:
      images: [batch, height, width, channels], uint8 or float32; fewer than 2^31 pixels in all.
      source: the map.
      field: [batch, 2, height, width], pixels down and to the right that are added to the positions of the map.

    Returns:
      Images of the same shape, float32, not rounded.
    """
    x, y = _positions(source, images.shape[1:3])
    if field is not None:
        x, y = x + field[:, 1], y + field[:, 0]
    return _compiled_interpolate(images, x, y)


@compiled
def _compiled_interpolate(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    left, top = tf.floor(x), tf.floor(y)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    column, row = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    indices = tf.range(tf.shape(images)[0])[:, None, None]

    def along_row(row: tf.Tensor) -> tf.Tensor:
        one, next_one = (tf.cast(_pixels(images, indices, column + step, row), tf.float32) for step in (0, 1))
        return one * (1.0 - right_share) + next_one * right_share

    return along_row(row) * (1.0 - lower_share) + along_row(row + 1) * lower_share


def _pixels(images: tf.Tensor, indices: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The pixels at column x and row y of the images at some indices, or zeros: all three broadcast to each other."""
    height, width, channels = images.shape[1:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    positions = tf.where(inside, (indices * height + y) * width + x, 0)
    values = tf.gather(tf.reshape(images, (-1, channels)), positions)
    return tf.where(inside[..., None], values, tf.zeros([], images.dtype))


def warp(noise: tf.Tensor, alpha: float, sigma: float) -> tf.Tensor:
    """The displacement field of a local warping: smoothed noise (Simard, Steinkraus, Platt 2003, section 2).

    The noise represents numbers from -1 to 1. Beyond the image it is 0, so the field fades a little at the edges.

    Args:
      noise: [batch, 2, height, width], whole numbers from -255 to 255, float32.
      alpha: the factor of the field, in pixels.
      sigma: the standard deviation of the Gaussian that smooths, in pixels.

    Returns:
      [batch, 2, height, width], in pixels.
    """
    height, width = noise.shape[2:]
    # A matrix product adds in an order that depends on the batch size. Here the order does not matter: float32 adds
    # whole numbers below 2^24 exactly, and |noise| < 2^8 times weights that sum to at most 2^16 stays below that.
    half = tf.round(tf.matmul(_gaussian(height, sigma), noise) * 2.0**-16)
    return tf.matmul(half, _gaussian(width, sigma)) * (alpha * 2.0**-16 / 255)


def _positions(source: AffineMap, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The source positions of all pixels, counted from the first pixel of the image.

    Returns:
      x and y, float32, which broadcast to [batch, height, width].
    """
    height, width = size
    columns, rows = _centred(width), _centred(height)[:, None]
    x, y = (_sum(_product(by_column, columns), _sum(_product(by_row, rows), constant + (pixels - 1) / 2))
            for (by_column, by_row, constant), pixels in zip(source, (width, height)))
    return x, y


def _scaled(row: Row, factor: Coefficient) -> Row:
    first, second, third = (_product(term, factor) for term in row)
    return first, second, third


def _added(row: Row, other: Row) -> Row:
    first, second, third = (_sum(*terms) for terms in zip(row, other))
    return first, second, third


def _product(one: Coefficient, other: Coefficient) -> Coefficient:
    """The product, without a TensorFlow operation where a factor is 0 or 1: many small operations are slow, too."""
    for factor, rest in ((one, other), (other, one)):
        if isinstance(factor, float) and factor in (0.0, 1.0):
            return rest if factor else 0.0
    return one * other


def _sum(one: Coefficient, other: Coefficient) -> Coefficient:
    """The sum, without a TensorFlow operation where a term is 0."""
    for term, rest in ((one, other), (other, one)):
        if isinstance(term, float) and not term:
            return rest
    return one + other


def _centred(size: int) -> np.ndarray:
    """The positions of the pixels of a row, counted from its centre."""
    return np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """The matrix that smooths a row of pixels, in whole multiples of 2^-16: [size, size], float32."""
    reach = math.ceil(6 * sigma)
    total = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()
    distances = np.arange(size)[:, None] - np.arange(size)
    # Rounded down, so that the weights of a pixel sum to at most 1.
    return np.floor(2**16 / total * np.exp(-0.5 * (distances / sigma) ** 2)).astype(np.float32)
