"""From a data set in memory and a recipe to the batches of a training run, with tf.data.

The batch of a step is a pure function of (seed, step): its epoch is `step // steps_per_epoch`, its images are the next
ones in that epoch's random order, and each is augmented by its own seed. So nothing has to be saved to resume at any
step, and a replica computes its own part of a global batch without the others.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn.data import normalization
from tfcnn.data.augmentation import colour, composition, geometry, mixing, random_numbers, resampling
from tfcnn.data.datasets import Dataset, Split
from tfcnn.data.images import to_channels
from tfcnn.recipe import Recipe, UsageError

# Resizing a small image shows the network blurred pixels, padding keeps the real ones. Up to this share of the
# network's input, images are padded (28x28 to 32x32, as for LeNet-5); beyond it they are resized.
_LARGEST_PADDING = 0.25

_CORES = os.cpu_count() or 1

# Per-replica batches planned at once, so that what is computed from a few numbers per image takes almost no time.
PLANNED = 32


def fit(split: Split, input_shape: tuple[int, int, int]) -> Split:
    """Gives the images of a split the size and the channels of the network's input.

    Grey images are repeated in three channels; colour images are converted to grey by ITU-R 601 luma. Images that are a
    little smaller are padded with zeros on all sides; of others the largest rectangle of the input's proportions,
    around the centre, is resized with antialiasing.

    Args:
      split: images [n, height, width, channels], uint8.
      input_shape: (height, width, channels) of the network's input.

    Raises:
      UsageError: there is no sensible conversion between the numbers of channels.
    """
    images = split.images
    height, width, channels = input_shape
    if images.shape[-1] != channels and {images.shape[-1], channels} != {1, 3}:
        raise UsageError(f"images with {images.shape[-1]} channels cannot be given to a network with {channels}")
    if images.shape[1:3] != (height, width):
        images = _fit_size(images, height, width)
    return dataclasses.replace(split, images=to_channels(images, channels))


def _fit_size(images: np.ndarray, height: int, width: int) -> np.ndarray:
    margins = height - images.shape[1], width - images.shape[2]
    if 0 <= margins[0] <= _LARGEST_PADDING * height and 0 <= margins[1] <= _LARGEST_PADDING * width:
        return np.pad(images, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])
    images = _of_proportions(images, height, width)
    fitted = np.empty((len(images), height, width, images.shape[-1]), np.uint8)
    for start in range(0, len(images), 256):
        resized = tf.image.resize(images[start:start + 256], (height, width), antialias=True)
        fitted[start:start + 256] = np.rint(np.clip(resized, 0, 255))
    return fitted


def _of_proportions(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """The largest rectangle of images, around their centre, that has the proportions of this height and width."""
    _, rows, columns, _ = images.shape
    top, left, rows, columns = window_of_proportions(rows, columns, height, width)
    return images[:, top:top + rows, left:left + columns]


def window_of_proportions(rows: int, columns: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, rows and columns of the largest rectangle of the proportions in an image of these rows and columns."""
    inner = min(rows, round(columns * height / width)), min(columns, round(rows * width / height))
    return (rows - inner[0]) // 2, (columns - inner[1]) // 2, *inner


class Pipeline:
    """The batches of one run.

    Attributes:
      normalization: statistics of the training part, used for every part.
      steps_per_epoch: whole global batches in the training part. An epoch leaves out the images that do not fill a
        batch, different ones each time.
    """

    def __init__(self, dataset: Dataset, recipe: Recipe, input_shape: tuple[int, int, int]) -> None:
        """Fits the images to the network's input, and computes the statistics.

        Args:
          dataset: the data set.
          recipe: what to train.
          input_shape: (height, width, channels) of the network's input.

        Raises:
          UsageError: the images cannot be fitted, or there are fewer of them than a batch has.
        """
        if len(dataset.train.labels) < recipe.batch_size:
            raise UsageError(f"--batch_size={recipe.batch_size} is more than the {len(dataset.train.labels)} training "
                             f"images of {dataset.name}")
        train = fit(dataset.train, input_shape)
        self._recipe = recipe
        self._images, self._labels = _on_host(train)
        self._classes = len(dataset.class_names)
        self._evaluated = {"validation": dataset.validation, "test": dataset.test}
        self._input_shape = input_shape
        self._operations = recipe.augmentations()
        self._moves_whole_pixels = (geometry.moves_whole_pixels(self._operations)
                                    and resampling.addressable(self._images))
        self._components = None
        if any(operation.name == "colour_pca" for operation in self._operations):
            self._components = colour.components(train.images)
        self.normalization = normalization.fit(recipe.input_normalization, train.images)
        self.steps_per_epoch = len(train.labels) // recipe.batch_size

    def training(self, first_step: int, replicas: int = 1, first_replica: int = 0,
                 local_replicas: int | None = None) -> tf.data.Dataset:
        """Endless batches of (images, labels), from a given step on.

        With several replicas a global batch comes as one per-replica batch for each, in the order of the replicas; a
        worker requests those of its own replicas.

        Args:
          first_step: the global step of the first batch, from 0.
          replicas: the number of per-replica batches that a global batch is divided into.
          first_replica: the first of this worker's replicas.
          local_replicas: the number of this worker's replicas; by default all.

        Returns:
          images [batch_size / replicas, height, width, channels], float32, normalized; labels [...], int32, or, where
          images are mixed, the weights of the classes [..., classes], float32.
        """
        plans = _in_advance(lambda steps, batch_replicas: self._plan(steps, batch_replicas, replicas), first_step,
                            replicas, first_replica, local_replicas)
        if not self._moves_whole_pixels:
            return in_parallel(plans, self._augmented_batch)
        # Moving pixels takes a small part of any training step on the same processor, and one thread takes less of it.
        return in_parallel(plans, self._moved_batch, _CORES if tf.config.list_physical_devices("GPU") else 1)

    def order(self, first_step: int, replicas: int = 1, first_replica: int = 0, local_replicas: int | None = None
              ) -> tf.data.Dataset:
        """Which training images are in each batch of `training`, with the same arguments: [batch_size / replicas]."""
        return _in_advance(lambda steps, batch_replicas: self._indices(steps, batch_replicas, replicas), first_step,
                           replicas, first_replica, local_replicas)

    def examples(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Training images spread over the training part, augmented as in the first epoch: uint8; and their labels."""
        images, labels = self._augment(self._spread(count), tf.constant(0, tf.int64))
        return colour.to_bytes(images).numpy(), labels.numpy()

    def inspected(self, count: int) -> tf.Tensor:
        """Training images spread over the training part, normalized but not augmented."""
        return self.normalization.apply(tf.gather(self._images, self._spread(count)))

    def check_training(self, first_step: int, steps: int) -> None:
        """Does nothing: images in memory have been decoded. See `Streaming.check_training`."""

    def check_evaluation(self, part: str) -> None:
        """Does nothing, as `check_training`."""

    def _spread(self, count: int) -> tf.Tensor:
        """Evenly spaced indices, since class folders come sorted by class."""
        return tf.constant(np.linspace(0, len(self._labels) - 1, min(count, len(self._labels))).astype(np.int64))

    def evaluation(self, part: str, batch_size: int | None = None) -> tf.data.Dataset:
        """Batches of (images, labels, weights) that hold every image of a part exactly once.

        All batches have the same size; the last one is filled up with images of weight 0.

        Args:
          part: "train", not augmented, "validation" or "test".
          batch_size: images per batch; by default the recipe's.
        """
        size = batch_size or self._recipe.batch_size
        images, labels = (self._images, self._labels) if part == "train" else _on_host(
            fit(self._evaluated[part], self._input_shape))

        def batch(indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            chosen = tf.ensure_shape(tf.gather(images, indices), (size, *self._input_shape))
            return self.normalization.apply(chosen), tf.gather(labels, indices)

        return each_once(len(labels), size, batch)

    def _plan(self, steps: tf.Tensor, batch_replicas: tf.Tensor, replicas: int) -> tuple[tf.Tensor, ...]:
        """Which images are in some per-replica batches, and whatever else a few numbers per image decide.

        This takes about as long for one batch as for many.

        Args:
          steps: [batches], int64.
          batch_replicas: [batches], int64: the replica of each batch.
          replicas: the number of per-replica batches that a global batch is divided into.

        Returns:
          The arguments of `_augmented_batch` for each batch, or, where pixels are only moved, of `_moved_batch`.
        """
        size = self._recipe.batch_size // replicas
        epochs = steps // self.steps_per_epoch
        indices = self._indices(steps, batch_replicas, replicas)
        if not self._moves_whole_pixels:
            return epochs, indices
        flat = tf.reshape(indices, [-1])
        seeds = self._seeds(tf.repeat(epochs, size), flat)
        height, width, _ = self._input_shape
        rows, columns = composition.source_offsets(tf.cast(flat, tf.int32), seeds, self._operations, (height, width))
        return (tf.gather(self._labels, indices), tf.reshape(rows, (-1, size, height, 1)),
                tf.reshape(columns, (-1, size, 1, width)))

    def _indices(self, steps: tf.Tensor, batch_replicas: tf.Tensor, replicas: int) -> tf.Tensor:
        """Which images are in some per-replica batches, with the arguments of `_plan`: int64 [batches, images]."""
        size = self._recipe.batch_size // replicas
        starts = steps % self.steps_per_epoch * self._recipe.batch_size + batch_replicas * size
        order_seeds = random_numbers.order_seed(self._recipe.seed, steps // self.steps_per_epoch)
        positions = starts[:, None] + tf.range(size, dtype=tf.int64)
        return random_numbers.shuffled_indices(positions, order_seeds, len(self._labels))

    def _augmented_batch(self, epoch: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The images of a per-replica batch, augmented and normalized, and its labels."""
        images, labels = self._augment(indices, epoch)
        return self.normalization.apply(tf.ensure_shape(images, (indices.shape[0], *self._input_shape))), labels

    def _moved_batch(self, labels: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The same where augmentation only moves whole pixels: see `composition.source_offsets`."""
        if not self.normalization.elementwise:
            return self.normalization.apply(resampling.gather_pixels(self._images, rows, columns)), labels

        @resampling.compiled  # in one loop over memory: one after the other, the two take half as long again
        def normalized(images: tf.Tensor) -> tf.Tensor:
            return self.normalization.apply(resampling.gather_pixels(images, rows, columns))

        return normalized(self._images), labels

    def _augment(self, indices: tf.Tensor, epoch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Training images as augmented in an epoch, and their labels, mixed if the images are."""
        images = self._gather_and_augment(indices, epoch)
        labels = tf.gather(self._labels, indices)
        if not mixing.mixes(self._operations):
            return images, labels
        seeds = self._seeds(epoch, indices)
        others = mixing.partner_indices(seeds, len(self._labels))
        images, share = mixing.mix(images, self._gather_and_augment(others, epoch), seeds, self._operations)
        own, other = (tf.one_hot(classes, self._classes) for classes in (labels, tf.gather(self._labels, others)))
        return images, own * share[:, None] + other * (1.0 - share[:, None])

    def _seeds(self, epochs: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
        return composition.image_seeds(self._recipe.seed, epochs, indices, self._operations)

    def _gather_and_augment(self, indices: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        seeds = self._seeds(epoch, indices)
        return composition.gather_and_augment(self._images, indices, seeds, self._operations, self._components)


def each_once(count: int, size: int, batch: Callable[[tf.Tensor], tuple[tf.Tensor, ...]]) -> tf.data.Dataset:
    """Batches of one size that hold each of `count` images exactly once.

    Args:
      count: the number of images.
      size: images per batch. The last batch is filled up with images of weight 0.
      batch: returns what a batch has of its images, from their indices, int64 [size].

    Returns:
      What `batch` returns, and the weights of the images, float32 [size].
    """
    def weighted(start: tf.Tensor) -> tuple[tf.Tensor, ...]:
        positions = start + tf.range(size, dtype=tf.int64)
        return *batch(tf.minimum(positions, count - 1)), tf.cast(positions < count, tf.float32)

    return in_parallel(tf.data.Dataset.range(0, count, size), weighted)


def _in_advance(plan: Callable[[tf.Tensor, tf.Tensor], Any], first_step: int, replicas: int, first_replica: int,
                local_replicas: int | None) -> tf.data.Dataset:
    """What `plan` returns for each per-replica batch, from a step on, computed for `PLANNED` batches at once.

    Args:
      plan: takes the steps and the replicas of some batches, int64 [batches].
      first_step, replicas, first_replica, local_replicas: as of `Pipeline.training`.
    """
    local = replicas if local_replicas is None else local_replicas

    @tf.autograph.experimental.do_not_convert
    def planned(first: tf.Tensor) -> Any:
        numbers = first + tf.range(PLANNED, dtype=tf.int64)
        return plan(numbers // local, first_replica + numbers % local)

    return tf.data.Dataset.range(first_step * local, 2**62, PLANNED).map(planned).unbatch()


def in_parallel(dataset: tf.data.Dataset, function: Callable[..., Any], threads: int = _CORES
                ) -> tf.data.Dataset:
    """The function of each element, in order, computed by several threads some elements ahead."""
    options = tf.data.Options()
    # Autotuning has a thread that sleeps for up to a minute, and the destruction of an iterator waits for it to wake.
    options.autotune.enabled = False
    # Threads of its own, so that these can have low priority: see `training.process`.
    options.threading.private_threadpool_size = threads
    options.experimental_warm_start = True  # they start with the iterator, not with its first batch
    # There are no branches on tensors, and conversion by AutoGraph takes most of a second.
    function = tf.autograph.experimental.do_not_convert(function)
    # A single thread is faster without handing over to others: it is the one that prefetches.
    mapped = dataset.map(function, threads, deterministic=True) if threads > 1 else dataset.map(function)
    return mapped.prefetch(2 * threads).with_options(options)


def _on_host(split: Split) -> tuple[tf.Tensor, tf.Tensor]:
    """Images and labels as tensors in main memory, which tf.data's functions capture instead of copying."""
    with tf.device("CPU"):
        return tf.constant(split.images), tf.constant(split.labels)
