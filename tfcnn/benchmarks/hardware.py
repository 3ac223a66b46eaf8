"""What a benchmark runs on: some of the cores, and GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tfcnn import nvidia, processor


def gpus() -> list[str]:
    """The name and the driver's version of each NVIDIA GPU that this process may use, as `nvidia-smi` says; or none."""
    return [f"{name} (driver {driver})" for name, driver in nvidia.cards()]


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Within the context all threads of this process, including TensorFlow's, share the first `count` cores."""
    allowed = processor.available_cores()
    try:
        _pin(allowed[:count])
        yield
    finally:
        _pin(allowed)


def _pin(cores: list[int]) -> None:
    # The affinity of a process that psutil sets is that of its main thread only.
    for thread in psutil.Process().threads():
        with suppress(ProcessLookupError):  # the thread has ended
            os.sched_setaffinity(thread.id, cores)
