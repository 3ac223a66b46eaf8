"""Runs that die: a run's lives one after the other, each a process that a real signal ends.

A life is the command line as a user would give it, in a process of its own. It is described by

    signal    what ends it, such as SIGKILL; none lets it end by itself
    before    regular expression: sent by the process itself, right before it moves such a file to its place
    inside    name of a method of the trainer's loop: sent by the process itself when that is called
    watch     name in the run's folder: sent from outside when it appears
    after     seconds: sent from outside so long after that, or after the start
    injure    flip a bit of the newest checkpoint beforehand
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tests.conftest import environment
from tests.forked import Forked
from tfcnn import cli
from tfcnn.experiments.mlp import RECIPE


def follow(place: Path, workdir: str, lives: list[dict[str, Any]], *flags: str) -> list[dict[str, Any]]:
    """Lets a run of the experiment with the MLP live these lives.

    Args:
      place: the folder in which the command is given.
      workdir: that of the run in it.
      lives: what ends each of them.
      flags: the command's.

    Returns:
      Of each life its status, what it wrote on standard output (`out`) and standard error (`err`), and whether it left
      a checkpoint half-written (`unfinished`).
    """
    folder = place / workdir
    ends = []
    for life in lives:
        if life.get("injure"):
            _injure(folder / "checkpoints")
        process = Forked(_live, life, [f"--workdir={workdir}", *flags], cwd=place, env=environment(place))
        _end_from_outside(process, life, folder)
        output, errors = process.communicate()
        ends.append({"status": process.poll(), "unfinished": (folder / "checkpoints" / "unfinished").exists(),
                     "out": output, "err": errors})
    return ends


def _live(life: dict[str, Any], flags: list[str]) -> None:
    """What the process does; never returns."""
    def end() -> None:
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

        method = getattr(trainer._Loop, life["inside"])

        def method_after_end(*arguments: Any) -> Any:
            end()
            return method(*arguments)

        setattr(trainer._Loop, life["inside"], method_after_end)
    cli.run(RECIPE, ["mlp", *flags])


def _end_from_outside(process: Forked, life: dict[str, Any], workdir: Path) -> None:
    for there in (True, False) if "watch" in life else ():  # what an earlier life left behind goes first
        while (workdir / life["watch"]).exists() == there:
            if process.poll() is not None:
                return
            time.sleep(0.0005)
    time.sleep(life.get("after", 0))
    if "watch" in life or "after" in life:
        process.send_signal(signal.Signals[life["signal"]])


def _injure(checkpoints: Path) -> None:
    newest = max(checkpoints.glob("*.data*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
