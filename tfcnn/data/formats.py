"""The formats of official files, IDX and the two versions of CIFAR: bytes to images, labels and class names."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfcnn.data.errors import one_line
from tfcnn.data.split import Split

if TYPE_CHECKING:
    from tfcnn.data.official import Entry


class Damaged(Exception):
    """A file does not hold what it should.

    Attributes:
      file: the name of the file in messages.
      what: what is wrong with it.
    """

    def __init__(self, file: str, what: str) -> None:
        super().__init__(file, what)
        self.file, self.what = file, what


def parse_idx(files: Mapping[str, bytes], images: int, entry: Entry) -> Split:
    """The format of MNIST: a file of images and a file of labels."""
    (image_file, pixels), (label_file, labels) = files.items()
    return Split(_idx_array(image_file, pixels, (images, *entry.image_shape[:2])).reshape(images, *entry.image_shape),
                 _check_labels(label_file, _idx_array(label_file, labels, (images,)), entry))


def _idx_array(file: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    header = 4 + 4 * len(shape)
    if len(content) < header or content[:4] != bytes([0, 0, 8, len(shape)]):
        raise Damaged(file, f"is not an IDX file of bytes in {len(shape)} dimensions")
    found = tuple(np.frombuffer(content, ">u4", len(shape), 4).tolist())
    if found != shape:
        raise Damaged(file, f"announces {'x'.join(map(str, found))} values, not {'x'.join(map(str, shape))}")
    if len(content) - header != math.prod(shape):
        raise Damaged(file, f"has {len(content) - header} bytes of data, not {math.prod(shape)}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def parse_cifar_binary(files: Mapping[str, bytes], images: int, entry: Entry, label_bytes: int) -> Split:
    """The binary version of CIFAR: records of the labels, of which we use the last, and the three colour planes."""
    batch, record = images // len(files), label_bytes + math.prod(entry.image_shape)
    pixels, labels = np.empty((images, *entry.image_shape), np.uint8), np.empty(images, np.int32)
    for index, (file, content) in enumerate(files.items()):
        if len(content) != batch * record:
            raise Damaged(file, f"has {len(content)} bytes, not {batch * record}")
        records = np.frombuffer(content, np.uint8).reshape(batch, record)
        here = slice(index * batch, (index + 1) * batch)
        pixels[here] = _channels_last(records[:, label_bytes:], entry)
        labels[here] = _check_labels(file, records[:, label_bytes - 1], entry)
    return Split(pixels, labels)


def parse_cifar_pickles(files: Mapping[str, bytes], images: int, entry: Entry, label_key: str) -> Split:
    """The Python version of CIFAR: pickled dictionaries."""
    batch = images // len(files)
    pixels, labels = np.empty((images, *entry.image_shape), np.uint8), np.empty(images, np.int32)
    for index, (file, content) in enumerate(files.items()):
        planes, numbers = _unpickle(file, content, "data", label_key)
        shape = (batch, math.prod(entry.image_shape))
        if not isinstance(planes, np.ndarray) or planes.dtype != np.uint8 or planes.shape != shape:
            raise Damaged(file, f"has no array of {shape[0]}x{shape[1]} bytes under 'data'")
        if not isinstance(numbers, list) or len(numbers) != batch or not all(type(one) is int for one in numbers):
            raise Damaged(file, f"has no list of {batch} labels under '{label_key}'")
        here = slice(index * batch, (index + 1) * batch)
        pixels[here] = _channels_last(planes, entry)
        labels[here] = _check_labels(file, np.array(numbers), entry)
    return Split(pixels, labels)


def _channels_last(planes: np.ndarray, entry: Entry) -> np.ndarray:
    height, width, channels = entry.image_shape
    return planes.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)


def _check_labels(file: str, labels: np.ndarray, entry: Entry) -> np.ndarray:
    if labels.min() < 0 or labels.max() >= entry.classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise Damaged(file, f"has a label {wrong}, but there are {entry.classes} classes")
    return labels.astype(np.int32)


def names_from_text(file: str, content: bytes) -> tuple[str, ...]:
    return tuple(content.decode("utf-8", "replace").split())


def names_from_pickle(file: str, content: bytes, key: str) -> tuple[str, ...]:
    names, = _unpickle(file, content, key)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Damaged(file, f"has no class names under '{key}'")
    return tuple(names)


# A pickle of an array names this function, by its module in the version of NumPy that wrote the pickle.
_ARRAY_FUNCTION: Any = np.empty(0).__reduce__()[0]
_ARRAY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")


class _ArraysOnly(pickle.Unpickler):
    """Reads containers and NumPy arrays only: a pickle that may name any function could run any program."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _ARRAY_MODULES and name == _ARRAY_FUNCTION.__name__:
            return _ARRAY_FUNCTION
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def _unpickle(file: str, content: bytes, *keys: str) -> list[Any]:
    """The values under some keys of a dictionary pickled by Python 2."""
    try:
        values = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
        return [values[key] for key in keys]
    except Exception as error:  # damaged bytes are instructions to the unpickler, and can fail in any way
        raise Damaged(file, f"is not a pickled batch ({type(error).__name__}: {one_line(error)})") from error
