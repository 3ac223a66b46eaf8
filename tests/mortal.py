"""Runs that die: a run's lives one after the other, each a process that a real signal ends.

A life is the command line as a user would give it, in a process of its own. It is described by

    signal    what ends it, such as SIGKILL; none lets it end by itself
    before    regular expression: sent by the process itself, right before it moves such a file to its place
    inside    name of a method of the trainer's loop: sent by the process itself when that is called
    call      at which call of it, from 1, the default
    during    number of the call, from 1, that need not come to its end: sent by itself within it, and it never ends
    watch     name in the run's folder: sent from outside when it appears
    after     seconds: sent from outside so long after that, or after the start
    injure    flip a bit of the newest checkpoint beforehand
"""

from __future__ import annotations

import importlib
import itertools
import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tests.conftest import environment
from tests.forked import Forked
from tfcnn import cli


def follow(place: Path, workdir: str, lives: list[dict[str, Any]], *flags: str, experiment: str = "mlp"
           ) -> list[dict[str, Any]]:
    """Lets a run live these lives.

    Args:
      place: the folder in which the command is given.
      workdir: that of the run in it.
      lives: what ends each of them.
      flags: the command's.
      experiment: which one is run.

    Returns:
      Of each life its status, what it wrote on standard output (`out`) and standard error (`err`), whether it left a
      checkpoint half-written (`unfinished`), and for how long it went on after the signal, if that came (`seconds`).
    """
    folder = place / workdir
    ends = []
    sent = place / "sent"
    for life in lives:
        if life.get("injure"):
            _injure(folder / "checkpoints")
        sent.unlink(missing_ok=True)
        process = Forked(_live, life, experiment, [f"--workdir={workdir}", *flags], str(sent), cwd=place,
                         env=environment(place))
        _end_from_outside(process, life, folder, sent)
        output, errors = process.communicate()
        ends.append({"status": process.poll(), "unfinished": (folder / "checkpoints" / "unfinished").exists(),
                     "out": output, "err": errors,
                     "seconds": time.time() - sent.stat().st_mtime if sent.exists() else None})
    return ends


def _live(life: dict[str, Any], experiment: str, flags: list[str], sent: str) -> None:
    """What the process does; never returns."""
    def end() -> None:
        Path(sent).touch()
        os.kill(os.getpid(), signal.Signals[life["signal"]])

    if "before" in life:
        replace = os.replace

        def replace_or_end(source: Any, destination: Any) -> None:
            if re.fullmatch(life["before"], Path(destination).name):
                end()
            replace(source, destination)

        os.replace = replace_or_end
    if "inside" in life:
        from tfcnn.training import trainer

        method, calls = getattr(trainer._Loop, life["inside"]), itertools.count(1)

        def method_after_end(*arguments: Any) -> Any:
            if next(calls) == life.get("call", 1):
                end()
            return method(*arguments)

        setattr(trainer._Loop, life["inside"], method_after_end)
    if "during" in life:
        from tfcnn.training.interruption import Abandonable

        call, numbers = Abandonable.call, itertools.count(1)

        def end_and_wait() -> None:
            end()
            threading.Event().wait()

        def call_or_end(self: Abandonable, function: Any, received: Any) -> Any:
            return call(self, end_and_wait if next(numbers) == life["during"] else function, received)

        setattr(Abandonable, "call", call_or_end)
    cli.run(importlib.import_module(f"tfcnn.experiments.{experiment}").RECIPE, [experiment, *flags])


def _end_from_outside(process: Forked, life: dict[str, Any], workdir: Path, sent: Path) -> None:
    for there in (True, False) if "watch" in life else ():  # what an earlier life left behind goes first
        while (workdir / life["watch"]).exists() == there:
            if process.poll() is not None:
                return
            time.sleep(0.0005)
    time.sleep(life.get("after", 0))
    if "watch" in life or "after" in life:
        sent.touch()
        process.send_signal(signal.Signals[life["signal"]])


def _injure(checkpoints: Path) -> None:
    newest = max(checkpoints.glob("*.data*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
