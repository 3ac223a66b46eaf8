"""Streamed images as a network is tested on them: the centre, or AlexNet's ten crops, of files and of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable

import tensorflow as tf

from tfcnn.data import image_windows, streamed_crops
from tfcnn.data.parts import Part, bounded, unconverted, unreadable

_THREADS = os.cpu_count() or 1


@unconverted
def batches(part: Part, size: int, channels: int, batch_size: int, crops: int = 1,
            wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
    """The images of a part as a network is tested on them, in the order in which they are stored.

    Args:
      part: the part.
      size: height and width of the network's input.
      channels: of the network's input, 1 or 3.
      batch_size: images per batch; the last batch may have fewer.
      crops: 1: the centre of each image; 10: AlexNet's ten crops.
      wanted: which images, position -> bool; by default all.

    Returns:
      Batches of images, uint8 [batch, size, size, channels], or of ten crops [batch, 10, size, size, channels]; and
      labels, int32 [batch].
    """
    def image(index: tf.Tensor, label: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if crops == 1:
            return centre(encoded, size, channels), label
        square = image_windows.decode_window(encoded, streamed_crops.largest_square, streamed_crops.shorter_side(size),
                                             channels)
        return streamed_crops.ten_crops(square[None], size)[0], label

    found = part.records(None, 0, len(part), wanted).map(image, _THREADS, deterministic=True).batch(batch_size)
    if wanted is None:
        found = found.apply(tf.data.experimental.assert_cardinality(-(-len(part) // batch_size)))
    return found


def cut(images: tf.Tensor, size: int, channels: int, crops: int = 1) -> tf.Tensor:
    """Images that are decoded as `batches` gives them of their files.

    Args:
      images: [batch, height, width, 1 or 3], uint8.
      size: as in `batches`.
      channels: likewise.
      crops: likewise.
    """
    if crops == 1:
        return image_windows.cut_window(images, lambda shape: streamed_crops.centre_window(shape, size), size, channels)
    side = streamed_crops.shorter_side(size)
    squares = image_windows.cut_window(images, streamed_crops.largest_square, side, channels)
    return streamed_crops.ten_crops(squares, size)


def check(part: Part, order: tf.Tensor | None = None, start: int = 0, stop: int | None = None) -> None:
    """Decodes images of a part again, after TensorFlow failed to decode one of them.

    Args:
      part: the part.
      order: as in `Part.records`.
      start: likewise.
      stop: likewise; by default the end.

    Raises:
      UsageError: names the image that cannot be decoded or read.
    """
    try:
        for index, _, encoded in bounded(part.records(order, start, len(part) if stop is None else stop)):
            image_windows.check(encoded, part.name(int(index)))
    except tf.errors.OpError as error:
        raise unreadable(part, error) from error


def centre(encoded: tf.Tensor, size: int, channels: int) -> tf.Tensor:
    """The evaluation crop of an encoded image."""
    return image_windows.decode_window(encoded, lambda shape: streamed_crops.centre_window(shape, size), size, channels)
