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

import math
from typing import TypeAlias

import numpy as np
import tensorflow as tf

Factor: TypeAlias = "float | tf.Tensor"
Form = tuple[Factor, Factor, Factor]
Place = tuple[Form, Form]

# Every pixel's own place.
UNMOVED: Place = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))

_OUTSIDE = 2**30 - 1  # two of them are still below 2^31


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


class Store:
    """Images in main memory, of which any can be read, moved, without being copied before.

    Attributes:
      images: [n, height, width, channels], uint8.
      pixels: [n * height * width + 1, channels]: the pixels of all images, and a black one.
    """

    def __init__(self, images: np.ndarray) -> None:
        """Copies images [n, height, width, channels], with fewer than 2^30 pixels in all."""
        channels = images.shape[-1]
        with tf.device("CPU"):
            self.pixels = _with_black(tf.constant(images.reshape(-1, channels)))
            self.images = tf.reshape(self.pixels[:-1], images.shape)  # the same memory


def read(images: tf.Tensor, place: Place) -> tf.Tensor:
    """The pixels at places made of `mirror` and of `shift` by whole pixels only; zeros outside of the image.

    Args:
      images: [batch, height, width, channels], of any type; fewer than 2^30 pixels in all.

    Returns:
      Images of the same shape and type.
    """
    pixels = _with_black(tf.reshape(images, (-1, images.shape[-1])))
    return _read(pixels, tf.range(tf.shape(images)[0]), images.shape[1:3], place)


def read_stored(store: Store, indices: tf.Tensor, place: Place) -> tf.Tensor:
    """`read` of the stored images of some indices, [batch]."""
    return _read(store.pixels, tf.cast(indices, tf.int32), store.images.shape[1:3], place)


def _read(pixels: tf.Tensor, indices: tf.Tensor, size: tuple[int, int], place: Place) -> tf.Tensor:
    height, width = size
    x, y = (tf.cast(axis, tf.int32) for axis in _evaluate(place, (height, width), 0))
    first = height * indices[:, None, None]
    # What is outside gets a number beyond all, and then the last one, of the black pixel: two comparisons a row and a
    # column instead of a pixel.
    rows = tf.where((y >= 0) & (y < height), (y + first) * width, _OUTSIDE)
    columns = tf.where((x >= 0) & (x < width), x, _OUTSIDE)
    places = tf.minimum(rows + columns, tf.shape(pixels)[0] - 1)
    # On a CPU gather_nd takes two thirds of the time of gather for slices of a few bytes.
    return tf.gather_nd(pixels, places[..., None])


def _with_black(pixels: tf.Tensor) -> tf.Tensor:
    return tf.concat([pixels, tf.zeros((1, pixels.shape[-1]), pixels.dtype)], 0)


def interpolate(images: tf.Tensor, place: Place, field: tf.Tensor | None = None) -> tf.Tensor:
    """The images at any places, bilinearly interpolated, with zeros outside of the image.

    Works in some 60 bytes of memory a pixel: large images are better resampled in small batches.

    Args:
      images: [batch, height, width, channels], uint8 or float32.
      place: as the maps above made it.
      field: [batch, 2, height, width], pixels down and to the right that are added to the places.

    Returns:
      Images of the same shape, float32, not rounded.
    """
    height, width, channels = images.shape[1:]
    # From the corner of an image with a black frame one pixel wide, into which a pixel at the edge fades.
    x, y = _evaluate(place, (height, width), 1)
    if field is not None:
        x, y = x + field[:, 1], y + field[:, 0]
    down, right = _exact_divisor(height + 1), _exact_divisor(width + 1)
    framed = tf.cast(_framed(images, down - height, right - width), tf.float32)
    # A crop of one pixel from a box without extent is one bilinear sample: of TensorFlow's operations the fastest that
    # samples anywhere. A box is (y, x, y, x), in units of the last row and column. Two floats beside each other are a
    # complex number: tf.stack would copy them one by one, in ten times the time.
    corners = tf.bitcast(tf.complex(y / down, x / right), tf.float64)
    boxes = tf.bitcast(tf.complex(corners, corners), tf.float32)
    images_of_boxes = tf.repeat(tf.range(tf.shape(images)[0]), height * width)
    samples = tf.image.crop_and_resize(framed, tf.reshape(boxes, (-1, 4)), images_of_boxes, (1, 1))
    return tf.reshape(samples, (-1, height, width, channels))


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


def _evaluate(place: Place, size: tuple[int, int], frame: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The places of all pixels, counted from the corner of a frame around the image.

    Returns:
      x, y: such that they broadcast to [batch, height, width], float32.
    """
    height, width = size
    columns, rows = _line(width), _line(height)[:, None]
    x, y = (_sum(_product(by_column, columns), _sum(_product(by_row, rows), constant + ((pixels - 1) / 2 + frame)))
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


def _exact_divisor(least: int) -> int:
    """The least whole number, from `least` on, by which one can divide and multiply and be back.

    `k / n * n` is `k` in binary floating point for all whole `k` if `n` is the sum of two powers of two, or one power
    (Kahan; Goldberg 1991, "What every computer scientist should know about floating-point arithmetic", theorem 7).
    """
    return next(number for number in range(least, 2 * least + 1) if number.bit_count() <= 2)


def _framed(images: tf.Tensor, below: int, right: int) -> tf.Tensor:
    """One row of zeros above, `below` rows below, one column at the left, `right` columns at the right."""
    # Whole rows are copied here, where tf.pad goes pixel by pixel.
    def zeros(height: int, width: int) -> tf.Tensor:
        return tf.zeros((tf.shape(images)[0], height, width, channels), images.dtype)

    height, width, channels = images.shape[1:]
    images = tf.concat([zeros(height, 1), images, zeros(height, right)], 2)
    return tf.concat([zeros(1, width + 1 + right), images, zeros(below, width + 1 + right)], 1)


def _gaussian(size: int, sigma: float) -> np.ndarray:
    """The matrix that smooths a line of pixels, in whole 2^-16ths: [size, size], float32."""
    reach = math.ceil(6 * sigma)
    total = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()
    distances = np.arange(size)[:, None] - np.arange(size)
    # Rounded down, so that the weights of a pixel come to no more than 1.
    return np.floor(2**16 / total * np.exp(-0.5 * (distances / sigma) ** 2)).astype(np.float32)
