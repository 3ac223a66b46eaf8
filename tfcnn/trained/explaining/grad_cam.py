"""Grad-CAM: where a convolution finds what speaks for a class.

*Source*: Selvaraju, Cogswell, Das, Vedantam, Parikh and Batra, "Grad-CAM: Visual Explanations from Deep Networks via
Gradient-based Localization", ICCV 2017, section 3, equations 1 and 2.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfcnn.trained.explaining import layers

_BATCH = 32


def grad_cam(model: keras.Model, layer: str, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Grad-CAM of a layer's feature maps A for the logit y of a class.

    The weight of a map is the mean of its gradient over the positions, `a_k = mean_ij dy / dA_k,ij` (equation 1), and
    the explanation is what is positive in the weighted sum of the maps, `max(0, sum_k a_k A_k)` (equation 2).

    Args:
      model: the network.
      layer: the name of a layer with feature maps.
      inputs: normalized images, `[batch, height, width, channels]`.
      classes: the class that is explained in each, `[batch]`.

    Returns:
      `[batch, rows, columns]`, the size of the feature maps.
    """
    opened, found = layers.opened(model, layer), []
    for start in range(0, len(inputs), _BATCH):
        images = tf.constant(inputs[start:start + _BATCH], tf.float32)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(images)  # so that the tape follows the way to the maps and from there to the logits
            maps, logits = opened(images, training=False)
            score = tf.gather(logits, classes[start:start + _BATCH], batch_dims=1)
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2), keepdims=True)
        found.append(tf.cast(tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1)), tf.float32).numpy())
    return np.concatenate(found)
