"""Random numbers for augmentation: a seed for each image, and the draws of each operation from it.

Every image has its own 64-bit seed, a function of the run's seed, the epoch and the image's index in the training set
(`image_seeds`). What is drawn from it depends on nothing else: not on the other images of the batch, the number of
threads, devices or workers, or the step at which a run was resumed. Each operation has its own draws (`DRAWS`), so
adding an operation to a list leaves the others as they were.

The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"). It is
counter-based and takes a few integer operations. `tf.random.stateless_*` takes one seed per call, and one call per
image would be slow.

Distributions other than the uniform are read from tables of quantiles that NumPy computes. TensorFlow's exp, sin and
similar functions round differently at the end of a vector, so the bits of an image would depend on its index in the
batch.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_INCREMENT = 0x9E3779B97F4A7C15  # the odd number nearest to 2^64 / golden ratio
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

# The first draw of each operation, and how many draws it takes. Recorded runs depend on them: add, but change none.
DRAWS = {
    "crop": (0, 2),
    "mirror": (2, 1),
    "resized_crop": (3, 4),
    "rotate": (7, 1),
    "shear": (8, 1),
    "translate": (9, 2),
    "zoom": (11, 1),
    "colour_pca": (12, 3),
    "brightness": (15, 1),
    "contrast": (16, 1),
    "saturation": (17, 1),
    "cutout": (18, 2),
    "mixup": (20, 1),
    "cutmix": (21, 3),
    "alternating_mirror": (25, 0),  # the lowest bit of the seed instead: see `image_seeds`
    "partner": (24, 1),  # not an operation: the image to mix with
    "randaugment": (32, 2 * 8),  # two for each of at most eight layers
    "streamed_crop": (64, 4 * 10),  # resized_crop while decoding: four for each of ten attempts
    "elastic": (1024, 2**32),  # the last: as many as the image needs
}

_INTERVALS = 4096  # of a table of quantiles; a power of two, so that positions in the table are exact
# Tails may be infinite, so the outer quarter of the first and of the last interval is cut off. The variance is kept.
_PROBABILITIES = np.clip(np.arange(_INTERVALS + 1) / _INTERVALS, 0.25 / _INTERVALS, 1 - 0.25 / _INTERVALS)


def image_seeds(seed: int, epoch: tf.Tensor, indices: tf.Tensor, alternating: bool = False) -> tf.Tensor:
    """One seed for each image.

    Args:
      seed: the run's seed.
      epoch: the epoch, from 0: a scalar, or [batch].
      indices: [batch], the images' indices in the training set.
      alternating: whether the lowest bit of an image's seed is random in the first epoch only, and then changes from
        each epoch to the next, as `alternating_mirror` needs it.

    Returns:
      [batch], uint64.
    """
    if alternating:
        first = image_seeds(seed, tf.zeros([], tf.int64), indices)
        lowest = lowest_bits(first + tf.cast(epoch, tf.uint64))
        others = tf.bitwise.bitwise_and(image_seeds(seed, epoch, indices), tf.constant(2**64 - 2, tf.uint64))
        return others + tf.cast(lowest, tf.uint64)
    start = _mix(tf.constant(seed % 2**64, tf.uint64) + tf.constant(_INCREMENT, tf.uint64))
    epoch_seed = _mix(start + tf.cast(epoch, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))
    return _mix(epoch_seed + tf.cast(indices, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))


def order_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The seed of an epoch's order of the images, for `tf.random.experimental.index_shuffle`.

    Args:
      seed: the run's seed.
      epoch: the epoch, from 0: a scalar, or [epochs].

    Returns:
      int32 [2], or [epochs, 2].
    """
    # One draw from the image seeds' own generator, so that neighbouring seeds and epochs have unrelated orders.
    return tf.bitcast(image_seeds(seed, epoch, tf.fill(tf.shape(epoch), tf.constant(-1, tf.int64))), tf.int32)


def shuffled_indices(positions: tf.Tensor, seeds: tf.Tensor, count: int) -> tf.Tensor:
    """The images at some positions of several orders, at once: `tf.random.experimental.index_shuffle` takes one order.

    Args:
      positions: [orders, positions], int64, from 0.
      seeds: [orders, 2], of `order_seed`.
      count: the number of images.

    Returns:
      [orders, positions], int64.
    """
    # That function's operation takes a seed for each position, with this number of that function before it.
    seeds = tf.repeat(tf.pad(seeds, [[0, 0], [1, 0]], constant_values=498247692), positions.shape[1], axis=0)
    indices = tf.raw_ops.RandomIndexShuffle(index=tf.reshape(positions, [-1]), seed=seeds, rounds=4,
                                            max_index=tf.constant(count - 1, tf.int64))
    return tf.reshape(indices, tf.shape(positions))


def lowest_bits(seeds: tf.Tensor) -> tf.Tensor:
    """The lowest bit of each seed: [batch], int32."""
    return tf.cast(tf.bitwise.bitwise_and(seeds, tf.constant(1, tf.uint64)), tf.int32)


def uniform(seeds: tf.Tensor, draw: int) -> tf.Tensor:
    """One random number for each image, uniform in [0, 1).

    Args:
      seeds: [batch], uint64.
      draw: which number of the image's sequence, from 0.

    Returns:
      [batch], float32, multiples of 2^-24.
    """
    return uniforms(seeds, [draw])[:, 0]


def uniforms(seeds: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
    """Several random numbers for each image, as `uniform` returns them: [batch, draws], float32."""
    # The cast goes through int32: uint64 to float32 is slow on some processors.
    return tf.cast(tf.cast(shift_right(bits(seeds, numbers), 40), tf.int32), tf.float32) * 2.0**-24


def draws_of(operation: str) -> list[int]:
    """The numbers of an operation's draws in the sequence of each image."""
    first, count = DRAWS[operation]
    return list(range(first, first + count))


def bits(seeds: tf.Tensor, numbers: Sequence[int]) -> tf.Tensor:
    """Some outputs of SplitMix64 from each seed, counted from 0: [batch, draws], uint64."""
    return _mix(seeds[:, None] + tf.constant([(draw + 1) * _INCREMENT % 2**64 for draw in numbers], tf.uint64))


def shift_right(values: tf.Tensor, count: int) -> tf.Tensor:
    """The bits of uint64 numbers moved `count` positions down."""
    return tf.bitwise.right_shift(values, tf.constant(count, tf.uint64))


def _mix(values: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finalizer: every bit of the result depends on every bit of the argument."""
    for count, multiplier in zip((30, 27), _MULTIPLIERS):
        values = tf.bitwise.bitwise_xor(values, shift_right(values, count)) * tf.constant(multiplier, tf.uint64)
    return tf.bitwise.bitwise_xor(values, shift_right(values, 31))


# Distributions, as tables of the quantiles at the probabilities 0, 1 / 4096, ... 1


def quantile(table: np.ndarray, draws: tf.Tensor) -> tf.Tensor:
    """The quantiles of a distribution at random numbers: samples of it, by inversion.

    Args:
      table: [4097], of one of the functions below, or a monotonic function of what they return.
      draws: uniform in [0, 1), of any shape.

    Returns:
      Samples in the shape of the draws, float32, interpolated linearly in the table.
    """
    table = table.astype(np.float32)
    positions = draws * _INTERVALS
    index = tf.cast(positions, tf.int32)
    return tf.gather(table[:-1], index) + tf.gather(np.diff(table), index) * (positions - tf.cast(index, tf.float32))


def uniform_quantiles(low: float, high: float) -> np.ndarray:
    """The quantiles of the uniform distribution from `low` to `high`."""
    return np.linspace(low, high, _INTERVALS + 1)


@functools.cache
def normal_quantiles() -> np.ndarray:
    """The quantiles of the standard normal distribution."""
    return np.array([statistics.NormalDist().inv_cdf(probability) for probability in _PROBABILITIES])


@functools.cache
def beta_quantiles(alpha: float) -> np.ndarray:
    """The quantiles of the distribution Beta(alpha, alpha)."""
    # As a function of s = x^alpha the density is smooth at 0 also for alpha < 1, where in terms of x it is infinite.
    power = min(alpha, 1.0)
    s = np.linspace(0, 0.5**power, 2**16 + 1)
    x = s ** (1 / power)
    density = x ** (alpha - power) * (1 - x) ** (alpha - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    lower = np.interp(_PROBABILITIES[:_INTERVALS // 2 + 1], below / (2 * below[-1]), s) ** (1 / power)
    return np.concatenate([lower, 1 - lower[-2::-1]])
