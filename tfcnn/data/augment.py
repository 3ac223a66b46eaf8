"""Augmentation: pure, batched functions of (images, per-image seeds) -> images.

Every image has its own 64-bit seed, a function of the run's seed, the epoch and the image's index in the training set
(`image_seeds`). What is drawn from it does not depend on the other images of the batch, on the number of threads,
devices or machines, or on where a run was resumed: the same image is altered in the same way.

The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), a counter-based
one of a few integer operations: `tf.random.stateless_*` takes one seed a call, and a call an image would be slow.
"""

from __future__ import annotations

import tensorflow as tf

_INCREMENT = 0x9E3779B97F4A7C15  # the odd number nearest to 2^64 / golden ratio
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)


def image_seeds(seed: int, epoch: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """One seed for each image.

    Args:
      seed: the run's seed.
      epoch: the epoch, from 0: a scalar.
      indices: [batch], the images' places in the training set.

    Returns:
      [batch], uint64.
    """
    start = _mix(tf.constant(seed % 2**64, tf.uint64) + tf.constant(_INCREMENT, tf.uint64))
    epoch_seed = _mix(start + tf.cast(epoch, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))
    return _mix(epoch_seed + tf.cast(indices, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))


def uniform(seeds: tf.Tensor, draw: int) -> tf.Tensor:
    """The draw-th random number of each image, uniform in [0, 1).

    Args:
      seeds: [batch], uint64.
      draw: which number of the image's sequence, from 0. Augmentations used together take different ones.

    Returns:
      [batch], float32, multiples of 2^-24.
    """
    bits = _mix(seeds + tf.constant((draw + 1) * _INCREMENT % 2**64, tf.uint64))
    # The cast goes through int32: uint64 to float32 is slow on some processors.
    return tf.cast(tf.cast(_shift(bits, 40), tf.int32), tf.float32) * 2.0**-24


def crop(images: tf.Tensor, seeds: tf.Tensor, padding: int) -> tf.Tensor:
    """Pads with zeros, then takes a crop of the original size at a random place (He et al. 2016, section 4.2).

    Args:
      images: [batch, height, width, channels].
      seeds: [batch], uint64; draws 0 and 1 are used.
      padding: pixels on each side; 0 leaves the images as they are.

    Returns:
      Images of the same shape and type.
    """
    if padding == 0:
        return images
    height, width, channels = images.shape[1:]
    batch = tf.shape(images)[0]
    offsets = 2 * padding + 1
    top = tf.cast(uniform(seeds, 0) * offsets, tf.int32)[:, None, None]
    left = tf.cast(uniform(seeds, 1) * offsets, tf.int32)[:, None, None]
    padded = tf.pad(images, [[0, 0], [padding, padding], [padding, padding], [0, 0]])
    rows, columns = height + 2 * padding, width + 2 * padding
    # One gather of pixels by their place in the whole batch is several times as fast as a gather for each axis.
    row = tf.range(batch)[:, None, None] * rows + top + tf.range(height)[:, None]
    pixels = row * columns + left + tf.range(width)
    return tf.gather(tf.reshape(padded, [-1, channels]), pixels)


def mirror(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Turns left to right each image with probability one half (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [batch, height, width, channels].
      seeds: [batch], uint64; draw 2 is used.

    Returns:
      Images of the same shape and type.
    """
    return tf.where((uniform(seeds, 2) < 0.5)[:, None, None, None], tf.reverse(images, [2]), images)


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finalizer: every bit of the result depends on every bit of the argument."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS):
        bits = tf.bitwise.bitwise_xor(bits, _shift(bits, shift)) * tf.constant(multiplier, tf.uint64)
    return tf.bitwise.bitwise_xor(bits, _shift(bits, 31))


def _shift(bits: tf.Tensor, count: int) -> tf.Tensor:
    return tf.bitwise.right_shift(bits, tf.constant(count, tf.uint64))
