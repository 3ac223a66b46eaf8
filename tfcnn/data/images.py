"""Decoding of image files: whole images into memory, by Pillow, and parts of images for the stream, by TensorFlow.

The two differ: in memory, images of different sizes are resized to cover the target size, then cropped; grey images
stay grey, 16-bit values keep their upper half, and palettes are applied. The stream resizes a window of the image, and
its caller says how many channels there are.

TensorFlow is imported by the functions for the stream only: class folders in memory do without it.
"""

from __future__ import annotations

import concurrent.futures
import functools
import io
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from tfcnn.data.errors import one_line
from tfcnn.recipe import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

_SMALL = 100 * 100  # pixels


# In memory


def read(parts: Sequence[Sequence[str]], image_size: tuple[int, int] | None) -> list[np.ndarray]:
    """Decodes all images of the parts of a data set.

    Args:
      parts: the paths of the files of each part.
      image_size: height and width in pixels, for images of different sizes. Images that all have the same size are left
        as they are.

    Returns:
      For each part, uint8 [images, height, width, channels]. There is one channel if all images are grey, else three.

    Raises:
      UsageError: an image is damaged, the images have different sizes and `image_size` is None, or they do not fit into
        memory.
      PermissionError: a file may not be read.
    """
    files = [file for part in parts for file in part]
    size, grey = _header(files[0])
    try:
        return _decode_all(parts, size, grey, uniform=True)
    except _Different:
        headers = [_header(file) for file in files]
    if any(header[0] != size for header in headers):
        if image_size is None:
            odd = next(file for file, header in zip(files, headers) if header[0] != size)
            raise UsageError(f"{odd} does not have the size of {files[0]}: choose one size for all with --image_size")
        size = image_size
    return _decode_all(parts, size, all(grey for _, grey in headers), uniform=False)


def allocate(images: int, height: int, width: int, channels: int) -> np.ndarray:
    """An array for images, uint8 [images, height, width, channels].

    Raises:
      UsageError: there is not enough memory.
    """
    try:
        return np.empty([images, height, width, channels], np.uint8)
    except (MemoryError, ValueError) as error:
        raise UsageError(f"{images} images of {height}x{width} pixels do not fit into memory: choose a smaller "
                         "--image_size, or fewer images") from error


def fit(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The image in a given (height, width): resized to cover it, then cropped around the centre.

    Returns:
      [height, width, channels], uint8; unchanged if the image has the size.
    """
    height, width = size
    if (image.height, image.width) != size:
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, -1)


class _Different(Exception):
    """An image differs from the first one in size, or in whether it is grey."""


def _header(path: str) -> tuple[tuple[int, int], bool]:
    """The height and width of an image, and whether it is grey, without decoding it."""
    try:
        with _open(path) as image:
            return (image.height, image.width), _is_grey(image)
    except PermissionError:
        raise
    except Exception as error:  # as in _decode_into
        raise _damaged(path, error) from error


def _decode_all(parts: Sequence[Sequence[str]], size: tuple[int, int], grey: bool, uniform: bool) -> list[np.ndarray]:
    """Decodes each image straight into the array of its part.

    Raises:
      _Different: `uniform` is set, and an image does not have this size, or differs in whether it is grey.
    """
    arrays = [allocate(len(part), *size, 1 if grey else 3) for part in parts]
    rows = (row for array in arrays for row in array)
    files = [file for part in parts for file in part]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Decoding a small image holds the interpreter's lock nearly all the time: threads would wait for each other.
        run = map if math.prod(size) < _SMALL else pool.map
        for _ in run(functools.partial(_decode_into, uniform=uniform), rows, files):
            pass
    return arrays


def _decode_into(out: np.ndarray, path: str, uniform: bool) -> None:
    """Decodes an image into `out`, `[height, width, channels]`."""
    height, width, channels = out.shape
    try:
        # Read at once: Pillow reads in many small steps, each of which releases the interpreter's lock.
        with open(path, "rb", buffering=0) as file, _open(io.BytesIO(file.readall())) as image:
            if uniform and (image.height, image.width, _is_grey(image)) != (height, width, channels == 1):
                raise _Different
            out[:] = fit(_convert(image, channels), (height, width))
    except (_Different, PermissionError):
        raise
    except Exception as error:  # damaged bytes make a decoder fail in any way: also with SyntaxError, struct.error, ...
        raise _damaged(path, error) from error


def _open(file: str | io.BytesIO) -> Image.Image:
    return Image.open(file, formats=("JPEG", "PNG"))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16")


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16 bits to 8; we want the upper half.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # otherwise Pillow warns
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _damaged(path: str, error: BaseException) -> UsageError:
    return UsageError(f"{path} cannot be read as an image ({one_line(error)}): get it again, or remove it")


# For the stream


def decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes a whole image.

    Args:
      encoded: JPEG or PNG, a string; not in a graph.
      channels: 1 for grey, 3 for colour.

    Returns:
      [height, width, channels], uint8.

    Raises:
      tf.errors.OpError: the image is damaged.
    """
    import tensorflow as tf

    return (tf.io.decode_jpeg if tf.io.is_jpeg(encoded) else tf.io.decode_png)(encoded, channels)


def decode_window(encoded: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: int, channels: int) -> tf.Tensor:
    """Decodes a window of an image, and resizes it with antialiasing.

    Pixels next to the window contribute to those at its edge, as if the whole image were resized. Of a JPEG, no more
    than that is decoded.

    Args:
      encoded: JPEG or PNG, a string.
      window: a function: float32 [2], height and width of the image -> float32 [4], top, left, height and width of the
        window in pixels.
      size: height and width of the result.
      channels: 1 for grey, 3 for colour.

    Returns:
      [size, size, channels], uint8.
    """
    import tensorflow as tf

    def around(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The window relative to the whole pixels [4] that cover it and the reach of antialiasing; and these."""
        chosen = window(tf.cast(shape, tf.float32))
        margin = tf.maximum(chosen[2:] / size, 1) + 1
        first = tf.maximum(tf.cast(tf.floor(chosen[:2] - margin), tf.int32), 0)
        last = tf.minimum(tf.cast(tf.math.ceil(chosen[:2] + chosen[2:] + margin), tf.int32), shape)
        return chosen - tf.concat([tf.cast(first, tf.float32), [0, 0]], 0), tf.concat([first, last - first], 0)

    def from_jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        chosen, box = around(tf.io.extract_jpeg_shape(encoded)[:2])
        return chosen, tf.io.decode_and_crop_jpeg(encoded, box, channels, dct_method="INTEGER_ACCURATE")

    def from_png() -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(encoded, channels)
        chosen, box = around(tf.shape(image)[:2])
        return chosen, image[box[0]:box[0] + box[2], box[1]:box[1] + box[3]]

    chosen, pixels = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
    scale = size / chosen[2:]
    resized = tf.raw_ops.ScaleAndTranslate(images=pixels[None], size=[size, size], scale=scale,
                                           translation=-chosen[:2] * scale, kernel_type="triangle", antialias=True)
    return tf.ensure_shape(tf.cast(resized[0] + 0.5, tf.uint8), (size, size, channels))
