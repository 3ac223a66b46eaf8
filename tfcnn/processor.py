"""What Linux says about this machine's processor: its model, its instruction sets, and how many cores are ours.

The instruction sets decide which of two computations is the faster. We read them ourselves: psutil does not list them,
and py-cpuinfo, without a release since 2022, starts other processes to do so.
"""

from __future__ import annotations

import functools
import os
import platform

# The instruction sets that matter to training speed, the widest first: the kernel's name -> the usual one.
_INSTRUCTION_SETS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bfloat16", "avx512bw": "AVX-512", "avx2": "AVX2"}


@functools.cache
def instructions() -> frozenset[str]:
    """Returns Linux's names of the extensions of an x86 processor, such as `avx512_bf16`; empty on other machines."""
    return frozenset(_cpuinfo().get("flags", "").split())


def model() -> str:
    """The model of the processor, such as `AMD EPYC`; its architecture where the model is unknown."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def description() -> str:
    """The model, its widest instruction set that matters here, and the number of cores this process may use."""
    widest = next((f" ({name})" for flag, name in _INSTRUCTION_SETS.items() if flag in instructions()), "")
    return f"{model()}{widest}, {count_cores(len(available_cores()))}"


def count_cores(count: int) -> str:
    """A number of cores in words, such as `2 cores`."""
    return f"{count} core{'s' * (count > 1)}"


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use, in ascending order."""
    return sorted(os.sched_getaffinity(0))


def _cpuinfo() -> dict[str, str]:
    """The fields of the first core in /proc/cpuinfo; empty on systems without that file."""
    if not os.path.exists("/proc/cpuinfo"):
        return {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        core = file.read().split("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in core.splitlines())}
