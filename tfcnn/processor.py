"""What Linux says about this machine's processor: its model, and its instruction sets.

The instruction sets decide which of two computations is the faster. We read them ourselves: psutil does not list them,
and py-cpuinfo, without a release since 2022, starts other processes to do so.
"""

from __future__ import annotations

import functools
import os
import platform


@functools.cache
def instructions() -> frozenset[str]:
    """Returns Linux's names of the extensions of an x86 processor, such as `avx512_bf16`; empty on other machines."""
    return frozenset(_cpuinfo().get("flags", "").split())


def model() -> str:
    """The model of the processor, such as `AMD EPYC`; its architecture where the model is unknown."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """The fields of the first core in /proc/cpuinfo; empty on systems without that file."""
    if not os.path.exists("/proc/cpuinfo"):
        return {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        core = file.read().split("\n\n")[0]
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in core.splitlines())}
