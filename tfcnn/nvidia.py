"""What NVIDIA's driver and libraries say about this machine: its GPUs, and the versions of CUDA and cuDNN."""

from __future__ import annotations

import ctypes
import os
import subprocess


def cards() -> list[tuple[str, str]]:
    """The name and the driver's version of each GPU that this process may use, as `nvidia-smi` says; or none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    chosen = [] if visible is None else [f"--id={visible}"]
    try:
        done = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", *chosen],
                              capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [(name, driver) for name, driver in (
        line.rsplit(", ", 1) for line in done.stdout.splitlines() if ", " in line)]


def libraries() -> dict[str, str]:
    """The versions of CUDA and cuDNN that this process has loaded: "cuda" and "cudnn", each only if it is loaded.

    Sources: NVIDIA's references of `cudaRuntimeGetVersion` (1000 * major + 10 * minor) and of `cudnnGetVersion` (10000
    * major + 100 * minor + patch).
    """
    versions = {}
    for name in ("libcudart.so.12", "libcudart.so.13"):
        if library := _loaded(name):
            number = ctypes.c_int()
            library.cudaRuntimeGetVersion(ctypes.byref(number))
            versions["cuda"] = f"{number.value // 1000}.{number.value % 1000 // 10}"
    if library := _loaded("libcudnn.so.9"):
        library.cudnnGetVersion.restype = ctypes.c_size_t
        version = library.cudnnGetVersion()
        versions["cudnn"] = f"{version // 10000}.{version % 10000 // 100}.{version % 100}"
    return versions


def _loaded(name: str) -> ctypes.CDLL | None:
    """A shared library, if this process has loaded it."""
    try:
        return ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
    except OSError:
        return None
