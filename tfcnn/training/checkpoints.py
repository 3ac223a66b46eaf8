"""Saves and restores the complete state of a run, so that a resumed run continues as if it had never stopped.

A checkpoint is three files: TensorFlow's data and index, and their SHA-256 sums, which `sha256sum -c` can check. They
are written to a temporary folder and moved into place when they are complete, the index last. So a kill or a full disk
never leaves an incomplete checkpoint, and earlier ones stay intact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.training import devices

# The older one is used if the newest is damaged.
_KEPT = 2
# Subfolder in which a checkpoint is written.
_UNFINISHED = "unfinished"
_SUMS = ".sha256"


@dataclasses.dataclass
class Progress(tf.train.experimental.PythonState):
    """How far a run is, and everything it has recorded; the other files of its folder are written from this.

    Attributes:
      step: completed steps, over all epochs.
      sums: sums of the rows of `Steps.run` over the steps of the current epoch; empty at the start of an epoch.
      epoch_seconds: time of those steps.
      train_seconds: time of all steps.
      metrics: the rows of metrics.csv, one per complete epoch.
      timings: the rows of timings.csv.
      events: TensorBoard's event files: path relative to the run's folder -> length in bytes.
      finished: whether training is complete, so that only the test remains.
      started: when the run started.
      arithmetic: what its layers multiply in, see `devices.arithmetic`; "" before its first step.
      data: how many images of how many classes there are.
      initial_weights: the SHA-256 of the weights that it started with; "" if they were random.
    """

    step: int = 0
    sums: list[float] = dataclasses.field(default_factory=list)
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0
    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    timings: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    events: dict[str, int] = dataclasses.field(default_factory=dict)
    finished: bool = False
    started: str = ""
    arithmetic: str = ""
    data: str = ""
    initial_weights: str = ""

    def serialize(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, string_value: bytes) -> None:
        for name, value in json.loads(string_value).items():
            setattr(self, name, value)


class _DamagedError(Exception):
    """A checkpoint differs from what was written."""


class Checkpoints:
    """The checkpoints in a run's folder: weights and their averages, optimizer, seeds of dropout, progress."""

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                 progress: Progress, best: Sequence[tf.Variable] = (), averages: Sequence[tf.Variable] = ()
                 ) -> None:
        """Args:
          folder: the folder of the checkpoints, created when the first one is saved.
          model: the network.
          optimizer: its optimizer, built.
          progress: the progress of the run.
          best: the weights of the best epoch, if the recipe keeps them.
          averages: the averages of the weights, if the recipe has them.
        """
        seeds = [generator.value for generator in devices.seed_generators(model)]
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer, seeds=seeds, progress=progress,
                                          best=list(best), averages=list(averages))
        self._averaged = bool(averages)
        self._folder = folder
        self._progress = progress

    def save(self) -> None:
        """Saves the current state, and removes all older checkpoints except the previous one.

        Raises:
          UsageError: it cannot be written; the other checkpoints are intact.
        """
        step = self._progress.step
        unfinished = self._folder / _UNFINISHED
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            self._folder.mkdir(exist_ok=True)  # fails, and makes no other one, if the run's folder has been moved away
            unfinished.mkdir()
            self._state.write(str(unfinished / _name(step)))
            *data, index = sorted(unfinished.iterdir())
            sums = unfinished / f"{_name(step)}{_SUMS}"
            sums.write_text("".join(f"{_sum(part)}  {part.name}\n" for part in (*data, index)))
            for part in (*data, index, sums):
                _to_disk(part)
            # Invalidates a checkpoint of the same step that was saved before its epoch was recorded.
            self._file(step, ".index").unlink(missing_ok=True)
            for part in (*data, sums, index):
                os.replace(part, self._folder / part.name)
            _to_disk(self._folder)
            shutil.rmtree(unfinished)
            before = [other for other in self._steps() if other < step]
            for other in {*self._steps()} - {step, *before[1 - _KEPT:]}:
                self._remove(other)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            last = self.newest
            raise files.usage_error(
                f"cannot save a checkpoint in {self._folder}", error, unfinished / _name(step),
                before_remedy=f"{last} is whole: " if last else "",
                after_remedy=", and start again" + (" to go on from there" if last else "")) from error

    @property
    def newest(self) -> Path | None:
        """Path prefix of the newest checkpoint, as TensorFlow names it, or None."""
        steps = [step for step in self._steps() if self._file(step, ".index").exists()]
        return self._folder / _name(steps[-1]) if steps else None

    def restore(self) -> None:
        """Restores the newest intact checkpoint, if there is one; reports damaged ones on standard error.

        Raises:
          UsageError: there are checkpoints, but all are damaged, or the newest is of another version of tfcnn; nothing
            has been changed.
        """
        steps = self._steps()
        cut_short = {step for step in steps if (self._folder / _UNFINISHED / f"{_name(step)}.index").exists()}
        for step in reversed(steps):
            try:
                self._check(step)
                self._check_averages(step)
                self._state.read(str(self._folder / _name(step))).assert_existing_objects_matched()
                break
            except (_DamagedError, tf.errors.OpError, IndexError, ValueError, AssertionError) as error:
                if step not in cut_short:
                    print(f"checkpoint {self._folder / _name(step)} is damaged ({' '.join(str(error).split())}): "
                          "trying the one before", file=sys.stderr)
        else:
            if set(steps) - cut_short:
                raise UsageError(f"no checkpoint in {self._folder} is whole; start again in another --workdir, or with "
                                 "--overwrite")
        for step in cut_short - {self._progress.step}:
            self._remove(step)
        shutil.rmtree(self._folder / _UNFINISHED, ignore_errors=True)

    def _check(self, step: int) -> None:
        """Raises _DamagedError unless every byte of a checkpoint is as it was written.

        TensorFlow's own checksums are not enough: it notices damage when a part is already restored, and it uses
        lengths from the index before it has checked them.
        """
        sums = self._file(step, _SUMS)
        try:
            expected = {name: digest for digest, name in map(str.split, sums.read_text().splitlines())}
            if not {path.name for path in self._files(step)} == {*expected, sums.name} > {f"{_name(step)}.index"}:
                raise _DamagedError("a file is missing or too many")
            for name, digest in expected.items():
                if _sum(self._folder / name) != digest:
                    raise _DamagedError(f"the checksum of {name} is wrong")
        except OSError as error:
            raise _DamagedError(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise _DamagedError(f"{sums.name} is not a list of checksums") from error

    def _check_averages(self, step: int) -> None:
        """Raises UsageError if an intact checkpoint lacks the averages that the recipe has."""
        prefix = str(self._folder / _name(step))
        if self._averaged and not any(name.startswith("averages/") for name, _ in tf.train.list_variables(prefix)):
            raise UsageError(f"checkpoint {prefix} is of an older version of tfcnn, whose moving averages (--ema) were "
                             "wrong in the first steps; start again in another --workdir, or with --overwrite")

    def _steps(self) -> list[int]:
        """The steps of all checkpoints, complete or not, in ascending order."""
        found = (re.match(r"ckpt-(\d+)\.", path.name) for path in self._folder.glob("ckpt-*"))
        return sorted({int(match[1]) for match in found if match})

    def _files(self, step: int) -> list[Path]:
        return sorted(self._folder.glob(f"{_name(step)}.*"))

    def _file(self, step: int, ending: str) -> Path:
        return self._folder / f"{_name(step)}{ending}"

    def _remove(self, step: int) -> None:
        for path in self._files(step):
            path.unlink()


def _name(step: int) -> str:
    return f"ckpt-{step}"


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Flushes a file or folder to the disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
