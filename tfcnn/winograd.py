"""Convolutions of 3x3 with a quarter of the multiplications, by Winograd's minimal filtering, for training on a CPU.

The output is computed in tiles of 4x4 pixels, each from the 6x6 pixels that it depends on. Tile and kernel are brought
into a form in which their convolution is one product a place; over channels and tiles that makes 36 matrix products,
of together a quarter of the multiplications that the definition needs. Both gradients are of the same kind. What is
gained in products is lost in part by moving tiles, so that it pays from 64 or so channels on, see `pays`.

Rounding is that of float32, but a few times larger than a direct convolution's: the factors below go up to 8.

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

# output = OUTPUT @ ((KERNEL @ kernel @ KERNEL.T) * (INPUT @ tile @ INPUT.T)) @ OUTPUT.T
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

_KERNELS = np.kron(KERNEL, KERNEL)  # the same for kernels as columns of 9 numbers

# With fewer tiles bringing the kernel into its form costs more than the products save: measured, see BUILD_NOTES.md.
_FEWEST_TILES = 128

Grid = Sequence[Sequence[tf.Tensor]]


def pays(shape: Sequence[Any], filters: int, direct: tf.DType) -> bool:
    """Whether training with `convolve` is faster than with a direct convolution, for images of a known shape.

    Args:
      shape: of the images, `[batch, height, width, channels]`.
      filters: how many there are.
      direct: the type in which the direct convolution would multiply.
    """
    if None in shape:
        return False
    batch, height, width, channels = shape
    tiled, pixels = _whole_tiles(height) * _whole_tiles(width), height * width
    # Products with padding save nothing, and beyond a factor of 4 tiles are mostly padding.
    return (channels * filters * pixels >= _fewest_weights(direct) * tiled and tiled <= 4 * pixels
            and batch * tiled >= _FEWEST_TILES * SIZE ** 2)


def _fewest_weights(direct: tf.DType) -> int:
    """With fewer channels times filters moving tiles costs more than products save: measured, see BUILD_NOTES.md."""
    if "avx512bw" not in processor.instructions():
        return 64 * 64
    return 64 * 128 if direct == tf.float32 else 256 * 512


def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """The convolution with stride 1 and padding "same", differentiable once.

    Args:
      images: [batch, height, width, channels], float32; all but the batch must be known beforehand.
      kernel: [3, 3, channels, filters], float32.

    Returns:
      [batch, height, width, filters].
    """
    @tf.custom_gradient
    def convolution(images: tf.Tensor, kernel: tf.Tensor) -> Any:
        tiles = _input_tiles(images)

        def gradients(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The gradient of the images is a convolution too, with the kernel turned by 180 degrees.
            of_images = _products(_input_tiles(upstream), kernel, images.shape, turned=True)
            products = tf.stack([tf.matmul(tile, gradient, transpose_a=True)
                                 for tile, gradient in zip(tiles, _output_tiles(upstream), strict=True)])
            of_kernel = tf.matmul(_KERNELS, tf.reshape(products, (36, -1)), transpose_a=True)
            return of_images, tf.reshape(of_kernel, kernel.shape)

        return _products(tiles, kernel, images.shape), gradients

    return convolution(images, kernel)


def _products(tiles: Sequence[tf.Tensor], kernel: tf.Tensor, shape: tf.TensorShape, turned: bool = False) -> tf.Tensor:
    """The outputs, as high and wide as the shape; `turned` exchanges the kernel's channels and filters as well."""
    matrix = _KERNELS[:, ::-1] if turned else _KERNELS
    kernels = tf.reshape(tf.matmul(matrix, tf.reshape(kernel, (9, -1))), (36, *kernel.shape[2:]))
    products = [tf.matmul(tile, weights, transpose_b=turned)
                for tile, weights in zip(tiles, tf.unstack(kernels), strict=True)]
    return _assemble(products, *shape[1:3])


# One loop for all that is done to a pixel: TensorFlow's own operations would write and read each term of each sum.
_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@_compiled
def _input_tiles(images: tf.Tensor) -> list[tf.Tensor]:
    """All tiles' 36 places, each `[tiles, channels]`, of images as `convolve` takes them."""
    height, width, channels = images.shape[1:]
    rows, columns = _whole_tiles(height), _whole_tiles(width)
    padded = tf.pad(images, [[0, 0], [1, 1 + rows - height], [1, 1 + columns - width], [0, 0]])
    pixels = [[padded[:, row:row + rows - 3:SIZE, column:column + columns - 3:SIZE] for column in range(6)]
              for row in range(6)]
    return [tf.reshape(place, (-1, channels)) for row in _transform(INPUT, pixels) for place in row]


@_compiled
def _output_tiles(upstream: tf.Tensor) -> list[tf.Tensor]:
    """The gradients of the 36 products, each `[tiles, filters]`, from that of the outputs."""
    height, width, filters = upstream.shape[1:]
    padded = tf.pad(upstream, [[0, 0], [0, _whole_tiles(height) - height], [0, _whole_tiles(width) - width], [0, 0]])
    pixels = [[padded[:, row::SIZE, column::SIZE] for column in range(SIZE)] for row in range(SIZE)]
    return [tf.reshape(place, (-1, filters)) for row in _transform(OUTPUT.T, pixels) for place in row]


@_compiled
def _assemble(products: Sequence[tf.Tensor], height: int, width: int) -> tf.Tensor:
    """The outputs `[batch, height, width, filters]` from the 36 products, each `[tiles, filters]`."""
    rows, columns, filters = _whole_tiles(height), _whole_tiles(width), products[0].shape[-1]
    places = [tf.reshape(product, (-1, rows // SIZE, columns // SIZE, filters)) for product in products]
    pixels = _transform(OUTPUT, [places[row:row + 6] for row in range(0, 36, 6)])
    outputs = tf.reshape(tf.stack([tf.stack(row, 3) for row in pixels], 2), (-1, rows, columns, filters))
    return outputs[:, :height, :width]


def _whole_tiles(length: int) -> int:
    """The length, made a multiple of that of a tile."""
    return -(-length // SIZE) * SIZE


def _transform(matrix: np.ndarray, grid: Grid) -> list[list[tf.Tensor]]:
    """`matrix @ grid @ matrix.T`, of a square grid of tensors."""
    columns = [_combine(matrix, column) for column in zip(*grid)]
    return [_combine(matrix, row) for row in zip(*columns)]


def _combine(matrix: np.ndarray, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """`matrix @ tensors`, without the products with 0 and 1."""
    combined = []
    for row in matrix.tolist():
        terms = [tensor if factor == 1 else -tensor if factor == -1 else factor * tensor
                 for factor, tensor in zip(row, tensors, strict=True) if factor]
        combined.append(functools.reduce(lambda one, other: one + other, terms))
    return combined
