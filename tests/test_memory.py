"""Memory that is freed stays with the process, if it is asked for."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Prints how many MiB of 100 that were freed are still resident.
PROGRAM = """
import ctypes, resource, sys
from tfcnn import memory

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

if sys.argv[1] == "keep":
    memory.keep_freed()
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
before = resident()
block = library.malloc(100 << 20)
ctypes.memset(block, 1, 100 << 20)
library.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps its own memory")
def test_freed_memory_is_kept_only_if_asked_for() -> None:
    left = {word: int(subprocess.run([sys.executable, "-c", PROGRAM, word], check=True, capture_output=True,
                                     text=True).stdout) for word in ("keep", "default")}
    assert left["keep"] >= 95 and left["default"] <= 5
