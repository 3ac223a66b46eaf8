"""Augmentation that mixes each image, and its label, with another image of the training set: mixup and cutmix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfcnn.augmentations import MIXING, Operation
from tfcnn.data.augmentation.cutout import rectangle_mask
from tfcnn.data.augmentation.random_numbers import (DRAWS, beta_quantiles, bits, draws_of, quantile, shift_right,
                                                    uniform, uniforms)


def mixes(operations: Sequence[Operation]) -> bool:
    """Whether one of the operations mixes images."""
    return any(operation.name in MIXING for operation in operations)


def partner_indices(seeds: tf.Tensor, images: int) -> tf.Tensor:
    """The training image that each image is mixed with; all are equally likely, the image itself included.

    Args:
      seeds: [batch], uint64: the seeds of the images, not of the partners.
      images: the number of training images, below 2^32.

    Returns:
      [batch], int64, from 0 to images - 1.
    """
    upper = shift_right(bits(seeds, draws_of("partner"))[:, 0], 32)
    return tf.cast(shift_right(upper * tf.constant(images, tf.uint64), 32), tf.int64)


@tf.autograph.experimental.do_not_convert  # there are no branches on tensors, and conversion is slow
def mix(images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor,
        operations: Sequence[Operation]) -> tuple[tf.Tensor, tf.Tensor]:
    """Mixes images with their partners by mixup or cutmix, whichever is one of the operations.

    Args:
      images: [batch, height, width, channels], after `composition.apply`.
      partners: likewise: the training images of `partner_indices`, augmented by their own seeds.
      seeds: [batch], uint64: the seeds of the images.
      operations: of `augmentations.parse`.

    Returns:
      The mixed images, and the weight of each image's own label, float32 `[batch]`, in [0, 1]; the partner's label has
      the rest.
    """
    for operation in operations:
        if operation.name == "mixup":
            return _mixup(images, partners, seeds, operation.arguments[0])
        if operation.name == "cutmix":
            return _cutmix(images, partners, seeds, operation.arguments[0])
    raise ValueError(f"none of {', '.join(MIXING)} is among the operations")


def _mixup(images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Zhang et al. 2018, section 2: share * image + (1 - share) * partner, with share from Beta(alpha, alpha)."""
    share = quantile(beta_quantiles(alpha), uniform(seeds, DRAWS["mixup"][0]))
    weight = share[:, None, None, None]
    return tf.cast(images, tf.float32) * weight + tf.cast(partners, tf.float32) * (1.0 - weight), share


def _cutmix(images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Yun et al. 2019, section 3.1 and algorithm 1: a rectangle of the image's aspect ratio, clipped at the edges."""
    height, width = images.shape[1:3]
    draws = uniforms(seeds, draws_of("cutmix"))
    # The area to replace is 1 - Beta(alpha, alpha) of the whole, which has the same distribution: no need to subtract.
    side = quantile(np.sqrt(beta_quantiles(alpha)), draws[:, 0])
    ends = []
    for axis, pixels in enumerate((height, width)):
        half = tf.cast(side * pixels, tf.int32) // 2
        middle = tf.cast(draws[:, 1 + axis] * pixels, tf.int32)
        ends += [tf.maximum(middle - half, 0), tf.minimum(middle + half, pixels)]
    top, bottom, left, right = ends
    replaced = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
    inside = rectangle_mask(images, *ends)
    return images * (1 - inside) + partners * inside, 1.0 - replaced
