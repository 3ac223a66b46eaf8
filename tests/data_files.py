"""Small data sets on disk: official files, written from the published descriptions of their formats and not with the
code under test, and class folders.
"""

import collections
import gzip
import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcnn.data import datasets
from tfcnn.recipe import UsageError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_NAMES = tuple(f"thing_{index:02}" for index in range(100))
Pair = tuple[np.ndarray, np.ndarray]


def refused(*arguments, **options) -> str:
    """The message of the UsageError that `datasets.load` raises: one line."""
    with pytest.raises(UsageError) as caught:
        datasets.load(*arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 1000
    return message


# Official files


def random_images(count: int, shape: tuple[int, int, int], classes: int, seed: int) -> Pair:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    # The first label shows that these are neither MNIST nor Fashion-MNIST.
    return generator.integers(0, 256, (count, *shape), np.uint8), np.roll(labels, 1).astype(np.int32)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(">BBBB", 0, 0, 8, values.ndim) + b"".join(
        struct.pack(">I", size) for size in values.shape) + values.astype(np.uint8).tobytes()


def read_idx(path: Path) -> np.ndarray:
    """An independent reader: header by struct, data by slices of a bytes object."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    return np.array(bytearray(content[4 + 4 * dimensions:]), np.uint8).reshape(shape)


def write_idx(folder: Path, train: Pair, test: Pair, compress: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in zip(IDX, (train[0][..., 0], train[1], test[0][..., 0], test[1])):
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(values), 1))
        else:
            (folder / name).write_bytes(idx(values))


def planes(image: np.ndarray) -> bytes:
    """All red values row by row, then all green, then all blue."""
    return b"".join(image[:, :, channel].tobytes() for channel in range(3))


def cifar_binary(name: str, train: Pair, test: Pair) -> dict[str, bytes]:
    """The members of the binary archive."""
    def records(images: np.ndarray, labels: np.ndarray) -> bytes:
        coarse = b"\x07" if name == "cifar100" else b""
        return b"".join(coarse + bytes([label]) + planes(image) for image, label in zip(images, labels))

    if name == "cifar100":
        return {"cifar-100-binary/train.bin": records(*train), "cifar-100-binary/test.bin": records(*test),
                "cifar-100-binary/fine_label_names.txt": ("\n".join(CIFAR100_NAMES) + "\n").encode(),
                "cifar-100-binary/coarse_label_names.txt": "\n".join(f"group{i}" for i in range(20)).encode()}
    size = len(train[0]) // 5
    members = {f"cifar-10-batches-bin/data_batch_{batch + 1}.bin":
               records(*(part[batch * size:(batch + 1) * size] for part in train)) for batch in range(5)}
    return members | {"cifar-10-batches-bin/batches.meta.txt": ("\n".join(CIFAR10_NAMES) + "\n\n").encode(),
                      "cifar-10-batches-bin/test_batch.bin": records(*test)}


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did: both as its only type of string."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: object) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def cifar_python(name: str, train: Pair, test: Pair) -> dict[str, bytes]:
    """The members of the Python archive."""
    def batch(images: np.ndarray, labels: np.ndarray) -> bytes:
        data = np.array([list(planes(image)) for image in images], np.uint8)
        values = {"data": data, "filenames": [f"{index}.png" for index in range(len(images))]}
        if name == "cifar100":
            return python2_pickle(values | {"fine_labels": labels.tolist(), "coarse_labels": [7] * len(labels)})
        return python2_pickle(values | {"batch_label": "a batch", "labels": labels.tolist()})

    if name == "cifar100":
        return {"cifar-100-python/meta": python2_pickle({"fine_label_names": list(CIFAR100_NAMES)}),
                "cifar-100-python/train": batch(*train), "cifar-100-python/test": batch(*test)}
    size = len(train[0]) // 5
    members = {f"cifar-10-batches-py/data_batch_{number + 1}":
               batch(*(part[number * size:(number + 1) * size] for part in train)) for number in range(5)}
    return members | {"cifar-10-batches-py/batches.meta": python2_pickle({"label_names": list(CIFAR10_NAMES)}),
                      "cifar-10-batches-py/test_batch": batch(*test)}


def tar(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        folder = tarfile.TarInfo(next(iter(members)).split("/")[0])
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def unpack(members: dict[str, bytes], folder: Path) -> None:
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def cifar(name: str) -> tuple[Pair, Pair]:
    counts, classes = ((50, 20), 10) if name == "cifar10" else ((200, 100), 100)
    train, test = (random_images(count, (32, 32, 3), classes, seed) for seed, count in enumerate(counts))
    return train, test


def mnist() -> tuple[Pair, Pair]:
    return random_images(60, (28, 28, 1), 10, 0), random_images(20, (28, 28, 1), 10, 1)


WRITE = {"binary": cifar_binary, "python": cifar_python}
ARCHIVES = {("cifar10", "binary"): "cifar-10-binary.tar.gz", ("cifar10", "python"): "cifar-10-python.tar.gz",
            ("cifar100", "binary"): "cifar-100-binary.tar.gz", ("cifar100", "python"): "cifar-100-python.tar.gz"}


# Class folders


def write_folder(root: Path, classes=("dog", "cat"), size=(8, 6), mode="RGB", suffix="png") -> dict[str, np.ndarray]:
    """Two images per class and part; returns the pixels by path."""
    generator, pixels = np.random.default_rng(0), {}
    for part in ("train", "test"):
        for name in classes:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for index in range(2):
                shape = (*size, 3) if mode == "RGB" else size
                path = f"{part}/{name}/{index}.{suffix}"
                pixels[path] = generator.integers(0, 256, shape, np.uint8)
                Image.fromarray(pixels[path]).save(root / path)
    return pixels


# Damage and comparison


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xff
    path.write_bytes(content)


def assert_same(split: datasets.Split, expected: Pair) -> None:
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.images, expected[0])
    np.testing.assert_array_equal(split.labels, expected[1])


def as_bag(split: datasets.Split) -> collections.Counter:
    return collections.Counter((int(label), image.tobytes()) for image, label in zip(split.images, split.labels))
