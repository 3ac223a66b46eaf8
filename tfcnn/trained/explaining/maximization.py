"""Activation maximization: an image that a class, or a unit, answers to as strongly as possible.

*Sources*: Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014, section 2:
gradient ascent on the image, of the logit less a penalty on the image's length. Yosinski, Clune, Nguyen, Fuchs and
Lipson, "Understanding Neural Networks Through Deep Visualization", ICML workshop 2015, section 3: blurring the image
between the steps, without which it is mostly noise of high frequency.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from scipy import ndimage

from tfcnn.data.normalization import Normalization
from tfcnn.trained.explaining.gradients import Gradient

# Steps of the ascent; the size of a step, and the standard deviation of the first image, relative to the range of the
# input; the share of the image that is lost in a step (the penalty); the deviation of the blur after each, in pixels.
STEPS, STEP, START, DECAY, BLUR = 100, 0.1, 0.05, 0.02, 0.6
_RANGE = (-3.0, 3.0)  # of the input, where the normalization mixes the pixels


def maximize(gradient: Gradient, normalization: Normalization, shape: tuple[int, ...], units: np.ndarray, seed: int = 0
             ) -> np.ndarray:
    """Images that maximize units of a layer, or logits.

    Args:
      gradient: of these units, see `gradients.input_gradient`.
      normalization: from pixels to the network's input.
      shape: height, width and channels of the input.
      units: the numbers of the units, or of the classes.
      seed: of the noise that the ascent starts from.

    Returns:
      The images, `[units, height, width, channels]`, from 0 (the smallest pixel value) to 1.
    """
    lowest, highest = _bounds(normalization, shape)
    reach = highest - lowest
    noise = np.random.default_rng(seed).standard_normal((len(units), *shape), np.float32)
    images = (lowest + reach / 2 + START * reach * noise).astype(np.float32)
    for _ in range(STEPS):
        slope = gradient(images, units)
        length = np.sqrt((slope ** 2).mean(axis=(1, 2, 3), keepdims=True))
        images = images + STEP * reach * slope / np.maximum(length, np.finfo(np.float32).tiny)
        images = ndimage.gaussian_filter((1 - DECAY) * images, (0, BLUR, BLUR, 0))
        images = np.clip(images, lowest, highest).astype(np.float32)
    return (images - lowest) / reach


def _bounds(normalization: Normalization, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest input of the network: those of black and of white pixels."""
    if not normalization.elementwise:
        return np.full(shape, _RANGE[0], np.float32), np.full(shape, _RANGE[1], np.float32)
    black, white = (normalization.apply(tf.fill((1, *shape), tf.constant(value, tf.float32))).numpy()[0]
                    for value in (0, 255))
    return black, white
