"""Windows of images, decoded in tf.data's graphs, for the stream.

Of an ordinary JPEG, TensorFlow decodes no more than a window, to the pixels that `images.decode` gives. Every other
file is decoded by `images.decode`.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfcnn.data import image_headers, images
from tfcnn.data.errors import tensorflow_reason
from tfcnn.data.python_calls import numpy_function

# What an ordinary JPEG says in its first bytes, for `decode_window`. In these orders:
# markers [256, 3]: of a usual frame, of the first pixels, of anything that is neither needed for decoding nor JFIF;
_FIRST_BYTES = 1024
_MARKERS = np.zeros([256, 3], np.float32)
_MARKERS[0xC0:0xC3, 0] = _MARKERS[0xDA, 1] = _MARKERS[0xE1:0xEE, 2] = _MARKERS[0xEF, 2] = 1
# what follows the frame's marker [8 bytes]: height, width, bits, length less 3 bytes a component, components;
_FRAME_FIELDS = np.zeros([5, 8], np.float32)
_FRAME_FIELDS[0, 3:5] = _FRAME_FIELDS[1, 5:7] = _FRAME_FIELDS[3, :2] = 256, 1
_FRAME_FIELDS[2, 2] = _FRAME_FIELDS[4, 7] = 1
_FRAME_FIELDS[3, 7] = -3
# the least and the most of each of the eight. TensorFlow refuses 2**29 values.
_ORDINARY = np.array([[1, 1, 0, 1, 1, 8, 8, 1], [9, 9, 0, 13_000, 13_000, 8, 8, 3]], np.float32)


def decode_window(encoded: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: int, channels: int) -> tf.Tensor:
    """Decodes a window of an image, and resizes it with antialiasing.

    Pixels next to the window contribute to those at its edge, as if the whole image were resized. Of an ordinary JPEG,
    no more than that is decoded. A file that cannot be decoded raises an error of TensorFlow; `check` tells why.

    Args:
      encoded: JPEG or PNG, a string.
      window: a function: float32 [2], height and width of the image -> float32 [4], top, left, height and width of the
        window in pixels.
      size: height and width of the result.
      channels: 1 for grey, 3 for colour.

    Returns:
      [size, size, channels], uint8.
    """
    partial, shape = _shape(encoded)
    chosen = window(tf.cast(shape, tf.float32))
    box = _box(chosen, shape, size)
    pixels = tf.cond(partial,
                     lambda: tf.io.decode_and_crop_jpeg(encoded, box, dct_method="INTEGER_ACCURATE"),
                     lambda: numpy_function(_decode_box, [encoded, box], tf.uint8))
    return _resized(pixels[None], box, chosen, size, channels)[0]


def cut_window(images: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: int, channels: int) -> tf.Tensor:
    """The same window of images that are decoded: the pixels that `decode_window` gives of their files.

    Args:
      images: [batch, height, width, 1 or 3], uint8.
      window: as in `decode_window`.
      size: height and width of the result.
      channels: 1 for grey, 3 for colour.

    Returns:
      [batch, size, size, channels], uint8.
    """
    shape = tf.shape(images)[1:3]
    chosen = window(tf.cast(shape, tf.float32))
    box = _box(chosen, shape, size)
    top, left, height, width = tf.unstack(box)
    return _resized(images[:, top:top + height, left:left + width], box, chosen, size, channels)


def _box(chosen: tf.Tensor, shape: tf.Tensor, size: int) -> tf.Tensor:
    """The whole pixels that cover a window and the reach of antialiasing: int32 [4], top, left, height and width."""
    margin = tf.maximum(chosen[2:] / size, 1) + 1
    first = tf.maximum(tf.cast(tf.floor(chosen[:2] - margin), tf.int32), 0)
    last = tf.minimum(tf.cast(tf.math.ceil(chosen[:2] + chosen[2:] + margin), tf.int32), shape)
    return tf.concat([first, last - first], 0)


def _resized(pixels: tf.Tensor, box: tf.Tensor, chosen: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    """The window of images of which only a box is given: [batch, height, width, 1 or 3], uint8."""
    scale = size / chosen[2:]
    translation = (tf.cast(box[:2], tf.float32) - chosen[:2]) * scale
    resized = tf.raw_ops.ScaleAndTranslate(images=pixels, size=[size, size], scale=scale, translation=translation,
                                           kernel_type="triangle", antialias=True)
    return tf.ensure_shape(_to_channels(tf.cast(resized + 0.5, tf.uint8), channels), (None, size, size, channels))


def check(encoded: tf.Tensor, name: str) -> None:
    """Decodes an image as `decode_window` does, but all of it, after TensorFlow could not decode some image.

    Args:
      encoded: the content of the file, a string; not in a graph.
      name: what the message calls the file.

    Raises:
      UsageError: the image cannot be decoded.
    """
    content = encoded.numpy()
    images.decode(content, name=name)
    try:
        if image_headers.read(io.BytesIO(content), pixels=True).partially_decodable:
            tf.io.decode_jpeg(encoded, dct_method="INTEGER_ACCURATE")
    except tf.errors.OpError as error:
        raise images.damaged(name, tensorflow_reason(error)) from error


def _shape(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether TensorFlow decodes parts of the image as `images.decode` would; and its height and width as shown.

    Most JPEGs show it by their first bytes, see `_ORDINARY`. The headers of others are read in Python, by one thread at
    a time.
    """
    # Few operations, on vectors: each takes about a thousandth of the time of decoding a photograph.
    start = tf.io.decode_raw(encoded, tf.uint8, fixed_length=_FIRST_BYTES)
    is_marker = tf.cast(start[:-1] == 0xFF, tf.float32)
    kinds = tf.gather(_MARKERS, tf.cast(start[1:], tf.int32))
    frame = tf.argmax(is_marker * kinds[:, 0], output_type=tf.int32)
    fields = tf.linalg.matvec(_FRAME_FIELDS, tf.cast(tf.pad(start, [[0, 10]])[frame + 2:frame + 10], tf.float32))
    facts = tf.concat([tf.linalg.matvec(kinds, is_marker, transpose_a=True), fields], 0)
    least, most = _ORDINARY
    ordinary = (tf.io.is_jpeg(encoded) & tf.reduce_all((facts >= least) & (facts <= most))
                & (tf.strings.substr(encoded, -tf.minimum(2, tf.strings.length(encoded)), 2) == b"\xff\xd9"))
    shape = tf.cond(ordinary, lambda: tf.cast(tf.concat([[1], fields[:2]], 0), tf.int32),
                    lambda: tf.ensure_shape(numpy_function(_describe, [encoded], tf.int32), [3]))
    return shape[0] == 1, shape[1:]


def _describe(encoded: bytes | np.ndarray) -> np.ndarray:
    header = image_headers.read(io.BytesIO(_content(encoded)), pixels=True)
    return np.array([header.partially_decodable, *header.size], np.int32)


def _decode_box(encoded: bytes | np.ndarray, box: np.ndarray) -> np.ndarray:
    return images.decode(_content(encoded), box=box.tolist())


def _content(encoded: bytes | np.ndarray) -> bytes:
    return encoded if isinstance(encoded, bytes) else encoded.item()  # an array outside graphs


def _to_channels(pixels: tf.Tensor, channels: int) -> tf.Tensor:
    """`images.to_channels` in a graph, where the number of channels is known only when it runs."""
    colours = tf.tile(pixels, [1, 1, 1, 3 // tf.shape(pixels)[-1]])
    if channels == 3:
        return colours
    red, green, blue = (colour * weight for colour, weight in zip(
        tf.unstack(tf.cast(colours, tf.float32), 3, axis=-1), images.LUMA))
    return tf.cast(tf.round(red + green + blue), tf.uint8)[..., None]
