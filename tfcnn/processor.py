"""Which instructions this machine's processor has, where they decide which of two ways to compute is the faster."""

import functools
import os


@functools.cache
def instructions() -> frozenset[str]:
    """The names of x86's extensions as Linux has them, `avx512_bf16` for one; none on other machines."""
    if not os.path.exists("/proc/cpuinfo"):
        return frozenset()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((frozenset(line.split()[2:]) for line in file if line.startswith("flags")), frozenset())
