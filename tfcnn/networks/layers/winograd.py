"""Winograd's algorithm for 3x3 convolutions, with a quarter of the multiplications, for training on a CPU.

The output is computed in tiles of 4x4 pixels, each from the 6x6 pixels that it depends on. Tile and kernel are
transformed so that their convolution becomes an elementwise product of 36 numbers. Summed over channels, for all tiles
at once, that is 36 matrix products, which together need a quarter of the multiplications of the direct convolution.
Both gradients have the same form. Transforming the tiles takes time, too, so that the algorithm is faster from about 64
channels on: see `is_faster`.

Rounding errors are a few times larger than those of a direct convolution in float32, since the matrices below have
entries of up to 8.

Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4.3, F(4x4, 3x3), whose
matrices these are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn import processor

SIZE = 4  # height and width of an output tile

# output = OUTPUT @ ((KERNEL @ kernel @ KERNEL.T) * (INPUT @ tile @ INPUT.T)) @ OUTPUT.T, for one tile and one channel.
INPUT = np.array([[4, 0, -5, 0, 1, 0],
                  [0, -4, -4, 1, 1, 0],
                  [0, 4, -4, -1, 1, 0],
                  [0, -2, -1, 2, 1, 0],
                  [0, 2, -1, -2, 1, 0],
                  [0, 4, 0, -5, 0, 1]], np.float32)
KERNEL = np.array([[1 / 4, 0, 0],
                   [-1 / 6, -1 / 6, -1 / 6],
                   [-1 / 6, 1 / 6, -1 / 6],
                   [1 / 24, 1 / 12, 1 / 6],
                   [1 / 24, -1 / 12, 1 / 6],
                   [0, 0, 1]], np.float32)
OUTPUT = np.array([[1, 1, 1, 1, 1, 0],
                   [0, 1, -1, 2, -2, 0],
                   [0, 1, 1, 4, 4, 0],
                   [0, 1, -1, 8, -8, 1]], np.float32)

_KERNELS = np.kron(KERNEL, KERNEL)  # the same, for kernels as columns of 9 numbers

# With fewer tiles the transform of the kernel costs more than the products save: see docs/performance.md#winograd.
_FEWEST_TILES = 128


def is_faster(shape: Sequence[Any], filters: int, direct: tf.DType) -> bool:
    """Returns whether training with `convolve` is faster than with a direct convolution, if the shape is known.

    Args:
      shape: shape of the images, `[batch, height, width, channels]`.
      filters: number of filters.
      direct: the dtype in which the direct convolution would multiply; in narrow ones networks train faster by it.
    """
    if None in shape or direct != tf.float32:
        return False
    batch, height, width, channels = shape
    tiled, pixels = _whole_tiles(height) * _whole_tiles(width), height * width
    # Products with padding save nothing; where tiles cover four times the image, they are mostly padding.
    return (channels * filters * pixels >= _fewest_weights() * tiled and tiled <= 4 * pixels
            and batch * tiled >= _FEWEST_TILES * SIZE ** 2)


def _fewest_weights() -> int:
    """Channels times filters from which products save more than the transforms cost: docs/performance.md#winograd."""
    return 64 * 128 if "avx512bw" in processor.instructions() else 64 * 64


def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Convolves with stride 1 and padding "same". The gradient cannot be differentiated again.

    Args:
      images: `[batch, height, width, channels]`, float32; all but the batch must be known in advance.
      kernel: `[3, 3, channels, filters]`, float32.

    Returns:
      `[batch, height, width, filters]`.
    """
    @tf.custom_gradient
    def convolution(images: tf.Tensor, kernel: tf.Tensor) -> Any:
        outputs, tiles = _convolve(images, kernel)
        return outputs, lambda upstream: _gradients(upstream, kernel, tiles)

    return convolution(images, kernel)


# Layers of equal shapes share these graphs.
_traced_once = functools.partial(tf.function, autograph=False)


@_traced_once
def _convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The outputs, and the transformed tiles of the images."""
    tiles = _tiles(images, of_outputs=False)
    return _products(tiles, kernel, images.shape), tiles


@_traced_once
def _gradients(upstream: tf.Tensor, kernel: tf.Tensor, tiles: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """The gradients of images and kernel, from the gradient of the outputs."""
    # The gradient of the images is a convolution as well, with the kernel rotated by 180 degrees.
    of_images = _products(_tiles(upstream, of_outputs=False), kernel, upstream.shape, rotated=True)
    products = tf.stack([tf.matmul(tile, gradient, transpose_a=True)
                         for tile, gradient in zip(tiles, _tiles(upstream, of_outputs=True), strict=True)])
    of_kernel = tf.matmul(_KERNELS, tf.reshape(products, (36, -1)), transpose_a=True)
    return of_images, tf.reshape(of_kernel, kernel.shape)


def _products(tiles: Sequence[tf.Tensor], kernel: tf.Tensor, shape: tf.TensorShape, rotated: bool = False) -> tf.Tensor:
    """The outputs, of the shape's height and width; `rotated` also swaps the kernel's channels and filters."""
    matrix = _KERNELS[:, ::-1] if rotated else _KERNELS
    kernels = tf.reshape(tf.matmul(matrix, tf.reshape(kernel, (9, -1))), (36, *kernel.shape[2:]))
    products = [tf.matmul(tile, weights, transpose_b=rotated)
                for tile, weights in zip(tiles, tf.unstack(kernels), strict=True)]
    return _assemble(products, *shape[1:3])


def _tiles(images: tf.Tensor, of_outputs: bool) -> list[tf.Tensor]:
    """Transforms tiles by a matrix from the left, which combines rows, and from the right, which combines columns.

    Args:
      images: `[batch, height, width, channels]`.
      of_outputs: with OUTPUT's transpose, which makes gradients of the products from gradients of the outputs, instead
        of with INPUT.

    Returns:
      36 tensors `[tiles, channels]`, one for each position in a tile.
    """
    height, width, channels = images.shape[1:]
    rows = _split(images, of_outputs, (height, width * channels), (width, channels))
    return [position for row in rows for position in _split(row, of_outputs, (width, channels), (channels,))]


def _assemble(products: Sequence[tf.Tensor], height: int, width: int) -> tf.Tensor:
    """The outputs `[batch, height, width, filters]` from the 36 products, each `[tiles, filters]`."""
    filters = products[0].shape[-1]
    rows = [_join(products[row:row + 6], width, filters, (width, filters)) for row in range(0, 36, 6)]
    return _join(rows, height, width * filters, (height, width, filters))


# XLA makes one loop over memory of each result; TensorFlow's own operations would write and read every term of a sum.
# One dimension at a time needs 6 + 6 loops where both at once need 36: they are compiled in half of the time, and read
# less. See docs/performance.md#winograd.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@_compiled
def _split(images: tf.Tensor, of_outputs: bool, shape: tuple[int, int], shape_after: tuple[int, ...]
           ) -> list[tf.Tensor]:
    """Transforms the tiles of one dimension.

    Args:
      images: images of any number of dimensions, to be seen as `[-1, *shape]`.
      of_outputs: as in `_tiles`.
      shape: length of the dimension that is divided into tiles, and size of what comes after it.
      shape_after: shape of the results but for their first dimension.

    Returns:
      Six tensors `[-1, *shape_after]`, one for each position in a tile.
    """
    matrix, (length, size) = OUTPUT.T if of_outputs else INPUT, shape
    whole, margin = _whole_tiles(length), (matrix.shape[1] - SIZE) // 2
    padded = tf.pad(tf.reshape(images, (-1, length, size)), [[0, 0], [margin, margin + whole - length], [0, 0]])
    pixels = [padded[:, pixel:pixel + whole - SIZE + 1:SIZE] for pixel in range(matrix.shape[1])]
    return [tf.reshape(position, (-1, *shape_after)) for position in _combine(matrix, pixels)]


@_compiled
def _join(positions: Sequence[tf.Tensor], length: int, size: int, shape_after: tuple[int, ...]) -> tf.Tensor:
    """Transforms products back to outputs in one dimension.

    Args:
      positions: six tensors, to be seen as `[-1, tiles, size]`.
      length: length of the outputs in this dimension.
      size: size of what comes after it.
      shape_after: shape of the outputs but for their first dimension.

    Returns:
      The outputs `[-1, *shape_after]`.
    """
    tiles = [tf.reshape(position, (-1, _whole_tiles(length) // SIZE, size)) for position in positions]
    pixels = tf.reshape(tf.stack(_combine(OUTPUT, tiles), axis=2), (-1, _whole_tiles(length), size))
    return tf.reshape(pixels[:, :length], (-1, *shape_after))


def _whole_tiles(length: int) -> int:
    """The length, rounded up to a multiple of the tile's."""
    return -(-length // SIZE) * SIZE


def _combine(matrix: np.ndarray, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """`matrix @ tensors`, without multiplications by 0 and 1."""
    combined = []
    for row in matrix.tolist():
        terms = [tensor if factor == 1 else -tensor if factor == -1 else factor * tensor
                 for factor, tensor in zip(row, tensors, strict=True) if factor]
        combined.append(functools.reduce(lambda one, other: one + other, terms))
    return combined
