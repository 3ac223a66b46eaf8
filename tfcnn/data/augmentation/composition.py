"""Applies a list of augmentations to a batch of images.

Images are uint8, or float32 from 0 to 255. Operations that only move whole pixels or replace them (mirror, crop,
cutout, cutmix) keep the dtype. Resampling, colour operations and mixup return float32 without rounding. RandAugment,
whose operations are defined on bytes, returns uint8.

The bits of an image do not depend on the rest of its batch, nor on the number of threads: see `random_numbers` and
`resampling`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcnn.augmentations import MIXING, Operation
from tfcnn.data.augmentation import colour, geometry, random_numbers, resampling
from tfcnn.data.augmentation.cutout import cutout
from tfcnn.data.augmentation.geometry import moves_whole_pixels
from tfcnn.data.augmentation.randaugment import randaugment
from tfcnn.data.augmentation.random_numbers import DRAWS, uniform

_FACTORS = {"brightness": colour.brightness, "contrast": colour.contrast, "saturation": colour.saturation}


@tf.autograph.experimental.do_not_convert  # there are no branches on tensors, and conversion is slow
def apply(images: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation],
          colour_components: np.ndarray | None = None) -> tf.Tensor:
    """Applies all operations, in order, except those that mix images (see `mixing.mix`).

    Adjacent geometric operations are composed into one resampling. Mirror and crop alone are exact; in any other
    combination the resampling is bilinear, with zeros outside of the image.

    Args:
      images: [batch, height, width, channels], uint8 or float32 from 0 to 255; only the batch size may be unknown.
      seeds: [batch], uint64, of `random_numbers.image_seeds`.
      operations: of `augmentations.parse`.
      colour_components: of `colour.components` of the training images; needed by colour_pca.

    Returns:
      Images of the same shape; the dtype is described in the docstring of this module.

    Raises:
      ValueError: an operation is unknown, or needs components that are not given.
    """
    for group in _groups(operations):
        if group[0].name in geometry.GEOMETRIC:
            images = _move(images, seeds, group)
        else:
            for operation in group:
                images = _change_values(images, seeds, operation, colour_components)
    return images


@tf.autograph.experimental.do_not_convert
def gather_and_augment(images: tf.Tensor, indices: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation],
                       colour_components: np.ndarray | None = None) -> tf.Tensor:
    """`apply` to the images at some indices: faster than gathering them first, where that can be avoided.

    Args:
      images: [n, height, width, channels], uint8 or float32: all images.
      indices: [batch]: which of them.
      seeds: [batch], uint64.
      operations: of `augmentations.parse`.
      colour_components: as in `apply`.

    Returns:
      [batch, height, width, channels].
    """
    groups = _groups(operations)
    if not groups or not moves_whole_pixels(groups[0]) or not resampling.addressable(images):
        return apply(tf.gather(images, indices), seeds, operations, colour_components)
    offsets = source_offsets(tf.cast(indices, tf.int32), seeds, groups[0], images.shape[1:3])
    moved = resampling.gather_pixels(images, *offsets)
    return apply(moved, seeds, list(itertools.chain(*groups[1:])), colour_components)


@tf.autograph.experimental.do_not_convert
def source_offsets(indices: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation], size: tuple[int, int]
                   ) -> tuple[tf.Tensor, tf.Tensor]:
    """The row and column offsets, for `resampling.gather_pixels`, of operations that move whole pixels only.

    Args:
      indices: [batch], int32: which images.
      seeds: [batch], uint64, of `random_numbers.image_seeds`.
      operations: of `augmentations.parse`, such that `moves_whole_pixels` holds.
      size: (height, width) of the images.

    Returns:
      [batch, height, 1] and [batch, 1, width], int32.
    """
    source, _ = geometry.source_map(seeds, operations, size)
    return resampling.source_offsets(indices, source, size)


def image_seeds(seed: int, epoch: tf.Tensor, indices: tf.Tensor, operations: Sequence[Operation]) -> tf.Tensor:
    """The seeds of images for these operations: see `random_numbers.image_seeds`."""
    alternating = any(operation.name == "alternating_mirror" for operation in operations)
    return random_numbers.image_seeds(seed, epoch, indices, alternating)


def _groups(operations: Sequence[Operation]) -> list[list[Operation]]:
    """The operations in order, adjacent geometric ones in one group."""
    return [list(group) for _, group in
            itertools.groupby(operations, lambda operation: operation.name in geometry.GEOMETRIC)]


def _move(images: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation]) -> tf.Tensor:
    source, field = geometry.source_map(seeds, operations, images.shape[1:3])
    if moves_whole_pixels(operations):
        return resampling.gather(images, tf.range(tf.shape(images)[0]), source)
    return resampling.interpolate(images, source, field)


def _change_values(images: tf.Tensor, seeds: tf.Tensor, operation: Operation, colour_components: np.ndarray | None
                   ) -> tf.Tensor:
    name, arguments = operation.name, operation.arguments
    if name in _FACTORS:
        strength, = arguments
        factor = 1.0 + strength * (2.0 * uniform(seeds, DRAWS[name][0]) - 1.0)
        return tf.clip_by_value(_FACTORS[name](images, factor), 0.0, 255.0)
    if name == "colour_pca":
        if colour_components is None:
            raise ValueError("colour_pca needs the colour_components of the training images")
        return colour.colour_pca(images, seeds, arguments[0], colour_components)
    if name == "cutout":
        return cutout(images, seeds, int(arguments[0]))
    if name == "randaugment":
        return randaugment(images, seeds, int(arguments[0]), arguments[1] / 10)
    if name not in MIXING:
        raise ValueError(f"no augmentation is called {name}")
    return images
