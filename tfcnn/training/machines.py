"""Training on several machines: the workers of a run, what they agree on, and what happens when one of them is lost.

Each worker is a process; usually each machine has one. All of them run the same command. Each computes its share of
every global batch, and the gradients are summed over all of them, so their weights are equal after every step. The
worker with index 0, the chief, writes the run's folder. The others write to a temporary copy of it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import tensorflow as tf

from tfcnn import _compat, runs
from tfcnn.recipe import UsageError
from tfcnn.training import waiting

TF_CONFIG = "TF_CONFIG"
_CHIEF, _WORKER = "chief", "worker"
_EXAMPLE = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'

# What TensorFlow raises from a collective that another worker no longer takes part in.
_LOSS_ERRORS = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.UnknownError,
                tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError, tf.errors.InternalError)
_YEAR_SECONDS = 365 * 24 * 3600


class MachineLost(Exception):
    """Another worker of the run has stopped or cannot be reached."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, two or more.

    Attributes:
      addresses: host:port of each worker, the chief first.
      index: index of this process's own address.
      wait_minutes: how long to wait for the others at most; 0 for without end.
    """

    addresses: tuple[str, ...]
    index: int
    wait_minutes: float = 0.0

    @property
    def others(self) -> tuple[str, ...]:
        """The addresses of the other workers."""
        return self.addresses[:self.index] + self.addresses[self.index + 1:]


def cluster(kind: str = "", wait: float = 0.0) -> Cluster | None:
    """Returns the cluster that this process belongs to, or None if the process trains alone.

    Args:
      kind: where the cluster is described. "" reads the environment variable `TF_CONFIG` if it is set; "slurm" reads
        the environment of a Slurm job step.
      wait: minutes to wait for the other workers at most; 0 for without end.

    Raises:
      UsageError: the description is missing or malformed, or the time is negative.
    """
    if not 0 <= wait < math.inf:
        raise UsageError(f"--wait={wait:g} must be a number of minutes, or 0 to wait without end")
    if kind == "slurm":
        addresses, index = _read_slurm()
    elif kind:
        raise UsageError(f"--cluster={kind} must be slurm; without it {TF_CONFIG} counts, if it is set")
    elif os.environ.get(TF_CONFIG, "").strip():
        addresses, index = _read_tf_config()
    else:
        return None
    return Cluster(tuple(addresses), index, wait) if len(addresses) > 1 else None


def _read_tf_config() -> tuple[list[str], int]:
    """The addresses and this process's index; the job `chief`, if there is one, comes before the job `worker`."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    try:
        jobs, kind, index = resolver.cluster_spec().as_dict(), resolver.task_type, resolver.task_id
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{TF_CONFIG} must be like {_EXAMPLE} ({type(error).__name__}: {reason})") from error
    # The resolver accepts other jobs, anything as an address, and a task that is not in the cluster.
    known = (_CHIEF, _WORKER)
    if not jobs or set(jobs) - set(known) or kind not in jobs:
        raise UsageError(f"{TF_CONFIG}: the cluster may have the jobs chief and worker, of which the task is one; "
                         f"it has {', '.join(map(str, jobs)) or 'none'}, and the task is of type {kind!r}")
    lists = [jobs.get(job, []) for job in known]
    if not all(isinstance(hosts, list) and all(map(_is_address, hosts)) for hosts in lists):
        raise UsageError(f"{TF_CONFIG}: each job of the cluster must be a list of host:port")
    chiefs, workers = lists
    if len(set(chiefs + workers)) < len(chiefs + workers):
        raise UsageError(f"{TF_CONFIG}: an address is there twice: {', '.join(chiefs + workers)}")
    if index is None or not 0 <= index < len(jobs[kind]):
        raise UsageError(f"{TF_CONFIG}: the task's index {index} is not one of the {len(jobs[kind])} of job {kind}")
    return chiefs + workers, index if kind == _CHIEF else len(chiefs) + index


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isascii() and port.isdecimal() and 0 < int(port) < 2**16


def _read_slurm() -> tuple[list[str], int]:
    # The resolver only lists the tasks. Slurm divides a node's GPUs among them (--gpus-per-task), because the resolver
    # divides by zero on a node without a GPU.
    try:
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=2**16, gpus_per_task=1, auto_set_gpu=False)
        addresses = resolver.cluster_spec().as_dict()[_WORKER]
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(f"--cluster=slurm works in a job step only, started by srun ({error})") from error
    return addresses, resolver.task_id


@functools.cache  # a process joins its cluster only once, even if it then falls back to another data set
def join(cluster: Cluster, gpus: int) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits until all workers of the cluster are there, and returns their common strategy.

    Call it before anything else that initializes TensorFlow in this process.

    Args:
      cluster: the workers.
      gpus: number of GPUs that this worker uses; 0 for its CPU.

    Raises:
      UsageError: this worker's own port cannot be used.
      MachineLost: the others did not come in time, or one of them has stopped meanwhile.
    """
    _check_port(cluster.addresses[cluster.index])
    print(f"worker {cluster.index + 1} of {len(cluster.addresses)}, {cluster.addresses[cluster.index]}: "
          "waiting for the others", file=sys.stderr, flush=True)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({_WORKER: list(cluster.addresses)}), task_type=_WORKER, task_id=cluster.index,
        num_accelerators={"GPU": gpus}, rpc_layer="grpc")
    # AUTO is NCCL between GPUs and a ring between CPUs.
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.AUTO)
    try:
        with _compat.joining_in_background(_YEAR_SECONDS):
            return waiting.wait(lambda: tf.distribute.MultiWorkerMirroredStrategy(resolver, options), cluster.others,
                                cluster.wait_minutes)
    except waiting.TimeIsUp as error:
        raise MachineLost(f"{error}; start the same command there, or correct the list of addresses") from error
    except _LOSS_ERRORS as error:
        names = ", ".join(waiting.missing(cluster.others)) or "all of them answer"
        raise MachineLost(f"the machines could not join ({type(error).__name__}: {error.message.splitlines()[0]}); not "
                          f"there: {names}") from error


def _check_port(address: str) -> None:
    """Raises a UsageError if this process cannot listen at its own address, which TensorFlow answers with a log."""
    port = int(address.rpartition(":")[2])
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        reason = os.strerror(error.errno or 0)  # Python's own text repeats the address
        raise UsageError(f"port {port} of this machine's address {address} cannot be used: {reason}; is the run going "
                         "on here already?") from error


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether the strategy spans several workers."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's folder: it is the chief, or the only process."""
    return not is_multi_worker(strategy) or strategy.cluster_resolver.task_id == 0


def mean(strategy: tf.distribute.Strategy, values: Sequence[float]) -> list[float]:
    """Returns the mean of each value over the workers, equal on all of them; without other workers the values.

    A collective, and a barrier: every worker must call it, with the same number of values.
    """
    if not is_multi_worker(strategy):
        return list(values)
    return _mean_function(strategy)(tf.constant(values, tf.float64)).numpy().tolist()


@functools.cache
def _mean_function(strategy: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    @tf.function
    def reduce(values: tf.Tensor) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(lambda: values), axis=None)

    return reduce


def _meet(strategy: tf.distribute.Strategy, values: Sequence[float] = (0.0,)) -> list[float]:
    """As `mean`, and interruptible: for the barriers outside the training loop, in which workers may wait for long."""
    if not is_multi_worker(strategy):
        return mean(strategy, values)
    resolver = strategy.cluster_resolver
    everyone = Cluster(tuple(resolver.cluster_spec().as_dict()[_WORKER]), resolver.task_id)
    return waiting.wait(lambda: mean(strategy, values), everyone.others)


def check_equal(strategy: tf.distribute.Strategy, what: str, value: Any) -> None:
    """Checks that a value has the same text on all workers. A barrier: every worker must call it.

    Args:
      strategy: the workers.
      what: what the value is, for the error message.
      value: this worker's value.

    Raises:
      UsageError: the values differ. At least one worker raises it; the others then lose that one.
    """
    own = zlib.crc32(str(value).encode())
    if _meet(strategy, [own]) != [own]:
        raise UsageError(f"{what} is not the same on all machines; start the same command everywhere")


def agree(strategy: tf.distribute.Strategy, received: Sequence[int], due: bool = False) -> tuple[int | None, bool]:
    """Returns what all workers must do because at least one of them has to. A barrier: every worker must call it.

    Args:
      strategy: the workers.
      received: the signals that this worker has received.
      due: whether a checkpoint is due on this worker.

    Returns:
      The signal to stop for, SIGINT or SIGTERM, or None; and whether to save a checkpoint.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    *counts, dues = mean(strategy, [*(list(received).count(number) for number in numbers), float(due)])
    return next((number for number, count in zip(numbers, counts) if count), None), bool(dues)


@contextmanager
def run_folder(strategy: tf.distribute.Strategy, path: str | Path,
               opened: Callable[[runs.RunFolder], AbstractContextManager[runs.State]]
               ) -> Iterator[tuple[runs.RunFolder, runs.State]]:
    """Within the context every worker has a run's folder that it may write to.

    The chief has the run's own folder. Every other worker has a copy in a temporary folder, which is removed at the
    end. It saves the same checkpoints as the chief, since saving may be a collective, and resumes from the same state.

    Entering and leaving the context are barriers: every worker must do both.

    Args:
      strategy: the workers.
      path: the run's folder, which all workers must be able to read.
      opened: prepares a folder within a context, and returns its state.

    Yields:
      The folder of this worker and its state.

    Raises:
      UsageError: raised by `opened`, or because the workers see different folders.
    """
    with tempfile.TemporaryDirectory(prefix="tfcnn-") as temporary, ExitStack() as stack:
        folder = runs.RunFolder(path)
        state = stack.enter_context(opened(folder)) if is_chief(strategy) else None
        _meet(strategy)  # the others wait until the chief has prepared the folder
        if state is None:
            folder = runs.RunFolder(shutil.copytree(
                path, Path(temporary, "run"), ignore=shutil.ignore_patterns(runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS))
                if Path(path).is_dir() else Path(temporary, "run"))
        check_equal(strategy, f"the run's folder {path}, which must be shared,", _contents(folder.path))
        yield folder, stack.enter_context(opened(folder)) if state is None else state
        _meet(strategy)  # no worker leaves while another one still needs it
        # A worker that has what it needs from a collective may still owe the others a message. If it ends before they
        # have it, the collective fails for them. Only this last one can fail so, and nothing depends on it.
        with suppress(*_LOSS_ERRORS):
            _meet(strategy)


def _contents(path: Path) -> list[tuple[str, int]]:
    """Names and sizes of the files that a resumed run depends on: all but TensorBoard's events."""
    events = (runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS)
    return sorted((str(file.relative_to(path)), file.stat().st_size) for file in path.rglob("*")
                  if file.is_file() and file.relative_to(path).parts[0] not in events)


@contextmanager
def lost_workers_reported() -> Iterator[None]:
    """Turns TensorFlow's error about a lost worker into `MachineLost`, as a context manager or a decorator."""
    try:
        yield
    except _LOSS_ERRORS as error:
        if not join.cache_info().currsize:  # this process has no other workers
            raise
        reason = next((line for line in error.message.splitlines() if "abort" in line.lower()), "no answer")
        raise MachineLost(f"another machine of this run has stopped ({type(error).__name__}: {reason}); see what it "
                          "says, and start all of them again to go on from the last checkpoint") from error
