"""Crash injection: runs a command once per scenario, and each process gets a real signal at a chosen point.

A scenario is placed by what the process does (a file it is about to write, a function it enters), never by the time
since it started: the process sends the signal to itself when it gets there. So a scenario means the same on a fast, a
slow and a loaded machine. Only the moment *within* a function depends on time, and the function's end is the latest.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tests.conftest import environment
from tests.forked import Forked
from tfcnn import cli

# Stage of a run -> the function that is that stage: module, and path inside it.
STAGES = {
    "setup": "tfcnn.training.trainer:prepare",
    "tracing": "tfcnn.training.loop:Loop._trace",
    "steps": "tfcnn.training.loop:Loop._train_call",
    "evaluation": "tfcnn.training.loop:Loop._evaluate",
    "checkpoint": "tfcnn.training.checkpoints:Checkpoints.save",
    "tables": "tfcnn.training.loop:Loop._write_tables",
    "test": "tfcnn.training.loop:Loop.test",
    "network": "tfcnn.training.trainer:save_model",
}
# Calls that an interruption does not wait for.
_INTERRUPTIBLE = "tfcnn.signals:InterruptibleCall.run"


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One process of a run, and where it gets a signal: `before`, `inside` or `hanging`. With none, it completes.

    Attributes:
      signal: name of the signal, such as "SIGKILL".
      before: regular expression; the signal comes right before a file of such a name is moved into place.
      inside: one of `STAGES`; the signal comes when that function is entered.
      call: which call of that function, or which such file, counted from 1 in each process.
      after: seconds from entering the function to the signal. If the function returns sooner, the signal comes then.
      hanging: number, from 1, of the interruptible call that never returns and during which the signal comes.
      damage: flip a bit of the newest complete checkpoint before the process starts.
    """

    signal: str = "SIGKILL"
    before: str = ""
    inside: str = ""
    call: int = 1
    after: float = 0.0
    hanging: int = 0
    damage: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How the process of a scenario ended.

    Attributes:
      status: exit status, negative if a signal ended the process.
      output: what it wrote on standard output.
      errors: what it wrote on standard error.
      unfinished: whether a half-written checkpoint was left behind.
      seconds: from the signal to the end of the process; None if the signal was never sent.
    """

    status: int
    output: str
    errors: str
    unfinished: bool
    seconds: float | None


def run_scenarios(folder: Path, workdir: str, scenarios: list[Scenario], *flags: str, experiment: str = "mlp"
                  ) -> list[Outcome]:
    """Runs the same command once per scenario, one process after the other.

    Args:
      folder: the processes' working directory.
      workdir: the run's folder, relative to it.
      scenarios: where each process gets its signal.
      flags: the command's.
      experiment: which experiment it runs.
    """
    outcomes = []
    sent = folder / "sent"
    checkpoints = folder / workdir / "checkpoints"
    for scenario in scenarios:
        if scenario.damage:
            _damage(checkpoints)
        sent.unlink(missing_ok=True)
        done = start_scenario(folder, scenario, f"--workdir={workdir}", *flags, experiment=experiment).completed()
        seconds = time.time() - sent.stat().st_mtime if sent.exists() else None
        outcomes.append(Outcome(done.returncode, done.stdout, done.stderr, (checkpoints / "unfinished").exists(),
                                seconds))
    return outcomes


def start_scenario(folder: Path, scenario: Scenario, *flags: str, experiment: str = "mlp", **variables: str) -> Forked:
    """Starts the process of a scenario in a folder, with further variables in its environment."""
    return Forked(_run, scenario, experiment, list(flags), folder / "sent", cwd=folder,
                  env=environment(folder) | variables)


def _run(scenario: Scenario, experiment: str, flags: list[str], sent: Path) -> None:
    """The process of a scenario; it ends in here."""
    def crash() -> None:
        sent.touch()
        os.kill(os.getpid(), signal.Signals[scenario.signal])

    if scenario.before:
        _crash_before_replacing(scenario, crash)
    if scenario.inside:
        _crash_inside(scenario, crash, sent)
    if scenario.hanging:
        _crash_while_hanging(scenario, crash)
    cli.run(importlib.import_module(f"tfcnn.experiments.{experiment}").RECIPE, [experiment, *flags])


def _crash_before_replacing(scenario: Scenario, crash: Callable[[], None]) -> None:
    replace, matches = os.replace, itertools.count(1)

    def crash_or_replace(source: Any, destination: Any) -> None:
        if re.fullmatch(scenario.before, Path(destination).name) and next(matches) == scenario.call:
            crash()
        replace(source, destination)

    os.replace = crash_or_replace


def _crash_inside(scenario: Scenario, crash: Callable[[], None], sent: Path) -> None:
    owner, name = find(STAGES[scenario.inside])
    function, calls = getattr(owner, name), itertools.count(1)

    def crash_and_call(*arguments: Any, **options: Any) -> Any:
        if next(calls) != scenario.call:
            return function(*arguments, **options)
        timer = threading.Timer(scenario.after, crash)
        if scenario.after:
            timer.start()
        else:
            crash()
        result = function(*arguments, **options)
        if scenario.after:
            timer.cancel()
            timer.join()
            if not sent.exists():
                crash()
        return result

    setattr(owner, name, crash_and_call)


def _crash_while_hanging(scenario: Scenario, crash: Callable[[], None]) -> None:
    owner, name = find(_INTERRUPTIBLE)
    call, calls = getattr(owner, name), itertools.count(1)

    def crash_and_hang() -> None:
        crash()
        threading.Event().wait()

    def hang_or_call(self: Any, function: Any, received: Any) -> Any:
        return call(self, crash_and_hang if next(calls) == scenario.hanging else function, received)

    setattr(owner, name, hang_or_call)


def find(target: str) -> tuple[Any, str]:
    """The module or class that holds a function given as `module:path`, and the function's name in it."""
    module, path = target.split(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name


def _damage(checkpoints: Path) -> None:
    """Flips a bit of the newest complete checkpoint; one without an index was never complete."""
    newest = max(checkpoints.glob("*.index"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    data, = checkpoints.glob(f"{newest.stem}.data*")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
