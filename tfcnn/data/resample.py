"""Moving pixels: where each pixel of an altered image comes from, and the two ways of reading the image there.

All geometric augmentations are maps from a pixel of the result to a place in the source. Maps that follow each other
are composed before anything is read, so that an image is resampled once, and what one of them moves out of sight
another can bring back.

A place is a pair of forms `(x, y)`; a form is the three factors of the result's column, of its row, and of 1, each a
number that holds for all images, or `[batch, 1, 1]`, float32. Columns and rows are counted from the centre of the
image, in pixels. Each map below takes the places in the image that it makes and returns those in the image that it is
given: to compose a list, go through it backwards.

An image's result is the same bits whatever is beside it in the batch, and however many threads work: each operation
here either computes one number at a time, or has an exact result.
"""

from __future__ import annotations

import functools
import math
from typing import TypeAlias

import numpy as np
import tensorflow as tf

Factor: TypeAlias = "float | tf.Tensor"
Form = tuple[Factor, Factor, Factor]
Place = tuple[Form, Form]

# Every pixel's own place.
UNMOVED: Place = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))


# One loop over the pixels, without anything in between: twice as fast as TensorFlow's operations one after the other.
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def mirror(place: Place, turned: tf.Tensor) -> Place:
    """Left to right, where `turned`, bool `[batch, 1, 1]`."""
    x, y = place
    return _times(x, tf.where(turned, -1.0, 1.0)), y


def shift(place: Place, right: Factor, down: Factor) -> Place:
    """Reads `right` and `down` pixels further on: the image moves left and up."""
    x, y = place
    return _plus(x, (0.0, 0.0, right)), _plus(y, (0.0, 0.0, down))


def scale(place: Place, across: Factor, along: Factor) -> Place:
    """Reads `across` and `along` times as far from the centre: the image shrinks by these factors."""
    x, y = place
    return _times(x, across), _times(y, along)


def rotate(place: Place, cosine: Factor, sine: Factor) -> Place:
    """Turns the image counter-clockwise around its centre, by the angle of this cosine and sine."""
    x, y = place
    return _plus(_times(x, cosine), _times(y, -sine)), _plus(_times(x, sine), _times(y, cosine))


def shear(place: Place, across: Factor, along: Factor) -> Place:
    """Slides rows by `across` times their distance from the centre, and columns by `along` times theirs."""
    x, y = place
    return _plus(x, _times(y, across)), _plus(y, _times(x, along))


def read(images: tf.Tensor, indices: tf.Tensor, place: Place) -> tf.Tensor:
    """The pixels at places made of `mirror` and of `shift` by whole pixels only; zeros outside of the image.

    Args:
      images: [n, height, width, channels], of any type; fewer than 2^31 pixels in all.
      indices: [batch], int32: which of the images.

    Returns:
      [batch, height, width, channels], of the same type.
    """
    return pixels(images, *lines_and_columns(indices, place, images.shape[1:3]))


def lines_and_columns(indices: tf.Tensor, place: Place, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Where `read` finds its pixels: what a line and what a column of the result add to a pixel's place in memory.

    Of lines and columns, not of each pixel: what the loop over pixels need not compute saves a quarter of it.

    Returns:
      [batch, height, 1] and [batch, 1, width], int32. Outside of the image their sum is negative, and no sum leaves the
      range of int32.
    """
    height, width = size
    x, y = (tf.cast(axis, tf.int32) for axis in _evaluate(place, size))
    lines = tf.where((y >= 0) & (y < height), (indices[:, None, None] * height + y) * width, -width)
    columns = tf.where((x >= 0) & (x < width), x, width - 2**31)
    return lines, columns + tf.zeros_like(indices)[:, None, None]


@compiled
def pixels(images: tf.Tensor, lines: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """The pixels of images [n, height, width, channels] at `lines_and_columns`; zeros where the two are negative."""
    flat = tf.reshape(images, (-1, images.shape[-1]))
    places = lines + columns
    # One comparison bounds both ends: what is negative is, without a sign, beyond the last pixel.
    bounded = tf.minimum(tf.bitcast(places, tf.uint32), tf.cast(tf.shape(flat)[0] - 1, tf.uint32))
    values = tf.gather(flat, tf.bitcast(bounded, tf.int32))
    return tf.where((places >= 0)[..., None], values, tf.zeros([], images.dtype))


def interpolate(images: tf.Tensor, place: Place, field: tf.Tensor | None = None) -> tf.Tensor:
    """The images at any places, bilinearly interpolated, with zeros outside of the image.

    Args:
      images: [batch, height, width, channels], uint8 or float32; fewer than 2^31 pixels in all.
      place: as the maps above made it.
      field: [batch, 2, height, width], pixels down and to the right that are added to the places.

    Returns:
      Images of the same shape, float32, not rounded.
    """
    x, y = _evaluate(place, images.shape[1:3])
    if field is not None:
        x, y = x + field[:, 1], y + field[:, 0]
    return _compiled_interpolate(images, x, y)


@compiled
def _compiled_interpolate(images: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    left, top = tf.floor(x), tf.floor(y)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]
    column, row = tf.cast(left, tf.int32), tf.cast(top, tf.int32)
    indices = tf.range(tf.shape(images)[0])[:, None, None]

    def line(row: tf.Tensor) -> tf.Tensor:
        one, next_one = (tf.cast(_pixels(images, indices, column + step, row), tf.float32) for step in (0, 1))
        return one * (1.0 - right_share) + next_one * right_share

    return line(row) * (1.0 - lower_share) + line(row + 1) * lower_share


def _pixels(images: tf.Tensor, indices: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The pixels at whole places of the images of some indices, or zeros: all three broadcast to each other."""
    height, width, channels = images.shape[1:]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    places = tf.where(inside, (indices * height + y) * width + x, 0)
    values = tf.gather(tf.reshape(images, (-1, channels)), places)
    return tf.where(inside[..., None], values, tf.zeros([], images.dtype))


def warp(noise: tf.Tensor, alpha: float, sigma: float) -> tf.Tensor:
    """The field of a local warping: noise, smoothed by a Gaussian (Simard, Steinkraus, Platt 2003, section 2).

    The noise stands for numbers from -1 to 1. Beyond the image there is none, so the field fades a little at the edges.

    Args:
      noise: [batch, 2, height, width], whole numbers from -255 to 255, float32.
      alpha: the factor of the field, in pixels.
      sigma: the standard deviation of the Gaussian, in pixels.

    Returns:
      [batch, 2, height, width], pixels.
    """
    height, width = noise.shape[2:]
    # A matrix product adds up in an order that depends on the size of the batch. Here no order matters: below 2^24
    # float32 adds whole numbers exactly, and no sum of |noise| < 2^8 times weights of 2^16 in all comes to more.
    half = tf.round(tf.matmul(_gaussian(height, sigma), noise) * 2.0**-16)
    return tf.matmul(half, _gaussian(width, sigma)) * (alpha * 2.0**-16 / 255)


def _evaluate(place: Place, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The places of all pixels, counted from the first pixel of the image.

    Returns:
      x, y: such that they broadcast to [batch, height, width], float32.
    """
    height, width = size
    columns, rows = _line(width), _line(height)[:, None]
    x, y = (_sum(_product(by_column, columns), _sum(_product(by_row, rows), constant + (pixels - 1) / 2))
            for (by_column, by_row, constant), pixels in zip(place, (width, height)))
    return x, y


def _times(form: Form, factor: Factor) -> Form:
    first, second, third = (_product(term, factor) for term in form)
    return first, second, third


def _plus(form: Form, other: Form) -> Form:
    first, second, third = (_sum(*terms) for terms in zip(form, other))
    return first, second, third


def _product(one: Factor, other: Factor) -> Factor:
    """The product; without an operation of TensorFlow where a factor is known, since many small ones take long, too."""
    for factor, rest in ((one, other), (other, one)):
        if isinstance(factor, float) and factor in (0.0, 1.0):
            return rest if factor else 0.0
    return one * other


def _sum(one: Factor, other: Factor) -> Factor:
    """The sum, likewise."""
    for term, rest in ((one, other), (other, one)):
        if isinstance(term, float) and not term:
            return rest
    return one + other


def _line(size: int) -> np.ndarray:
    """The pixels of a line, counted from its centre."""
    return np.arange(size, dtype=np.float32) - np.float32((size - 1) / 2)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """The matrix that smooths a line of pixels, in whole 2^-16ths: [size, size], float32."""
    reach = math.ceil(6 * sigma)
    total = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()
    distances = np.arange(size)[:, None] - np.arange(size)
    # Rounded down, so that the weights of a pixel come to no more than 1.
    return np.floor(2**16 / total * np.exp(-0.5 * (distances / sigma) ** 2)).astype(np.float32)
