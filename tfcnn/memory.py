"""The C library's memory: arrays of one training step are kept for the next one. For TensorFlow and PyTorch alike."""

from __future__ import annotations

import ctypes

# Parameters of mallopt, from glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def keep_freed() -> None:
    """Makes the C library keep the memory that this process frees.

    By default glibc returns arrays above 32 MiB, and free memory at the end of its heap, to the system. The system
    clears each page before it is used again: thousands of pages in every step, 5 to 10% of the time
    (docs/performance.md#memory-returned-to-the-system). With another C library nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_ARENA_MAX, 1)
