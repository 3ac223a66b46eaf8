"""Data sets are read as published, damage is named, and what is missing is said within bounds."""

import collections
import dataclasses
import gzip
import http.server
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcnn.data import datasets, make_sample
from tfcnn.recipe import UsageError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SHARED_MNIST = Path(__file__).parents[2] / "shared" / "datasets" / "mnist"
SAMPLE = Path(datasets.__file__).with_name("sample")
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_NAMES = tuple(f"thing_{index:02}" for index in range(100))

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """No network, nothing that a package or the developer has put on this machine, and small official data sets."""
    monkeypatch.setattr(datasets, "answers", lambda url: False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds_default"))
    for name, train, test in (("cifar10", 50, 20), ("cifar100", 200, 100),
                              ("mnist", 60, 20), ("fashion_mnist", 60, 20)):
        entry = dataclasses.replace(datasets.KNOWN[name], train_images=train, test_images=test)
        if name == "fashion_mnist":
            entry = dataclasses.replace(entry, system_folder=str(tmp_path / "debian"))
        monkeypatch.setitem(datasets.KNOWN, name, entry)


@pytest.fixture
def full_size(monkeypatch):
    """The official counts of MNIST and Fashion-MNIST, and Debian's folder."""
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(datasets.KNOWN, name, dataclasses.replace(
            datasets.KNOWN[name], train_images=60_000, test_images=10_000, system_folder=str(DEBIAN)))


def refused(*arguments, **options) -> str:
    """The message of the UsageError that `load` raises."""
    with pytest.raises(UsageError) as caught:
        datasets.load(*arguments, **options)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 1000
    return message


# Official files, written from the published descriptions of their formats and not with the code under test.


def random_images(count: int, shape: tuple[int, int, int], classes: int, seed: int) -> Pair:
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    # The first label tells that these are neither MNIST's nor Fashion-MNIST's.
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
    """Row by row, first all red values, then all green, then all blue."""
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
    """Writes text and bytes as Python 2 did: both as its one type of string."""

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


def assert_same(split: datasets.Split, expected: Pair) -> None:
    assert split.images.dtype == np.uint8 and split.labels.dtype == np.int32
    np.testing.assert_array_equal(split.images, expected[0])
    np.testing.assert_array_equal(split.labels, expected[1])


def as_bag(split: datasets.Split) -> collections.Counter:
    return collections.Counter((int(label), image.tobytes()) for image, label in zip(split.images, split.labels))


WRITE = {"binary": cifar_binary, "python": cifar_python}
ARCHIVES = {("cifar10", "binary"): "cifar-10-binary.tar.gz", ("cifar10", "python"): "cifar-10-python.tar.gz",
            ("cifar100", "binary"): "cifar-100-binary.tar.gz", ("cifar100", "python"): "cifar-100-python.tar.gz"}


@pytest.mark.parametrize("packing", ["archive", "not compressed", "unpacked", "unpacked, named itself"])
@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_as_published(name, version, packing, tmp_path):
    train, test = cifar(name)
    members = WRITE[version](name, train, test)
    data_dir = tmp_path
    if packing == "archive":
        (tmp_path / ARCHIVES[name, version]).write_bytes(gzip.compress(tar(members), 1))
    elif packing == "not compressed":
        (tmp_path / ARCHIVES[name, version]).write_bytes(tar(members))
    else:
        unpack(members, tmp_path)
        data_dir = tmp_path / next(iter(members)).split("/")[0] if packing.endswith("itself") else tmp_path
    dataset = datasets.load(name, str(data_dir), validation=0)
    assert_same(dataset.train, train)
    assert_same(dataset.test, test)
    assert dataset.class_names == (CIFAR10_NAMES if name == "cifar10" else CIFAR100_NAMES)
    assert dataset.name == name and ARCHIVES[name, version] in dataset.source
    assert str(tmp_path) not in dataset.source
    assert dataset.validation.images.shape == (0, 32, 32, 3) and dataset.validation.labels.shape == (0,)
    assert {path.name for path in tmp_path.iterdir()} <= {ARCHIVES[name, version], next(iter(members)).split("/")[0]}


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_idx_is_read_as_published(compress, subfolder, tmp_path):
    train, test = mnist()
    write_idx(tmp_path / subfolder, train, test, compress)
    dataset = datasets.load("mnist", str(tmp_path), validation=0)
    assert_same(dataset.train, train)
    assert_same(dataset.test, test)
    assert dataset.class_names == tuple("0123456789")
    assert str(tmp_path) not in dataset.source


def test_fashion_mnist_of_debian(full_size):
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    dataset = datasets.load("fashion_mnist", validation=0)
    arrays = [read_idx(DEBIAN / f"{name}.gz") for name in IDX]
    assert_same(dataset.train, (arrays[0][..., None], arrays[1]))
    assert_same(dataset.test, (arrays[2][..., None], arrays[3]))
    assert len(dataset.train.labels) == 60_000 and len(dataset.test.labels) == 10_000
    # Fashion-MNIST's own description: its first training image is an ankle boot.
    assert dataset.class_names[dataset.train.labels[0]] == "Ankle boot"
    assert "Debian" in dataset.source
    assert "belongs to fashion_mnist" in refused("mnist", str(DEBIAN))


def test_mnist_of_the_shared_folder(full_size):
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"{SHARED_MNIST} is not on this machine")
    dataset = datasets.load("mnist", str(SHARED_MNIST), validation=0)
    np.testing.assert_array_equal(dataset.test.images[..., 0], read_idx(SHARED_MNIST / f"{IDX[2]}.gz"))
    np.testing.assert_array_equal(np.bincount(dataset.train.labels),
                                  [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert "belongs to mnist" in refused("fashion_mnist", str(SHARED_MNIST))


@pytest.mark.parametrize("name, other", [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
def test_files_of_a_namesake_are_told_apart(name, other, tmp_path):
    # The first test labels of each, as `read_idx` gives them.
    first = {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4],
             "fashion_mnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1, 2, 4, 8, 0]}
    train, (images, _) = mnist()
    write_idx(tmp_path, train, (images, np.array(first[other])))
    message = refused(name, str(tmp_path))
    assert str(tmp_path / IDX[3]) in message and f"belongs to {other}" in message
    assert datasets.load(other, str(tmp_path), validation=0).test.labels.tolist() == first[other]


def test_where_files_are_looked_for_first(tmp_path, monkeypatch):
    def write(folder: Path, seed: int) -> np.ndarray:
        train = random_images(60, (28, 28, 1), 10, seed)
        write_idx(folder, train, random_images(20, (28, 28, 1), 10, seed))
        return train[0]

    debian, direct = write(tmp_path / "debian", 1), write(tmp_path / "data", 2)
    (tmp_path / "data" / "cifar-10-binary.tar.gz").write_bytes(b"of no concern here")

    def found(data_dir: str | None) -> np.ndarray:
        return datasets.load("fashion_mnist", data_dir, validation=0).train.images

    np.testing.assert_array_equal(found(None), debian)
    np.testing.assert_array_equal(found(str(tmp_path / "empty")), debian)
    np.testing.assert_array_equal(found(str(tmp_path / "data")), direct)
    named = write(tmp_path / "data" / "fashion_mnist", 3)
    np.testing.assert_array_equal(found(str(tmp_path / "data")), named)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(found("~/data"), named)
    # The sample's files bear the same names, and its own are the right ones.
    assert len(datasets.load("sample", str(tmp_path / "data"), validation=0).train.labels) == 6_000


def test_a_pickle_cannot_run_a_program(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    members = cifar_python("cifar10", *cifar("cifar10"))
    members["cifar-10-batches-py/test_batch"] = pickle.dumps({"data": Harmful(), "labels": [0] * 20}, protocol=2)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(tar(members)))
    assert "mkdir" in refused("cifar10", str(tmp_path))
    assert not (tmp_path / "harm").exists()


# Damage


def rewrite(path: Path, change) -> None:
    """Changes what a compressed file holds."""
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xff
    path.write_bytes(content)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


IDX_DAMAGE = {
    "truncated images": (0, lambda path: path.write_bytes(path.read_bytes()[:20_000])),
    "truncated checksum": (1, lambda path: path.write_bytes(path.read_bytes()[:-5])),
    "wrong checksum": (2, lambda path: flip(path, -7)),
    "flipped byte": (0, lambda path: flip(path, 5_000)),
    "labels for images": (0, lambda path: path.write_bytes((path.parent / f"{IDX[1]}.gz").read_bytes())),
    "images for labels": (3, lambda path: path.write_bytes((path.parent / f"{IDX[0]}.gz").read_bytes())),
    "integers of 4 bytes": (1, lambda path: rewrite(path, lambda data: data[:2] + b"\x0c" + data[3:])),
    "fewer images": (0, lambda path: path.write_bytes(gzip.compress(idx(np.zeros([59, 28, 28]))))),
    "more labels": (1, lambda path: path.write_bytes(gzip.compress(idx(np.zeros([61]))))),
    "other dimensions": (0, lambda path: path.write_bytes(gzip.compress(idx(np.zeros([28, 60, 28]))))),
    "narrow images": (2, lambda path: path.write_bytes(gzip.compress(idx(np.zeros([20, 28, 27]))))),
    "data end early": (0, lambda path: rewrite(path, lambda data: data[:-1])),
    "data go on": (3, lambda path: rewrite(path, lambda data: data + b"\0")),
    "header ends early": (2, lambda path: rewrite(path, lambda data: data[:9])),
    "label out of range": (1, lambda path: rewrite(path, lambda data: data[:-1] + b"\x0a")),
    "missing": (2, Path.unlink),
    "empty": (0, lambda path: path.write_bytes(b"")),
    "web page": (3, lambda path: path.write_bytes(b"<html><title>404 Not Found</title></html>")),
    "folder": (1, become_folder),
}


@pytest.mark.parametrize("case", IDX_DAMAGE)
def test_damaged_idx_file_is_named(case, tmp_path):
    write_idx(tmp_path, *mnist())
    datasets.load("mnist", str(tmp_path))
    file, damage = IDX_DAMAGE[case]
    damage(tmp_path / f"{IDX[file]}.gz")
    message = refused("mnist", str(tmp_path))
    assert str(tmp_path / IDX[file]) in message
    assert "get it again from https://storage.googleapis.com/cvdf-datasets/mnist/" in message


def repack(change):
    """Changes the members of an archive."""
    def damage(path: Path) -> None:
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        change(members)
        path.write_bytes(gzip.compress(tar(members), 1))
    return damage


def set_member(name: str, content) -> None:
    """Replaces a member by bytes, or by what a function makes of it."""
    return repack(lambda members: members.update(
        {name: content(members[name]) if callable(content) else content}))


def set_values(**values):
    """Replaces values in the pickled dictionary of the third batch of CIFAR-10; None removes one."""
    def change(content: bytes) -> bytes:
        batch = pickle.loads(content.replace(b"cnumpy.core.", b"cnumpy._core."), encoding="latin1") | values
        return python2_pickle({key: value for key, value in batch.items() if value is not None})
    return set_member("cifar-10-batches-py/data_batch_3", change)


ARCHIVE_DAMAGE = {
    "truncated": ("binary", "", lambda path: path.write_bytes(path.read_bytes()[:60_000])),
    "truncated at its end": ("binary", "", lambda path: path.write_bytes(path.read_bytes()[:-3])),
    "wrong checksum": ("binary", "", lambda path: flip(path, -6)),
    "flipped byte": ("python", "", lambda path: flip(path, 30_000)),
    "not an archive": ("binary", "", lambda path: path.write_bytes(b"<html>sorry</html>" * 99)),
    "compressed, but not an archive": ("python", "", lambda path: path.write_bytes(gzip.compress(b"no" * 999))),
    "empty": ("python", "", lambda path: path.write_bytes(b"")),
    "folder": ("binary", "", become_folder),
    "another archive": ("binary", "data_batch_1.bin", lambda path: path.write_bytes(
        gzip.compress(tar(cifar_binary("cifar100", *cifar("cifar100"))), 1))),
    "path above its folder": ("binary", "../data_batch_4.bin", repack(
        lambda members: members.update({"../data_batch_4.bin": b""}))),
    "absolute path": ("python", "/tmp/batches.meta", repack(
        lambda members: members.update({"/tmp/batches.meta": b""}))),
    "missing member": ("binary", "data_batch_4.bin", repack(
        lambda members: members.pop("cifar-10-batches-bin/data_batch_4.bin"))),
    "missing pickle": ("python", "batches.meta", repack(
        lambda members: members.pop("cifar-10-batches-py/batches.meta"))),
    "short member": ("binary", "test_batch.bin", set_member(
        "cifar-10-batches-bin/test_batch.bin", lambda data: data[:-3073])),
    "long member": ("binary", "data_batch_2.bin", set_member(
        "cifar-10-batches-bin/data_batch_2.bin", lambda data: data + b"\0")),
    "label out of range": ("binary", "data_batch_5.bin", set_member(
        "cifar-10-batches-bin/data_batch_5.bin", lambda data: b"\x0a" + data[1:])),
    "too few names": ("binary", "batches.meta.txt", set_member(
        "cifar-10-batches-bin/batches.meta.txt", b"airplane\nautomobile\n")),
    "truncated pickle": ("python", "test_batch", set_member(
        "cifar-10-batches-py/test_batch", lambda data: data[:-100])),
    "no pickle": ("python", "data_batch_1", set_member("cifar-10-batches-py/data_batch_1", b"hello")),
    "pickle of a list": ("python", "data_batch_2", set_member(
        "cifar-10-batches-py/data_batch_2", python2_pickle([1, 2]))),
    "pickled names missing": ("python", "batches.meta", set_member(
        "cifar-10-batches-py/batches.meta", python2_pickle({}))),
    "pickled names are numbers": ("python", "batches.meta", set_member(
        "cifar-10-batches-py/batches.meta", python2_pickle({"label_names": list(range(10))}))),
    "pickled too few images": ("python", "data_batch_3", set_values(data=np.zeros([9, 3072], np.uint8))),
    "pickled other type": ("python", "data_batch_3", set_values(data=np.zeros([10, 3072], np.float32))),
    "pickled too few labels": ("python", "data_batch_3", set_values(labels=[1] * 9)),
    "pickled text for labels": ("python", "data_batch_3", set_values(labels=["1"] * 10)),
    "pickled label out of range": ("python", "data_batch_3", set_values(labels=[1] * 9 + [-1])),
    "pickled without labels": ("python", "data_batch_3", set_values(labels=None)),
}


@pytest.mark.parametrize("case", ARCHIVE_DAMAGE)
def test_damaged_archive_is_named(case, tmp_path):
    version, member, damage = ARCHIVE_DAMAGE[case]
    path = tmp_path / ARCHIVES["cifar10", version]
    path.write_bytes(gzip.compress(tar(WRITE[version]("cifar10", *cifar("cifar10"))), 1))
    datasets.load("cifar10", str(tmp_path))
    damage(path)
    message = refused("cifar10", str(tmp_path))
    assert str(path) in message and member in message
    assert "get it again from https://www.cs.toronto.edu/~kriz/" in message


@pytest.mark.parametrize("file, damage", [
    ("data_batch_2.bin", Path.unlink),
    ("batches.meta.txt", Path.unlink),
    ("data_batch_3.bin", lambda path: path.write_bytes(path.read_bytes()[:-1])),
])
def test_damaged_unpacked_file_is_named(file, damage, tmp_path):
    unpack(cifar_binary("cifar10", *cifar("cifar10")), tmp_path)
    damage(tmp_path / "cifar-10-batches-bin" / file)
    assert str(tmp_path / "cifar-10-batches-bin" / file) in refused("cifar10", str(tmp_path))


@pytest.mark.parametrize("name, file", [
    ("mnist", f"{IDX[2]}.gz"), ("cifar10", "cifar-10-binary.tar.gz"), ("folder", "train/cat/0.png")])
def test_file_without_permission_is_named(name, file, tmp_path, monkeypatch):
    write_idx(tmp_path, *mnist())
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    write_folder(tmp_path)
    # Not by changing permissions, which do not bind the administrator, who may run this.
    for module in (io, __import__("builtins")):
        opened = module.open

        def guarded(path, *arguments, opened=opened, **options):
            if str(path) == str(tmp_path / file):
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *arguments, **options)

        monkeypatch.setattr(module, "open", guarded)
    message = refused(name, str(tmp_path))
    assert str(tmp_path / file) in message and "Permission denied" in message and "change its permissions" in message


def test_data_dir_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("mnist", "folder", "cifar10"):
        assert f"--data_dir={tmp_path / 'file'} is not a folder" in refused(name, str(tmp_path / "file"))


# Folders of images


def write_folder(root: Path, classes=("dog", "cat"), size=(8, 6), mode="RGB", suffix="png") -> dict[str, np.ndarray]:
    """Two images a class and split; gives the pixels by path."""
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


def test_folder_of_colour_images(tmp_path):
    pixels = write_folder(tmp_path / "pets")
    (tmp_path / "pets" / "train" / ".DS_Store").write_text("hidden")
    (tmp_path / "pets" / "train" / "dog" / ".hidden").mkdir()
    (tmp_path / "pets" / "test" / "cat" / "1.png").rename(tmp_path / "pets" / "test" / "cat" / "1.PnG")
    (tmp_path / "pets" / "README").write_text("not in train/ or test/")
    dataset = datasets.load("folder", f"{tmp_path}/pets/", validation=0, image_size=(20, 20))
    assert dataset.class_names == ("cat", "dog") and dataset.source == "pets, class folders"
    order = [f"{name}/{index}.png" for name in ("cat", "dog") for index in (0, 1)]
    assert_same(dataset.train, (np.stack([pixels[f"train/{file}"] for file in order]), np.array([0, 0, 1, 1])))
    assert_same(dataset.test, (np.stack([pixels[f"test/{file}"] for file in order]), np.array([0, 0, 1, 1])))


def test_folder_of_jpeg_files(tmp_path):
    write_folder(tmp_path, size=(16, 16), suffix="jpg")
    colour = np.full([16, 16, 3], (200, 100, 50), np.uint8)
    Image.fromarray(colour).save(tmp_path / "train" / "cat" / "0.jpg", quality=95)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "train" / "dog" / "9.JPEG", quality=95)
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    assert images.shape == (5, 16, 16, 3)
    for index in (0, 4):
        np.testing.assert_allclose(images[index], colour, atol=3)


def test_folder_of_grey_images(tmp_path):
    pixels = write_folder(tmp_path, mode="L")
    wide = np.linspace(0, 65535, 48).astype(np.uint16).reshape(8, 6)
    Image.fromarray(wide).save(tmp_path / "train" / "cat" / "2.png")
    Image.fromarray(wide >= 30_000).save(tmp_path / "train" / "cat" / "3.png")
    Image.fromarray(np.dstack([pixels["train/cat/0.png"]] * 2)).save(tmp_path / "train" / "cat" / "4.png")
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    assert images.shape == (7, 8, 6, 1)
    np.testing.assert_array_equal(images[0, ..., 0], pixels["train/cat/0.png"])
    np.testing.assert_array_equal(images[2, ..., 0], wide // 256)
    np.testing.assert_array_equal(images[3, ..., 0], np.where(wide >= 30_000, 255, 0))
    np.testing.assert_array_equal(images[4, ..., 0], pixels["train/cat/0.png"])


@pytest.mark.filterwarnings("error")
def test_folder_of_grey_and_colour_images(tmp_path):
    pixels = write_folder(tmp_path, mode="L")
    colour = np.random.default_rng(1).choice(np.array([0, 80, 255], np.uint8), (8, 6, 3))
    Image.fromarray(colour).quantize(27).save(tmp_path / "train" / "cat" / "2.png", transparency=bytes(range(27)))
    opacity = np.full([8, 6, 1], 7, np.uint8)
    Image.fromarray(np.concatenate([colour, opacity], -1)).save(tmp_path / "test" / "cat" / "2.png")
    dataset = datasets.load("folder", str(tmp_path), validation=0)
    np.testing.assert_array_equal(dataset.train.images[0], np.stack([pixels["train/cat/0.png"]] * 3, -1))
    np.testing.assert_array_equal(dataset.train.images[2], colour)
    np.testing.assert_array_equal(dataset.test.images[2], colour)


def test_images_of_several_sizes_are_resized_and_their_centre_cropped(tmp_path):
    write_folder(tmp_path, size=(20, 20))
    landscape = np.zeros([40, 120, 3], np.uint8)
    landscape[:, 40:80] = 200
    Image.fromarray(landscape).save(tmp_path / "train" / "cat" / "0.png")
    portrait = np.zeros([120, 40, 3], np.uint8)
    portrait[40:80] = 100
    Image.fromarray(portrait).save(tmp_path / "train" / "cat" / "1.png")
    stripes = np.zeros([80, 80, 3], np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(tmp_path / "test" / "dog" / "0.png")
    dataset = datasets.load("folder", str(tmp_path), validation=0, image_size=(10, 10))
    assert dataset.train.images.shape == (4, 10, 10, 3)
    # But for the edges, which what was cropped has shone into.
    np.testing.assert_array_equal(dataset.train.images[0, :, 1:-1], 200)
    np.testing.assert_array_equal(dataset.train.images[1, 1:-1], 100)
    # Without antialiasing, stripes of one pixel would vanish, or cover all.
    np.testing.assert_allclose(dataset.test.images[2], 100, atol=5)
    assert datasets.load("folder", str(tmp_path), validation=0, image_size=(12, 24)).test.images.shape[1:3] == (12, 24)
    message = refused("folder", str(tmp_path))
    assert "--image_size" in message and str(tmp_path / "train" / "cat" / "1.png") in message


def test_large_images_are_decoded_alike(tmp_path):
    """Large images are decoded by several threads, small ones by one."""
    pixels = write_folder(tmp_path, size=(130, 120))
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    np.testing.assert_array_equal(images, [pixels[f"train/{name}/{index}.png"] for name in ("cat", "dog")
                                           for index in (0, 1)])
    (tmp_path / "test" / "dog" / "1.png").write_bytes((tmp_path / "test" / "dog" / "0.png").read_bytes()[:9_000])
    assert str(tmp_path / "test" / "dog" / "1.png") in refused("folder", str(tmp_path))


def test_images_larger_than_memory(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path, classes=("hen",), size=(9, 9))
    assert "do not fit into memory" in refused("folder", str(tmp_path), image_size=(10_000_000, 10_000_000))


def remove_tree(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def save_gif(path: Path) -> None:
    Image.new("P", (6, 8)).save(path, format="GIF")


FOLDER_DAMAGE = {
    "truncated png": ("train/dog/1.png", lambda path: path.write_bytes(path.read_bytes()[:-60])),
    "flipped byte": ("test/dog/1.png", lambda path: flip(path, 60)),
    "text": ("train/cat/0.png", lambda path: path.write_text("not an image")),
    "empty file": ("test/cat/1.png", lambda path: path.write_bytes(b"")),
    "another format": ("train/cat/1.png", save_gif),
    "other file": ("train/dog/notes.txt", lambda path: path.write_text("x")),
    "folder in a class": ("test/dog/more", Path.mkdir),
    "folder like an image": ("test/dog/more.png", Path.mkdir),
    "file beside the classes": ("train/labels.csv", lambda path: path.write_text("x")),
    "empty class": ("train/emu", lambda path: (path.mkdir(), (path.parent.parent / "test" / "emu").mkdir())),
    "class not in test": ("train/emu", lambda path: (path.mkdir(), Image.new("RGB", (6, 8)).save(path / "0.png"))),
    "class not in train": ("test/emu", lambda path: (path.mkdir(), Image.new("RGB", (6, 8)).save(path / "0.png"))),
    "no train": ("train", remove_tree),
    "no test": ("test", remove_tree),
    "no classes": ("train", lambda path: (remove_tree(path), path.mkdir())),
    "one class": ("train", lambda path: (remove_tree(path / "cat"), remove_tree(path.parent / "test" / "cat"))),
}


@pytest.mark.parametrize("case", FOLDER_DAMAGE)
def test_damaged_folder_is_named(case, tmp_path):
    write_folder(tmp_path)
    datasets.load("folder", str(tmp_path), validation=0)
    file, damage = FOLDER_DAMAGE[case]
    damage(tmp_path / file)
    assert str(tmp_path / file) in refused("folder", str(tmp_path), validation=0)


def test_truncated_jpeg_is_named(tmp_path):
    write_folder(tmp_path, size=(32, 32), suffix="jpg")
    file = tmp_path / "train" / "dog" / "0.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    assert str(file) in refused("folder", str(tmp_path))


def test_folder_needs_data_dir(tmp_path):
    assert "--data_dir" in refused("folder")
    assert str(tmp_path / "none" / "train") in refused("folder", str(tmp_path / "none"))


# The sample


def test_sample_is_balanced_and_small():
    dataset = datasets.load("sample", validation=0)
    assert dataset.train.images.shape == (6_000, 28, 28, 1) and dataset.test.images.shape == (1_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [600] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
    assert dataset.source == "6,000 + 1,000 images of Fashion-MNIST, shipped with tfcnn"
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) <= 4_000_000
    licence = (SAMPLE / "LICENSE").read_text()
    assert "The MIT License" in licence and "Zalando" in licence and "WITHOUT WARRANTY OF ANY KIND" in licence


def test_sample_is_the_first_of_fashion_mnist():
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for images, labels, count in ((IDX[0], IDX[1], 600), (IDX[2], IDX[3], 100)):
        seen: collections.Counter = collections.Counter()
        chosen = []
        official = read_idx(DEBIAN / f"{labels}.gz")
        for index, label in enumerate(official.tolist()):
            seen[label] += 1
            if seen[label] <= count:
                chosen.append(index)
        np.testing.assert_array_equal(read_idx(SAMPLE / f"{images}.gz"), read_idx(DEBIAN / f"{images}.gz")[chosen])
        np.testing.assert_array_equal(read_idx(SAMPLE / f"{labels}.gz"), official[chosen])


def test_sample_can_be_made_again(full_size, tmp_path):
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    assert make_sample.main([f"--data_dir={DEBIAN}", f"--output={tmp_path}"]) == 0
    for name in IDX:
        ours, shipped = ((folder / f"{name}.gz").read_bytes() for folder in (tmp_path, SAMPLE))
        assert gzip.decompress(ours) == gzip.decompress(shipped)
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng compresses to other bytes
            assert ours == shipped


def test_making_the_sample_depends_on_content_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(datasets.KNOWN, "sample", dataclasses.replace(
        datasets.KNOWN["sample"], train_images=20, test_images=10))
    train, test = mnist()
    write_idx(tmp_path / "a", train, test)
    write_idx(tmp_path / "somewhere else", train, test, compress=False)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert make_sample.main([f"--data_dir={tmp_path / 'a'}", f"--output={tmp_path / 'one'}"]) == 0
    monkeypatch.setattr("time.time", lambda: 1.5e9)
    assert make_sample.main([f"--data_dir={tmp_path / 'somewhere else'}", f"--output={tmp_path / 'two' / 'deep'}"]) == 0
    for name in IDX:
        assert (tmp_path / "one" / f"{name}.gz").read_bytes() == (tmp_path / "two/deep" / f"{name}.gz").read_bytes()
    np.testing.assert_array_equal(read_idx(tmp_path / "one" / f"{IDX[1]}.gz"), train[1][:20])
    np.testing.assert_array_equal(read_idx(tmp_path / "one" / f"{IDX[2]}.gz"), test[0][:10, ..., 0])

    assert make_sample.main([f"--data_dir={tmp_path / 'none'}", f"--output={tmp_path / 'one'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(tmp_path / "none") in error and error.count("\n") == 1


def test_damaged_sample_is_named(tmp_path, monkeypatch):
    for name in IDX:
        (tmp_path / f"{name}.gz").write_bytes((SAMPLE / f"{name}.gz").read_bytes())
    monkeypatch.setitem(datasets.KNOWN, "sample", dataclasses.replace(
        datasets.KNOWN["sample"], system_folder=str(tmp_path)))
    flip(tmp_path / f"{IDX[0]}.gz", 100_000)
    message = refused("sample")
    assert str(tmp_path / IDX[0]) in message and "install tfcnn again" in message
    for file in tmp_path.iterdir():
        file.unlink()
    assert str(tmp_path) in refused("sample")


# The validation part


def numbered(labels: list[int]) -> datasets.Split:
    """Images that bear their index."""
    count = len(labels)
    images = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 2, 1)
    return datasets.Split(images, np.array(labels, np.int32))


def indices(split: datasets.Split) -> list[int]:
    return split.images.reshape(-1, 2).copy().view(np.uint16)[:, 0].tolist()


def test_validation_part_is_a_balanced_partition():
    labels = ([0] * 100 + [1] * 37 + [2] * 5) * 2
    train, held_out = datasets.split_validation(numbered(labels), 0.1, seed=3)
    assert np.bincount(held_out.labels).tolist() == [20, 7, 1]
    assert sorted(indices(train) + indices(held_out)) == list(range(len(labels)))
    for part in (train, held_out):
        assert indices(part) == sorted(indices(part))
        assert part.labels.tolist() == [labels[index] for index in indices(part)]


def test_validation_part_is_a_function_of_labels_share_and_seed():
    labels = [0, 1] * 200
    images = numbered(labels)
    np.random.seed(1)
    first = indices(datasets.split_validation(images, 0.25, seed=0)[1])
    np.random.seed(2)
    assert indices(datasets.split_validation(images, 0.25, seed=0)[1]) == first
    assert indices(datasets.split_validation(images, 0.25, seed=1)[1]) != first
    other_pixels = datasets.Split(images.images[::-1], images.labels)
    np.testing.assert_array_equal(datasets.split_validation(other_pixels, 0.25, 0)[1].images,
                                  other_pixels.images[first])
    # Written down, so that records keep their meaning: what another version holds out is another experiment.
    assert first[:8] == [0, 5, 7, 10, 12, 15, 20, 23]


def test_loading_holds_out_the_validation_part():
    whole, dataset = datasets.load("sample", validation=0), datasets.load("sample", validation=0.05, seed=7)
    expected = datasets.split_validation(whole.train, 0.05, 7)
    for part, reference in zip((dataset.train, dataset.validation, dataset.test), (*expected, whole.test)):
        assert_same(part, (reference.images, reference.labels))
    assert np.bincount(dataset.validation.labels).tolist() == [30] * 10
    assert len(datasets.load("sample").validation.labels) == 600


@pytest.mark.parametrize("labels, share, reason", [
    ([0] * 10 + [1] * 2, 0.8, "leaves no training image of class 1"),
    ([0] * 9 + [1], 0.5, "leaves no training image of class 1"),
    ([0] * 4 + [1] * 4, 0.1, "no image at all"),
    ([0] * 4 + [1] * 4, 1.0, "less than 1"),
    ([0] * 4 + [1] * 4, -0.1, "at least 0"),
    ([0] * 4 + [1] * 4, float("nan"), "at least 0"),
])
def test_validation_share_that_cannot_be(labels, share, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        datasets.split_validation(numbered(labels), share, 0)
    assert "--validation=" in str(caught.value) and "\n" not in str(caught.value)


# The network


@pytest.fixture
def silent_server():
    """Accepts connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/file"


@pytest.fixture
def talking_server():
    """Answers HEAD requests with the status in their path."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(int(self.path.strip("/")))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def answers(monkeypatch):
    """The function itself, which the other tests do without."""
    monkeypatch.undo()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return datasets.answers


def test_whether_an_address_answers(answers, talking_server):
    assert answers(f"{talking_server}/200", 30)
    assert answers(f"{talking_server}/405", 30)
    assert not answers(f"{talking_server}/404", 30)
    assert not answers(f"{talking_server}/503", 30)


def test_a_silent_server_is_not_waited_for(answers, silent_server):
    assert not answers(silent_server, 0.2)


def test_a_refused_connection_and_no_address(answers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}/", 30)
    assert not answers("no address", 30)


def test_a_silent_name_server_is_not_waited_for(answers, monkeypatch):
    given_up, waited_to_the_end = threading.Event(), threading.Event()

    def never(*arguments, **options):
        if not given_up.wait(60):
            waited_to_the_end.set()
        raise socket.gaierror("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    try:
        assert not answers("https://somewhere.invalid/file", 0.2)
        assert not waited_to_the_end.is_set()
    finally:
        given_up.set()


@pytest.mark.parametrize("name, words", [
    ("cifar10", ["cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"]),
    ("cifar100", ["cifar-100-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/"]),
    ("mnist", [*(f"{name}.gz" for name in IDX), "https://storage.googleapis.com/cvdf-datasets/mnist/"]),
    ("fashion_mnist", [*(f"{name}.gz" for name in IDX), "apt-get install dataset-fashion-mnist"]),
])
def test_what_is_nowhere_is_unavailable(name, words, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(datasets, "answers", lambda url: bool(asked.append(url)))
    (tmp_path / "data" / name).mkdir(parents=True)
    for data_dir in (None, str(tmp_path / "data"), str(tmp_path / "none")):
        with pytest.raises(datasets.Unavailable) as caught:
            datasets.load(name, data_dir)
        message = str(caught.value)
        assert "\n" not in message
        for word in (f"--dataset={name}", "--data_dir", "--dataset=sample", *words):
            assert word in message
    assert len(asked) == 3 and all(url.startswith(datasets.KNOWN[name].url) for url in asked)


def test_what_needs_no_tensorflow_does_not_import_it(tmp_path):
    """A run without a network must know within ten seconds, and a folder or the sample needs no TensorFlow."""
    write_folder(tmp_path)
    program = f"""
import sys
from tfcnn.data import datasets
datasets.answers = lambda url: False
datasets.load("sample")
datasets.load("folder", {str(tmp_path)!r}, validation=0)
try:
    datasets.load("cifar10")
except datasets.Unavailable:
    print([name for name in ("tensorflow", "tensorflow_datasets", "keras") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# tensorflow-datasets


@pytest.fixture(scope="session")
def tfds():
    import tensorflow_datasets
    return tensorflow_datasets


@pytest.fixture(scope="session")
def tiny(tfds, tmp_path_factory):
    """Prepares a small data set of tensorflow-datasets: (name, features, examples by split) -> its data_dir."""
    def prepare(name: str, features: dict, examples: dict[str, list[dict]]) -> Path:
        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {split: self._generate_examples(split) for split in examples}

            def _generate_examples(self, split):
                yield from enumerate(examples[split])

        Tiny.name = name
        data_dir = tmp_path_factory.mktemp(name)
        Tiny(data_dir=data_dir).download_and_prepare()
        return data_dir
    return prepare


def tiny_examples(count: int, shape=(6, 5, 3), labels=(0, 1, 2), seed=0) -> list[dict]:
    generator = np.random.default_rng(seed)
    return [{"image": generator.integers(0, 256, shape, np.uint8), "label": labels[index % len(labels)],
             "note": "not read"} for index in range(count)]


def tiny_features(tfds, shape=(6, 5, 3), dtype=np.uint8, **others) -> dict:
    return {"image": tfds.features.Image(shape=shape, dtype=dtype), "note": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]), **others}


def bag(examples: list[dict]) -> collections.Counter:
    return collections.Counter((example["label"], example["image"].tobytes()) for example in examples)


def test_prepared_data_set(tfds, tiny, monkeypatch):
    examples = {"train": tiny_examples(30), "test": tiny_examples(9, seed=1), "validation": tiny_examples(6, seed=2)}
    data_dir = tiny("tiny_plain", tiny_features(tfds), examples)
    dataset = datasets.load("tiny_plain", str(data_dir), validation=0, image_size=(99, 99))
    assert dataset.train.images.shape == (30, 6, 5, 3) and dataset.train.labels.dtype == np.int32
    assert as_bag(dataset.train) == bag(examples["train"]) and as_bag(dataset.test) == bag(examples["test"])
    assert dataset.class_names == ("ant", "bee", "cow")
    assert dataset.source == "tensorflow-datasets, tiny_plain/1.0.0"
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    assert as_bag(datasets.load("tiny_plain:1.0.0", validation=0).train) == bag(examples["train"])
    assert len(datasets.load("tiny_plain", str(data_dir / "other")).validation.labels) == 3


def test_prepared_data_set_without_a_test_split(tfds, tiny):
    examples = {"train": tiny_examples(9), "validation": tiny_examples(6, seed=2)}
    data_dir = tiny("tiny_validation", tiny_features(tfds), examples)
    assert as_bag(datasets.load("tiny_validation", str(data_dir), validation=0).test) == bag(examples["validation"])
    data_dir = tiny("tiny_train", tiny_features(tfds), {"train": tiny_examples(9)})
    assert "train and test" in refused("tiny_train", str(data_dir))


@pytest.mark.parametrize("channels", [1, 3])
def test_prepared_images_of_several_sizes(channels, tfds, tiny):
    examples = []
    for index, (height, width) in enumerate([(40, 120), (120, 40), (10, 10), (16, 16)]):
        image = np.full([height, width, channels], 7, np.uint8)
        image[:, max(0, width // 2 - 20):width // 2 + 20] = 50 * index
        examples.append({"image": image, "label": index % 2, "note": ""})
    name = f"tiny_sizes{channels}"
    data_dir = tiny(name, tiny_features(tfds, (None, None, channels)), {"train": examples, "test": examples[:2]})
    dataset = datasets.load(name, str(data_dir), validation=0, image_size=(8, 8))
    assert dataset.train.images.shape == (4, 8, 8, channels)
    inner = dataset.train.images[:, 1:-1, 1:-1]
    assert sorted((image.min(), image.max()) for image in inner) == [(value, value) for value in (0, 50, 100, 150)]
    assert (inner[:, 0, 0, 0] // 50 % 2).tolist() == dataset.train.labels.tolist()
    assert "--image_size" in refused(name, str(data_dir))


@pytest.mark.parametrize("case", ["no label", "no image", "wide image", "unlabelled test", "one class"])
def test_prepared_data_set_that_is_no_image_classification(case, tfds, tiny):
    features, train, test = tiny_features(tfds), tiny_examples(9), tiny_examples(3)
    if case == "no label":
        features["label"] = tfds.features.Text()
        train = test = [example | {"label": "ant"} for example in test]
    elif case == "no image":
        features["image"] = tfds.features.Text()
        train = test = [example | {"image": "ant"} for example in test]
    elif case == "wide image":
        features = tiny_features(tfds, dtype=np.uint16)
        train = test = [example | {"image": example["image"].astype(np.uint16)} for example in test]
    elif case == "unlabelled test":
        test = tiny_examples(3, labels=(-1,))
    elif case == "one class":
        train = tiny_examples(9, labels=(1,))
    name = "tiny_" + case.replace(" ", "_")
    data_dir = tiny(name, features, {"train": train, "test": test})
    reason = {"no label": "called 'image' and 'label'", "no image": "called 'image' and 'label'",
              "wide image": "needed are bytes in 1 or 3 channels", "unlabelled test": "labels from -1",
              "one class": "of one class"}[case]
    message = refused(name, str(data_dir), validation=0)
    assert f"--dataset={name}" in message and reason in message


def test_damaged_prepared_data_are_named(tfds, tiny):
    data_dir = tiny("tiny_damaged", tiny_features(tfds), {"train": tiny_examples(30), "test": tiny_examples(9)})
    folder = data_dir / "tiny_damaged" / "1.0.0"
    record, = folder.glob("*-train.tfrecord-*")
    record.write_bytes(record.read_bytes()[:-50])
    assert str(folder) in refused("tiny_damaged", str(data_dir))
    record.unlink()
    assert str(folder) in refused("tiny_damaged", str(data_dir))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_tensorflow_datasets_agrees_with_the_official_files(name, tfds, tmp_path, monkeypatch):
    """The same files, read by both; the second also goes the whole way of a download, the network left out."""
    published, data_dir = tmp_path / "published", tmp_path / "prepared"
    if name.startswith("cifar"):
        published.mkdir()
        content = gzip.compress(tar(cifar_binary(name, *cifar(name))))
        (published / ARCHIVES[name, "binary"]).write_bytes(content)
    else:
        write_idx(published, *mnist())
        monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TRAIN_EXAMPLES", 60)
        monkeypatch.setattr("tensorflow_datasets.image_classification.mnist._TEST_EXAMPLES", 20)
    ours = datasets.load(name, str(published), validation=0)

    from tensorflow_datasets.core.download import checksums
    prepare = tfds.core.DatasetBuilder.download_and_prepare

    def from_folder(self, *, download_config):
        assert not download_config.try_download_gcs
        for url, info in self.url_infos.items():
            monkeypatch.setitem(self.url_infos, url, checksums.compute_url_info(published / info.filename))
        prepare(self, download_config=dataclasses.replace(download_config, manual_dir=published))

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", from_folder)
    monkeypatch.setattr(datasets, "answers", lambda url: True)
    downloaded = datasets.load(name, str(data_dir), validation=0)
    monkeypatch.setattr(datasets, "answers", lambda url: False)
    prepared = datasets.load(name, str(data_dir), validation=0)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    elsewhere = datasets.load(name, str(tmp_path / "empty"), validation=0)
    for theirs in (downloaded, prepared, elsewhere):
        assert theirs.class_names == ours.class_names
        assert as_bag(theirs.train) == as_bag(ours.train) and as_bag(theirs.test) == as_bag(ours.test)
        assert theirs.source.startswith(f"tensorflow-datasets, {name}/")


def test_download_that_fails_is_unavailable(tfds, tmp_path, monkeypatch):
    def fail(self, **options):
        raise ConnectionResetError("first line\nsecond line")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    monkeypatch.setattr(datasets, "answers", lambda url: True)
    for name in ("cifar10", "beans"):
        with pytest.raises(datasets.Unavailable, match="first line second line"):
            datasets.load(name, str(tmp_path), image_size=(8, 8))


def test_other_data_sets_that_are_not_prepared(tfds, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", None)
    with pytest.raises(datasets.Unavailable, match="tfds build emnist/letters") as caught:
        datasets.load("emnist/letters", str(tmp_path))
    for words in ("--data_dir", "catalog/emnist;", "does not answer"):
        assert words in str(caught.value)
    monkeypatch.setattr(datasets, "answers", lambda url: True)
    with pytest.raises(datasets.Unavailable, match="no address"):
        datasets.load("imagenet2012", str(tmp_path), image_size=(8, 8))
    assert "is no image classification" in refused("imdb_reviews", str(tmp_path))
    assert "--image_size" in refused("cats_vs_dogs", str(tmp_path))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name, words", [
    ("cifar", ["did you mean", "cifar10"]), ("no_such_thing", []), ("", []), ("huggingface:mnist", []),
    ("../mnist", []),
    ("emnist/none", ["BuilderConfig none not found"]), ("mnist:9.9.9", ["9.9.9"]), ("Sample", ["sample"]),
])
def test_unknown_data_set(name, words, tfds, tmp_path):
    message = refused(name, str(tmp_path))
    for word in (f"--dataset={name} is unknown", "fashion_mnist", "folder", "sample", "tensorflow-datasets", *words):
        assert word in message
