"""The gradient of a convolution's kernel in other forms than oneDNN's, for training in bfloat16 on a CPU.

The gradient of a weight is a sum over all images and positions: the gradient of an output times the pixel that the
weight saw there. That can be written as

- a convolution. Its images are the channels of the original ones, its channels are their batch, its kernel is the
  gradient of the outputs, and it has an output for each position in the original kernel;
- products of matrices, one for each position in the kernel: of the pixels that it saw, `[channels, outputs]`, and of
  the gradient of the outputs, `[outputs, filters]`.

Unless the outputs have many pixels, these take a tenth to nine tenths of the time of oneDNN's gradient of a kernel: the
convolution on a processor with AVX512_BF16, either of them with AMX. See
docs/performance.md#gradients-of-kernels-in-bfloat16.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfcnn import processor

_MOST_PIXELS = 8 * 8  # in the outputs
_FEWEST_CHANNELS = 96  # of inputs and outputs, with AMX


def faster_form(shape: Sequence[Any], filters: int, kernel_size: Sequence[int], strides: Sequence[int], padding: str,
                dtype: tf.DType) -> str | None:
    """Returns the `form` in which `convolve` trains faster than TensorFlow's convolution; None where it does not.

    Args:
      shape: shape of the images, `[batch, height, width, channels]`; with an unknown length the answer is None.
      filters: number of channels of the outputs.
      kernel_size: height and width of the kernel.
      strides: vertical and horizontal.
      padding: "same" or "valid".
      dtype: the dtype in which the convolution multiplies.
    """
    instructions = processor.instructions()
    if None in shape or dtype != tf.bfloat16 or "avx512_bf16" not in instructions:
        return None
    height, width = (_outputs(*lengths, padding) for lengths in zip(shape[1:3], kernel_size, strides, strict=True))
    few_pixels = height * width <= _MOST_PIXELS
    positions, moves = math.prod(kernel_size), tuple(strides) != (1, 1)
    if "amx_bf16" not in instructions:
        # There one product of matrices is the gradient of a 1x1 kernel already.
        return "convolution" if few_pixels and positions > 1 else None
    if positions == 1 and not moves:
        return "products"
    if not few_pixels or min(shape[3], filters) < _FEWEST_CHANNELS:
        return None
    return "products" if positions == 1 or positions <= 3 * 3 and not moves else "convolution"


def convolve(images: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int], padding: str, form: str) -> tf.Tensor:
    """`tf.nn.conv2d`, with another gradient of the kernel.

    Args:
      images: `[batch, height, width, channels]`; all but the batch must be known in advance.
      kernel: `[height, width, channels, filters]`, in the dtype of the images.
      strides: vertical and horizontal.
      padding: "same" or "valid".
      form: what the gradient of the kernel is computed by: "convolution" or "products".

    Returns:
      `[batch, height, width, filters]`.
    """
    @tf.custom_gradient
    def convolution(images: tf.Tensor, kernel: tf.Tensor) -> Any:
        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            of_images = tf.nn.conv2d_transpose(upstream, kernel, tf.shape(images), strides, padding.upper())
            return of_images, _FORMS[form](images, upstream, kernel.shape[:2], strides, padding)

        return tf.nn.conv2d(images, kernel, strides, padding.upper()), gradients

    return convolution(images, kernel)


def _by_convolution(images: tf.Tensor, upstream: tf.Tensor, kernel_size: Sequence[int], strides: Sequence[int],
                    padding: str) -> tf.Tensor:
    """The gradient of the kernel, from the gradient of the outputs."""
    margins = [_margins(*lengths, padding) for lengths in zip(images.shape[1:3], kernel_size, strides, strict=True)]
    # With a stride the last pixels may be seen by no output; `after` is negative then.
    height, width = (length + min(after, 0) for length, (_, after) in zip(images.shape[1:3], margins, strict=True))
    channels_first = tf.transpose(images[:, :height, :width], [3, 1, 2, 0])
    gradient = tf.nn.conv2d(channels_first, tf.transpose(upstream, [1, 2, 0, 3]), 1, dilations=list(strides), padding=[
        [0, 0], *([before, max(after, 0)] for before, after in margins), [0, 0]])
    return tf.transpose(gradient, [1, 2, 0, 3])


def _by_products(images: tf.Tensor, upstream: tf.Tensor, kernel_size: Sequence[int], strides: Sequence[int],
                 padding: str) -> tf.Tensor:
    """The gradient of the kernel, from the gradient of the outputs."""
    margins = [_margins(*lengths, padding) for lengths in zip(images.shape[1:3], kernel_size, strides, strict=True)]
    padded = tf.pad(images, [[0, 0], *([before, max(after, 0)] for before, after in margins), [0, 0]])
    height, width, filters = upstream.shape[1:]
    of_outputs = tf.reshape(upstream, [-1, filters])
    products = []
    for row, column in itertools.product(*map(range, kernel_size)):
        seen = padded[:, row:row + (height - 1) * strides[0] + 1:strides[0],
                      column:column + (width - 1) * strides[1] + 1:strides[1]]
        products.append(tf.matmul(tf.reshape(seen, [-1, images.shape[3]]), of_outputs, transpose_a=True))
    return tf.reshape(tf.stack(products), [*kernel_size, images.shape[3], filters])


_FORMS: dict[str, Callable[..., tf.Tensor]] = {"convolution": _by_convolution, "products": _by_products}


def _outputs(length: int, size: int, stride: int, padding: str) -> int:
    """The number of outputs in one dimension, of a kernel of so many weights."""
    return -(-length // stride) if padding == "same" else -(-(length - size + 1) // stride)


def _margins(length: int, size: int, stride: int, padding: str) -> tuple[int, int]:
    """The padding before and after the pixels of one dimension, as far as the outputs see it."""
    seen = (_outputs(length, size, stride, padding) - 1) * stride + size
    before = max(seen - length, 0) // 2 if padding == "same" else 0
    return before, seen - length - before
