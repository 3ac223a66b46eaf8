"""What several test files need: a quiet TensorFlow, class folders, and a way to run the real command."""

from __future__ import annotations

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

from tests.forked import Forked, run_module

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

ROOT = Path(tfcnn.__file__).resolve().parents[1]


# Those that take longest, longest first: each file runs in one of two processes, which shall end at the same time.
_SLOWEST = ("test_training", "test_networks", "test_machines", "test_survival", "test_devices", "test_experiments",
            "test_streaming", "test_inception", "test_resnet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the slowest files."""
    ranks = {name: rank for rank, name in enumerate(_SLOWEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(ranks)))


@pytest.fixture(scope="session")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy colours, 32x32: 40 images a class to train on, 10 to test on."""
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
    return [sys.executable, "-m", f"tfcnn.experiments.{experiment}", *arguments]


def environment(folder: Path) -> dict[str, str]:
    """One in which tensorflow-datasets finds nothing, and the package is found from any folder."""
    return os.environ | {"TFDS_DATA_DIR": str(folder / "nothing-prepared"), "PYTHONPATH": str(ROOT)}


def start(place: Path, *arguments: str, experiment: str = "alexnet", **further: str) -> Forked:
    """Starts an experiment as a user would, in a folder, with further variables in its environment."""
    return Forked(run_module, f"tfcnn.experiments.{experiment}", *arguments, cwd=place,
                  env=environment(place) | further)


@pytest.fixture
def run_command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs an experiment as a user would, in an empty folder."""
    def run(*arguments: str, experiment: str = "alexnet") -> subprocess.CompletedProcess:
        return start(tmp_path, *arguments, experiment=experiment).completed()
    return run


@pytest.fixture
def policy() -> Iterator[Any]:
    """Keras's setter of the precision of the layers built from then on; afterwards it is what it was."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
