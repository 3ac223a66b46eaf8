"""A program whose runs die: it imports TensorFlow once, and forks a process for every life of a run.

    python -m tests.mortal

Each life is the command line as a user would give it, in a process of its own that a real signal ends. Forking spares
them the seconds of the import; it is done before TensorFlow has started a thread that computes.

It reads plans from standard input, a line of JSON each: `arguments` of the experiment; `lives`, a list of objects with

    signal    what ends the life, such as SIGKILL; none lets it end by itself
    before    regular expression: sent by the process itself, right before it moves such a file to its place
    inside    name of a method of the trainer's loop: sent by the process itself when that is called
    watch     name in the run's folder: sent from outside when it appears
    after     seconds: sent from outside so long after that, or after the start
    injure    flip a bit of the newest checkpoint beforehand

For each plan it prints a line, a JSON list: of each life its status, what it wrote on standard output and standard
error, and whether it left a checkpoint half-written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tfcnn import cli
from tfcnn.experiments.mlp import RECIPE


def _live(arguments: list[str], life: dict[str, Any]) -> None:
    """What the forked process does; never returns."""
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
    for stream, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(f"{stream}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    try:
        cli.run(RECIPE, ["mlp", *arguments])
    except SystemExit as status:
        sys.stdout.flush()
        os._exit(int(status.code or 0))


def _end_from_outside(process: int, life: dict[str, Any], workdir: Path) -> None:
    for there in (True, False) if "watch" in life else ():  # what an earlier life left behind goes first
        while (workdir / life["watch"]).exists() == there:
            if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.0005)
    time.sleep(life.get("after", 0))
    if "watch" in life or "after" in life:
        os.kill(process, signal.Signals[life["signal"]])


def _injure(checkpoints: Path) -> None:
    newest = max(checkpoints.glob("*.data*"), key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)


def _follow(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Lets a run live its lives; returns what became of each."""
    workdir = Path(next(word.split("=")[1] for word in plan["arguments"] if word.startswith("--workdir=")))
    ends = []
    for life in plan["lives"]:
        if life.get("injure"):
            _injure(workdir / "checkpoints")
        process = os.fork()
        if not process:
            _live(plan["arguments"], life)
        _end_from_outside(process, life, workdir)
        _, status = os.waitpid(process, 0)
        unfinished = (workdir / "checkpoints" / "unfinished").exists()
        ends.append({"status": os.waitstatus_to_exitcode(status), "unfinished": unfinished,
                     "out": Path("out.txt").read_text(), "err": Path("err.txt").read_text()})
    return ends


if __name__ == "__main__":
    cli.import_tensorflow()
    import tfcnn.networks.mlp  # noqa: F401 - what each life would have to import
    import tfcnn.training.trainer  # noqa: F401

    for line in sys.stdin:
        print(json.dumps(_follow(json.loads(line))), flush=True)
