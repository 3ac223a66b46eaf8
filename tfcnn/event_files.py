"""TensorBoard's event files: what the trainer and the evaluation of a run write.

They are written here and not by `tf.summary`, which writes in a thread and names its files by the clock.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf


def summary(tag: str, plugin: str, content: Any, plugin_content: bytes = b"") -> tf.compat.v1.Summary:
    """A summary in the format of one of TensorBoard's plugins."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": plugin, "content": plugin_content})
    made = tf.compat.v1.Summary()
    made.value.add(tag=tag, metadata=metadata, tensor=tf.make_tensor_proto(content))
    return made


def picture(tag: str, png: bytes, width: int, height: int) -> tf.compat.v1.Summary:
    """A picture, a PNG file's content, for TensorBoard's page of images."""
    return summary(tag, "images", [str(width).encode(), str(height).encode(), png])


def version() -> tf.compat.v1.Event:
    """The event with which a file begins."""
    import tensorflow as tf

    return tf.compat.v1.Event(wall_time=time.time(), file_version="brain.Event:2")


def event(step: int, content: tf.compat.v1.Summary) -> tf.compat.v1.Event:
    """An event of now."""
    import tensorflow as tf

    return tf.compat.v1.Event(wall_time=time.time(), step=step, summary=content)


def to_bytes(events: Iterable[tf.compat.v1.Event]) -> bytes:
    """The events as an event file has them, each with its length and checksums.

    TensorFlow's writer cannot append to a file, and TensorBoard's, which can, is not public.
    """
    import tensorflow as tf

    with tempfile.TemporaryDirectory(prefix="tfcnn-") as folder:
        path = Path(folder, "events")
        with tf.io.TFRecordWriter(str(path)) as writer:
            for one in events:
                writer.write(one.SerializeToString())
        return path.read_bytes()
