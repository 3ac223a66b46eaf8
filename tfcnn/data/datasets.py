"""Data sets in memory: `load(name)` returns the training, validation and test images as arrays.

To add a data set with official files, add an entry to `official.KNOWN`. Official files are read directly, not through
tensorflow-datasets: that insists on the exact bytes of the published archives, which a recompressed copy does not have,
stores the data a second time, and does not say which file is damaged. Every other data set that tensorflow-datasets
offers with `image` and `label` is read through it, and folders of JPEG and PNG files through Pillow.

Data sets too large for memory are read by `sources` and `streaming`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tfcnn.data import folders, official, subset, tfds
from tfcnn.data.data_dir import find_folder
from tfcnn.data.errors import Unavailable, permission_denied
from tfcnn.data.split import Contents, Split, split_validation
from tfcnn.recipe import UsageError

__all__ = ["Dataset", "Split", "Unavailable", "load"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
      name: the name that was given to `load`.
      source: one line on where the pixels come from, without a path of this machine.
      class_names: the names of the classes, in the order of the labels.
      train: the training set without the validation part.
      validation: the part of the training set that is held out.
      test: the test set.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


def load(name: str, data_dir: str | None = None, *, validation: float = 0.1, seed: int = 0,
         image_size: tuple[int, int] | None = None, train_images: int = 0, random_labels: float = 0.0,
         classes: str | Sequence[str] = "") -> Dataset:
    """Reads a data set into memory and holds out a part of its training set for validation.

    If `data_dir` is given, it must hold the data set: official files in `data_dir` or `data_dir/NAME`, class folders,
    or what tensorflow-datasets has prepared. Otherwise the four data sets with official files are searched for where
    system packages install them, then all among what tensorflow-datasets has prepared; finally tensorflow-datasets
    downloads them. The sample comes with tfcnn, whatever `data_dir` holds.

    Args:
      name: `cifar10`, `cifar100`, `mnist`, `fashion_mnist`, `sample`, `folder`, or the name of an image-classification
        data set of tensorflow-datasets.
      data_dir: folder of the data: official files, class folders, or data prepared by tensorflow-datasets.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice of the validation images, of `train_images` and of `random_labels`.
      image_size: height and width, in pixels, for images of different sizes: the shorter side is resized and the centre
        cropped. Images that all have the same size are left as they are.
      train_images: how many of the other training images to keep, equally many of each class; 0 for all.
      random_labels: probability with which the label of each of these is replaced by a random one, in [0, 1].
      classes: the classes to keep, as in `subset.of_classes`; empty for all.

    Returns:
      The data set, with images in the order of the files.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: the data set is unknown or damaged, `data_dir` does not hold it, or the validation share, the number
        of training images or a class is impossible.
    """
    try:
        folder = find_folder(name, data_dir)
        if name == "folder":
            contents = folders.read(folders.root(data_dir), image_size)
        else:
            contents = official.read(name, folder) or tfds.read(name, folder, image_size)
    except PermissionError as error:
        raise permission_denied(error) from error
    _check(name, contents)
    if classes:
        contents = subset.of_classes(contents, classes)
        _check(name, contents)
    train, held_out = split_validation(contents.train, validation, seed)
    train = subset.reduced(train, train_images, seed)
    train = Split(train.images, subset.randomized(train.labels, random_labels, len(contents.class_names), seed))
    return Dataset(name, contents.source, contents.class_names, train, held_out, contents.test)


def _check(name: str, contents: Contents) -> None:
    """Raises UsageError unless the images and labels are what the rest of the suite relies on."""
    train, test = contents.train, contents.test
    _check_part(f"--dataset={name}: the training set", train, len(contents.class_names))
    _check_part(f"--dataset={name}: the test set", test, len(contents.class_names))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise UsageError(f"--dataset={name}: training images of shape {list(train.images.shape[1:])}, but test images "
                         f"of shape {list(test.images.shape[1:])}: choose one size for all with --image_size")
    if len(np.unique(train.labels)) < 2:
        raise UsageError(f"--dataset={name}: all training images are of one class: there is nothing to learn")


def _check_part(part: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise UsageError(f"{part} has {images.dtype} images of shape {list(images.shape[1:])}; images must be bytes, "
                         "[height, width, 1 or 3]")
    if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
        raise UsageError(f"{part} has {labels.dtype} labels of shape {list(labels.shape)} for {len(images)} images")
    if not images.size:
        raise UsageError(f"{part} has no images")
    if labels.min() < 0 or labels.max() >= classes:
        raise UsageError(f"{part} has labels from {labels.min()} to {labels.max()}, but there are {classes} classes")
