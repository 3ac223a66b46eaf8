"""Units: what a layer computes of pictures, and the images of a data set that activate a unit most.

*Source*: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4 and figure 2.
A unit of a convolution is one of its channels, and its activation is the largest one of all positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from tfcnn.data.normalization import Normalization
from tfcnn.trained.explaining import layers

_BATCH = 128


def feature_maps(model: keras.Model, names: Sequence[str], inputs: np.ndarray) -> list[np.ndarray]:
    """What some layers compute of normalized images.

    Args:
      model: the network.
      names: of the layers.
      inputs: `[batch, height, width, channels]`.

    Returns:
      The output of each layer, float32 `[batch, ...]`.
    """
    *outputs, _ = layers.opened(model, *names)(tf.constant(inputs), training=False)
    return [np.asarray(output, np.float32) for output in outputs]


def activations(model: keras.Model, normalization: Normalization, layer: str, images: np.ndarray) -> np.ndarray:
    """The activation of each unit of a layer by each image.

    Args:
      model: the network.
      normalization: from pixels to its input.
      layer: the name of the layer.
      images: uint8, `[batch, height, width, channels]`, of the input's size.

    Returns:
      float32 `[batch, units]`; of feature maps the largest value of all positions.
    """
    opened = layers.opened(model, layer)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, *images.shape[1:]], tf.uint8)])
    def activate(pixels: tf.Tensor) -> tf.Tensor:
        values = opened(normalization.apply(pixels), training=False)[0]
        return tf.reduce_max(values, axis=(1, 2)) if values.shape.rank == 4 else values

    rows = [np.asarray(activate(tf.constant(images[start:start + _BATCH])), np.float32)
            for start in range(0, len(images), _BATCH)]
    return np.concatenate(rows)


def most_varied(values: np.ndarray, count: int) -> np.ndarray:
    """The units, at most `count`, whose activations vary most: a unit that is always silent explains nothing.

    Args:
      values: activations, `[images, units]`.
      count: how many units.

    Returns:
      Their numbers, those that vary most first.
    """
    return np.argsort(-values.std(axis=0), kind="stable")[:count]


def most_activating(values: np.ndarray, units: np.ndarray, count: int) -> np.ndarray:
    """The images that activate units most.

    Args:
      values: activations, `[images, units of the layer]`.
      units: the numbers of the units that are asked for.
      count: how many images.

    Returns:
      The numbers of the images, `[units, count]`, the most activating first; of equal ones the first in the data set.
    """
    return np.argsort(-values[:, units].T, axis=1, kind="stable")[:, :count]
