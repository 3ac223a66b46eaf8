"""Images too large for memory: decoded, cropped and resized on the fly, from class folders or tensorflow-datasets.

    python -m tfcnn.data.streaming --images=20000       measures speed and peak memory on generated images

`Streaming` gives the batches that `Pipeline` gives of a data set in memory. It reads, decodes, batches and normalizes
in stages with a bounded number of elements in flight, so that memory hardly depends on the size of the data set: of an
image only its path and label are held (or its number, with tensorflow-datasets).

The batch of a step is again a pure function of (seed, step), and each image is cropped by its own seed. Class folders,
and data sets prepared as `array_record`, can be read in any order: every epoch has another random order of all images,
and a run goes on at any step at once. Of a data set prepared as `tfrecord` an epoch takes the files in a random order,
some at a time, and their images through a random buffer of bounded size: the order is less random, and to go on within
an epoch all images before are read again, though not decoded.
"""

from __future__ import annotations

import abc
import argparse
import dataclasses
import io
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tfcnn.data import augment, datasets
from tfcnn.data import normalization as normalizations
from tfcnn.data.normalization import Normalization
from tfcnn.recipe import Recipe, UsageError

CROPS = ("resized", "alexnet")
_SAMPLE = 10_000  # training images, of which the statistics of normalization are taken
_FIRST_DRAW = 1000  # of each image's random numbers; those before are left to augment.py
_ATTEMPTS = 10
_INCREMENT = 0x9E3779B97F4A7C15  # by which SplitMix64, the generator of augment.py, moves on with each draw
_THREADS = os.cpu_count() or 1
_READS = 16  # files read at a time: they are waited for, not worked on
_INTERLEAVED = 16  # files of records read in turn
_BUFFER = 256 * 2**20  # bytes, of the buffer that shuffles records, and of batches made ahead

# (index in the split, label, encoded image)
Record = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


# Where images come from


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

    TensorFlow's global seed, which training sets to the recipe's, takes part in the order of what leaves the buffer.

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
            seed = tf.bitcast(order, tf.int64)
            records = records.shuffle(self._buffer, seed, reshuffle_each_iteration=False)
        records = records.skip(tf.cast(start, tf.int64)).take(tf.cast(stop - start, tf.int64))
        if wanted is not None:
            records = tf.data.Dataset.zip(_places(start, stop), records).filter(
                lambda place, record: wanted(place)).map(lambda place, record: record)
        return records.map(self._parse, _THREADS, deterministic=True)


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
        (_, label, _), = _bounded(part.records(None, 0, 1))
    except tf.errors.OpError as error:
        raise _unreadable(part, error) from error
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


# Which part of an image is shown
#
# A window is float32 [4]: the top, left, height and width of a rectangle, in pixels of the encoded image. It is shown
# to the network as a square of `size` pixels.


def shorter_side(size: int) -> int:
    """To how many pixels the shorter side of an image is resized of which the centre `size` pixels are evaluated.

    256 for ImageNet's 224 (and for AlexNet's variant of 227), in proportion for others.
    """
    return 256 if 224 <= size <= 227 else round(size * 256 / 224)


def centre_window(shape: tf.Tensor, size: int) -> tf.Tensor:
    """The evaluation crop: the centre, when the shorter side has been resized to 256 for a size of 224.

    Args:
      shape: float32 [2], the image's height and width.
      size: pixels of the crop.
    """
    extent = size * _scale(shape, size)
    return tf.concat([(shape - extent) / 2, [extent, extent]], 0)


def alexnet_window(shape: tf.Tensor, draws: tf.Tensor, size: int) -> tf.Tensor:
    """AlexNet's training crop (Krizhevsky et al. 2012, sections 2 and 4.1).

    The shorter side is resized to 256, the centre of 256x256 taken, and of it a random square.

    Args:
      shape: float32 [2], the image's height and width.
      draws: float32 [2], random in [0, 1): which row and which column.
      size: pixels of the crop.
    """
    scale, side = _scale(shape, size), shorter_side(size)
    offset = tf.floor(draws * (side - size + 1))
    return tf.concat([(shape - side * scale) / 2 + offset * scale, [size * scale, size * scale]], 0)


def resized_window(shape: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """ImageNet's standard training crop (Szegedy et al. 2015, section 6): of a random size, shape and place.

    Its area is 8% to 100% of the image's, evenly; its aspect ratio 3/4 to 4/3, a ratio and its inverse equally likely.
    Of ten such the first that fits into the image is taken; if none does, the largest in the centre with such a ratio.

    Args:
      shape: float32 [2], the image's height and width.
      draws: float32 [attempts, 4], random in [0, 1): area, aspect ratio, row and column.
    """
    area = tf.reduce_prod(shape) * (0.08 + 0.92 * draws[:, 0])
    ratio = tf.exp((2 * draws[:, 1] - 1) * np.float32(np.log(4 / 3)))  # width / height
    extents = tf.round(tf.sqrt(tf.stack([area / ratio, area * ratio], 1)))
    fits = tf.reduce_all((extents <= shape) & (extents >= 1), 1)
    windows = tf.concat([tf.floor(draws[:, 2:] * (shape - extents + 1)), extents], 1)
    largest = tf.minimum(shape, tf.round(shape[::-1] * np.float32(4 / 3)))
    fallback = tf.concat([tf.floor((shape - largest) / 2), largest], 0)
    return tf.where(tf.reduce_any(fits), windows[tf.argmax(fits)], fallback)


def _scale(shape: tf.Tensor, size: int) -> tf.Tensor:
    """Pixels of the image to a pixel of the resized one."""
    return tf.reduce_min(shape) / shorter_side(size)


def decode(encoded: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor], size: int, channels: int) -> tf.Tensor:
    """Decodes, of an image, a window, and resizes it with antialiasing.

    As when the whole image is resized, pixels beside the window take part in those at its edge.

    Args:
      encoded: JPEG or PNG, string.
      window: float32 [2], height and width of the image -> its window.
      size: height and width of the result.
      channels: 1 for grey, 3 for colour.

    Returns:
      [size, size, channels], uint8.
    """
    def around(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The window, and whole pixels [4] that have it and what antialiasing looks at."""
        shown = window(tf.cast(shape, tf.float32))
        margin = tf.maximum(shown[2:] / size, 1) + 1
        first = tf.maximum(tf.cast(tf.floor(shown[:2] - margin), tf.int32), 0)
        last = tf.minimum(tf.cast(tf.math.ceil(shown[:2] + shown[2:] + margin), tf.int32), shape)
        return shown - tf.concat([tf.cast(first, tf.float32), [0, 0]], 0), tf.concat([first, last - first], 0)

    def from_jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        shown, box = around(tf.io.extract_jpeg_shape(encoded)[:2])
        return shown, tf.io.decode_and_crop_jpeg(encoded, box, channels, dct_method="INTEGER_ACCURATE")

    def from_png() -> tuple[tf.Tensor, tf.Tensor]:
        image = tf.io.decode_png(encoded, channels)
        shown, box = around(tf.shape(image)[:2])
        return shown, image[box[0]:box[0] + box[2], box[1]:box[1] + box[3]]

    shown, pixels = tf.cond(tf.io.is_jpeg(encoded), from_jpeg, from_png)
    scale = size / shown[2:]
    resized = tf.raw_ops.ScaleAndTranslate(images=pixels[None], size=[size, size], scale=scale,
                                           translation=-shown[:2] * scale, kernel_type="triangle", antialias=True)
    return tf.ensure_shape(tf.cast(resized[0] + 0.5, tf.uint8), (size, size, channels))


def ten_crops(images: tf.Tensor, size: int) -> tf.Tensor:
    """The four corners and the centre, then their reflections (Krizhevsky et al. 2012, section 4.1).

    Args:
      images: [batch, height, width, channels], of any type.
      size: pixels of each crop.

    Returns:
      [batch, 10, size, size, channels].

    Raises:
      UsageError: the images are smaller than a crop.
    """
    height, width = images.shape[1:3]
    if min(height, width) < size:
        raise UsageError(f"no crops of {size}x{size} pixels can be taken of images of {height}x{width}: choose a "
                         "smaller size")
    bottom, right = height - size, width - size
    places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = tf.stack([images[:, top:top + size, left:left + size] for top, left in places], 1)
    return tf.concat([crops, tf.reverse(crops, [3])], 1)


def ten_crop_predictions(predict: Callable[[tf.Tensor], tf.Tensor], crops: tf.Tensor) -> tf.Tensor:
    """The predictions for ten crops of each image, averaged (Krizhevsky et al. 2012, section 4.1).

    Args:
      predict: images [n, size, size, channels] -> probabilities [n, classes].
      crops: [batch, 10, size, size, channels].

    Returns:
      [batch, classes].
    """
    probabilities = predict(tf.reshape(crops, (-1, *crops.shape[2:])))
    return tf.reduce_mean(tf.reshape(probabilities, (-1, crops.shape[1], probabilities.shape[-1])), 1)


# Batches


class Streaming:
    """The batches of one run, as `Pipeline` makes them of a data set in memory.

    Attributes:
      normalization: used for every part; its statistics are those of at most 10,000 random training images, cropped as
        for evaluation.
      steps_per_epoch: whole global batches in the training part. In an epoch the images that do not fill a batch are
        left out, other ones each time.
    """

    def __init__(self, source: Source, recipe: Recipe, input_shape: tuple[int, int, int], crop: str = "resized",
                 normalization: str | Normalization = "channel") -> None:
        """Takes the statistics.

        Args:
          source: the data set.
          recipe: what to train; without its `augment` the training images are cropped as for evaluation.
          input_shape: (height, width, channels) of the network's input; height and width must be the same.
          crop: the training crop, one of `CROPS`: `resized` (see `resized_window`) or `alexnet` (`alexnet_window`).
          normalization: its kind, one of `normalization.KINDS`, or one that is fitted already.

        Raises:
          UsageError: there are fewer images than a batch has, one of the sample is damaged, or an argument is wrong.
        """
        if len(source.train) < recipe.batch_size:
            raise UsageError(f"--batch_size={recipe.batch_size} is more than the {len(source.train)} training images "
                             f"of {source.name}")
        if input_shape[0] != input_shape[1]:
            raise UsageError(f"streamed images are square, and {input_shape[0]}x{input_shape[1]} is not: choose one "
                             "--image_size")
        if crop not in CROPS:
            raise UsageError(f"there is no crop {crop!r}: choose one of {', '.join(CROPS)}")
        self._recipe = recipe
        self._parts = {"train": source.train, "validation": source.validation, "test": source.test}
        self._size, _, self._channels = input_shape
        self._crop = crop
        self.steps_per_epoch = len(source.train) // recipe.batch_size
        if isinstance(normalization, str):
            with self._naming_damage("train", self._sample_order(), 0, _SAMPLE):
                images = self._sampled(min(_SAMPLE, len(source.train))).batch(64)
                normalization = normalizations.fit(normalization, (batch.numpy() for batch in _bounded(images)))
        self.normalization = normalization

    def training(self, first_step: int, replicas: int = 1, first_replica: int = 0,
                 local_replicas: int | None = None) -> tf.data.Dataset:
        """Batches of (images, labels) without end, from a given step on: as `Pipeline.training`."""
        recipe, part = self._recipe, self._parts["train"]
        local = replicas if local_replicas is None else local_replicas
        size = recipe.batch_size // replicas
        first_epoch, first_in_epoch = divmod(first_step, self.steps_per_epoch)

        def here(place: tf.Tensor) -> tf.Tensor:
            replica = place % recipe.batch_size // size
            return (replica >= first_replica) & (replica < first_replica + local)

        def records(epoch: tf.Tensor) -> tf.data.Dataset:
            start = tf.where(epoch == first_epoch, first_in_epoch * recipe.batch_size, 0)
            stop = self.steps_per_epoch * recipe.batch_size
            return part.records(self._order(epoch), start, stop, None if local == replicas else here).map(
                lambda *record: (epoch, *record))

        def image(epoch: tf.Tensor, index: tf.Tensor, label: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._training_image(epoch, index, encoded), label

        images = tf.data.Dataset.range(first_epoch, 2**31).flat_map(records).map(image, _THREADS, deterministic=True)
        return self._finished(images.batch(size, drop_remainder=True), lambda images, labels: (
            self.normalization.apply(images), labels), size)

    def evaluation(self, part: str, batch_size: int | None = None, ten_crop: bool = False) -> tf.data.Dataset:
        """Batches of (images, labels, weights) that hold every image of a part exactly once.

        All batches have the same size; the last one is filled up with images of weight 0.

        Args:
          part: "validation" or "test".
          batch_size: images a batch; by default the recipe's.
          ten_crop: whether images are [batch, 10, ...], the ten crops of AlexNet's test, and not their centre's crop.
        """
        size = batch_size or self._recipe.batch_size
        count, side = len(self._parts[part]), shorter_side(self._size)

        def image(index: tf.Tensor, label: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, ...]:
            if ten_crop:
                square = decode(encoded, _largest_square, side, self._channels)
                return ten_crops(square[None], self._size)[0], label, tf.constant(1.0)
            return self._evaluation_image(encoded), label, tf.constant(1.0)

        def filled(*batch: tf.Tensor) -> list[tf.Tensor]:
            missing = size - tf.shape(batch[0])[0]
            return [tf.ensure_shape(tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)),
                                    (size, *values.shape[1:])) for values in batch]

        def normalized(*batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
            images, labels, weights = filled(*batch)
            flat = tf.reshape(images, (-1, *images.shape[-3:]))
            return tf.reshape(self.normalization.apply(flat), images.shape), labels, weights

        images = self._parts[part].records(None, 0, count).map(image, _THREADS, deterministic=True)
        batches = images.batch(size).apply(tf.data.experimental.assert_cardinality(-(-count // size)))
        return self._finished(batches, normalized, size * (10 if ten_crop else 1))

    def examples(self, count: int) -> np.ndarray:
        """Random training images, cropped as in the first epoch, as pixels: uint8."""
        records = self._parts["train"].records(self._sample_order(), 0, self._at_most(count))
        with self._naming_damage("train", self._sample_order(), 0, count):
            return np.stack([image.numpy() for image in _bounded(records.map(
                lambda index, label, encoded: self._training_image(tf.constant(0, tf.int64), index, encoded)))])

    def inspected(self, count: int) -> tf.Tensor:
        """Random training images, cropped as for evaluation, normalized."""
        with self._naming_damage("train", self._sample_order(), 0, count):
            return self.normalization.apply(tf.stack(list(_bounded(self._sampled(self._at_most(count))))))

    def check_training(self, first_step: int, steps: int) -> None:
        """Decodes the images of some training steps again, for when TensorFlow said that one of them cannot be.

        Raises:
          UsageError: which image cannot be decoded, or cannot be read.
        """
        for step in range(first_step, first_step + steps):
            epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
            start = step_in_epoch * self._recipe.batch_size
            self._check("train", self._order(tf.constant(epoch, tf.int64)), start, start + self._recipe.batch_size)

    def check_evaluation(self, part: str) -> None:
        """Decodes the images of a part again, as `check_training`."""
        self._check(part, None, 0, len(self._parts[part]))

    def _check(self, part: str, order: tf.Tensor | None, start: int, stop: int) -> None:
        source = self._parts[part]
        try:
            for index, _, encoded in _bounded(source.records(order, start, stop)):
                try:
                    (tf.io.decode_jpeg if tf.io.is_jpeg(encoded) else tf.io.decode_png)(encoded, self._channels)
                except tf.errors.OpError as error:
                    raise UsageError(f"{source.name(int(index))} cannot be read as an image ({_reason(error)}): get it "
                                     "again, or remove it") from error
        except tf.errors.OpError as error:
            raise _unreadable(source, error) from error

    @contextmanager
    def _naming_damage(self, part: str, order: tf.Tensor | None, start: int, stop: int) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError:
            self._check(part, order, start, min(stop, len(self._parts[part])))
            raise

    def _at_most(self, count: int) -> int:
        return min(count, len(self._parts["train"]))

    def _sampled(self, count: int) -> tf.data.Dataset:
        """Random training images, cropped as for evaluation: uint8."""
        return self._parts["train"].records(self._sample_order(), 0, count).map(
            lambda index, label, encoded: self._evaluation_image(encoded), _THREADS, deterministic=True)

    def _evaluation_image(self, encoded: tf.Tensor) -> tf.Tensor:
        return decode(encoded, lambda shape: centre_window(shape, self._size), self._size, self._channels)

    def _training_image(self, epoch: tf.Tensor, index: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
        if not self._recipe.augment:
            return self._evaluation_image(encoded)
        seed = augment.image_seeds(self._recipe.seed, epoch, index[None])[0]
        draws = _draws(seed, 1 + 4 * _ATTEMPTS)

        def window(shape: tf.Tensor) -> tf.Tensor:
            if self._crop == "alexnet":
                return alexnet_window(shape, draws[1:3], self._size)
            return resized_window(shape, tf.reshape(draws[1:], (_ATTEMPTS, 4)))

        image = decode(encoded, window, self._size, self._channels)
        if not self._recipe.mirror:
            return image
        return tf.cond(draws[0] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)

    def _finished(self, batches: tf.data.Dataset, function: Callable[..., Any], images: int) -> tf.data.Dataset:
        """The function of each batch of so many images, some batches ahead: as many as may be held."""
        size = images * self._size ** 2 * self._channels * 4
        return _bounded(batches.map(function, max(1, min(2 * _THREADS, _BUFFER // size)), deterministic=True))

    def _order(self, epoch: tf.Tensor) -> tf.Tensor:
        # As in Pipeline: one draw of the seeds' own generator, so that neighbouring seeds have unrelated orders.
        bits = augment.image_seeds(self._recipe.seed, epoch, tf.constant([-1], tf.int64))
        return tf.bitcast(bits, tf.int32)[0]

    def _sample_order(self) -> tf.Tensor:
        return self._order(tf.constant(-1, tf.int64))


def _largest_square(shape: tf.Tensor) -> tf.Tensor:
    side = tf.reduce_min(shape)
    return tf.concat([(shape - side) / 2, [side, side]], 0)


def _draws(seed: tf.Tensor, count: int) -> tf.Tensor:
    """The random numbers of an image from `_FIRST_DRAW` on: float32 [count]."""
    states = seed + tf.constant(np.arange(count, dtype=np.uint64) * np.uint64(_INCREMENT))
    return augment.uniform(states, _FIRST_DRAW)


def _bounded(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    # Autotuning has a thread that sleeps for up to a minute, and an iterator's destruction waits until it wakes; it
    # would also choose how much is buffered.
    options.autotune.enabled = False
    # Not whole files to each machine: the number of batches would differ.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)


def _unreadable(part: Part, error: tf.errors.OpError) -> UsageError:
    return UsageError(f"{part.origin} cannot be read ({_reason(error)}): change its permissions, or get it again")


def _reason(error: tf.errors.OpError) -> str:
    """What TensorFlow says, in one line, without where in its graph."""
    text = " ".join(re.sub(r"\{\{.*?\}\}|\[\[.*|\[Op:.*", "", error.message, flags=re.DOTALL).split())
    return text if len(text) <= 300 else text[:300] + "..."


# Measuring


def main(arguments: list[str] | None = None) -> int:
    """Generates class folders of 256x256 JPEG files, and streams one epoch and the test set of them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="training images (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="of the crops, in pixels (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        recipe = Recipe(experiment="", network="", batch_size=options.batch_size)
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), options.images)
            print(f"{options.images:,} training images of 256x256 generated; peak memory so far {_peak():.2f} GiB")
            start = time.perf_counter()
            streaming = Streaming(from_folder(folder), recipe, (options.size, options.size, 3))
            print(f"statistics of normalization: {time.perf_counter() - start:.1f} s, peak memory {_peak():.2f} GiB")
            for name, batches in (("training", streaming.training(0).take(streaming.steps_per_epoch)),
                                  ("test", streaming.evaluation("test"))):
                start, count = time.perf_counter(), 0
                for images, _, *weights in batches:
                    count += int(sum(weights[0])) if weights else len(images)
                seconds = time.perf_counter() - start
                print(f"{name}: {count:,} images, {count / seconds:,.0f} images/s, peak memory {_peak():.2f} GiB")
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def generate(folder: Path, images: int, distinct: int = 200) -> None:
    """Makes class folders of ten classes with 256x256 JPEG files, and a tenth as many test images.

    Args:
      folder: an empty folder.
      images: the number of training images.
      distinct: how many of them differ; the others are hard links to these.
    """
    random = np.random.default_rng(0)
    contents = []
    for _ in range(distinct):
        # Large shapes and some noise: about as many bytes as a photograph has.
        shapes = Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).resize((256, 256))
        pixels = np.asarray(shapes) + random.normal(0, 8, (256, 256, 3))
        stream = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        contents.append(stream.getvalue())
    first: list[Path] = []
    for part, count in (("train", images), ("test", max(10, images // 10))):
        for label in range(10):
            (folder / part / f"class{label}").mkdir(parents=True)
        for number in range(count):
            path = folder / part / f"class{number % 10}" / f"{number:07}.jpg"
            if len(first) < distinct:
                path.write_bytes(contents[len(first)])
                first.append(path)
            else:
                path.hardlink_to(first[number % distinct])


def _peak() -> float:
    """The most main memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


if __name__ == "__main__":
    sys.exit(main())
