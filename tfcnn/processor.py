"""The instruction sets of this machine's processor, by which the faster of two computations is chosen.

Our own: psutil does not list them, and py-cpuinfo, without a release since 2022, starts other processes to do so.
"""

from __future__ import annotations

import functools
import os


@functools.cache
def instructions() -> frozenset[str]:
    """Returns Linux's names of the extensions of an x86 processor, such as `avx512_bf16`; empty on other machines."""
    if not os.path.exists("/proc/cpuinfo"):
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((frozenset(line.split()[2:]) for line in file if line.startswith("flags")), frozenset())
