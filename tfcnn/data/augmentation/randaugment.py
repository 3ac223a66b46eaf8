"""RandAugment (Cubuk et al. 2020, section 3): each layer applies one of 14 operations, all equally likely.

Ranges are those of AutoAugment (Cubuk et al. 2019, table 6) times the strength, from 0 to 1. An operation with a
direction goes either way equally often, brightness and similar ones included. At strength 0 only autocontrast and
equalize, which have no strength, change anything. Geometric operations are bilinear, with zeros outside of the image.
As in Pillow, every operation takes and returns bytes.
"""

from __future__ import annotations

import math

import tensorflow as tf

from tfcnn.data.augmentation import colour, resampling
from tfcnn.data.augmentation.random_numbers import draws_of, uniforms

# The paper's operations in another order: the geometric ones are last.
_CHOICES = ("identity", "autocontrast", "equalize", "solarize", "posterize", "saturation", "contrast", "brightness",
            "sharpness", "rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_GEOMETRIC = _CHOICES[9:]


def randaugment(images: tf.Tensor, seeds: tf.Tensor, layers: int, strength: float) -> tf.Tensor:
    """Applies `layers` random operations to each image, one after the other, in the order drawn.

    Args:
      images: [batch, height, width, channels], uint8 or float32 from 0 to 255.
      seeds: [batch], uint64.
      layers: operations per image, at most 8.
      strength: 0 to 1, the paper's magnitude / 10.

    Returns:
      Images of the same shape, uint8.
    """
    images = colour.to_bytes(images)
    draws = uniforms(seeds, draws_of("randaugment")[:2 * layers])
    for layer in range(layers):
        choice = tf.cast(draws[:, 2 * layer] * len(_CHOICES), tf.int32)
        images = _layer(images, choice, tf.where(draws[:, 2 * layer + 1] < 0.5, -1.0, 1.0), strength)
    return images


def _layer(images: tf.Tensor, choice: tf.Tensor, sign: tf.Tensor, strength: float) -> tf.Tensor:
    """Applies to each image its choice, [batch] from `_CHOICES`, in the direction of its sign, [batch], -1 or 1."""
    # The geometric operations get all images, most of them with the identity map: XLA compiles them for each number of
    # images, and the number of images per operation differs from batch to batch.
    unmoving = len(_CHOICES) - len(_GEOMETRIC)
    images = colour.to_bytes(_geometric_layer(images, choice - unmoving, sign, strength))
    group = tf.where(choice < unmoving, choice, 0)
    indices, parts, signs = (tf.dynamic_partition(values, group, unmoving)
                             for values in (tf.range(tf.shape(images)[0]), images, sign))
    factors = [1.0 + 0.9 * strength * part for part in signs]
    results = [
        parts[0],
        colour.autocontrast(parts[1]),
        colour.equalize(parts[2]),
        colour.solarize(parts[3], 256 - round(256 * strength)),
        colour.posterize(parts[4], 8 - round(4 * strength)),
        colour.saturation(parts[5], factors[5]),
        colour.contrast(parts[6], factors[6]),
        colour.brightness(parts[7], factors[7]),
        colour.sharpness(parts[8], factors[8]),
    ]
    merged = tf.dynamic_stitch(indices, [colour.to_bytes(result) for result in results])
    return tf.ensure_shape(merged, images.shape)


def _geometric_layer(images: tf.Tensor, choice: tf.Tensor, sign: tf.Tensor, strength: float) -> tf.Tensor:
    """Applies to each image its choice, [batch] from `_GEOMETRIC`; any other number leaves the image unchanged."""
    height, width = images.shape[1:3]
    turn, across, along, right, down = (tf.where(choice == index, sign, 0.0)[:, None, None]
                                        for index in range(len(_GEOMETRIC)))
    angle = math.radians(30 * strength)
    cosine = 1.0 - tf.abs(turn) * (1 - math.cos(angle))
    source = resampling.rotate(resampling.IDENTITY, cosine, turn * math.sin(angle))
    source = resampling.shear(source, across * 0.3 * strength, along * 0.3 * strength)
    distance = 150 / 331 * strength
    source = resampling.shift(source, right * distance * width, down * distance * height)
    return resampling.interpolate(images, source)
