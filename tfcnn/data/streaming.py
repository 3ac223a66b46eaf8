"""Streaming, for images too large for memory: they are decoded, cropped and resized while training.

    python -m tfcnn.data.streaming --images=20000       measures speed and peak memory on generated images

`Streaming` makes the batches that `Pipeline` makes of a data set in memory. It reads, decodes, batches and augments in
stages with a bounded number of elements in flight, so that memory hardly depends on the size of the data set.

The batch of a step is again a pure function of (seed, step), and each image is augmented by its own seed. Of the
recipe's augmentations, `crop` (here AlexNet's crop) and `resized_crop` choose which window of an image is decoded; the
others are applied to the batch, in their order. Without a crop, training images are cropped as for evaluation.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tfcnn import console, exit_status
from tfcnn.augmentations import Operation
from tfcnn.data import image_windows, normalization, streamed_crops, streamed_evaluation
from tfcnn.data.augmentation import colour, composition, mixing, random_numbers
from tfcnn.data.parts import bounded, unconverted
from tfcnn.data.sources import Source, from_folder
from tfcnn.recipe import Recipe, UsageError

_CROPS = ("crop", "resized_crop")
_SAMPLE = 10_000  # training images that the statistics of normalization and of colours are taken from
_THREADS = os.cpu_count() or 1
_DISTINCT = 200  # generated images; more are hard links to these
_BUFFER = 256 * 2**20  # bytes of batches made ahead


class Streaming:
    """The batches of one run, as `Pipeline` makes them of a data set in memory.

    Attributes:
      normalization: used for every part; its statistics are those of at most 10,000 random training images, cropped as
        for evaluation.
      steps_per_epoch: whole global batches in the training part. An epoch leaves out the images that do not fill a
        batch, different ones each time.
    """

    def __init__(self, source: Source, recipe: Recipe, input_shape: tuple[int, int, int]) -> None:
        """Computes the statistics.

        Args:
          source: the data set.
          recipe: what to train.
          input_shape: (height, width, channels) of the network's input; height and width must be equal.

        Raises:
          UsageError: there are fewer images than a batch has, an image of the sample is damaged, or an augmentation
            cannot be applied to streamed images.
        """
        if len(source.train) < recipe.batch_size:
            raise UsageError(f"--batch_size={recipe.batch_size} is more than the {len(source.train)} training images "
                             f"of {source.name}")
        if input_shape[0] != input_shape[1]:
            raise UsageError(f"streamed images are square, and {input_shape[0]}x{input_shape[1]} is not: choose one "
                             "--image_size")
        operations = recipe.augmentations()
        self._crop = _only_crop(recipe, operations)
        self._recipe = recipe
        self._parts = {"train": source.train, "validation": source.validation, "test": source.test}
        self._size, _, self._channels = input_shape
        self._operations = [operation for operation in operations if operation is not self._crop]
        self.steps_per_epoch = len(source.train) // recipe.batch_size
        with self._naming_damage("train", self._sample_order(), 0, _SAMPLE):
            self.normalization = normalization.fit(recipe.input_normalization, self._sampled_batches())
            self._components = None
            if any(operation.name == "colour_pca" for operation in operations):
                self._components = colour.components(self._sampled_batches())

    @unconverted
    def training(self, first_step: int, replicas: int = 1, first_replica: int = 0,
                 local_replicas: int | None = None) -> tf.data.Dataset:
        """Endless batches of (images, labels) from a given step on: see `Pipeline.training`."""
        recipe, part = self._recipe, self._parts["train"]
        local = replicas if local_replicas is None else local_replicas
        size = recipe.batch_size // replicas
        first_epoch, first_in_epoch = divmod(first_step, self.steps_per_epoch)

        def is_local(position: tf.Tensor) -> tf.Tensor:
            replica = position % recipe.batch_size // size
            return (replica >= first_replica) & (replica < first_replica + local)

        def records(epoch: tf.Tensor) -> tf.data.Dataset:
            start = tf.where(epoch == first_epoch, first_in_epoch * recipe.batch_size, 0)
            stop = self.steps_per_epoch * recipe.batch_size
            order = random_numbers.order_seed(recipe.seed, epoch)
            return part.records(order, start, stop, None if local == replicas else is_local).map(
                lambda *record: (epoch, *record))

        images = tf.data.Dataset.range(first_epoch, 2**31).flat_map(records).map(
            self._training_crop, _THREADS, deterministic=True)
        return self._made_ahead(images.batch(size, drop_remainder=True), lambda images, labels, seeds: (
            self.normalization.apply(self._augment(images, seeds)), labels), size)

    @unconverted
    def evaluation(self, part: str, batch_size: int | None = None) -> tf.data.Dataset:
        """Batches of (images, labels, weights) that hold every image of a part exactly once.

        All batches have the same size; the last one is filled up with images of weight 0. With `test_crops` an image of
        the test part is [10, height, width, channels], AlexNet's crops, and a batch has a tenth as many images.

        Args:
          part: "validation" or "test".
          batch_size: crops per batch; by default the recipe's.
        """
        crops = self._recipe.test_crops if part == "test" else 1
        size = -(-(batch_size or self._recipe.batch_size) // crops)
        batches = streamed_evaluation.batches(self._parts[part], self._size, self._channels, size, crops)

        def filled(values: tf.Tensor) -> tf.Tensor:
            missing = size - tf.shape(values)[0]
            return tf.ensure_shape(tf.pad(values, [[0, missing]] + [[0, 0]] * (values.shape.rank - 1)),
                                   (size, *values.shape[1:]))

        def normalized(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            weights = tf.ones_like(labels, tf.float32)
            images, labels, weights = filled(images), filled(labels), filled(weights)
            flat = tf.reshape(images, (-1, *images.shape[-3:]))
            return tf.reshape(self.normalization.apply(flat), images.shape), labels, weights

        return self._made_ahead(batches, normalized, size * crops)

    @unconverted
    def examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Random training images, augmented as in the first epoch but not mixed: uint8; and their labels."""
        records = self._parts["train"].records(self._sample_order(), 0, self._at_most(count))
        images = records.map(lambda *record: self._training_crop(tf.constant(0, tf.int64), *record), _THREADS)
        with self._naming_damage("train", self._sample_order(), 0, count):
            batches = [(colour.to_bytes(self._augment(cropped, seeds)), labels)
                       for cropped, labels, seeds in bounded(images.batch(64))]
        pixels, classes = (np.concatenate(parts) for parts in zip(*batches))
        return pixels, classes

    def inspected(self, count: int) -> tf.Tensor:
        """Random training images, cropped as for evaluation, normalized."""
        with self._naming_damage("train", self._sample_order(), 0, count):
            return self.normalization.apply(tf.stack(list(bounded(self._sampled(count)))))

    def check_training(self, first_step: int, steps: int) -> None:
        """Decodes the images of some training steps again, after TensorFlow failed to decode one of them.

        Raises:
          UsageError: names the image that cannot be decoded or read.
        """
        for step in range(first_step, first_step + steps):
            epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
            start = step_in_epoch * self._recipe.batch_size
            order = random_numbers.order_seed(self._recipe.seed, tf.constant(epoch, tf.int64))
            streamed_evaluation.check(self._parts["train"], order, start, start + self._recipe.batch_size)

    def check_evaluation(self, part: str) -> None:
        """Decodes the images of a part again: see `check_training`."""
        streamed_evaluation.check(self._parts[part])

    @contextmanager
    def _naming_damage(self, part: str, order: tf.Tensor | None, start: int, stop: int) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError:
            streamed_evaluation.check(self._parts[part], order, start, min(stop, len(self._parts[part])))
            raise

    def _at_most(self, count: int) -> int:
        return min(count, len(self._parts["train"]))

    @unconverted
    def _sampled(self, count: int) -> tf.data.Dataset:
        """Random training images, cropped as for evaluation: uint8."""
        return self._parts["train"].records(self._sample_order(), 0, self._at_most(count)).map(
            lambda index, label, encoded: streamed_evaluation.centre(encoded, self._size, self._channels), _THREADS,
            deterministic=True)

    def _sampled_batches(self) -> Iterator[np.ndarray]:
        return (batch.numpy() for batch in bounded(self._sampled(_SAMPLE).batch(64)))

    def _sample_order(self) -> tf.Tensor:
        return random_numbers.order_seed(self._recipe.seed, tf.constant(-1, tf.int64))

    def _training_crop(self, epoch: tf.Tensor, index: tf.Tensor, label: tf.Tensor, encoded: tf.Tensor
                       ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The image cropped by the recipe's crop, if there is one; its label, and its seed."""
        seeds = composition.image_seeds(self._recipe.seed, epoch, index[None], self._operations)

        def window(shape: tf.Tensor) -> tf.Tensor:
            if self._crop is None:
                return streamed_crops.centre_window(shape, self._size)
            if self._crop.name == "crop":
                return streamed_crops.alexnet_window(shape, _draws(seeds, "crop")[0], self._size)
            draws = tf.reshape(_draws(seeds, "streamed_crop"), (-1, 4))
            return streamed_crops.resized_window(shape, draws, *self._crop.arguments)

        return image_windows.decode_window(encoded, window, self._size, self._channels), label, seeds[0]

    def _augment(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return composition.apply(images, seeds, self._operations, self._components)

    def _made_ahead(self, batches: tf.data.Dataset, function: Callable[..., Any], images: int) -> tf.data.Dataset:
        """The function of each batch of `images` images, computed as many batches ahead as the buffer holds."""
        size = images * self._size ** 2 * self._channels * 4
        return bounded(batches.map(function, max(1, min(2 * _THREADS, _BUFFER // size)), deterministic=True))


def _only_crop(recipe: Recipe, operations: tuple[Operation, ...]) -> Operation | None:
    """The crop among the operations, if there is one.

    Raises:
      UsageError: there are several, or one of the operations mixes images.
    """
    crops = [operation for operation in operations if operation.name in _CROPS]
    if mixing.mixes(operations):
        raise UsageError(f"--augment={recipe.augment} mixes each image with any other, which would have to be read "
                         "as well: leave out --stream, or the mixing")
    if len(crops) > 1:
        raise UsageError(f"--augment={recipe.augment} has {' and '.join(map(str, crops))}: only one crop of a streamed "
                         "image is decoded, leave out the other")
    return crops[0] if crops else None


def _draws(seeds: tf.Tensor, operation: str) -> tf.Tensor:
    return random_numbers.uniforms(seeds, random_numbers.draws_of(operation))


# Measuring


def main(arguments: list[str] | None = None) -> int:
    """Generates class folders of 256x256 JPEG files, and streams one epoch and the test set of them."""
    parser = console.Parser(prog="python -m tfcnn.data.streaming", description=main.__doc__)
    parser.add_argument("--images", type=int, default=20_000, help="training images (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=128, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=224, help="of the crops, in pixels (default: %(default)s)")
    return console.run(parser, _measure, arguments)


def _measure(options: argparse.Namespace) -> int:
    recipe = Recipe(experiment="", network="", stream=True, augment="imagenet", batch_size=options.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        try:
            generate(Path(folder), options.images)
        except OSError as error:
            raise UsageError(f"cannot generate images in {folder}: {error}") from error
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
    return 0


def generate(folder: Path, images: int) -> None:
    """Generates 256x256 JPEG files in class folders of ten classes, and a tenth as many test images.

    Args:
      folder: an empty folder.
      images: the number of training images.

    Raises:
      OSError: a file cannot be written.
    """
    random = np.random.default_rng(0)
    contents = []
    for _ in range(_DISTINCT):
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
            if len(first) < _DISTINCT:
                path.write_bytes(contents[len(first)])
                first.append(path)
            else:
                path.hardlink_to(first[number % _DISTINCT])


def _peak() -> float:
    """The peak of this process's main memory, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KiB


if __name__ == "__main__":
    exit_status.end_process(main)
