"""Settings of the whole process that make training on a CPU faster: its allocator and the priority of its threads.

They stay in force after a run. The suite's commands and benchmarks, which own their process, apply them; `train` called
from a notebook or a program does not, unless it is told that the process is its own.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import tensorflow as tf

_LOWEST_PRIORITY = 19

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Makes the C library keep the memory of one training step for the next one.

    By default glibc returns arrays above 32 MiB, and free memory at the end of its heap, to the system. The system
    clears each page before it is used again: thousands of pages in every step, 5 to 10% of the time
    (docs/performance.md#what-made-it-faster). With another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_ARENA_MAX, 1)


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
