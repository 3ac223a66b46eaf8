"""Processes that spare themselves the seconds in which TensorFlow is imported: one does that, all others fork from it.

It forks before TensorFlow has started a thread, so that what it gives is a process like a new one, with its own folder,
environment, devices and signals; only the order in which Python's sets are read is that of all of them.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.imported"])


class Forked:
    """A process that calls a function, with what `subprocess.Popen` has, as far as the tests need it."""

    def __init__(self, action: Callable[..., None], *arguments: Any, cwd: Path, env: Mapping[str, str]) -> None:
        self._texts = tempfile.TemporaryDirectory()
        self._process = _SERVER.Process(target=_call, args=(action, arguments, cwd, dict(env), self._texts.name),
                                        daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """The status, negative if a signal ended it; None as long as it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Waits for the end; what it wrote on standard output and standard error."""
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        output, errors = (Path(self._texts.name, name).read_text() for name in ("out", "err"))
        self._texts.cleanup()
        return output, errors

    def completed(self) -> subprocess.CompletedProcess:
        """Waits for the end, as `subprocess.run` does."""
        output, errors = self.communicate()
        status = self.poll()
        assert status is not None
        return subprocess.CompletedProcess(self._process.name, status, output, errors)


def run_module(name: str, *arguments: str) -> None:
    """What `python -m` does."""
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _call(action: Callable[..., None], arguments: tuple[Any, ...], cwd: Path, env: dict[str, str], texts: str) -> None:
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(texts, name), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # where temporary files go is in the environment
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs do not have
    action(*arguments)
