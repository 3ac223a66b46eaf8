"""Saliency by gradients: how much the score of a class changes with each pixel.

*Sources*: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models
and Saliency Maps", ICLR workshop 2014, section 3.1; Smilkov, Thorat, Kim, Viégas and Wattenberg, "SmoothGrad: removing
noise by adding noise", 2017.

The score is the logit of the class. The gradient is taken with respect to the network's input, which is normalized; for
a normalization of single values this is the gradient with respect to the pixels times a constant for each channel.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

# SmoothGrad's noise, relative to the range of the input's values, and the number of noisy copies: Smilkov et al.,
# "Effect of noise level and sample size", find 10% to 20% best, and little change beyond 50 copies.
NOISE, COPIES = 0.15, 50
_BATCH = 32

Gradient = Callable[[np.ndarray, np.ndarray], np.ndarray]


def input_gradient(model: keras.Model, layer: str = "") -> Gradient:
    """A function that computes the gradient of a class's logit, or of a unit, with respect to the network's input.

    Args:
      model: the network.
      layer: the layer of the unit; empty for the logits. Of feature maps, the mean of all positions is the unit's
        value.

    Returns:
      A function from inputs, `[batch, height, width, channels]`, and the number of a class or unit for each, `[batch]`,
      to gradients of the inputs' shape, float32.
    """
    opened = keras.Model(model.inputs[0], model.get_layer(layer).output if layer else model.outputs[0])

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(model.input_shape, tf.float32),
                                                   tf.TensorSpec([None], tf.int32)])
    def gradient(inputs: tf.Tensor, units: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(inputs)
            values = opened(inputs, training=False)
            values = tf.reduce_mean(values, axis=(1, 2)) if values.shape.rank == 4 else values
            score = tf.gather(values, units, batch_dims=1)
        return tape.gradient(score, inputs)

    def in_batches(inputs: np.ndarray, units: np.ndarray) -> np.ndarray:
        return np.concatenate([
            gradient(tf.constant(inputs[start:start + _BATCH], tf.float32),
                     tf.constant(units[start:start + _BATCH], tf.int32)).numpy()
            for start in range(0, len(inputs), _BATCH)])

    return in_batches


def saliency(gradient: Gradient, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The largest absolute value among a pixel's channels of the gradient: Simonyan et al., section 3.1.

    Args:
      gradient: of the network, see `input_gradient`.
      inputs: normalized images, `[batch, height, width, channels]`.
      classes: the class that is explained in each, `[batch]`.

    Returns:
      `[batch, height, width]`.
    """
    return np.abs(gradient(inputs, classes)).max(axis=-1)


def smoothgrad(gradient: Gradient, inputs: np.ndarray, classes: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same of the mean gradient of copies with noise: Smilkov et al., "Smoothing noisy gradients".

    Args:
      gradient, inputs, classes: as for `saliency`.
      seed: of the noise, which is Gaussian with a standard deviation of `NOISE` times the range of the image's values.

    Returns:
      `[batch, height, width]`.
    """
    random, maps = np.random.default_rng(seed), []
    for image, number in zip(inputs, classes):
        deviation = NOISE * (image.max() - image.min())
        noisy = image + deviation * random.standard_normal((COPIES, *image.shape), np.float32)
        mean = gradient(noisy, np.full(COPIES, number)).mean(axis=0)
        maps.append(np.abs(mean).max(axis=-1))
    return np.stack(maps)
