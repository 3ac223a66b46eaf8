"""Class folders: JPEG and PNG files in train/<class>/ and test/<class>/, for memory and for the stream.

Finding the files opens none of them: a damaged file is found when it is decoded.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfcnn.data import images
from tfcnn.data.split import Contents, Split
from tfcnn.recipe import UsageError

_SUFFIXES = (".jpg", ".jpeg", ".png")
_NEEDED = "put images into train/<class>/ and test/<class>/"


@dataclasses.dataclass(frozen=True)
class ClassFolders:
    """The image files of one part of a data set, in one folder per class.

    Attributes:
      path: the folder that has the class folders.
      files: the names of the files of each class, by the name of the class; both sorted. Names as strings take little
        memory, also for a million files.
    """

    path: str
    files: dict[str, list[str]]

    def paths(self) -> Iterator[str]:
        """The paths of all files, class by class."""
        return (os.path.join(self.path, name, file) for name, files in self.files.items() for file in files)

    def labels(self) -> np.ndarray:
        """The label of each file, int32: the index of its class."""
        return np.repeat(np.arange(len(self.files), dtype=np.int32), [len(files) for files in self.files.values()])


def root(data_dir: str | None) -> Path:
    """The folder that `--data_dir` names.

    Raises:
      UsageError: no folder is named.
    """
    if not data_dir:
        raise UsageError("--dataset=folder needs --data_dir=FOLDER, with images in train/<class>/ and test/<class>/")
    return Path(data_dir).expanduser()


def find(folder: str | Path) -> tuple[ClassFolders, ClassFolders]:
    """Lists the class folders in train/ and test/.

    Returns:
      The training and the test part; they have the same classes, at least two.

    Raises:
      UsageError: a folder is missing or empty, has other files, or the two parts have different classes.
      PermissionError: a folder may not be read.
    """
    train, test = (_list_classes(os.path.join(folder, part)) for part in ("train", "test"))
    for name in sorted(train.files.keys() ^ test.files.keys()):
        has, lacks = (train, test) if name in train.files else (test, train)
        raise UsageError(f"{os.path.join(has.path, name)} is a class that {lacks.path} lacks: give it images in both")
    if len(train.files) < 2:
        raise UsageError(f"{train.path} has only one class: there must be at least two class folders")
    return train, test


def source(folder: str | Path) -> str:
    """One line on where the pixels come from, without the rest of the path."""
    # The name that the user gave: the target of a symbolic link may have any name.
    return f"{os.path.basename(os.path.abspath(folder))}, class folders"


def read(folder: Path, image_size: tuple[int, int] | None) -> Contents:
    """Reads class folders into memory.

    Args:
      folder: has train/ and test/.
      image_size: height and width in pixels, if the images have different sizes.

    Raises:
      UsageError: the folders are not as they must be, an image is damaged, or the images have different sizes and no
        size is given.
      OSError: the system refuses to open or read a file or folder.
    """
    parts = find(folder)
    arrays = images.read([list(part.paths()) for part in parts], image_size)
    train, test = (Split(array, part.labels()) for array, part in zip(arrays, parts))
    return Contents(source(folder), tuple(parts[0].files), train, test)


def _list_classes(folder: str) -> ClassFolders:
    if not os.path.isdir(folder):
        raise UsageError(f"{folder} is missing: {_NEEDED}")
    classes = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            raise UsageError(f"{entry.path} is not a class folder: move it elsewhere")
        classes[entry.name] = _list_images(entry.path)
    if not classes:
        raise UsageError(f"{folder} has no class folders: {_NEEDED}")
    return ClassFolders(folder, classes)


def _list_images(folder: str) -> list[str]:
    files = _visible(folder)
    if not files:
        raise UsageError(f"{folder} is empty: remove it, or put images of the class into it")
    for file in files:
        if not file.name.lower().endswith(_SUFFIXES) or not file.is_file():
            raise UsageError(f"{file.path} is not a JPEG or PNG file: move it elsewhere")
        if file.stat().st_size == 0:
            raise UsageError(f"{file.path} is empty: get it again, or remove it")
    return [file.name for file in files]


def _visible(folder: str) -> list[os.DirEntry]:
    """What is in a folder, sorted by name, without hidden files."""
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
