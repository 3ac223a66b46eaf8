"""The official files of data sets are read as published, and an error names the file that is damaged."""

import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.data_files import (ARCHIVES, CIFAR10_NAMES, CIFAR100_NAMES, DEBIAN, IDX, WRITE, assert_same, cifar,
                              cifar_binary, cifar_python, flip, idx, mnist, python2_pickle, read_idx, refused, tar,
                              unpack, write_folder, write_idx)
from tfcnn.data import datasets

SHARED_MNIST = Path(__file__).parents[2] / "shared" / "datasets" / "mnist"
pytestmark = pytest.mark.usefixtures("isolated_data")


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


def test_fashion_mnist_is_read_from_debians_package(full_size):
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    dataset = datasets.load("fashion_mnist", validation=0)
    arrays = [read_idx(DEBIAN / f"{name}.gz") for name in IDX]
    assert_same(dataset.train, (arrays[0][..., None], arrays[1]))
    assert_same(dataset.test, (arrays[2][..., None], arrays[3]))
    assert len(dataset.train.labels) == 60_000 and len(dataset.test.labels) == 10_000
    # According to Fashion-MNIST's documentation, the first training image is an ankle boot.
    assert dataset.class_names[dataset.train.labels[0]] == "Ankle boot"
    assert "Debian" in dataset.source
    assert "belongs to fashion_mnist" in refused("mnist", str(DEBIAN))


def test_mnist_is_read_from_the_shared_folder(full_size):
    if not SHARED_MNIST.is_dir():
        pytest.skip(f"{SHARED_MNIST} is not on this machine")
    dataset = datasets.load("mnist", str(SHARED_MNIST), validation=0)
    np.testing.assert_array_equal(dataset.test.images[..., 0], read_idx(SHARED_MNIST / f"{IDX[2]}.gz"))
    np.testing.assert_array_equal(np.bincount(dataset.train.labels),
                                  [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    assert "belongs to mnist" in refused("fashion_mnist", str(SHARED_MNIST))


@pytest.mark.parametrize("name, other", [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
def test_mnist_and_fashion_mnist_are_distinguished(name, other, tmp_path):
    # The first test labels of each data set, as read by `read_idx`.
    first = {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9, 0, 6, 9, 0, 1, 5, 9, 7, 3, 4],
             "fashion_mnist": [9, 2, 1, 1, 6, 1, 4, 6, 5, 7, 4, 5, 7, 3, 4, 1, 2, 4, 8, 0]}
    train, (images, _) = mnist()
    write_idx(tmp_path, train, (images, np.array(first[other])))
    message = refused(name, str(tmp_path))
    assert str(tmp_path / IDX[3]) in message and f"belongs to {other}" in message
    assert datasets.load(other, str(tmp_path), validation=0).test.labels.tolist() == first[other]


def test_a_pickle_cannot_execute_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    members = cifar_python("cifar10", *cifar("cifar10"))
    members["cifar-10-batches-py/test_batch"] = pickle.dumps({"data": Harmful(), "labels": [0] * 20}, protocol=2)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(gzip.compress(tar(members)))
    assert "mkdir" in refused("cifar10", str(tmp_path))
    assert not (tmp_path / "harm").exists()


# Damaged files


def rewrite(path: Path, change) -> None:
    """Rewrites a gzip file: `change` maps its old content to its new content."""
    path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes())), 1))


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
    "data too short": (0, lambda path: rewrite(path, lambda data: data[:-1])),
    "data too long": (3, lambda path: rewrite(path, lambda data: data + b"\0")),
    "header ends early": (2, lambda path: rewrite(path, lambda data: data[:9])),
    "label out of range": (1, lambda path: rewrite(path, lambda data: data[:-1] + b"\x0a")),
    "missing": (2, Path.unlink),
    "empty": (0, lambda path: path.write_bytes(b"")),
    "web page": (3, lambda path: path.write_bytes(b"<html><title>404 Not Found</title></html>")),
    "folder": (1, become_folder),
}


@pytest.mark.parametrize("case", IDX_DAMAGE)
def test_error_names_a_damaged_idx_file(case, tmp_path):
    write_idx(tmp_path, *mnist())
    datasets.load("mnist", str(tmp_path))
    file, damage = IDX_DAMAGE[case]
    damage(tmp_path / f"{IDX[file]}.gz")
    message = refused("mnist", str(tmp_path))
    assert str(tmp_path / IDX[file]) in message
    assert "get it again from https://storage.googleapis.com/cvdf-datasets/mnist/" in message


def repack(change):
    """Returns a function that rewrites an archive; `change` modifies its dictionary of members."""
    def damage(path: Path) -> None:
        with tarfile.open(path) as archive:
            members = {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}
        change(members)
        path.write_bytes(gzip.compress(tar(members), 1))
    return damage


def set_member(name: str, content) -> None:
    """Returns a function that replaces a member of an archive with `content`: bytes, or a function of the old bytes."""
    return repack(lambda members: members.update(
        {name: content(members[name]) if callable(content) else content}))


def set_values(**values):
    """Returns a function that sets values in the pickle of CIFAR-10's third batch; None removes a key."""
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
def test_error_names_a_damaged_archive_and_its_member(case, tmp_path):
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
def test_error_names_a_damaged_unpacked_file(file, damage, tmp_path):
    unpack(cifar_binary("cifar10", *cifar("cifar10")), tmp_path)
    damage(tmp_path / "cifar-10-batches-bin" / file)
    assert str(tmp_path / "cifar-10-batches-bin" / file) in refused("cifar10", str(tmp_path))


@pytest.mark.parametrize("name, file", [
    ("mnist", f"{IDX[2]}.gz"), ("cifar10", "cifar-10-binary.tar.gz"), ("folder", "train/cat/0.png")])
def test_error_names_a_file_without_read_permission(name, file, tmp_path, monkeypatch):
    write_idx(tmp_path, *mnist())
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"")
    write_folder(tmp_path)
    # `open` is replaced because file permissions do not restrict root, who may run this test.
    for module in (io, __import__("builtins")):
        opened = module.open

        def guarded(path, *arguments, opened=opened, **options):
            if str(path) == str(tmp_path / file):
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *arguments, **options)

        monkeypatch.setattr(module, "open", guarded)
    message = refused(name, str(tmp_path))
    assert str(tmp_path / file) in message and "Permission denied" in message and "change its permissions" in message
