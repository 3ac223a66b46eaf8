"""Training runs of many recipes, one process each, some at a time; complete ones are not repeated.

A run's folder is named by its recipe and by the code that trains, so that whoever wants the same run finds it there.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from tfcnn import exit_status, files, processor, signals
from tfcnn.recipe import Recipe, UsageError, flag_text, flat
from tfcnn.runs import DIVERGED, RunFolder
from tfcnn.startup import import_tensorflow

SAMPLE_SECONDS = 8 * 60  # no run of the sample scale starts later than this after the command


class Trainings:
    """The runs of studies: one process each, some at a time; complete ones are not repeated.

    Attributes:
      data_dir: folder of the data set; None if there is none to name.
    """

    def __init__(self, name: str, folder: Path, jobs: int = 1, data_dir: str | None = None,
                 seconds: float = math.inf, observer: str = "") -> None:
        """Args:
          name: what the lines about progress begin with.
          folder: the folder of all runs.
          jobs: number of processes at a time, which share the cores evenly.
          data_dir: folder of the data set, as in `train`.
          seconds: no run is started later than this from now.
          observer: `MODULE:FUNCTION`, which gives the Keras callbacks of a run by its folder and that of the data;
            empty for none. Runs with an observer are shared with no others.
        """
        self.data_dir = data_dir
        self._name, self._folder, self._jobs, self._observer = name, folder, jobs, observer
        self._deadline = time.monotonic() + seconds
        self._running: dict[int, tuple[subprocess.Popen, Recipe]] = {}

    def folder(self, recipe: Recipe) -> RunFolder:
        """The folder of a recipe's run, whose name tells the recipe and the code that trains: studies share it."""
        defaults = {field.name: field.default for field in dataclasses.fields(Recipe)}
        settings = {name: value for name, value in flat(recipe.to_dict()).items()
                    if name != "seed" and value != defaults.get(name)}
        settings["initial_weights"] = Path(recipe.initial_weights).name  # and not where this machine has them
        code = code_version(recipe.network, self._observer.partition(":")[0])
        digest = hashlib.sha256(json.dumps([code, self._observer, settings], sort_keys=True).encode()).hexdigest()
        return RunFolder(self._folder / f"{recipe.experiment}-{digest[:10]}-seed{recipe.seed}")

    def has_diverged(self, recipe: Recipe) -> bool:
        """Whether the recipe's run ended because its loss, its gradient or a weight was not finite."""
        return (self.folder(recipe).path / DIVERGED).exists()

    def has_ended(self, recipe: Recipe) -> bool:
        """Whether the recipe's run is complete or has diverged."""
        return self.folder(recipe).complete or self.has_diverged(recipe)

    def validation_accuracy(self, recipe: Recipe) -> float:
        """The accuracy on the validation images after the last epoch, in [0, 1]; -1 without a complete run."""
        run = self.folder(recipe)
        return float(run.read_metrics()[-1]["validation_accuracy"]) if run.complete else -1.0

    def commit(self, recipe: Recipe) -> str:
        """The commit whose code trained the recipe's run; empty if it has diverged."""
        run = self.folder(recipe)
        return str(run.read_result()["commit"]) if run.complete else ""

    def complete(self, recipes: Iterable[Recipe]) -> None:
        """Trains those of the recipes whose runs have not ended, in this order.

        Raises:
          UsageError: a run ended with an error; the others of the moment are stopped, their state is saved.
          KeyboardInterrupt: likewise, after SIGINT or SIGTERM.
        """
        waiting = [recipe for recipe in {self.folder(recipe).path: recipe for recipe in recipes}.values()
                   if not self.has_ended(recipe)]
        total, begin, done_epochs = len(waiting), time.monotonic(), 0
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._jobs and time.monotonic() < self._deadline:
                    self._start(waiting.pop(0))
                if not self._running:
                    break  # out of time
                ended = self._wait()
                done_epochs += ended.epochs
                left = waiting + [recipe for _, recipe in self._running.values()]
                rate = (time.monotonic() - begin) / done_epochs
                self._report(total, left, rate * sum(recipe.epochs for recipe in left))
        finally:
            self._stop()

    def _start(self, recipe: Recipe) -> None:
        slot = next(number for number in range(self._jobs) if number not in self._running)
        cores = processor.available_cores()
        folder = self.folder(recipe).path
        folder.parent.mkdir(parents=True, exist_ok=True)
        job = {"observer": self._observer, "recipe": recipe.to_json(),
               "folder": str(folder), "data_dir": self.data_dir, "cores": cores[slot::self._jobs] or cores}
        command = [sys.executable, "-m", "tfcnn.trainings", json.dumps(job)]
        with open(f"{folder}.log", "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running[slot] = (process, recipe)

    def _wait(self) -> Recipe:
        """Waits until one of the processes has ended, and returns its recipe."""
        while True:
            for slot, (process, recipe) in self._running.items():
                if process.poll() is not None:
                    del self._running[slot]
                    self._check(process.returncode, recipe)
                    return recipe
            time.sleep(0.2)

    def _check(self, status: int, recipe: Recipe) -> None:
        folder = self.folder(recipe).path
        if status == exit_status.NOT_FINITE:
            files.write(folder / DIVERGED, "the loss, the gradient or a weight was not finite\n")
        elif status:
            lines = Path(f"{folder}.log").read_text(encoding="utf-8", errors="replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "")
            raise UsageError(f"a run of {self._name} ended with status {status}: {last.removeprefix('error: ')} "
                             f"(what it printed is in {folder}.log)")

    def _report(self, total: int, left: Sequence[Recipe], seconds: float) -> None:
        until = datetime.now() + timedelta(seconds=seconds)
        rest = f", {len(left)} left, until about {until:%H:%M}" if left else ""
        print(f"{self._name}: {total - len(left)} of {total} runs done{rest}", flush=True)

    def _stop(self) -> None:
        """Lets the processes that are running save their state, and waits for them."""
        for process, _ in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in self._running.values():
            process.wait()
        self._running.clear()


@functools.cache
def code_version(network: str, observer: str = "") -> str:
    """A digest of what decides a run's numbers: the libraries' versions, and code without comments and docstrings.

    Args:
      network: the network's name.
      observer: the module of the run's callbacks; empty if there are none.
    """
    root = Path(__file__).parent
    paths = [root / name for name in ("__init__.py", "augmentations.py", "recipe.py", "_compat.py", "processor.py",
                                      "networks/__init__.py", "networks/options.py", f"networks/{network}.py",
                                      "trained/prediction.py", "trained/network.py")]
    paths += [path for room in ("data", "networks/layers", "training") for path in sorted((root / room).rglob("*.py"))]
    if observer.startswith("tfcnn."):
        paths.append(root.parent / f"{observer.replace('.', '/')}.py")
    digest = hashlib.sha256(json.dumps([metadata.version(name) for name in ("tensorflow", "keras", "numpy")]).encode())
    for path in paths:
        digest.update(files.code_without_words(path).encode())
    return digest.hexdigest()


def _work(job: Mapping[str, Any]) -> int:
    """Trains one run, in a process of its own; returns the exit status."""
    signals.receive_when_parent_dies(signal.SIGTERM)
    os.sched_setaffinity(0, job["cores"])
    import_tensorflow()
    from tfcnn.training.loop import NotFiniteError
    from tfcnn.training.trainer import train

    recipe, folder = Recipe.from_json(job["recipe"]), Path(job["folder"])
    module, _, function = job["observer"].partition(":")
    callbacks = getattr(importlib.import_module(module), function)(folder, job["data_dir"]) if module else ()
    values = {name: value for name, value in flat(recipe.to_dict()).items() if name not in ("experiment", "network")}
    try:
        train(recipe, folder, data_dir=job["data_dir"], own_process=True,
              command_flags=[f"--{name}={flag_text(value)}" for name, value in values.items()],
              callbacks=callbacks, wait_for_folder=True)  # another study may be training the same run
    except signals.Interrupted as error:
        return 128 + error.signal_number
    except NotFiniteError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_status.NOT_FINITE
    return exit_status.DONE


if __name__ == "__main__":
    exit_status.end_process(lambda: _work(json.loads(sys.argv[1])))
