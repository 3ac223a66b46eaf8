"""Encoded images to be streamed: class folders, or what tensorflow-datasets has prepared, read in many orders.

Of an image only its path and label are held, or its number, with tensorflow-datasets. Class folders, and data sets
prepared as `array_record`, can be read in any order and from any place. Of a data set prepared as `tfrecord` an epoch
takes the files in a random order, some at a time, and their images through a random buffer of bounded size: the order
is less random, and to go on within an epoch all images before are read again, though not decoded.
"""

from __future__ import annotations

import abc
import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn.data import datasets
from tfcnn.recipe import UsageError

_THREADS = os.cpu_count() or 1
_READS = 16  # files read at a time: they are waited for, not worked on
_INTERLEAVED = 16  # files of records read in turn
_BUFFER = 256 * 2**20  # bytes of the buffer that shuffles records

# (index in the part, label, encoded image)
Record = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


class Part(abc.ABC):
    """One part of a data set: encoded images (JPEG or PNG) and labels, to be read in many orders.

    Attributes:
      origin: the folder in which it lies.
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
          order: int32 [2], the seed of the epoch's order; None for the order in which they are stored.
          start: the first place in that order.
          stop: the place after the last one.
          wanted: which of these places to give, a place -> bool; by default all.

        Returns:
          index of the image, int64; label, int32; encoded image, string: all scalars.
        """

    def name(self, index: int) -> str:
        """What to call an image in a message."""
        return f"image {index} of {self.origin}"


class Files(Part):
    """A file for each image."""

    def __init__(self, origin: str, paths: list[bytes], labels: np.ndarray) -> None:
        self.origin = origin
        with tf.device("CPU"):
            self._paths, self._labels = tf.constant(paths, tf.string), tf.constant(labels, tf.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(place: tf.Tensor) -> Record:
            index = _index(place, order, len(self))
            return index, self._labels[index], tf.io.read_file(self._paths[index])

        return _places(start, stop, wanted).map(read, _READS, deterministic=True)

    def name(self, index: int) -> str:
        return os.fsdecode(self._paths[index].numpy())


class RandomRecords(Part):
    """A data set of tensorflow-datasets in a format with random access.

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

    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(indices: np.ndarray) -> np.ndarray:
            return np.array(self._serialized.__getitems__(indices.tolist()), object)

        def read_batch(places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            indices = tf.gather(self._indices, _index(places, order, len(self)))
            serialized = tf.numpy_function(read, [indices], tf.string, stateful=False)
            return indices, tf.ensure_shape(serialized, [None])

        # Some at a time, since Python runs but once at a time.
        batches = _places(start, stop, wanted).batch(_READS).map(read_batch).prefetch(2)
        return batches.unbatch().map(self._parse, _THREADS, deterministic=True)


class SequentialRecords(Part):
    """A data set of tensorflow-datasets in files of records (TFRecord) that can only be read from their start.

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
        self._buffer = max(1, min(len(indices), _BUFFER * info.num_examples // max(1, info.num_bytes)))

    def __len__(self) -> int:
        return self._count

    def records(self, order: tf.Tensor | None, start: tf.Tensor | int, stop: tf.Tensor | int,
                wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
        def read(file: tf.Tensor) -> tf.data.Dataset:
            records = tf.data.TFRecordDataset(self._files[file], buffer_size=2**20)
            return tf.data.Dataset.zip(tf.data.Dataset.range(self._offsets[file], 2**62), records)

        count = len(self._files)
        files = _places(0, count).map(lambda place: _index(place, order, count))
        records = (files.flat_map(read) if order is None else
                   files.interleave(read, _INTERLEAVED, num_parallel_calls=_INTERLEAVED, deterministic=True))
        records = records.filter(lambda index, serialized: self._chosen[index])
        if order is not None:
            records = self._shuffled(records, tf.bitcast(order, tf.int64))
        records = records.skip(tf.cast(start, tf.int64)).take(tf.cast(stop - start, tf.int64))
        if wanted is not None:
            records = tf.data.Dataset.zip(_places(start, stop), records).filter(
                lambda place, record: wanted(place)).map(lambda place, record: record)
        return records.map(self._parse, _THREADS, deterministic=True)

    def _shuffled(self, records: tf.data.Dataset, seed: tf.Tensor) -> tf.data.Dataset:
        def shuffle(seed: tf.Tensor) -> tf.data.Dataset:
            # Of this function's graph only: TensorFlow's global seed would take part in the order, and if that is 0 it
            # compares the other seed, a tensor, with 0 in Python.
            tf.random.set_seed(1)
            return records.shuffle(self._buffer, seed, reshuffle_each_iteration=False)

        return tf.data.Dataset.from_tensors(seed).flat_map(shuffle)


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set to be streamed.

    Attributes:
      name: `folder`, or what tensorflow-datasets calls it.
      source: one line on where the pixels come from, without a path of this machine.
      class_names: the names of the classes, in the order of the labels.
      train: what is left of the training set without the validation part.
      validation: the part of the training set held out.
      test: the test set.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part


def load(name: str, data_dir: str | None = None, *, validation: float = 0.1, seed: int = 0) -> Source:
    """Finds a data set to be streamed, and holds a part of its training set out for validation.

    Args:
      name: `folder`, or the name of an image-classification data set of tensorflow-datasets.
      data_dir: folder of the data: class folders, or what tensorflow-datasets has prepared.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice of the validation images.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: the data set is unknown or damaged, or cannot be split so.
    """
    if name == "sample":
        raise UsageError("--dataset=sample is in memory at once: leave out --stream")
    if name == "folder":
        return from_folder(datasets.folder_of(data_dir), validation, seed)
    return from_tfds(datasets.builder(name, Path(data_dir).expanduser() if data_dir else None), validation, seed)


def from_folder(folder: str | Path, validation: float = 0.1, seed: int = 0) -> Source:
    """Class folders of JPEG and PNG files, `train/CLASS/*` and `test/CLASS/*`, split as `datasets.load` does.

    Opens no file: a damaged one is found when its turn comes.

    Args:
      folder: where they are.
      validation: share of the training images to hold out, in [0, 1), the same of every class.
      seed: seed of the choice.

    Raises:
      UsageError: the folders are not as they must be, or cannot be split so.
    """
    root = os.path.abspath(os.path.expanduser(folder))
    try:
        train, test = (_class_files(os.path.join(root, part)) for part in ("train", "test"))
    except PermissionError as error:
        raise UsageError(f"{error.filename} may not be read: change its permissions, or name another --data_dir"
                         ) from error
    for name in sorted(train.keys() ^ test.keys()):
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise UsageError(f"{os.path.join(root, has, name)} is a class that {os.path.join(root, lacks)} has not: give "
                         "it images in both")
    if len(train) < 2:
        raise UsageError(f"{os.path.join(root, 'train')} has one class only: needed are at least two class folders")

    def members(part: str, classes: dict[str, list[str]]) -> tuple[list[bytes], np.ndarray]:
        paths = [os.fsencode(os.path.join(root, part, name, file)) for name, files in classes.items() for file in files]
        return paths, np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in classes.values()])

    paths, labels = members("train", train)
    parts = datasets.split_validation(datasets.Split(np.arange(len(labels)), labels), validation, seed)
    kept, held_out = (Files(os.path.join(root, "train"), [paths[index] for index in part.images], part.labels)
                      for part in parts)
    return Source("folder", f"{os.path.basename(root)}, class folders", tuple(train), kept, held_out,
                  Files(os.path.join(root, "test"), *members("test", test)))


def from_tfds(builder: Any, validation: float = 0.1, seed: int = 0) -> Source:
    """A data set that tensorflow-datasets has prepared.

    The validation part is drawn from all training images alike, not from each class, since labels are known only after
    reading everything. As test set serves `test`, or `validation` if there is none or it has no labels (ImageNet's).

    Args:
      builder: of the data set, an image classification, prepared.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice.

    Raises:
      UsageError: the data set has not the parts needed, or not in a format that can be streamed, or cannot be split so.
    """
    formats = {"array_record": RandomRecords, "tfrecord": SequentialRecords}
    name, file_format = builder.info.full_name, builder.info.file_format.value
    if file_format not in formats:
        raise UsageError(f"{builder.data_path} is in the format {file_format}, which cannot be streamed: prepare it "
                         f"again, `tfds build {builder.info.name} --file_format=array_record`")

    def part(split: str, indices: np.ndarray | None = None) -> Part:
        count = builder.info.splits[split].num_examples
        return formats[file_format](builder, split, np.arange(count) if indices is None else indices)

    tests = [part(split) for split in ("test", "validation") if split in builder.info.splits]
    labelled = [test for test in tests if len(test) and _first_label(test) >= 0]
    if "train" not in builder.info.splits or not labelled:
        raise UsageError(f"{name} has the parts {', '.join(sorted(builder.info.splits))}; needed are train, and test "
                         "or validation with labels")
    count = builder.info.splits["train"].num_examples
    held_out = round(validation * count)
    if not 0 <= validation < 1 or held_out == count or (validation > 0 and held_out == 0):
        raise UsageError(f"--validation={validation:g} of {count} training images leaves one of the two parts without "
                         "any: choose another share, or 0")
    shuffled = np.random.default_rng(seed).permutation(count)
    return Source(builder.info.name, f"tensorflow-datasets, {name}", tuple(builder.info.features["label"].names),
                  part("train", np.sort(shuffled[held_out:])), part("train", np.sort(shuffled[:held_out])), labelled[0])


def _places(start: tf.Tensor | int, stop: tf.Tensor | int,
            wanted: Callable[[tf.Tensor], tf.Tensor] | None = None) -> tf.data.Dataset:
    places = tf.data.Dataset.range(tf.cast(start, tf.int64), tf.cast(stop, tf.int64))
    return places if wanted is None else places.filter(wanted)


def _index(places: tf.Tensor, order: tf.Tensor | None, count: int) -> tf.Tensor:
    """What is at some places of a random order of `count` images."""
    return places if order is None else tf.random.experimental.index_shuffle(places, order, count - 1)


def _parser(builder: Any) -> Callable[[tf.Tensor, tf.Tensor], Record]:
    """What parses a record of a data set, of all features only the image, still encoded, and the label."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({name: builder.info.features[name] for name in ("image", "label")})

    def parse(index: tf.Tensor, serialized: tf.Tensor) -> Record:
        example = features.deserialize_example(serialized, decoders={"image": tfds.decode.SkipDecoding()})
        return index, tf.cast(example["label"], tf.int32), example["image"]

    return parse


def _first_label(part: Part) -> int:
    try:
        (_, label, _), = bounded(part.records(None, 0, 1))
    except tf.errors.OpError as error:
        raise unreadable(part, error) from error
    return int(label)


def _class_files(folder: str) -> dict[str, list[str]]:
    """The names of each class's files, both sorted: as strings, of which a million take little memory."""
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is missing: needed are images in train/<class>/ and test/<class>/")
    classes = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            raise UsageError(f"{entry.path} is not a class folder: put it elsewhere")
        files = _visible(entry.path)
        if not files:
            raise UsageError(f"{entry.path} is empty: remove it, or put images of the class into it")
        for file in files:
            if not file.name.lower().endswith((".jpg", ".jpeg", ".png")) or not file.is_file():
                raise UsageError(f"{file.path} is not a JPEG or PNG file: put it elsewhere")
            if file.stat().st_size == 0:
                raise UsageError(f"{file.path} is empty: get it again, or remove it")
        classes[entry.name] = [file.name for file in files]
    if not classes:
        raise UsageError(f"{folder} has no class folders: needed are images in train/<class>/ and test/<class>/")
    return classes


def _visible(folder: str) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)


def bounded(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set without what makes memory or time depend on more than the data set says."""
    options = tf.data.Options()
    # Autotuning has a thread that sleeps for up to a minute, and an iterator's destruction waits until it wakes; it
    # would also choose how much is buffered.
    options.autotune.enabled = False
    # Not whole files to each machine: the number of batches would differ.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def unreadable(part: Part, error: tf.errors.OpError) -> UsageError:
    """What to raise when TensorFlow cannot read a part."""
    return UsageError(f"{part.origin} cannot be read ({reason(error)}): change its permissions, or get it again")


def reason(error: tf.errors.OpError) -> str:
    """What TensorFlow says, in one line, without where in its graph."""
    text = " ".join(re.sub(r"\{\{.*?\}\}|\[\[.*|\[Op:.*", "", error.message, flags=re.DOTALL).split())
    return text if len(text) <= 300 else text[:300] + "..."
