"""What a benchmark runs on: the processor, the cores that this process may use, and GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tfcnn import nvidia, processor

# The instruction sets that matter to training speed, the widest first: the kernel's name -> the usual one.
_INSTRUCTION_SETS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bfloat16", "avx512bw": "AVX-512", "avx2": "AVX2"}


def description() -> str:
    """The processor, its widest instruction set that matters here, and the number of cores this process may use."""
    widest = next((f" ({name})" for flag, name in _INSTRUCTION_SETS.items() if flag in processor.instructions()), "")
    return f"{processor.model()}{widest}, {count_cores(len(available_cores()))}"


def gpus() -> list[str]:
    """The name and the driver's version of each NVIDIA GPU that this process may use, as `nvidia-smi` says; or none."""
    return [f"{name} (driver {driver})" for name, driver in nvidia.cards()]


def count_cores(count: int) -> str:
    """A number of cores in words, such as `2 cores`."""
    return f"{count} core{'s' * (count > 1)}"


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use, in ascending order."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def limited_to(count: int) -> Iterator[None]:
    """Within the context all threads of this process, including TensorFlow's, share the first `count` cores."""
    allowed = available_cores()
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
