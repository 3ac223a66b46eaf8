"""Shared by several test files: TensorFlow's log level, class folders, and ways to run the real command."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Tests expect a machine without a GPU, unless they are to run on one: TFCNN_TEST_ON_GPU=1 python -m pytest
if os.environ.get("TFCNN_TEST_ON_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import tfcnn  # before anything imports TensorFlow, see its __init__.py
import numpy as np
import pytest
from PIL import Image

from tests.data_files import DEBIAN
from tests.forked import Forked, run_module
from tfcnn.data import official, tfds

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(tfcnn.__file__).resolve().parents[1]


# The slowest test files, slowest first. Two processes run the files in this order: if a slow file started late, one
# process would still run it while the other is idle.
SLOWEST = ("test_training", "test_networks", "test_devices", "test_machines", "test_survival", "test_experiments",
           "test_streaming", "test_studies", "test_exporting", "test_inception", "test_pipeline", "test_resnet",
           "test_one_decoder", "test_augmentation", "test_frameworks", "test_explaining", "test_exporting_precisions",
           "test_streamed_evaluation", "test_averages", "test_trained", "test_scaling", "test_initial_weights",
           "test_user_settings", "test_vgg", "test_imagenet_weights", "test_places", "test_streams", "test_optimizers",
           "test_alexnet", "test_python_calls", "test_airbench", "test_benchmarks", "test_winograd", "test_shipped",
           "test_workflow")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts tests so that the slowest files come first."""
    ranks = {name: rank for rank, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creates class folders of noisy 32x32 images: 3 classes, each of 40 training and 10 test images."""
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
    """Returns an experiment's command line as a list of arguments."""
    return [sys.executable, "-m", f"tfcnn.experiments.{experiment}", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """Returns an environment in which TFDS finds no data sets and tfcnn can be imported from any folder."""
    return os.environ | {"TFDS_DATA_DIR": str(folder / "nothing-prepared"), "PYTHONPATH": str(ROOT)}


def start(folder: Path, *arguments: str, experiment: str = "alexnet", **variables: str) -> Forked:
    """Starts an experiment in `folder` as a user would, with additional environment variables."""
    return Forked(run_module, f"tfcnn.experiments.{experiment}", *arguments, cwd=folder,
                  env=environment(folder) | variables)


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Returns a function that runs an experiment to its end, as a user would, in an empty folder."""
    def run(*arguments: str, experiment: str = "alexnet") -> subprocess.CompletedProcess:
        return start(tmp_path, *arguments, experiment=experiment).completed()
    return run


@pytest.fixture
def policy() -> Iterator[Any]:
    """Yields Keras's function that sets the precision of new layers, and restores the precision after the test."""
    import keras  # not above: the process that only hands out tests would import TensorFlow, too

    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture(scope="session", autouse=True)
def drawing_of_curves() -> Iterator[Callable[..., None]]:
    """Runs in this process get no picture, which takes a third of a short training; runs of other processes do.

    Yields what draws it.
    """
    from tfcnn.training import trainer

    with pytest.MonkeyPatch.context() as patch:
        draw = trainer._draw_curves
        patch.setattr(trainer, "_draw_curves", lambda folder, record: None)
        yield draw


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the large networks small: fewer blocks and modules, and fewer filters, but layers of the same kinds."""
    from tfcnn.networks import inception, resnet, vgg

    monkeypatch.setitem(resnet.BLOCKS, 20, (1, 1, 1))
    monkeypatch.setattr(vgg, "_FILTERS", (4, 8, 8, 8, 8))
    monkeypatch.setitem(vgg._COLUMNS, "D", vgg._COLUMNS["A"])
    monkeypatch.setattr(inception, "TABLE_1", [(name, *[16] * 6) for name in ("3a", "4a", "5a", "5b")])


@pytest.fixture
def isolated_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Disables the network and installed data, and shrinks the official data sets to a few images."""
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
    """Restores the real sizes of MNIST and Fashion-MNIST, and the folder of Debian's package."""
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(official.KNOWN, name, dataclasses.replace(
            official.KNOWN[name], train_images=60_000, test_images=10_000, system_folder=str(DEBIAN)))
