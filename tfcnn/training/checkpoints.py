"""Saving and restoring all of a run's state, so that a resumed run goes on as if it had never stopped.

A checkpoint is three files: TensorFlow's data and index, and their SHA-256 sums, which `sha256sum -c` checks too. All
are written in a folder beside the checkpoints and moved to their place when they are whole, the index last. So whatever
is cut short, by a kill or a full disk, is no checkpoint, and those from before are as they were.
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

from tfcnn.recipe import UsageError
from tfcnn.training import devices

# The older one is there for when the newest turns out to be damaged.
_KEPT = 2
# Where a checkpoint is written, inside the folder of the checkpoints.
_UNFINISHED = "unfinished"
_SUMS = ".sha256"


@dataclasses.dataclass
class Progress(tf.train.experimental.PythonState):
    """Where a run is, with all that it has recorded: its other files are written from this, and written again.

    Attributes:
      step: steps done, over all epochs.
      sums: of the metrics of the steps done in the current epoch; empty when it has been recorded.
      epoch_seconds: time spent in those steps.
      train_seconds: time spent in all steps.
      metrics: the rows of metrics.csv, one for each epoch that is complete.
      timings: the rows of timings.csv.
      events: TensorBoard's event files, by their names in the run's folder, and how many bytes they have.
      finished: whether training is over, and only the test is to be done.
      started: when the run began.
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

    def serialize(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, string_value: bytes) -> None:
        for name, value in json.loads(string_value).items():
            setattr(self, name, value)


class _DamagedError(Exception):
    """A checkpoint is not as it was written."""


class Checkpoints:
    """The checkpoints in a run's folder: weights, optimizer with moving averages, dropout's seeds, and progress."""

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                 progress: Progress, best: Sequence[tf.Variable] = ()) -> None:
        """Args:
          folder: theirs; made when the first is saved.
          model: the network.
          optimizer: must have been built.
          progress: where the run is.
          best: what is kept of the best epoch's weights, if the recipe wants that.
        """
        seeds = [generator.value for generator in devices.seed_generators(model)]
        self._state = tf.train.Checkpoint(model=model, optimizer=optimizer, seeds=seeds, progress=progress,
                                          best=list(best))
        self._folder = folder
        self._progress = progress

    def save(self) -> None:
        """Saves the state as it is now, and removes checkpoints that are older than the one before.

        Raises:
          UsageError: it cannot be written; the checkpoints are as they were.
        """
        step = self._progress.step
        unfinished = self._folder / _UNFINISHED
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            self._state.write(str(unfinished / _name(step)))
            *data, index = sorted(unfinished.iterdir())
            sums = unfinished / f"{_name(step)}{_SUMS}"
            sums.write_text("".join(f"{_sum(part)}  {part.name}\n" for part in (*data, index)))
            for part in (*data, index, sums):
                _to_disk(part)
            # One of the same step, but saved before its epoch was recorded, is no checkpoint from here on.
            self._file(step, ".index").unlink(missing_ok=True)
            for part in (*data, sums, index):
                os.replace(part, self._folder / part.name)
            _to_disk(self._folder)
            shutil.rmtree(unfinished)
            before = [other for other in self._steps() if other < step]
            for other in {*self._steps()} - {step, *before[1 - _KEPT:]}:
                self._remove(other)
        except (OSError, tf.errors.OpError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.message
            shutil.rmtree(unfinished, ignore_errors=True)
            last = self.newest
            raise UsageError(f"cannot save a checkpoint in {self._folder}: {' '.join(str(reason).split())}; "
                             + (f"{last} is whole: make room and start again to go on from there" if last else
                                "make room and start again")) from error

    @property
    def newest(self) -> Path | None:
        """The path of the newest checkpoint, as TensorFlow names it, or None."""
        steps = [step for step in self._steps() if self._file(step, ".index").exists()]
        return self._folder / _name(steps[-1]) if steps else None

    def restore(self) -> None:
        """Restores the newest whole checkpoint, if there is one; says which ones are damaged.

        Raises:
          UsageError: there are checkpoints, but all are damaged; nothing has been changed.
        """
        steps = self._steps()
        cut_short = {step for step in steps if (self._folder / _UNFINISHED / f"{_name(step)}.index").exists()}
        for step in reversed(steps):
            try:
                self._check(step)
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

        TensorFlow's own checksums are not enough: it finds out when it has restored a part, and trusts lengths that it
        reads from the index before it has checked them.
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

    def _steps(self) -> list[int]:
        """The steps of which there are files, in order: every checkpoint, whole or not."""
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
    """Waits until a file or folder would outlast a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
