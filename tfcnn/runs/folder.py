"""The folder of one training run: its files, its lock, and what it holds."""

from __future__ import annotations

import csv
import enum
import fcntl
import io
import itertools
import json
import numbers
import os
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from tfcnn import files
from tfcnn.recipe import Recipe, UsageError, flag_text, flat

RECIPE = "recipe.json"
COMMAND = "command.flags"
METRICS = "metrics.csv"
TIMINGS = "timings.csv"
OBSERVED = "observed.json"  # what the callbacks of a study have written
SILENT_UNITS = "silent_units.json"  # which they continue after an interruption
DIVERGED = "diverged"  # marks a study's run that has diverged
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
MODEL = "model.keras"
NORMALIZATION = "normalization.npz"
CURVES = "curves.png"
TRAIN_EVENTS = "train"
VALIDATION_EVENTS = "validation"
EVALUATION = "evaluation"
EVALUATED = "evaluation.json"  # in the folder EVALUATION
EXPLANATION = "explanation"
# The files that `python -m tfcnn.export RUN` writes if it is not told another name.
EXPORTED = ("saved_model", "onnx.onnx", "onnx-int8.onnx", "litert.tflite", "litert-float16.tflite",
            "litert-int8.tflite", "keras.keras")
LOCK = "run.lock"
# Folder of the runs that are given none.
RUNS = "runs"
# What is said of a file of a complete run that is not there.
MISSING = "missing"

# In the order in which --overwrite removes them: the result goes first, so that a half-removed run is not taken for a
# complete one. The recipe is replaced, not removed, so that the folder is a run's folder at any moment.
_REPLACED = (RESULT, CHECKPOINTS, MODEL, NORMALIZATION, METRICS, TIMINGS, CURVES, TRAIN_EVENTS, VALIDATION_EVENTS,
             EVALUATION, EXPLANATION, *EXPORTED, OBSERVED, SILENT_UNITS, DIVERGED, COMMAND)

# The fields that every result.json has at least; a dot leads into a nested object. Recorded runs are checked against
# this list too, so a field that they lack cannot be added.
RESULT_FIELDS = (
    "experiment", "recipe.options", "network", "parameters",
    "dataset.name", "dataset.source", "dataset.train_images", "dataset.validation_images", "dataset.test_images",
    "test.accuracy", "test.loss", "test.images",
    "epochs", "steps", "train_seconds", "train_images_per_second",
    "strategy", "replicas", "precision", "execution", "seed", "versions", "commit", "started", "finished",
)

Metrics = dict[str, int | float]


class State(enum.Enum):
    """What a run's folder held before `RunFolder.prepare`."""

    NEW = "new"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


class RunFolder:
    """The folder of one training run.

    Attributes:
      path: the folder, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def complete(self) -> bool:
        """Whether the run has ended and written its result."""
        return (self.path / RESULT).is_file()

    def prepare(self, recipe: Recipe, command_flags: Sequence[str], overwrite: bool = False) -> State:
        """Prepares the folder for a run of the recipe.

        Args:
          recipe: the recipe of the run.
          command_flags: the flags that repeat the run, one in each string, such as `--epochs=30`.
          overwrite: whether to remove the run that is in the folder, complete or not. Other files are kept.

        Returns:
          NEW if the run starts from scratch, UNFINISHED if the folder holds an unfinished run of this recipe, which
          continues, COMPLETE if it holds the complete run of this recipe, which is left untouched.

        Raises:
          UsageError: the folder holds the run of another recipe, holds files but no run, or cannot be used.
        """
        if any(len(flag.splitlines()) != 1 for flag in command_flags):
            raise UsageError(f"{COMMAND} cannot hold a flag with a line break")
        with self._usable():
            state = self.state(recipe, overwrite)
            if state is State.NEW:
                self.path.mkdir(parents=True, exist_ok=True)
                for name in _REPLACED:
                    _remove(self.path / name)
                    _remove(files.temporary(self.path / name))
                files.write(self.path / RECIPE, recipe.to_json())
            if state is State.NEW or not (self.path / COMMAND).exists():
                files.write(self.path / COMMAND, "".join(f"{flag}\n" for flag in command_flags))
        return state

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Within the context, what the system refuses is a UsageError."""
        try:
            yield
        except OSError as error:
            raise files.usage_error(f"cannot use {self.path} as a run's folder", error, self.path) from error

    @contextmanager
    def opened(self, recipe: Recipe, command_flags: Sequence[str], overwrite: bool = False, wait: bool = False
               ) -> Iterator[State]:
        """Locks and prepares the folder for the duration of the context; a complete run is left untouched.

        Args and errors are those of `prepare` and `locked`; the context's value is what `prepare` returns.
        """
        state = self.state(recipe, overwrite)
        if state is State.COMPLETE:
            yield state
            return
        with self.locked(wait):
            yield self.prepare(recipe, command_flags, overwrite)  # another process may have completed the run since

    @contextmanager
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Keeps other processes out of the folder, which is created if it does not exist.

        The kernel releases the lock when the process ends, even if it is killed. The lock file stays.

        Args:
          wait: whether to wait for a process that is using the folder, instead of raising an error.

        Raises:
          UsageError: another process is using the folder, or the folder cannot be used.
        """
        with self._lock(wait):
            yield

    def _lock(self, wait: bool) -> IO[str]:
        """The open lock file; closing it releases the lock.

        It is not filelock's, which names no holder, which in some versions truncates the file of the process that holds
        the lock, and which without flock falls back to a file that a killed process leaves behind.
        """
        with self._usable():
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / LOCK, "a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                in_use = f"{self.path} is in use by {file.read().strip() or 'another process'}"
                if not wait:
                    file.close()
                    raise UsageError(f"{in_use}; wait for it, stop it, or choose another --workdir") from error
                print(f"{in_use}; waiting for it", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file

    def state(self, recipe: Recipe, overwrite: bool = False) -> State:
        """What `prepare` would return or raise; changes nothing."""
        with self._usable():
            return self._state(recipe, overwrite)

    def _state(self, recipe: Recipe, overwrite: bool) -> State:
        path = self.path
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; choose a folder with --workdir")
        # A process that was killed in its first write leaves only these files.
        leftovers = (files.temporary(path / RECIPE), path / LOCK)
        if not path.exists() or all(entry in leftovers for entry in path.iterdir()):
            return State.NEW
        if not (path / RECIPE).exists() and not self.complete:
            raise UsageError(f"{path} has files but is not a run ({RECIPE} is missing); choose another --workdir")
        recipe_there = self._recipe_or_that_of_result().with_options_of(recipe)
        if overwrite:
            return State.NEW
        if recipe_there != recipe:
            raise UsageError(f"{path} is the run of another recipe ({_differences(recipe_there, recipe)}); "
                             f"choose another --workdir, or give --overwrite")
        return State.COMPLETE if self.complete else State.UNFINISHED

    def _recipe_or_that_of_result(self) -> Recipe:
        """The recipe of the run, if necessary as its result has it."""
        try:
            return self.read_recipe()
        except UsageError:
            if not self.complete:
                raise
            return Recipe.from_json(json.dumps(self.read_result()["recipe"]))

    def read_recipe(self) -> Recipe:
        """The recipe of the run.

        Raises:
          UsageError: recipe.json is missing or damaged.
        """
        text = self._read(RECIPE)
        try:
            return Recipe.from_json(text)
        except UsageError as error:
            raise UsageError(f"{self.path / RECIPE} is unreadable: {error}") from error

    def read_command(self) -> list[str]:
        """The flags that repeat the run.

        Raises:
          UsageError: command.flags is missing or damaged.
        """
        return self._read(COMMAND).splitlines()

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.csv: one row for each epoch; the columns are the keys of the first row.

        Raises:
          ValueError: the keys of a row differ from those of the first.
          UsageError: the file cannot be written.
        """
        self._write_table(METRICS, rows)

    def write_timings(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes timings.csv: the columns that, unlike those of metrics.csv, change when a run is repeated.

        Raises:
          ValueError: the keys of a row differ from those of the first.
          UsageError: the file cannot be written.
        """
        self._write_table(TIMINGS, rows)

    def _write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(rows[0]) if rows else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if row.keys() != set(columns):
                raise ValueError(f"a row of {name} has the columns {list(row)}, the first one has {columns}")
            values = (row[column] for column in columns)
            writer.writerow([int(value) if isinstance(value, numbers.Integral) else float(value) for value in values])
        files.write(self.path / name, text.getvalue())

    def read_metrics(self) -> list[Metrics]:
        """The rows of metrics.csv; integers are read as int, all other numbers as float.

        Raises:
          UsageError: the file is missing or damaged.
        """
        header, *lines = csv.reader(self._read(METRICS).splitlines() or [""])
        try:
            return [dict(zip(header, map(_number, line), strict=True)) for line in lines]
        except ValueError as error:
            raise UsageError(f"{self.path / METRICS} is damaged: {error}") from error

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json, which completes the run; must be the last file written.

        Args:
          result: at least `RESULT_FIELDS`; `recipe` is `Recipe.to_dict()`, accuracies are fractions in [0, 1].

        Raises:
          ValueError: a field is missing, or a number is not finite.
          UsageError: the file cannot be written.
        """
        missing = _missing_fields(result)
        if missing:
            raise ValueError(f"the result lacks {', '.join(missing)}")
        files.write(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def read_result(self) -> dict[str, Any]:
        """The result of the run.

        Raises:
          UsageError: the run is not complete, or result.json is damaged.
        """
        with self._usable():
            if not self.complete:
                raise UsageError(f"{self.path} is not a complete run: it has no {RESULT}")
        text = self._read(RESULT)
        try:
            result = json.loads(text)
        except ValueError as error:
            raise self._damaged_result(str(error)) from error
        missing = _missing_fields(result)
        if missing:
            raise self._damaged_result(f"it lacks {', '.join(missing)}")
        return result

    def read_evaluation(self) -> dict[str, Any] | None:
        """The metrics that `tfcnn.evaluate` has left in the run's folder; None if it has not.

        Raises:
          UsageError: the file is damaged.
        """
        file = Path(EVALUATION) / EVALUATED
        if not (self.path / file).is_file():
            return None
        try:
            return json.loads(self._read(str(file)))
        except ValueError as error:
            raise UsageError(f"{self.path / file} is damaged: {error}: evaluate the run again") from error

    def _damaged_result(self, reason: str) -> UsageError:
        return UsageError(f"{self.path / RESULT} is damaged: {reason}: bring back a copy, or remove it, and the run's "
                          "command goes on from its last checkpoint")

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise files.usage_error(f"cannot read {self.path / name}", error, self.path / name) from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path / name} is damaged: {error}") from error


def new_folder(name: str) -> Path:
    """Creates a folder of its own in `runs/` for a run that is given none; two that start in the same second get two.

    Args:
      name: what is run; the time is appended.

    Raises:
      UsageError: the folder cannot be created.
    """
    first = Path(RUNS, f"{name}-{datetime.now():%Y%m%d-%H%M%S}")
    for number in itertools.count(1):
        folder = first if number == 1 else first.with_name(f"{first.name}-{number}")
        with RunFolder(folder)._usable():
            folder.parent.mkdir(exist_ok=True)
            with suppress(FileExistsError, FileNotFoundError):  # another process may have removed the empty `runs/`
                folder.mkdir()
                break
    return folder


def _differences(there: Recipe, here: Recipe) -> str:
    """The fields in which two recipes differ, with both values."""
    old, new = flat(there.to_dict()), flat(here.to_dict())
    return ", ".join(f"{name}: {flag_text(old.get(name, 'none'))} there, {flag_text(new.get(name, 'none'))} here"
                     for name in old | new if old.get(name) != new.get(name))


def _missing_fields(result: Any) -> list[str]:
    """Those of `RESULT_FIELDS` that a result lacks."""
    def has(names: Sequence[str]) -> bool:
        value = result
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return True

    return [field for field in RESULT_FIELDS if not has(field.split("."))]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
