"""The priority of the threads that prepare batches, which makes training on a CPU faster.

It stays in force after a run, as does `tfcnn.memory`. The suite's commands and benchmarks, which own their process, set
both; `train` called from a notebook or a program does not, unless it is told that the process is its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import tensorflow as tf

_LOWEST_PRIORITY = 19


@contextmanager
def low_priority_threads() -> Iterator[None]:
    """Gives the threads that start within the context, those that prepare batches, the lowest priority.

    The operations of a training step use all cores of a CPU, and each waits for the core that is busy with the next
    batch. With a GPU the priorities are unchanged: the batches have the CPU to themselves. When other programs keep all
    cores busy, a thread of the lowest priority still gets a 68th of another thread's time.
    """
    before = set(thread_ids())
    yield
    if not tf.config.list_physical_devices("GPU"):
        for thread in set(thread_ids()) - before:
            with suppress(OSError):  # the thread has ended
                os.setpriority(os.PRIO_PROCESS, thread, _LOWEST_PRIORITY)


def thread_ids() -> list[int]:
    """The system's ids of this process's threads; empty except on Linux, where alone each thread has a priority."""
    return [thread.id for thread in psutil.Process().threads()] if sys.platform == "linux" else []
