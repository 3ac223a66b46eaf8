"""Data sets with official files: where the files are found, which format they have, and how damage is reported.

A data set is one entry in `KNOWN`. The formats are in `formats`.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

from tfcnn.data import formats
from tfcnn.data.errors import one_line
from tfcnn.data.formats import Damaged
from tfcnn.data.split import Contents, Split
from tfcnn.recipe import UsageError

_UNREADABLE = (OSError, EOFError, zlib.error, tarfile.TarError)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A form in which a data set is published.

    Attributes:
      train: the names of the files with the training images, in order.
      test: the names of the files with the test images.
      parse: `(files, number of images, entry)` -> Split; `files` maps the name of a file in messages to its bytes.
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

    def files(self) -> tuple[str, ...]:
        """The names of all files."""
        return self.train + self.test + ((self.names,) if self.names else ())

    def published(self) -> tuple[str, ...]:
        """The names of the files to download."""
        return (self.archive,) if self.archive else tuple(f"{name}.gz" for name in self.train + self.test)


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set with official files.

    Attributes:
      image_shape: height, width and channels.
      classes: the number of classes.
      train_images: the number of training images.
      test_images: the number of test images.
      layouts: the forms in which it is published; messages recommend the first.
      url: the address of the folder of the published files; empty if they come with tfcnn.
      class_names: the names of the classes; empty if only a file has them.
      system_folder: where the files are once `system_source` is installed.
      system_source: what installs them, such as a package of Debian.
      advice: one more way to get the files.
      first_test_labels: distinguishes data sets whose files have the same names.
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

    def urls(self) -> list[str]:
        """The addresses of the files to download."""
        return [self.url + file for file in self.layouts[0].published()]


# Finding files


def read(name: str, data_dir: Path | None) -> Contents | None:
    """Reads a data set from its official files.

    Args:
      name: of the data set.
      data_dir: the only folder in which to look, in `data_dir/NAME` and `data_dir`; by default where the system has it.

    Returns:
      The data set; None if it is not in `KNOWN`, or none of its files are found.

    Raises:
      UsageError: a file is damaged or missing, or belongs to another data set.
      PermissionError: a file may not be read.
    """
    entry = KNOWN.get(name)
    if entry is None:
        return None
    # If tfcnn ships the files, files of the same names in the user's folder belong to another data set.
    if data_dir and entry.url:
        for folder in (data_dir / name, data_dir):
            if found := read_folder(entry, folder):
                layout, contents = found
                return dataclasses.replace(contents, source=f"official files, {layout.archive or 'IDX'}")
        return None
    if entry.system_folder and (found := read_folder(entry, Path(entry.system_folder))):
        return dataclasses.replace(found[1], source=entry.system_source)
    if not entry.url:
        raise UsageError(f"{entry.system_folder} is missing: install tfcnn again")
    return None


def read_folder(entry: Entry, folder: Path) -> tuple[Layout, Contents] | None:
    """Reads the official files of a data set that are in a folder, packed or unpacked.

    Returns:
      The layout found, and the data set, in the order of the files and without a source; None if the folder has none of
      the files.

    Raises:
      UsageError: a file is damaged or missing, or belongs to another data set.
      PermissionError: a file may not be read.
    """
    try:
        for layout in entry.layouts:
            if files := _read_files(layout, folder):
                return layout, _contents(entry, layout, files)
        _check_none_missing(entry, folder)
    except Damaged as damage:
        remedy = f"get it again from {entry.url}" if entry.url else "install tfcnn again"
        raise UsageError(f"{damage.file} {damage.what}: {remedy}") from damage
    return None


def has_files(entry: Entry, folder: Path) -> bool:
    """Whether a folder has any of a data set's official files, packed or unpacked, or an archive of them."""
    return any((layout.archive and os.path.exists(folder / layout.archive)) or _paths(layout, parent)
               for layout in entry.layouts for parent in (folder / layout.folder, folder))


def _contents(entry: Entry, layout: Layout, files: Mapping[str, tuple[str, bytes]]) -> Contents:
    """The data set that the files hold, checked."""
    train, test = (layout.parse(dict(files[name] for name in names), images, entry) for names, images in
                   ((layout.train, entry.train_images), (layout.test, entry.test_images)))
    class_names = layout.parse_names(*files[layout.names]) if layout.parse_names else entry.class_names
    if len(class_names) != entry.classes:
        raise Damaged(files[layout.names][0], f"names {len(class_names)} classes, not {entry.classes}")
    _check_identity(entry, test, files[layout.test[-1]][0])
    return Contents("", class_names, train, test)


def _check_identity(entry: Entry, test: Split, file: str) -> None:
    """Tells MNIST and Fashion-MNIST apart: their files have the same names and shapes."""
    for name, other in KNOWN.items():
        first = other.first_test_labels
        if first and first != entry.first_test_labels and tuple(test.labels[:len(first)].tolist()) == first:
            raise UsageError(f"{file} belongs to {name}: use --dataset={name}, or name another --data_dir")


def _read_files(layout: Layout, folder: Path) -> dict[str, tuple[str, bytes]] | None:
    """For each file of the layout, its name in messages and its bytes; None if the folder does not have all of them."""
    for parent in (folder / layout.folder, folder):
        paths = _paths(layout, parent)
        if len(paths) == len(layout.files()):
            return {name: (str(path), _read_file(path)) for name, path in paths.items()}
    if layout.archive and (folder / layout.archive).exists():
        return _read_archive(folder / layout.archive, layout.files())
    return None


def _paths(layout: Layout, folder: Path) -> dict[str, Path]:
    """Those files of a layout that are in a folder, compressed or not."""
    # Some copies of the IDX files are spelt with a dot. Their content says as clearly what they are.
    found = {name: [folder / f"{spelling}{suffix}" for spelling in (name.replace("-idx", ".idx"), name)
                    for suffix in ("", ".gz")] for name in layout.files()}
    return {name: path for name, paths in found.items() for path in paths if path.is_file()}


def _check_none_missing(entry: Entry, folder: Path) -> None:
    """Raises Damaged if a folder has some of the files of a layout."""
    for layout in entry.layouts:
        for parent in (folder / layout.folder, folder):
            if paths := _paths(layout, parent):
                raise Damaged(str(parent / next(name for name in layout.files() if name not in paths)), "is missing")


def _open(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """Opens a file, compressed or not: some browsers uncompress a download and keep its name."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if compressed else path.open("rb")


def _read_file(path: Path) -> bytes:
    try:
        with _open(path) as file:
            return file.read()
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise Damaged(str(path), f"cannot be read ({one_line(error)})") from error


def _read_archive(path: Path, wanted: tuple[str, ...]) -> dict[str, tuple[str, bytes]]:
    contents = {}
    try:
        # As a stream: seeking backwards in a compressed file starts again at its beginning.
        with _open(path) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            for member in archive:
                inside = PurePosixPath(member.name)
                if inside.is_absolute() or ".." in inside.parts:
                    raise Damaged(str(path), f"has {member.name}, a path that leaves the archive's folder")
                name = inside.name
                if name in wanted and (file := archive.extractfile(member)):
                    contents[name] = (f"{path} ({name})", file.read())
            # The checksum is at the end of the compressed file, after the last member.
            while stream.read(1 << 20):
                pass
    except PermissionError:
        raise
    except _UNREADABLE as error:
        raise Damaged(str(path), f"cannot be read ({one_line(error)})") from error
    for name in wanted:
        if name not in contents:
            raise Damaged(str(path), f"has no {name}")
    return contents


# The data sets


def _idx_layout() -> Layout:
    return Layout(train=("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
                  test=("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"), parse=formats.parse_idx)


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
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    layouts=(
        Layout(train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)), test=("test_batch.bin",),
               parse=functools.partial(formats.parse_cifar_binary, label_bytes=1),
               archive="cifar-10-binary.tar.gz", folder="cifar-10-batches-bin",
               names="batches.meta.txt", parse_names=formats.names_from_text),
        Layout(train=tuple(f"data_batch_{number}" for number in range(1, 6)), test=("test_batch",),
               parse=functools.partial(formats.parse_cifar_pickles, label_key="labels"),
               archive="cifar-10-python.tar.gz", folder="cifar-10-batches-py",
               names="batches.meta", parse_names=functools.partial(formats.names_from_pickle, key="label_names"))))

_CIFAR100 = Entry(
    image_shape=(32, 32, 3), classes=100, train_images=50_000, test_images=10_000,
    url="https://www.cs.toronto.edu/~kriz/",
    layouts=(
        Layout(train=("train.bin",), test=("test.bin",),
               parse=functools.partial(formats.parse_cifar_binary, label_bytes=2),
               archive="cifar-100-binary.tar.gz", folder="cifar-100-binary",
               names="fine_label_names.txt", parse_names=formats.names_from_text),
        Layout(train=("train",), test=("test",),
               parse=functools.partial(formats.parse_cifar_pickles, label_key="fine_labels"),
               archive="cifar-100-python.tar.gz", folder="cifar-100-python",
               names="meta", parse_names=functools.partial(formats.names_from_pickle, key="fine_label_names"))))

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
