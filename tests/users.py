"""Users that a permission restricts, or that have no home: root, who may run the tests, is neither."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import traceback
from collections.abc import Callable

from tests.forked import run_module

_UNKNOWN_USER = 54321  # has no entry in /etc/passwd
# Of <linux/capability.h> and <linux/prctl.h>.
_VERSION_3, _READ_EVERYTHING, _KEEP_CAPABILITIES = 0x20080522, 0b110, 8


def run_module_unprivileged(name: str, *arguments: str) -> None:
    """Runs a module as `python -m` does, in this process, which permissions restrict from now on."""
    drop_privileges()
    run_module(name, *arguments)


def run_module_homeless(name: str, *arguments: str) -> None:
    """Runs a module as a user without an entry in /etc/passwd and without HOME, who can read Python's files."""
    for variable in ("HOME", "USER", "LOGNAME"):
        os.environ.pop(variable, None)
    if not os.geteuid():
        _call("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
        os.setresgid(_UNKNOWN_USER, _UNKNOWN_USER, _UNKNOWN_USER)
        os.setresuid(_UNKNOWN_USER, _UNKNOWN_USER, _UNKNOWN_USER)
        _set_capabilities(_READ_EVERYTHING)
    run_module(name, *arguments)


def drop_privileges() -> None:
    """Takes from this process what root may do although permissions forbid it."""
    if not os.geteuid():
        _set_capabilities(0)


def without_privileges(action: Callable[[], None]) -> tuple[int, str]:
    """Calls a function in a forked process that permissions restrict.

    Returns:
      The exit status, 0 if the function has returned, and what it has printed.
    """
    read, write = os.pipe()
    child = os.fork()
    if not child:
        status = 1
        with contextlib.suppress(BaseException):
            os.dup2(write, 1)
            with open(1, "w", closefd=False) as sys.stdout:
                try:
                    drop_privileges()
                    action()
                    status = 0
                except BaseException:
                    traceback.print_exc(file=sys.stdout)
        os._exit(status)
    os.close(write)
    with open(read, encoding="utf-8") as output:
        text = output.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text


def _set_capabilities(mask: int) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    _call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)(mask, mask, 0, 0, 0, 0)))


def _call(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments):
        raise OSError(ctypes.get_errno(), function)
