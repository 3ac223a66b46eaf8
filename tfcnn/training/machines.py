"""Several machines: who takes part in a run, what all must agree on, and what happens when one of them is lost.

Every machine runs the same command. Each computes its own part of every global batch and, gradients being added up, has
the same weights at any time. The first one writes the run's folder; the others work on a copy that is thrown away.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfcnn import runs
from tfcnn.recipe import UsageError

TF_CONFIG = "TF_CONFIG"
_JOB = "worker"
_EXAMPLE = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'

# What TensorFlow raises of a computation that another machine no longer takes part in.
_LOSSES = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.UnknownError,
           tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError, tf.errors.InternalError)


class MachineLost(Exception):
    """Another machine of the run has stopped, or cannot be reached any more."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The machines of a run, more than one.

    Attributes:
      addresses: host:port of each.
      index: which of them this process is; 0 writes the run's folder.
    """

    addresses: tuple[str, ...]
    index: int


def cluster(kind: str = "") -> Cluster | None:
    """The cluster that this process belongs to; None if it is alone.

    Args:
      kind: where the cluster is described: "" for the environment variable TF_CONFIG, if it is set, or "slurm" for the
        environment of a Slurm job step.

    Raises:
      UsageError: the description cannot be understood.
    """
    if kind == "slurm":
        addresses, index = _of_slurm()
    elif kind:
        raise UsageError(f"--cluster={kind} must be slurm; without it {TF_CONFIG} counts, if it is set")
    elif os.environ.get(TF_CONFIG, "").strip():
        addresses, index = _of_tf_config(os.environ[TF_CONFIG])
    else:
        return None
    return Cluster(tuple(addresses), index) if len(addresses) > 1 else None


def _of_tf_config(text: str) -> tuple[list[str], int]:
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        kind, index = task["type"], int(task["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{TF_CONFIG} must be like {_EXAMPLE} ({type(error).__name__}: {error})") from error
    known = ("chief", _JOB)
    if not isinstance(jobs, dict) or not jobs or set(jobs) - set(known) or kind not in list(jobs):
        raise UsageError(f"{TF_CONFIG}: the cluster may have the jobs chief and worker, of which the task is one; "
                         f"it has {', '.join(jobs) or 'none'}, and the task is of type {kind!r}")
    lists = [jobs.get(job, []) for job in known]
    if not all(isinstance(hosts, list) and all(isinstance(host, str) and _is_address(host) for host in hosts)
               for hosts in lists):
        raise UsageError(f"{TF_CONFIG}: each job of the cluster must be a list of host:port")
    chiefs, workers = lists
    if len(set(chiefs + workers)) < len(chiefs + workers):
        raise UsageError(f"{TF_CONFIG}: an address is there twice: {', '.join(chiefs + workers)}")
    if not 0 <= index < len(jobs[kind]):
        raise UsageError(f"{TF_CONFIG}: the task's index {index} is not one of the {len(jobs[kind])} of job {kind}")
    return chiefs + workers, index if kind == "chief" else len(chiefs) + index


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16


def _of_slurm() -> tuple[list[str], int]:
    # TensorFlow's resolver is only asked who there is: dividing a node's GPUs is left to Slurm (--gpus-per-task), since
    # it divides by zero where there is none.
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=2**16, gpus_per_task=1, auto_set_gpu=False)
        addresses = resolver.cluster_spec().as_dict()[_JOB]
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(f"--cluster=slurm works in a job step only, started by srun ({error})") from error
    return addresses, resolver.task_id


@functools.cache  # a process joins its cluster once, also if it has to turn to another data set
def join(cluster: Cluster, gpus: int) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for all machines of the cluster, and gives the strategy under which they work together.

    Must come before anything else that TensorFlow does in this process.

    Args:
      cluster: the machines.
      gpus: how many GPUs of this machine take part; 0 for its CPU.
    """
    print(f"machine {cluster.index + 1} of {len(cluster.addresses)}, {cluster.addresses[cluster.index]}: "
          "waiting for the others", file=sys.stderr, flush=True)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({_JOB: list(cluster.addresses)}), task_type=_JOB, task_id=cluster.index,
        num_accelerators={"GPU": gpus}, rpc_layer="grpc")
    # AUTO is NCCL among GPUs and a ring among CPUs.
    return tf.distribute.MultiWorkerMirroredStrategy(
        resolver, tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation.AUTO))


def several(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy's devices are on several machines."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def first(strategy: tf.distribute.Strategy) -> bool:
    """Whether this is the machine that writes the run's folder: the first one, or the only one."""
    return not several(strategy) or strategy.cluster_resolver.task_id == 0


def mean(strategy: tf.distribute.Strategy, values: Sequence[float]) -> list[float]:
    """The mean of each value over the machines, the same on all of them; on a single machine the values themselves.

    All machines must call it, so that it is also where they wait for each other.
    """
    if not several(strategy):
        return list(values)
    return _mean_over(strategy)(tf.constant(values, tf.float64)).numpy().tolist()


@functools.cache
def _mean_over(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function
    def reduce(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(lambda: values), axis=None)

    return reduce


def check_alike(strategy: tf.distribute.Strategy, what: str, value: Any) -> None:
    """Checks that all machines have the same of something, by its text.

    Raises:
      UsageError: on at least one of the machines, if they differ; the others will find that one lost.
    """
    own = zlib.crc32(str(value).encode())
    if mean(strategy, [own]) != [own]:
        raise UsageError(f"{what} is not the same on all machines; start the same command everywhere")


def agreed(strategy: tf.distribute.Strategy, received: Sequence[int], due: bool = False) -> tuple[int | None, bool]:
    """What all machines are to do, if it is so for any of them.

    Args:
      strategy: the machines.
      received: the signals that this machine has received.
      due: whether it thinks that a checkpoint is due.

    Returns:
      The signal to end for, or None; whether the checkpoint is due.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    *counts, dues = mean(strategy, [*(list(received).count(number) for number in numbers), float(due)])
    return next((number for number, count in zip(numbers, counts) if count), None), bool(dues)


@contextmanager
def run_folder(strategy: tf.distribute.Strategy, path: str | Path,
               opened: Callable[[runs.RunFolder], AbstractContextManager[runs.State]]
               ) -> Iterator[tuple[runs.RunFolder, runs.State]]:
    """Within the context each machine has a run's folder to write to.

    The first machine's, or the only one's, is the run's own. Another one's is a copy in a temporary folder, removed at
    the end: it saves what the first one saves, since saving may need all machines, and resumes from the same state.

    Args:
      strategy: the machines.
      path: the run's folder, which all machines can read.
      opened: makes a folder ready within a context, and says what was in it.

    Yields:
      The folder, and what was in it.

    Raises:
      UsageError: what `opened` raises, or the machines do not see the same folder.
    """
    with tempfile.TemporaryDirectory(prefix="tfcnn-") as temporary, ExitStack() as stack:
        folder = runs.RunFolder(path)
        state = stack.enter_context(opened(folder)) if first(strategy) else None
        mean(strategy, [0])  # until the first machine has made the folder ready
        if state is None:
            folder = runs.RunFolder(shutil.copytree(
                path, Path(temporary, "run"), ignore=shutil.ignore_patterns(runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS))
                if Path(path).is_dir() else Path(temporary, "run"))
        check_alike(strategy, f"the run's folder {path}, which must be shared,", _contents(folder.path))
        yield folder, stack.enter_context(opened(folder)) if state is None else state
        mean(strategy, [0])  # the first machine ends last: the others need it until they have ended their work


def _contents(path: Path) -> list[tuple[str, int]]:
    """The checkpoints and what else counts when a run goes on, by name and size."""
    events = (runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS)
    return sorted((str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*")
                  if file.is_file() and file.relative_to(path).parts[0] not in events)


@contextmanager
def watched() -> Iterator[None]:
    """Within the context, or in a function that it decorates, the loss of another machine is a `MachineLost`."""
    try:
        yield
    except _LOSSES as error:
        if not join.cache_info().currsize:
            raise
        reason = next((line for line in error.message.splitlines() if "abort" in line.lower()), "no answer")
        raise MachineLost(f"another machine of this run has stopped ({type(error).__name__}: {reason}); see what it "
                          "says, and start all of them again to go on from the last checkpoint") from error
