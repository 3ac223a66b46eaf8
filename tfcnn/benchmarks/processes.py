"""Processes that train as many steps as they are told, each with a TensorFlow and with cores of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TextIO

import tensorflow as tf

from tfcnn.benchmarks import rates
from tfcnn.recipe import Recipe
from tfcnn.training.machines import TF_CONFIG
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare

# For a process that has been told to end; it is killed after that.
_SECONDS_TO_END = 20


@contextmanager
def training(recipe: Recipe, shares: Sequence[Sequence[int]], devices: int = 1) -> Iterator[rates.Work]:
    """Within the context there are processes that train one network together. They do nothing until told to.

    They have trained for one step then, so that all is compiled.

    Args:
      recipe: what they train.
      shares: the cores of each process. Thread pools have their size, because they are set before TensorFlow starts.
      devices: into how many logical devices each divides its cores; 1 where there are several processes.

    Yields:
      What trains so many steps, in all of the processes at the same time, and returns when the last of them is done.

    Raises:
      RuntimeError: a process has ended, then or within the context; with what it wrote to standard error.
    """
    addresses = _free_addresses(len(shares))
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        processes = []
        for index, cores in enumerate(shares):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            process = _start(recipe, devices, cores, json.dumps(cluster), errors)
            stack.callback(_end, process)
            processes.append(process)

        def train(steps: int) -> None:
            try:
                for process in processes:
                    print(steps, file=process.stdin, flush=True)
                answers = [process.stdout.readline() for process in processes if process.stdout]
            except BrokenPipeError:
                answers = []
            if not all(answers) or not answers:
                errors.seek(0)
                raise RuntimeError(f"a process that was measured has ended:\n{errors.read()}")

        train(1)  # before the next ones start, whose noise could make these lose sight of each other
        yield train


def _start(recipe: Recipe, devices: int, cores: Sequence[int], cluster: str, errors: TextIO) -> subprocess.Popen:
    environment = os.environ | {TF_CONFIG: cluster, "CUDA_VISIBLE_DEVICES": "-1"}
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # a new process has the cores of the thread that starts it
    try:
        return subprocess.Popen([sys.executable, "-m", __name__, recipe.to_json(), str(devices)], text=True,
                                env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
    finally:
        os.sched_setaffinity(0, before)


def _end(process: subprocess.Popen) -> None:
    assert process.stdin and process.stdout  # both are pipes
    with suppress(BrokenPipeError):  # of what could not be written before
        process.stdin.close()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def _main(recipe_json: str, devices: str) -> None:
    """Trains: for each line of standard input so many steps, and then writes a line."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    recipe = Recipe.from_json(recipe_json)
    setup = prepare(recipe, devices=int(devices))
    run = Steps(recipe, setup.strategy, setup.model, setup.optimizer).run
    batches = iter(setup.training_batches(0))
    for line in sys.stdin:
        run(batches, tf.constant(int(line))).numpy()
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
