"""Parts of a data set that is streamed: encoded images, read in many orders.

Only the path and the label of an image are held in memory, or with tensorflow-datasets only its number. Class folders,
and data sets prepared as `array_record`, can be read in any order and from any position. Of a data set prepared as
`tfrecord`, an epoch takes the files in a random order, several at a time, and their images through a shuffle buffer of
bounded size: the order is less random, and to resume within an epoch all earlier images are read again, though not
decoded.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn import _compat
from tfcnn.data.errors import tensorflow_reason
from tfcnn.data.python_calls import numpy_function
from tfcnn.recipe import UsageError

_THREADS = os.cpu_count() or 1
_READS = 16  # files read at a time: reading is mostly waiting
_INTERLEAVED = 16  # files of records read in turn
_SHUFFLE_BUFFER = 256 * 2**20  # bytes

# For what makes data sets of tf.data: their functions have no branches on tensors but `tf.cond`, and AutoGraph would
# take seconds to convert them.
unconverted = tf.autograph.experimental.do_not_convert

# (index in the part, label, encoded image)
Record = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Part(abc.ABC):
    """One part of a data set: encoded images (JPEG or PNG) and labels, to be read in many orders.

    Attributes:
      origin: the folder that has the images.
    """

    origin: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abc.abstractmethod
    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        """Some images of one epoch, one after the other.

        Args:
          order: int32 [2], the seed of the epoch's order; None for the order in which the images are stored.
          start: the first position in that order.
          stop: the position after the last one.
          wanted: which of these positions to read, position -> bool; by default all.

        Returns:
          index of the image, int64; label, int32; encoded image, string: all scalars.
        """

    def name(self, index: int) -> str:
        """The name of an image in messages."""
        return f"image {index} of {self.origin}"


class Files(Part):
    """One file per image."""

    def __init__(self, origin: str, paths: list[bytes], labels: np.ndarray) -> None:
        self.origin = origin
        with tf.device("CPU"):
            self._paths, self._labels = tf.constant(paths, tf.string), tf.constant(labels, tf.int32)

    def __len__(self) -> int:
        return len(self._labels)

    @unconverted
    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(position: tf.Tensor) -> Record:
            index = _shuffled_index(position, order, len(self))
            return index, self._labels[index], tf.io.read_file(self._paths[index])

        return _positions(start, stop, wanted).map(read, _READS, deterministic=True)

    def name(self, index: int) -> str:
        return os.fsdecode(self._paths[index].numpy())


class RandomAccessRecords(Part):
    """A data set of tensorflow-datasets in a format with random access (ArrayRecord).

    Args:
      builder: of the data set, prepared.
      split: the name of the split.
      indices: [images], which of its images.
    """

    def __init__(self, builder: Any, split: str, indices: np.ndarray) -> None:
        self.origin = str(builder.data_path)
        self._parse = _parser(builder)
        self._serialized = builder.as_data_source(split).data_source
        with tf.device("CPU"):
            self._indices = tf.constant(indices, tf.int64)

    def __len__(self) -> int:
        return len(self._indices)

    @unconverted
    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(indices: np.ndarray) -> np.ndarray:
            return np.array(_compat.read_records(self._serialized, indices.tolist()), object)

        def read_batch(positions: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = tf.gather(self._indices, _shuffled_index(positions, order, len(self)))
            serialized = numpy_function(read, [indices], tf.string)
            return indices, tf.ensure_shape(serialized, [None])

        # Several at a time, since only one thread at a time runs Python.
        batches = _positions(start, stop, wanted).batch(_READS).map(read_batch).prefetch(2)
        return batches.unbatch().map(self._parse, _THREADS, deterministic=True)


class SequentialRecords(Part):
    """A data set of tensorflow-datasets in files that can be read only from their start (TFRecord).

    Args:
      builder: of the data set, prepared.
      split: the name of the split.
      indices: [images], which of its images.
    """

    def __init__(self, builder: Any, split: str, indices: np.ndarray) -> None:
        info = builder.info.splits[split]
        self.origin = str(builder.data_path)
        self._parse = _parser(builder)
        self._count = len(indices)
        chosen = np.zeros(info.num_examples, bool)
        chosen[indices] = True
        with tf.device("CPU"):
            self._files = tf.constant([str(path) for path in info.filepaths])
            self._offsets = tf.constant(np.cumsum([0, *info.shard_lengths])[:-1], tf.int64)
            self._chosen = tf.constant(chosen)
        self._buffer = max(1, min(len(indices), _SHUFFLE_BUFFER * info.num_examples // max(1, info.num_bytes)))

    def __len__(self) -> int:
        return self._count

    @unconverted
    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(file: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(self._files[file], buffer_size=2**20)
            return tf.data.Dataset.zip(tf.data.Dataset.range(self._offsets[file], 2**62), records)

        count = len(self._files)
        files = _positions(0, count).map(lambda position: _shuffled_index(position, order, count))
        records = (files.flat_map(read) if order is None else
                   files.interleave(read, _INTERLEAVED, num_parallel_calls=_INTERLEAVED, deterministic=True))
        records = records.filter(lambda index, serialized: self._chosen[index])
        if order is not None:
            records = self._shuffled(records, tf.bitcast(order, tf.int64))
        records = records.skip(tf.cast(start, tf.int64)).take(tf.cast(stop - start, tf.int64))
        if wanted is not None:
            records = tf.data.Dataset.zip(_positions(start, stop), records).filter(
                lambda position, record: wanted(position)).map(lambda position, record: record)
        return records.map(self._parse, _THREADS, deterministic=True)

    def _shuffled(self, records: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
        def shuffle(seed: tf.Tensor) -> tf.data.Dataset:
            # The global seed of this function's graph only. That of the process would change the order, and where it is
            # 0, TensorFlow compares the other seed, a tensor, with 0 in Python.
            tf.random.set_seed(1)
            return records.shuffle(self._buffer, seed, reshuffle_each_iteration=False)

        return tf.data.Dataset.from_tensors(seed).flat_map(shuffle)


class Relabelled(Part):
    """A part some of whose images have other labels.

    Args:
      part: the part.
      labels: int32, the new label by the index of an image; -1 where the label stays.
    """

    def __init__(self, part: Part, labels: np.ndarray) -> None:
        self.origin = part.origin
        self._part = part
        with tf.device("CPU"):
            self._labels = tf.constant(labels, tf.int32)

    def __len__(self) -> int:
        return len(self._part)

    @unconverted
    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def relabelled(index: tf.Tensor, label: tf.Tensor, encoded: tf.Tensor) -> Record:
            new = self._labels[index]
            return index, tf.where(new < 0, label, new), encoded

        return self._part.records(order, start, stop, wanted).map(relabelled, _THREADS, deterministic=True)

    def name(self, index: int) -> str:
        return self._part.name(index)


def bounded(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set with options that keep its memory and time within what the data set itself says."""
    options = tf.data.Options()
    # Autotuning has a thread that sleeps for up to a minute, and the destruction of an iterator waits for it to wake.
    # It would also choose how much is buffered.
    options.autotune.enabled = False
    # Not whole files for each worker: the number of batches would differ.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def unreadable(part: Part, error: tf.errors.OpError) -> UsageError:
    """The error to raise when TensorFlow cannot read a part."""
    return UsageError(f"{part.origin} cannot be read ({tensorflow_reason(error)}): change its permissions, or get it "
                      "again")


def _positions(start: tf.Tensor | int, stop: tf.Tensor | int,
               wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
    positions = tf.data.Dataset.range(tf.cast(start, tf.int64), tf.cast(stop, tf.int64))
    return positions if wanted is None else positions.filter(wanted)


def _shuffled_index(positions: tf.Tensor, order: tf.Tensor | None, count: int) -> tf.Tensor:
    """The indices of the images at some positions of a random order of `count` images."""
    return positions if order is None else tf.random.experimental.index_shuffle(positions, order, count - 1)


def _parser(builder: Any) -> Callable[[tf.Tensor, tf.Tensor], Record]:
    """A function that parses a record: of all features only the image, still encoded, and the label."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in ("image", "label")})

    def parse(index: tf.Tensor, serialized: tf.Tensor) -> Record:
        example = features.deserialize_example(serialized, decoders={"image": tfds.decode.SkipDecoding()})
        return index, tf.cast(example["label"], tf.int32), example["image"]

    return parse
