"""What several test files share: a quiet TensorFlow, class folders, and ways to run the real command."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tfcnn  # before anything imports TensorFlow, see its __init__.py
import keras
import numpy as np
import pytest
from PIL import Image

from tests.data_files import DEBIAN
from tests.forked import Forked, run_module
from tfcnn.data import official, tfds

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(tfcnn.__file__).resolve().parents[1]


# The slowest test files, slowest first. Two processes take one file after the other, so a slow file that starts late
# would keep one of them busy after the other has nothing left to do.
SLOWEST = ("test_training", "test_networks", "test_machines", "test_survival", "test_devices", "test_experiments",
           "test_streaming", "test_inception", "test_resnet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the slowest files first."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of 32x32 noisy colours: three classes, each of 40 training and 10 test images."""
    root = tmp_path_factory.mktemp("colours")
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 10)):
        for channel, name in enumerate(("red", "green", "blue")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 160, (32, 32, 3))
                pixels[..., channel] += 60
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / name / f"{number:02}.png")
    return root


def command(*arguments: str, experiment: str = "alexnet") -> list[str]:
    """Returns the words of an experiment's command line."""
    return [sys.executable, "-m", f"tfcnn.experiments.{experiment}", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Returns an environment without prepared data sets of TFDS, in which tfcnn can be imported from any folder."""
    return os.environ | {"TFDS_DATA_DIR": str(folder / "nothing-prepared"), "PYTHONPATH": str(ROOT)}


def start(folder: Path, *arguments: str, experiment: str = "alexnet", **variables: str) -> Forked:
    """Starts an experiment as a user would, in a folder, with more environment variables."""
    return Forked(run_module, f"tfcnn.experiments.{experiment}", *arguments, cwd=folder,
                  env=environment(folder) | variables)


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Returns a function that runs an experiment as a user would, in an empty folder, and waits for its end."""
    def run(*arguments: str, experiment: str = "alexnet") -> subprocess.CompletedProcess:
        return start(tmp_path, *arguments, experiment=experiment).completed()
    return run


@pytest.fixture
def policy() -> Iterator[Any]:
    """Returns Keras's setter of the precision of new layers; after the test the precision is what it was."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def isolated_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no data that packages or developers have installed, and official data sets of a few images."""
    monkeypatch.setattr(tfds, "answers", lambda url: False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds_default"))
    for name, train, test in (("cifar10", 50, 20), ("cifar100", 200, 100), ("mnist", 60, 20),
                              ("fashion_mnist", 60, 20)):
        entry = dataclasses.replace(official.KNOWN[name], train_images=train, test_images=test)
        if name == "fashion_mnist":
            entry = dataclasses.replace(entry, system_folder=str(tmp_path / "debian"))
        monkeypatch.setitem(official.KNOWN, name, entry)


@pytest.fixture
def full_size(isolated_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The official numbers of images of MNIST and Fashion-MNIST, and Debian's folder."""
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(official.KNOWN, name, dataclasses.replace(
            official.KNOWN[name], train_images=60_000, test_images=10_000, system_folder=str(DEBIAN)))
