"""Exports a network, runs the whole test set through the file, and keeps it only if the answers agree."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.trained.exporting import formats, packages
from tfcnn.trained.network import TrainedNetwork
from tfcnn.trained.prediction import softmax

# The largest difference of a probability, of a float export.
TOLERANCE = 1e-4
_RUNNER = Path(__file__).with_name("run_exported.py")


@dataclasses.dataclass(frozen=True)
class Checked:
    """An exported network beside the one it was made from, on the whole test set.

    Attributes:
      path: the file, or for saved_model the folder.
      bytes: its size.
      images: the number of test images.
      before: the accuracy of the network itself, with the arithmetic of the format: see `formats.as_written`.
      after: the accuracy of the exported one.
      largest_difference: of any probability.
      latency_1: the time of one image, in seconds, the median of several.
      latency_128: that of a batch of 128.
    """

    path: Path
    bytes: int
    images: int
    before: float
    after: float
    largest_difference: float
    latency_1: float
    latency_128: float


def export(network: TrainedNetwork, kind: str, path: Path, images: np.ndarray, labels: np.ndarray,
           quantize: str = "none", representative: np.ndarray | None = None, largest_loss: float = 0.01) -> Checked:
    """Exports a network and checks the file; a file that fails is removed.

    The answers are compared with those of the network that the file holds: see `formats.as_written`.

    Args:
      network: the network.
      kind: one of `formats.SUFFIXES`.
      path: the file, or for saved_model the folder; must not exist.
      images: the test images, uint8 [batch, *network.input_shape]: see `TrainedNetwork.fit`.
      labels: their classes in the network's order.
      quantize: as in `formats.write`.
      representative: training images, likewise, as in `formats.write`.
      largest_loss: how much accuracy a quantized export may lose, as a fraction.

    Raises:
      UsageError: a package is missing, the network cannot be exported so, the path exists or cannot be written, or the
        answers of the file differ from the network's by more than is allowed.
    """
    if path.exists():
        raise UsageError(f"{path} exists already: choose another --out, or remove it")
    packages.check(kind)
    network = formats.as_written(network, kind)
    # In true float32, as other programs compute: TensorFloat-32 differs by more than the tolerance.
    exact = dataclasses.replace(network, recipe=network.recipe.replace(tensor_float_32=False))
    expected = softmax(exact.logits_of_fitted(images, network.recipe.batch_size))
    with tempfile.TemporaryDirectory(prefix="tfcnn-export-") as temporary:
        unfinished = Path(temporary, f"exported{formats.SUFFIXES[kind]}")
        formats.write(network, kind, unfinished, quantize, representative)
        found = _run(kind, unfinished, images, Path(temporary))
        probabilities = found["probabilities"]
        before, after = ((values.argmax(axis=1) == labels).mean() for values in (expected, probabilities))
        difference = float(np.abs(probabilities - expected).max())
        if quantize == "none" and not difference <= TOLERANCE:
            raise UsageError(f"refused: a probability of the exported network differs by {difference:.2g}, more than "
                             f"{TOLERANCE:g}; accuracy {before:.4f} before, {after:.4f} after; nothing was written")
        if not after >= before - largest_loss:
            raise UsageError(f"refused: the exported network is right for {after:.4f} of the test images, and was for "
                             f"{before:.4f}; --largest_loss={largest_loss} allows less; nothing was written")
        checked = Checked(path, _size(unfinished), len(labels), float(before), float(after), difference,
                          float(found["latency_1"]), float(found["latency_128"]))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(unfinished, path)
        except OSError as error:
            raise files.usage_error(f"cannot write {path}", error, path) from error
    return checked


def _run(kind: str, path: Path, images: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """What the exported network answers in a process that does not have this package."""
    np.save(folder / "images.npy", images)
    command = [sys.executable, "-I", str(_RUNNER), kind, str(path), str(folder / "images.npy"),
               str(folder / "result.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UsageError(f"the exported network cannot be run ({reason}); nothing was written")
    with np.load(folder / "result.npz") as stored:
        return dict(stored)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else (
        path.stat().st_size)
