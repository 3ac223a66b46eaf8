"""Data sets to be streamed: `load(name)` finds one, and splits off its validation part, without decoding an image."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn.data import folders, subset, tfds
from tfcnn.data.data_dir import find_folder
from tfcnn.data.errors import permission_denied
from tfcnn.data.parts import Files, Part, RandomAccessRecords, Relabelled, SequentialRecords, bounded, unreadable
from tfcnn.data.split import Contents, Split, split_validation
from tfcnn.recipe import UsageError


@dataclasses.dataclass(frozen=True)
class Source:
    """A data set to be streamed.

    Attributes:
      name: `folder`, or what tensorflow-datasets calls it.
      source: one line on where the pixels come from, without a path of this machine.
      class_names: the names of the classes, in the order of the labels.
      train: the training set without the validation part.
      validation: the part of the training set that is held out.
      test: the test set.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train: Part
    validation: Part
    test: Part


def load(name: str, data_dir: str | None = None, *, validation: float = 0.1, seed: int = 0, train_images: int = 0,
         random_labels: float = 0.0, classes: str | Sequence[str] = "") -> Source:
    """Finds a data set to be streamed, and holds out a part of its training set for validation.

    Args:
      name: `folder`, or the name of an image-classification data set of tensorflow-datasets.
      data_dir: folder of the data: class folders, or what tensorflow-datasets has prepared.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice of the validation images, of `train_images` and of `random_labels`.
      train_images, random_labels, classes: as in `datasets.load`, but of a data set of tensorflow-datasets the images
        are drawn from all classes together, and classes cannot be chosen.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: the data set is unknown or damaged, `data_dir` does not hold it, or the validation share, the number
        of training images or a class is impossible.
    """
    if name == "sample":
        raise UsageError("--dataset=sample fits into memory: leave out --stream")
    folder = find_folder(name, data_dir, stream=True)
    if name == "folder":
        return from_folder(folders.root(data_dir), validation, seed, train_images, random_labels, classes)
    if classes:
        named = classes if isinstance(classes, str) else ",".join(classes)
        raise UsageError(f"--classes={named} with --stream needs class folders, whose labels are known before the "
                         "images are read: leave out one of the two")
    return from_tfds(tfds.builder(name, folder), validation, seed, train_images, random_labels)


def from_folder(folder: str | Path, validation: float = 0.1, seed: int = 0, train_images: int = 0,
                random_labels: float = 0.0, classes: str | Sequence[str] = "") -> Source:
    """Class folders of JPEG and PNG files, split as `datasets.load` splits them.

    Opens no file: a damaged one is found when it is decoded.

    Args:
      folder: has `train/CLASS/*` and `test/CLASS/*`.
      validation: share of the training images to hold out, in [0, 1), the same for every class.
      seed: seed of the choice.
      train_images, random_labels, classes: as in `datasets.load`.

    Raises:
      UsageError: the folders are not as they must be, or the validation share, the number of training images or a class
        is impossible.
    """
    root = os.path.abspath(os.path.expanduser(folder))
    try:
        train, test = folders.find(root)
    except PermissionError as error:
        raise permission_denied(error) from error

    def files(part: folders.ClassFolders, chosen: Split) -> Files:
        paths = [os.fsencode(path) for path in part.paths()]
        return Files(part.path, [paths[index] for index in chosen.images], chosen.labels)

    # In place of the images their numbers: what is chosen depends on the labels only.
    numbered = (Split(np.arange(len(part.labels())), part.labels()) for part in (train, test))
    contents = subset.of_classes(Contents(folders.source(root), tuple(train.files), *numbered), classes)
    kept, held_out = split_validation(contents.train, validation, seed)
    kept = subset.reduced(kept, train_images, seed)
    kept = Split(kept.images, subset.randomized(kept.labels, random_labels, len(contents.class_names), seed))
    return Source("folder", contents.source, contents.class_names, files(train, kept), files(train, held_out),
                  files(test, contents.test))


def from_tfds(builder: Any, validation: float = 0.1, seed: int = 0, train_images: int = 0, random_labels: float = 0.0
              ) -> Source:
    """A data set that tensorflow-datasets has prepared.

    The validation part and `train_images` are drawn from all training images, not from each class: labels are known
    only after reading everything. The test set is `test`, or `validation` if there is no `test` or it has no labels (as
    in ImageNet).

    Args:
      builder: of the data set, an image classification, prepared.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice.
      train_images: how many of the other training images to keep; 0 for all.
      random_labels: as in `datasets.load`.

    Raises:
      UsageError: the data set lacks a part, is in a format that cannot be streamed, or the validation share is
        impossible.
    """
    formats = {"array_record": RandomAccessRecords, "tfrecord": SequentialRecords}
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
        raise UsageError(f"{name} has the parts {', '.join(sorted(builder.info.splits))}; it must have train, and test "
                         "or validation with labels")
    count, names = builder.info.splits["train"].num_examples, tuple(builder.info.features["label"].names)
    train, held_out = _random_split(count, validation, seed)
    if train_images:  # all images as if they were of one class
        train = subset.reduced(Split(train, np.zeros(len(train), np.int32)), train_images, seed).images
    training: Part = part("train", train)
    if random_labels:
        kept = np.full(count, -1, np.int32)
        training = Relabelled(training, subset.randomized(kept, random_labels, len(names), seed))
    return Source(builder.info.name, f"tensorflow-datasets, {name}", names, training, part("train", held_out),
                  labelled[0])


def _random_split(count: int, validation: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the training part and of the validation part, both sorted."""
    held_out = round(validation * count)
    if not 0 <= validation < 1 or held_out == count or (validation > 0 and held_out == 0):
        raise UsageError(f"--validation={validation:g} of {count} training images leaves one of the two parts without "
                         "any: choose another share, or 0")
    shuffled = np.random.default_rng(seed).permutation(count)
    return np.sort(shuffled[held_out:]), np.sort(shuffled[:held_out])


def _first_label(part: Part) -> int:
    try:
        (_, label, _), = bounded(part.records(None, 0, 1))
    except tf.errors.OpError as error:
        raise unreadable(part, error) from error
    return int(label)
