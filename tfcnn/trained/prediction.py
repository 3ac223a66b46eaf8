"""From normalized images to logits and probabilities: what the trainer's evaluation and a trained network share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import numpy as np
import tensorflow as tf


def logits(model: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """The logits of normalized images, or of several crops of each.

    Args:
      model: its first output are the logits.
      images: `[batch, height, width, channels]`, or `[batch, crops, height, width, channels]`.

    Returns:
      `[batch, classes]`, float32. For crops they are the logarithm of the mean of the crops' probabilities (Krizhevsky
      et al. 2012, section 4.1).
    """
    shape = model.input_shape
    crops = images.shape.rank > len(shape)
    flat = tf.reshape(images, (-1, *shape[1:])) if crops else images
    outputs, *_ = tf.nest.flatten(model(flat, training=False))
    if not crops:
        return outputs
    probabilities = tf.reshape(tf.nn.log_softmax(outputs), (-1, images.shape[1], outputs.shape[-1]))
    return tf.reduce_logsumexp(probabilities, axis=1) - math.log(images.shape[1])


@contextmanager
def tensor_float_32(allowed: bool) -> Iterator[None]:
    """Within the context, GPUs may multiply float32 in TensorFloat-32 or not."""
    settings = tf.config.experimental
    before = settings.tensor_float_32_execution_enabled()
    settings.enable_tensor_float_32_execution(allowed)
    try:
        yield
    finally:
        settings.enable_tensor_float_32_execution(before)


def log_softmax(values: np.ndarray) -> np.ndarray:
    """The logarithm of the softmax of each row, in float64."""
    shifted = values.astype(np.float64) - values.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(values: np.ndarray) -> np.ndarray:
    """The softmax of each row, float32."""
    return np.exp(log_softmax(values)).astype(np.float32)


def log_mean(members: np.ndarray) -> np.ndarray:
    """Logits whose probabilities are the mean of those of several members.

    Args:
      members: logits, `[members, batch, classes]`.

    Returns:
      The logarithm of the mean of the probabilities, `[batch, classes]`, float64.
    """
    logs = np.stack([log_softmax(member) for member in members])
    largest = logs.max(axis=0)
    return largest + np.log(np.exp(logs - largest).mean(axis=0))


def together(members: Sequence[np.ndarray]) -> np.ndarray:
    """The logits of one member as they are, or those of the mean of several members' probabilities, by `log_mean`."""
    return log_mean(np.stack(members)) if len(members) > 1 else members[0]
