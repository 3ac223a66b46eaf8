"""The commands that an experiment prints: to resume and to repeat a run, and to show it in TensorBoard.

They work in the folder in which they are printed, whatever `python` is there.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tfcnn.runs import COMMAND


class RunCommands:
    """The command lines that a training run prints.

    Attributes:
      workdir: the folder of the run.
      repeat: runs the recipe again, in a new folder.
      resume: continues the run.
      tensorboard: shows the run in TensorBoard.
    """

    def __init__(self, experiment: str, workdir: Path, command_flags: Sequence[str] = ()) -> None:
        """Args:
          experiment: its name.
          workdir: the folder of the run.
          command_flags: the flags that repeat the run, if its folder lacks the file that holds them.
        """
        flags = list(command_flags) or [f"--flagfile={_unmistakable(workdir / COMMAND)}"]
        self.workdir = workdir
        self.repeat = of_experiment(experiment, flags)
        self.resume = of_experiment(experiment, [*flags, f"--workdir={_unmistakable(workdir)}"])
        self.tensorboard = f"{python()} -m tensorboard.main --logdir={shlex.quote(_unmistakable(workdir))}"


def of_experiment(experiment: str, flags: Sequence[str]) -> str:
    """The command line of an experiment."""
    # The name of a flag stands outside the quotes, as one would type it.
    words = (shlex.quote(name) + equals + (shlex.quote(value) if equals else "")
             for name, equals, value in (flag.partition("=") for flag in flags))
    return " ".join([f"{python()} -m {module(experiment)}", *words])


def to_measure_rest(experiment: str, arguments: Sequence[str], workdir: Path) -> str:
    """The command line that completes a benchmark's result; `arguments` are those with which it was started."""
    return of_experiment(experiment, [*arguments, f"--workdir={_unmistakable(workdir)}", "--nooverwrite"])


def module(experiment: str) -> str:
    """The module of an experiment."""
    return f"tfcnn.experiments.{experiment}"


def python() -> str:
    """The interpreter of this process, as a shell in the current folder finds it."""
    this = os.path.abspath(sys.executable)
    here = os.path.join(os.getcwd(), "")
    if this.startswith(here):
        path = this.removeprefix(here)
        return shlex.quote(path if os.sep in path else os.path.join(os.curdir, path))
    found = shutil.which("python")
    # The folder counts, too: the interpreters of several environments are links to the same file.
    if found and os.path.dirname(os.path.abspath(found)) == os.path.dirname(this) and os.path.samefile(found, this):
        return "python"
    return shlex.quote(this)


def _unmistakable(path: Path) -> str:
    """The path so that it stays what it is where `~` is expanded and spaces around a value are removed."""
    text = str(path)
    return text if not text or text[0] not in "~ \t\n" else os.path.join(os.curdir, text)
