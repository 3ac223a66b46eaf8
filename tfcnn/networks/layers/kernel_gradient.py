"""The gradient of a convolution's kernel as a convolution of its own, for training in bfloat16 on a CPU.

The gradient of a weight is a sum over all images and positions: the gradient of an output times the pixel that the
weight saw there. That is a convolution, too. Its images are the channels of the original ones, its channels are their
batch, its kernel is the gradient of the outputs, and it has an output for each position in the original kernel.

Unless the outputs have many pixels, oneDNN's convolution takes a quarter to four fifths of the time of its gradient of
a kernel on a processor with AVX512_BF16: see docs/performance.md#gradients-of-kernels-in-bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfcnn import processor

_MOST_PIXELS = 8 * 8  # in the outputs


def is_faster(shape: Sequence[Any], kernel_size: Sequence[int], strides: Sequence[int], padding: str, dtype: tf.DType
              ) -> bool:
    """Returns whether training with `convolve` is faster than with TensorFlow's own gradient, if the shape is known.

    Args:
      shape: shape of the images, `[batch, height, width, channels]`.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal.
      padding: "same" or "valid".
      dtype: the dtype in which the convolution multiplies.
    """
    instructions = processor.instructions()
    # With AMX oneDNN has other code, which has not been compared.
    if None in shape or dtype != tf.bfloat16 or "avx512_bf16" not in instructions or "amx_bf16" in instructions:
        return False
    height, width = (_outputs(*lengths, padding) for lengths in zip(shape[1:3], kernel_size, strides, strict=True))
    # One product of matrices is the gradient of a 1x1 kernel already.
    return height * width <= _MOST_PIXELS and tuple(kernel_size) != (1, 1)


def convolve(images: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str) -> tf.Tensor:
    """`tf.nn.conv2d`, with another gradient of the kernel.

    Args:
      images: `[batch, height, width, channels]`; all but the batch must be known in advance.
      kernel: `[height, width, channels, filters]`, in the dtype of the images.
      strides: vertical and horizontal.
      padding: "same" or "valid".

    Returns:
      `[batch, height, width, filters]`.
    """
    @tf.custom_gradient
    def convolution(images: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_images = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(images), strides, padding.upper())
            return of_images, _of_kernel(images, upstream, kernel.shape[:2], strides, padding)

        return tf.nn.conv2d(images, kernel, strides, padding.upper()), gradients

    return convolution(images, kernel)


def _of_kernel(images: tf.Tensor, upstream: tf.Tensor, kernel_size: Sequence[int], strides: Sequence[int], padding: str
               ) -> tf.Tensor:
    """The gradient of the kernel, from the gradient of the outputs."""
    margins = [_margins(*lengths, padding) for lengths in zip(images.shape[1:3], kernel_size, strides, strict=True)]
    # With a stride the last pixels may be seen by no output; `after` is negative then.
    height, width = (length + min(after, 0) for length, (_, after) in zip(images.shape[1:3], margins, strict=True))
    channels_first = tf.transpose(images[:, :height, :width], [3, 1, 2, 0])
    gradient = tf.nn.conv2d(channels_first, tf.transpose(upstream, [1, 2, 0, 3]), 1, dilations=list(strides), padding=[
        [0, 0], *([before, max(after, 0)] for before, after in margins), [0, 0]])
    return tf.transpose(gradient, [1, 2, 0, 3])


def _outputs(length: int, size: int, stride: int, padding: str) -> int:
    """The number of outputs in one dimension, of a kernel of so many weights."""
    return -(-length // stride) if padding == "same" else -(-(length - size + 1) // stride)


def _margins(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """The padding before and after the pixels of one dimension, as far as the outputs see it."""
    seen = (_outputs(length, size, stride, padding) - 1) * stride + size
    before = max(seen - length, 0) // 2 if padding == "same" else 0
    return before, seen - length - before
