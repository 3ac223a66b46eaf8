"""Data sets as arrays in memory: `load(name)` gives the training, validation and test images of one.

A data set whose official files are known is one entry in `KNOWN`. They are read directly, not through
tensorflow-datasets: it wants the very bytes of the published archives, which a recompressed copy does not have, it
writes the data a second time, and it does not say which file is damaged. Whatever else tensorflow-datasets has under
`image` and `label` is read through it, and so are folders of JPEG and PNG files through Pillow.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import difflib
import functools
import gzip
import io
import math
import os
import pickle
import re
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tfcnn.recipe import UsageError

# Less than the ten seconds in which a run must know whether its data can be had: importing TensorFlow takes some too.
_NETWORK_DEADLINE = 5.0
_SMALL = 100 * 100  # pixels
_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)


class Unavailable(UsageError):
    """The data set is not on this machine and cannot be downloaded."""


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
      images: uint8 `[images, height, width, channels]`, with 1 (grey) or 3 (red, green, blue) channels.
      labels: int32 `[images]`, the index of the class.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
      name: what `load` was asked for.
      source: one line on where the pixels come from, without a path of this machine.
      class_names: the names of the classes, in the order of the labels.
      train: what is left of the training set without the validation part.
      validation: the part of the training set held out.
      test: the test set.
    """

    name: str
    source: str
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split


@dataclasses.dataclass(frozen=True)
class Layout:
    """A form in which a data set is published.

    Attributes:
      train: the names of the files with the training images, in order.
      test: the names of the files with the test images.
      parse: `(files, number of images, entry)` -> Split; `files` maps what to call a file in a message to its bytes.
      archive: the name of the archive that has the files; empty if they are published one by one.
      folder: the folder that the archive unpacks to.
      names: the name of the file with the class names; empty if the entry has them.
      parse_names: `(file, bytes)` -> class names.
    """

    train: tuple[str, ...]
    test: tuple[str, ...]
    parse: Callable[[Mapping[str, bytes], int, Entry], Split]
    archive: str = ""
    folder: str = ""
    names: str = ""
    parse_names: Callable[[str, bytes], tuple[str, ...]] | None = None

    def published(self) -> tuple[str, ...]:
        """The names of the files to get."""
        return (self.archive,) if self.archive else tuple(f"{name}.gz" for name in self.train + self.test)


@dataclasses.dataclass(frozen=True)
class Entry:
    """What is known of a data set with official files.

    Attributes:
      image_shape: height, width and channels.
      classes: the number of classes.
      train_images: the number of training images.
      test_images: the number of test images.
      layouts: the forms in which it is published; the first is the one to recommend.
      url: the address under which the published files lie; empty if they come with tfcnn.
      class_names: the names of the classes, where no file has them.
      system_folder: where the files lie when `system_source` is installed.
      system_source: what has put them there, such as a package of Debian.
      advice: one more way to get the files.
      first_test_labels: tells data sets apart whose files have the same names.
    """

    image_shape: tuple[int, int, int]
    classes: int
    train_images: int
    test_images: int
    layouts: tuple[Layout, ...]
    url: str
    class_names: tuple[str, ...] = ()
    system_folder: str = ""
    system_source: str = ""
    advice: str = ""
    first_test_labels: tuple[int, ...] = ()


class _Damaged(Exception):
    """A file does not hold what it should: which one, and what is wrong."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(file, what)
        self.file, self.what = file, what


def load(name: str, data_dir: str | None = None, *, validation: float = 0.1, seed: int = 0,
         image_size: tuple[int, int] | None = None) -> Dataset:
    """Reads a data set into memory and holds a part of its training set out for validation.

    The four data sets with official files are looked for in `data_dir` and `data_dir/NAME`, then where the system's
    packages put them, then among what tensorflow-datasets has prepared, and are downloaded by it in the end.

    Args:
      name: `cifar10`, `cifar100`, `mnist`, `fashion_mnist`, `sample`, `folder`, or the name of an image-classification
        data set of tensorflow-datasets.
      data_dir: folder of the data: official files, class folders, or data prepared by tensorflow-datasets.
      validation: share of the training images to hold out, in [0, 1).
      seed: seed of the choice of the validation images.
      image_size: height and width, in pixels, for images that differ in size: the shorter side is resized and the
        centre cropped. Images that all have one size are left as they are.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: the data set is unknown or damaged, or cannot be split so.
    """
    folder = Path(data_dir).expanduser() if data_dir else None
    try:
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"--data_dir={data_dir} is not a folder")
        if name == "folder":
            dataset = _from_folder(folder_of(data_dir), image_size)
        else:
            dataset = _from_files(name, folder) or _from_tfds(name, folder, image_size)
    except PermissionError as error:
        raise UsageError(f"{error.filename} may not be read ({_one_line(error)}): change its permissions, or name "
                         "another --data_dir") from error
    _check(dataset)
    train, held_out = split_validation(dataset.train, validation, seed)
    return dataclasses.replace(dataset, train=train, validation=held_out)


def folder_of(data_dir: str | None) -> Path:
    """The folder of class folders that `data_dir` names.

    Raises:
      UsageError: it names none.
    """
    if not data_dir:
        raise UsageError("--dataset=folder needs --data_dir=FOLDER, with images in train/<class>/ and test/<class>/")
    return Path(data_dir).expanduser()


def split_validation(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Splits the same share, rounded, off every class: a pure function of the labels, the share and the seed.

    Args:
      split: the images to split; the order of each part is theirs.
      share: share of the images to split off, in [0, 1).
      seed: seed of the choice.

    Returns:
      What is left, and what was split off.

    Raises:
      UsageError: the share takes all images of a class, or none at all although it is more than zero.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--validation={share:g} must be at least 0 and less than 1")
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(split.labels), bool)
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        count = math.floor(share * len(members) + 0.5)
        if count == len(members):
            raise UsageError(f"--validation={share:g} leaves no training image of class {label}, which has "
                             f"{len(members)}: choose a smaller share")
        chosen[generator.permutation(members)[:count]] = True
    if share > 0 and not chosen.any():
        raise UsageError(f"--validation={share:g} of {len(split.labels)} training images, rounded in every class, is "
                         "no image at all: choose a larger share, or 0")
    return _take(split, ~chosen), _take(split, chosen)


def answers(url: str, deadline: float = _NETWORK_DEADLINE) -> bool:
    """Whether the address can be had from here, decided within `deadline` seconds, come what may."""
    import requests  # what tensorflow-datasets downloads with: the same proxies and certificates

    answered = threading.Event()

    def ask() -> None:
        try:
            response = requests.head(url, timeout=deadline, allow_redirects=True)
        except (OSError, ValueError):
            return
        if response.ok or response.status_code == requests.codes.not_allowed:
            answered.set()

    # A thread, because no timeout of a socket covers a name server that does not answer.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(deadline)
    return answered.is_set()


def _take(split: Split, which: np.ndarray) -> Split:
    return Split(split.images[which], split.labels[which])


def _check(dataset: Dataset) -> None:
    """Raises UsageError unless the training and test images are what the rest of the suite relies on."""
    for part, split in (("training", dataset.train), ("test", dataset.test)):
        images, labels, where = split.images, split.labels, f"--dataset={dataset.name}: the {part} set"
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UsageError(f"{where} has {images.dtype} images of shape {list(images.shape[1:])}; needed are bytes, "
                             "[height, width, 1 or 3]")
        if labels.dtype != np.int32 or labels.shape != images.shape[:1]:
            raise UsageError(f"{where} has {labels.dtype} labels of shape {list(labels.shape)} for {len(images)} "
                             "images")
        if not images.size:
            raise UsageError(f"{where} has no images")
        if labels.min() < 0 or labels.max() >= len(dataset.class_names):
            raise UsageError(f"{where} has labels from {labels.min()} to {labels.max()}, but there are "
                             f"{len(dataset.class_names)} classes")
    if dataset.train.images.shape[1:] != dataset.test.images.shape[1:]:
        raise UsageError(f"--dataset={dataset.name}: training images of shape {list(dataset.train.images.shape[1:])}, "
                         f"but test images of shape {list(dataset.test.images.shape[1:])}: name one --image_size")
    if len(np.unique(dataset.train.labels)) < 2:
        raise UsageError(f"--dataset={dataset.name}: all training images are of one class: there is nothing to learn")


def _dataset(name: str, source: str, class_names: Iterable[str], train: Split, test: Split) -> Dataset:
    return Dataset(name, source, tuple(class_names), train, Split(train.images[:0], train.labels[:0]), test)


def _allocate(images: int, height: int, width: int, channels: int) -> np.ndarray:
    try:
        return np.empty([images, height, width, channels], np.uint8)
    except (MemoryError, ValueError) as error:
        raise UsageError(f"{images} images of {height}x{width} pixels do not fit into memory: choose a smaller "
                         "--image_size, or fewer images") from error


def _one_line(error: BaseException) -> str:
    """What the error says, in one line that is not too long to be read."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + "..."


# Official files


def _from_files(name: str, data_dir: Path | None) -> Dataset | None:
    """The data set from its official files; None if there are none of it."""
    entry = KNOWN.get(name)
    if entry is None:
        return None
    # Files of the same names in the user's folder are another data set's when tfcnn ships its own.
    places = [data_dir / name, data_dir] if data_dir and entry.url else []
    for place in places:
        if found := read_official(entry, place):
            layout, class_names, train, test = found
            return _dataset(name, f"official files, {layout.archive or 'IDX'}", class_names, train, test)
    if entry.system_folder and (found := read_official(entry, Path(entry.system_folder))):
        return _dataset(name, entry.system_source, *found[1:])
    if not entry.url:
        raise UsageError(f"{entry.system_folder} is missing: install tfcnn again")
    return None


def read_official(entry: Entry, place: Path) -> tuple[Layout, tuple[str, ...], Split, Split] | None:
    """Reads the official files of a data set that lie in a folder, packed or unpacked.

    Returns:
      The layout found, the class names, the training set and the test set, in the order of the files; None if the
      folder has none of the files.

    Raises:
      UsageError: a file is damaged or missing, or belongs to another data set.
    """
    for layout in entry.layouts:
        wanted = layout.train + layout.test + ((layout.names,) if layout.names else ())
        try:
            contents = _contents(layout, place, wanted)
            if contents is None:
                continue
            files = {name: contents[name] for name in wanted}
            train, test = (layout.parse(dict(files[name] for name in names), images, entry) for names, images in
                           ((layout.train, entry.train_images), (layout.test, entry.test_images)))
            class_names = layout.parse_names(*files[layout.names]) if layout.parse_names else entry.class_names
            if len(class_names) != entry.classes:
                raise _Damaged(files[layout.names][0], f"names {len(class_names)} classes, not {entry.classes}")
            _check_identity(entry, test, files[layout.test[-1]][0])
        except _Damaged as damage:
            remedy = f"get it again from {entry.url}" if entry.url else "install tfcnn again"
            raise UsageError(f"{damage.file} {damage.what}: {remedy}") from damage
        return layout, class_names, train, test
    return None


def _check_identity(entry: Entry, test: Split, file: str) -> None:
    """MNIST and Fashion-MNIST have the same file names and shapes, and results would bear the wrong name."""
    for name, other in KNOWN.items():
        first = other.first_test_labels
        if first and first != entry.first_test_labels and tuple(test.labels[:len(first)].tolist()) == first:
            raise UsageError(f"{file} belongs to {name}: use --dataset={name}, or name another --data_dir")


def _contents(layout: Layout, place: Path, wanted: tuple[str, ...]) -> dict[str, tuple[str, bytes]] | None:
    """For each wanted file, what to call it in a message, and its bytes; None if the folder has none of them."""
    unpacked = place / layout.folder
    for folder in (unpacked, place):
        paths = {name: path for name in wanted for path in (folder / name, folder / f"{name}.gz") if path.exists()}
        if len(paths) == len(wanted) or (paths and folder == unpacked):
            for name in wanted:
                if name not in paths:
                    raise _Damaged(str(folder / name), "is missing")
            return {name: (str(path), _read(path)) for name, path in paths.items()}
    if layout.archive and (place / layout.archive).exists():
        return _read_archive(place / layout.archive, wanted)
    return None


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Opens a file, compressed or not: some browsers uncompress what they download and keep its name."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _read(path: Path) -> bytes:
    try:
        with _open(path) as file:
            return file.read()
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise _Damaged(str(path), f"cannot be read ({_one_line(error)})") from error


def _read_archive(path: Path, wanted: tuple[str, ...]) -> dict[str, tuple[str, bytes]]:
    contents = {}
    try:
        # As a stream, because a step back in a compressed file starts again at its beginning.
        with _open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                place = PurePosixPath(member.name)
                if place.is_absolute() or ".." in place.parts:
                    raise _Damaged(str(path), f"has {member.name}, a path that leaves the archive's folder")
                name = place.name
                if name in wanted and (file := archive.extractfile(member)):
                    contents[name] = (f"{path} ({name})", file.read())
            # The checksum is at the end of the compressed file, behind the last member.
            while stream.read(1 << 20):
                pass
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise _Damaged(str(path), f"cannot be read ({_one_line(error)})") from error
    for name in wanted:
        if name not in contents:
            raise _Damaged(str(path), f"has no {name}")
    return contents


def _parse_idx(files: Mapping[str, bytes], images: int, entry: Entry) -> Split:
    """The format of MNIST: a file of images and a file of labels."""
    (image_file, pixels), (label_file, labels) = files.items()
    return Split(_idx_array(image_file, pixels, (images, *entry.image_shape[:2])).reshape(images, *entry.image_shape),
                 _labels(label_file, _idx_array(label_file, labels, (images,)), entry))


def _idx_array(file: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    header = 4 + 4 * len(shape)
    if len(content) < header or content[:4] != bytes([0, 0, 8, len(shape)]):
        raise _Damaged(file, f"is not an IDX file of bytes in {len(shape)} dimensions")
    found = tuple(np.frombuffer(content, ">u4", len(shape), 4).tolist())
    if found != shape:
        raise _Damaged(file, f"announces {'x'.join(map(str, found))} values, not {'x'.join(map(str, shape))}")
    if len(content) - header != math.prod(shape):
        raise _Damaged(file, f"has {len(content) - header} bytes of data, not {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _parse_cifar_binary(files: Mapping[str, bytes], images: int, entry: Entry, label_bytes: int) -> Split:
    """The binary version of CIFAR: records of the labels, the last of which is wanted, and the three colour planes."""
    batch, record = images // len(files), label_bytes + math.prod(entry.image_shape)
    pixels, labels = np.empty((images, *entry.image_shape), np.uint8), np.empty(images, np.int32)
    for index, (file, content) in enumerate(files.items()):
        if len(content) != batch * record:
            raise _Damaged(file, f"has {len(content)} bytes, not {batch * record}")
        records = np.frombuffer(content, np.uint8).reshape(batch, record)
        here = slice(index * batch, (index + 1) * batch)
        pixels[here] = _planes_last(records[:, label_bytes:], entry)
        labels[here] = _labels(file, records[:, label_bytes - 1], entry)
    return Split(pixels, labels)


def _parse_cifar_pickles(files: Mapping[str, bytes], images: int, entry: Entry, label_key: str) -> Split:
    """The Python version of CIFAR: pickled dictionaries."""
    batch = images // len(files)
    pixels, labels = np.empty((images, *entry.image_shape), np.uint8), np.empty(images, np.int32)
    for index, (file, content) in enumerate(files.items()):
        planes, numbers = _unpickle(file, content, "data", label_key)
        shape = (batch, math.prod(entry.image_shape))
        if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape != shape:
            raise _Damaged(file, f"has no array of {shape[0]}x{shape[1]} bytes under 'data'")
        if not isinstance(numbers, list) or len(numbers) != batch or not all(type(one) is int for one in numbers):
            raise _Damaged(file, f"has no list of {batch} labels under '{label_key}'")
        here = slice(index * batch, (index + 1) * batch)
        pixels[here] = _planes_last(planes, entry)
        labels[here] = _labels(file, np.array(numbers), entry)
    return Split(pixels, labels)


def _planes_last(planes: np.ndarray, entry: Entry) -> np.ndarray:
    height, width, channels = entry.image_shape
    return planes.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)


def _labels(file: str, labels: np.ndarray, entry: Entry) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= entry.classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise _Damaged(file, f"has a label {wrong}, but there are {entry.classes} classes")
    return labels.astype(np.int32)


def _names_from_text(file: str, content: bytes) -> tuple[str, ...]:
    return tuple(content.decode("utf-8", "replace").split())


def _names_from_pickle(file: str, content: bytes, key: str) -> tuple[str, ...]:
    names, = _unpickle(file, content, key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Damaged(file, f"has no class names under '{key}'")
    return tuple(names)


class _ArraysOnly(pickle.Unpickler):
    """Reads containers and NumPy arrays: a pickle that may name any function could run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return np.empty(0).__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(file: str, content: bytes, *keys: str) -> list[Any]:
    """The values under some keys of a pickled dictionary that Python 2 wrote."""
    try:
        values = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        return [values[key] for key in keys]
    except Exception as error:  # damaged bytes are instructions to the unpickler, and can fail in any way
        raise _Damaged(file, f"is not a pickled batch ({type(error).__name__}: {_one_line(error)})") from error


def _idx_layout() -> Layout:
    return Layout(train=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
                  test=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), parse=_parse_idx)


_MNIST = Entry(
    image_shape=(28, 28, 1), classes=10, train_images=60_000, test_images=10_000, layouts=(_idx_layout(),),
    url="https://storage.googleapis.com/cvdf-datasets/mnist/",
    class_names=tuple("0123456789"),
    first_test_labels=(7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4))

_FASHION_MNIST = Entry(
    image_shape=(28, 28, 1), classes=10, train_images=60_000, test_images=10_000, layouts=(_idx_layout(),),
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
                 "Ankle boot"),
    system_folder="/usr/share/datasets/fashion-mnist", system_source="Debian's package dataset-fashion-mnist",
    advice="apt-get install dataset-fashion-mnist",
    first_test_labels=(9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1, 2, 4, 8, 0))

_CIFAR10 = Entry(
    image_shape=(32, 32, 3), classes=10, train_images=50_000, test_images=10_000,
    url="https://www.cs.toronto.edu/~kriz/",
    layouts=(
        Layout(train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)), test=("test_batch.bin",),
               parse=functools.partial(_parse_cifar_binary, label_bytes=1),
               archive="cifar-10-binary.tar.gz", folder="cifar-10-batches-bin",
               names="batches.meta.txt", parse_names=_names_from_text),
        Layout(train=tuple(f"data_batch_{number}" for number in range(1, 6)), test=("test_batch",),
               parse=functools.partial(_parse_cifar_pickles, label_key="labels"),
               archive="cifar-10-python.tar.gz", folder="cifar-10-batches-py",
               names="batches.meta", parse_names=functools.partial(_names_from_pickle, key="label_names"))))

_CIFAR100 = Entry(
    image_shape=(32, 32, 3), classes=100, train_images=50_000, test_images=10_000,
    url="https://www.cs.toronto.edu/~kriz/",
    layouts=(
        Layout(train=("train.bin",), test=("test.bin",),
               parse=functools.partial(_parse_cifar_binary, label_bytes=2),
               archive="cifar-100-binary.tar.gz", folder="cifar-100-binary",
               names="fine_label_names.txt", parse_names=_names_from_text),
        Layout(train=("train",), test=("test",),
               parse=functools.partial(_parse_cifar_pickles, label_key="fine_labels"),
               archive="cifar-100-python.tar.gz", folder="cifar-100-python",
               names="meta", parse_names=functools.partial(_names_from_pickle, key="fine_label_names"))))

KNOWN: dict[str, Entry] = {
    "cifar10": _CIFAR10,
    "cifar100": _CIFAR100,
    "fashion_mnist": _FASHION_MNIST,
    "mnist": _MNIST,
    # Made by make_sample.py.
    "sample": dataclasses.replace(
        _FASHION_MNIST, train_images=6_000, test_images=1_000, url="", advice="",
        system_folder=str(Path(__file__).with_name("sample")),
        system_source="6,000 + 1,000 images of Fashion-MNIST, shipped with tfcnn"),
}


# tensorflow-datasets


def builder(name: str, data_dir: Path | None, any_size: bool = True) -> Any:
    """What reads an image classification of tensorflow-datasets, which is downloaded and prepared if need be.

    Args:
      name: what tensorflow-datasets calls it.
      data_dir: a folder in which it may have been prepared, besides tensorflow-datasets' own.
      any_size: whether the images may differ in size.

    Raises:
      Unavailable: the data set is not on this machine and cannot be downloaded.
      UsageError: there is no such data set, or it is no classification of images.
    """
    default = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    folders = [data_dir, default] if data_dir else [default]
    if name in KNOWN and not any(next((folder / name).glob("*/dataset_info.json"), None) for folder in folders):
        # Before the import, which takes seconds that a run without a network need not wait.
        _require_network(name, _urls(KNOWN[name])[0])

    import tensorflow_datasets as tfds

    builders = _builders(name, folders)
    # is_prepared() alone would warn, on standard error, of a folder that is not there.
    found = next((one for one in builders if one.data_path.exists() and one.is_prepared()), builders[0])
    features = dict(found.info.features.items()) if found.info.features else {}
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UsageError(f"--dataset={name} is no image classification: it has {', '.join(sorted(features))}; needed "
                         "are an image and a class label called 'image' and 'label'")
    if np.dtype(image.np_dtype) != np.uint8 or image.shape[-1] not in (1, 3):
        raise UsageError(f"--dataset={name} has {np.dtype(image.np_dtype)} images of shape {image.shape}; needed are "
                         "bytes in 1 or 3 channels")
    if None in image.shape and not any_size:
        raise UsageError(f"--dataset={name} has images that differ in size: name one with --image_size")
    if not found.data_path.exists() or not found.is_prepared():
        _prepare(name, found)
    return found


def _from_tfds(name: str, data_dir: Path | None, image_size: tuple[int, int] | None) -> Dataset:
    """The data set as tensorflow-datasets has prepared it, or prepares it now."""
    found = builder(name, data_dir, any_size=image_size is not None)
    splits = found.info.splits
    test = "test" if "test" in splits else "validation"
    if "train" not in splits or test not in splits:
        raise UsageError(f"--dataset={name} has the parts {', '.join(sorted(splits))}; needed are train and test, or "
                         "train and validation")
    return _dataset(name, f"tensorflow-datasets, {found.info.full_name}", found.info.features["label"].names,
                    _tfds_split(found, "train", image_size), _tfds_split(found, test, image_size))


def _builders(name: str, folders: list[Path]) -> list[Any]:
    """The builders of the data set in those of the folders that can have one; does not touch the network."""
    import tensorflow_datasets as tfds

    builders, wrong = [], ""
    # Other names of tensorflow-datasets, such as huggingface:mnist, are looked up in the network.
    for folder in folders if re.fullmatch(r"\w+(/[\w.+-]+)?(:[\d.*]+)?", name) else []:
        try:
            builders.append(tfds.builder(name, data_dir=folder))
        except tfds.core.DatasetNotFoundError:
            pass  # a data set that tensorflow-datasets does not know may have been prepared in another folder
        except (ValueError, AssertionError, RuntimeError) as error:
            wrong = f" ({_one_line(error)})"
    if builders:
        return builders
    names = {*KNOWN, "folder", *tfds.list_builders(with_community_datasets=False)}
    close = [] if wrong else difflib.get_close_matches(name, names)
    raise UsageError(
        f"--dataset={name} is unknown{wrong}: "
        + (f"did you mean {' or '.join(close)}? " if close else "")
        + f"Allowed are {', '.join(sorted([*KNOWN, 'folder']))}, and the image classifications of tensorflow-datasets, "
          "https://www.tensorflow.org/datasets/catalog/overview")


def _prepare(name: str, builder: Any) -> None:
    """Downloads and prepares the data, or raises Unavailable."""
    import tensorflow_datasets as tfds

    urls = _urls(KNOWN[name]) if name in KNOWN else sorted(builder.url_infos or ())
    if not urls or builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        raise _unavailable(name, "it has no address to download it from")
    _require_network(name, urls[0])
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # a download can fail in any way, and what to do is the same
        raise _unavailable(name, f"its download failed ({type(error).__name__}: {_one_line(error)})") from error


def _urls(entry: Entry) -> list[str]:
    return [entry.url + file for file in entry.layouts[0].published()]


def _require_network(name: str, url: str) -> None:
    if not answers(url):
        raise _unavailable(name, f"{url} does not answer")


def _unavailable(name: str, reason: str) -> Unavailable:
    if name in KNOWN:
        entry = KNOWN[name]
        files = entry.layouts[0].published()
        remedy = f"put {', '.join(files)} from {entry.url} into a folder and name it with --data_dir"
        remedy += f", or {entry.advice}" if entry.advice else ""
    else:
        remedy = (f"prepare it where there is a network, `tfds build {name}`, and name its folder with --data_dir; see "
                  f"https://www.tensorflow.org/datasets/catalog/{re.split('[/:]', name)[0]}")
    return Unavailable(f"--dataset={name} is not on this machine, and {reason}: {remedy}; --dataset=sample works "
                       "without either")


def _tfds_split(builder: Any, part: str, image_size: tuple[int, int] | None) -> Split:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    shape = builder.info.features["image"].shape
    fixed = None not in shape
    try:
        data = tfds.as_numpy(builder.as_dataset(
            split=part, batch_size=-1 if fixed else None,
            decoders=tfds.decode.PartialDecoding({"image": True, "label": True})))
        if fixed:
            return Split(data["image"], data["label"].astype(np.int32))
        assert image_size
        count = builder.info.splits[part].num_examples
        images, labels = _allocate(count, *image_size, shape[-1]), np.empty(count, np.int32)
        for index, example in enumerate(data):
            pixels = example["image"]
            images[index] = _fitted(Image.fromarray(pixels[..., 0] if shape[-1] == 1 else pixels), image_size)
            labels[index] = example["label"]
        return Split(images, labels)
    except tf.errors.OpError as error:
        raise UsageError(f"{builder.data_path} cannot be read ({_one_line(error)}): delete this folder, and prepare it "
                         "again") from error


# Folders of images


def _from_folder(folder: Path, image_size: tuple[int, int] | None) -> Dataset:
    """The data set from class folders of images."""
    train, test = (_class_folders(folder / part) for part in ("train", "test"))
    for name in train.keys() ^ test.keys():
        has, lacks = ("train", "test") if name in train else ("test", "train")
        raise UsageError(f"{folder / has / name} is a class that {folder / lacks} has not: give it images in both")
    if len(train) < 2:
        raise UsageError(f"{folder / 'train'} has one class only: needed are at least two class folders")

    files = [file for classes in (train, test) for members in classes.values() for file in members]
    labels = [_folder_labels(classes) for classes in (train, test)]
    size, grey = _header(files[0])
    try:
        splits = _decode(files, labels, size, grey, alike=True)
    except _Unlike:
        headers = [_header(file) for file in files]
        if any(header[0] != size for header in headers):
            if image_size is None:
                odd = next(file for file, header in zip(files, headers) if header[0] != size)
                raise UsageError(f"{odd} has not the size of {files[0]}: name one for all with --image_size") from None
            size = image_size
        splits = _decode(files, labels, size, all(grey for _, grey in headers), alike=False)
    # As the user named it: what a symbolic link points to may be called anything.
    return _dataset("folder", f"{os.path.basename(os.path.abspath(folder))}, class folders", train, *splits)


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, both sorted."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is missing: needed are images in train/<class>/ and test/<class>/")
    classes = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            raise UsageError(f"{entry} is not a class folder: put it elsewhere")
        classes[entry.name] = _visible(entry)
        if not classes[entry.name]:
            raise UsageError(f"{entry} is empty: remove it, or put images of the class into it")
        for file in classes[entry.name]:
            if file.suffix.lower() not in (".jpg", ".jpeg", ".png") or not file.is_file():
                raise UsageError(f"{file} is not a JPEG or PNG file: put it elsewhere")
    if not classes:
        raise UsageError(f"{folder} has no class folders: needed are images in train/<class>/ and test/<class>/")
    return classes


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _folder_labels(classes: Mapping[str, list[Path]]) -> np.ndarray:
    return np.repeat(np.arange(len(classes), dtype=np.int32), [len(files) for files in classes.values()])


def _open_image(file: Path | io.BytesIO) -> Image.Image:
    return Image.open(file, formats=("JPEG", "PNG"))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "I") or image.mode.startswith("I;16")


def _header(path: Path) -> tuple[tuple[int, int], bool]:
    """The height and width of an image, and whether it is grey, without decoding it."""
    try:
        with _open_image(path) as image:
            return (image.height, image.width), _is_grey(image)
    except PermissionError:
        raise
    except Exception as error:  # as in _decode_into
        raise _damaged_image(path, error) from error


class _Unlike(Exception):
    """An image is not of the size, or not as grey, as those before it."""


def _decode(files: list[Path], labels: list[np.ndarray], size: tuple[int, int], grey: bool, alike: bool) -> list[Split]:
    """Decodes the images of each split, straight into its array.

    Raises:
      _Unlike: `alike` is set, and an image is not of the size, or not as grey, as said.
    """
    splits = [Split(_allocate(len(part), *size, 1 if grey else 3), part) for part in labels]
    rows = (row for split in splits for row in split.images)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        # Of a small image nearly all the work holds the interpreter's lock: threads would only wait for each other.
        run = map if math.prod(size) < _SMALL else pool.map
        for _ in run(functools.partial(_decode_into, alike=alike), rows, files):
            pass
    return splits


def _decode_into(out: np.ndarray, path: Path, alike: bool) -> None:
    """Decodes an image into `out`, `[height, width, channels]`."""
    height, width, channels = out.shape
    try:
        # Read at once: Pillow reads in many small steps, each of which lets go of the interpreter's lock.
        with path.open("rb", buffering=0) as file, _open_image(io.BytesIO(file.readall())) as image:
            if alike and (image.height, image.width, _is_grey(image)) != (height, width, channels == 1):
                raise _Unlike
            out[:] = _fitted(_converted(image, channels), (height, width))
    except (_Unlike, PermissionError):
        raise
    except Exception as error:  # damaged bytes make a decoder fail in any way: also in SyntaxError, struct.error, ...
        raise _damaged_image(path, error) from error


def _damaged_image(path: Path, error: BaseException) -> UsageError:
    return UsageError(f"{path} cannot be read as an image ({_one_line(error)}): get it again, or remove it")


def _converted(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow clips 16 bits to 8; what is wanted is the upper half.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # or else Pillow warns
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _fitted(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The image as `[height, width, channels]`: if of another size, resized to cover it, and the centre cropped."""
    height, width = size
    if (image.height, image.width) != size:
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, -1)
