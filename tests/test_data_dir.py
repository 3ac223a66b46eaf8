"""A --data_dir that does not fit is an error that says what was looked for and what is there; nothing replaces it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.data_files import IDX, assert_same, cifar, cifar_binary, mnist, refused, unpack, write_folder, write_idx
from tests.users import without_privileges
from tfcnn.data import datasets, sources
from tfcnn.recipe import UsageError

pytestmark = pytest.mark.usefixtures("isolated_data")


def _mnist(folder: Path) -> None:
    write_idx(folder, *mnist())


def _cifar10(folder: Path) -> None:
    unpack(cifar_binary("cifar10", *cifar("cifar10")), folder)


def _touch(*names: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
    return write


def _capitals(folder: Path) -> None:
    write_folder(folder)
    (folder / "train").rename(folder / "Train")
    (folder / "test").rename(folder / "Test")


# Case -> data set, what writes the data, the folder that is named, and what the message says besides its name.
CASES: dict[str, tuple[str, Callable[[Path], Any], str, tuple[str, ...]]] = {
    "no folder, mnist": ("mnist", _touch("other"), "typo", ("does not exist", *IDX, "mnist/", "has other")),
    "no folder, cifar10": ("cifar10", _touch(), "typo", ("does not exist", "cifar-10-binary.tar.gz",
                                                         "cifar-10-batches-py/")),
    "no folder, cifar100": ("cifar100", _touch(), "a/b/c", ("does not exist", "cifar-100-python.tar.gz")),
    "no folder, folder": ("folder", _touch(), "typo", ("does not exist", "train/<class>/")),
    "no folder, sample": ("sample", _touch(), "typo", ("does not exist", "leave it out")),
    "no folder, of tensorflow-datasets": ("beans", _touch(), "typo", ("does not exist", "beans/")),
    "misspelt folder": ("mnist", lambda root: _mnist(root / "numbers"), "nunbers", ("does not exist", "numbers?")),
    "link to nowhere": ("mnist", lambda root: (root / "link").symlink_to("gone"), "link", ("link to gone",)),
    "file": ("cifar10", _touch("file"), "file", ("is not a folder", "cifar-10-binary.tar.gz")),
    "below a file": ("folder", _touch("file"), "file/deep", ("is not a folder", "file is a file")),
    "its own file": ("mnist", _mnist, f"{IDX[0]}.gz", ("is not a folder", "the folder it is in")),
    "empty, fashion_mnist": ("fashion_mnist", _touch(), "", ("is empty", *IDX, "fashion_mnist/")),
    "empty, folder": ("folder", _touch(), "", ("is empty", "train/<class>/")),
    "empty, of tensorflow-datasets": ("beans", _touch(), "", ("is empty", "beans/")),
    "another, CIFAR for MNIST": ("mnist", _cifar10, "", ("--dataset=cifar10 ", "cifar-10-batches-bin/")),
    "another, MNIST for CIFAR": ("cifar10", _mnist, "", ("--dataset=mnist ", IDX[0])),
    "another, class folders for CIFAR": ("cifar100", write_folder, "", ("--dataset=folder ", "test/, train/")),
    "another, prepared for MNIST": ("mnist", _touch("beans/0.1.0/dataset_info.json"), "", ("--dataset=beans ",)),
    "prepared, above": ("beans", _touch("beans/0.1.0/dataset_info.json"), "beans/0.1.0", ("--data_dir={root}?",)),
    "one above": ("mnist", lambda root: _mnist(root / "raw"), "", ("--data_dir={root}/raw?", "has raw/")),
    "two above": ("mnist", lambda root: _mnist(root / "MNIST" / "raw"), "", ("--data_dir={root}/MNIST/raw?",)),
    "one below": ("folder", write_folder, "train", ("--data_dir={root}?", "has cat/, dog/")),
    "one below, archive": ("cifar10", lambda root: (_touch("x/y")(root), _cifar10(root)), "x", ("--data_dir={root}?",)),
    "misspelt files": ("mnist", _touch(*(name.replace("-", "_") for name in IDX)), "", ("train_images_idx3_ubyte",)),
    "misspelt archive": ("cifar10", _touch("cifar-10-python.tar"), "", ("called cifar-10-python.tar.gz?",)),
    "misspelt class folders": ("folder", _capitals, "", ("called test?", "Test/, Train/")),
    "a part": ("mnist", lambda root: (_mnist(root), (root / f"{IDX[2]}.gz").unlink()), "", (f"{IDX[2]} is missing",)),
    "a part, unpacked": ("cifar10", lambda root: (_cifar10(root), (root / "cifar-10-batches-bin" / "test_batch.bin"
                                                                   ).unlink()),
                         "cifar-10-batches-bin", ("cifar-10-batches-bin/test_batch.bin is missing",)),
    "name too long": ("mnist", _touch(), "x" * 300, ("File name too long", "choose a shorter name")),
}


@pytest.mark.parametrize("case", CASES)
def test_error_says_what_was_looked_for_and_what_is_there(case: str, tmp_path: Path) -> None:
    name, write, below, words = CASES[case]
    root = tmp_path / "data"
    root.mkdir()
    write(root)
    message = refused(name, str(root / below), image_size=(8, 8))
    assert str(root / below) in message
    for word in words:
        assert word.format(root=root) in message


@pytest.mark.parametrize("name, words", [("folder", "train/<class>/"), ("cifar10", "cifar10/ as tensorflow-datasets"),
                                         ("beans", "beans/ as tensorflow-datasets")])
def test_streamed_data_are_looked_for_likewise(name: str, words: str, tmp_path: Path) -> None:
    _cifar10(tmp_path)  # official files cannot be streamed
    for folder, reason in ((tmp_path, "holds nothing"), (tmp_path / "typo", "does not exist")):
        with pytest.raises(UsageError) as caught:
            sources.load(name, str(folder))
        assert words in str(caught.value) and reason in str(caught.value)


def test_idx_files_spelt_with_a_dot_are_read(tmp_path: Path) -> None:
    train, test = mnist()
    for compress in (True, False):
        folder = tmp_path / str(compress)
        write_idx(folder, train, test, compress)
        for path in list(folder.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        dataset = datasets.load("mnist", str(folder), validation=0)
        assert_same(dataset.train, train)
        assert_same(dataset.test, test)


def test_a_home_folder_that_is_unknown_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the home folder ~nobody-of-that-name is unknown" in refused("mnist", "~nobody-of-that-name/data")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    _mnist(data)
    for mode in (0o000, 0o400):  # nothing; only the names of its files
        data.chmod(mode)
        status, output = without_privileges(lambda: print(refused("mnist", str(data))))
        assert status == 0, output
        assert f"{data} may not be read (Permission denied): change its permissions" in output
    data.chmod(0o100)  # files whose names are known
    assert without_privileges(lambda: print(datasets.load("mnist", str(data)).source)) == (0, "official files, IDX\n")
    data.chmod(0o700)


def test_a_typo_is_never_replaced_by_the_sample(tmp_path: Path, run_command: Callable) -> None:
    """`lenet5` asks for MNIST by its recipe, and takes the sample where no --data_dir is given."""
    for arguments in (("--data_dir=typo",), ("--data_dir=typo", "--dataset=mnist")):
        done = run_command(*arguments, "--epochs=1", experiment="lenet5")
        line, = done.stderr.splitlines()
        assert done.returncode == 2 and line.startswith("error: --data_dir=typo does not exist") and not done.stdout
        assert not list(tmp_path.iterdir())
