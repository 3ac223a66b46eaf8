"""Processes that skip TensorFlow's import, which takes seconds: one server imports it once, and they fork from it.

The server forks before TensorFlow has started a thread. So a forked process is like a new one, with its own working
directory, environment, devices and signals. One thing is shared: the seed of Python's hashes, hence the order of sets.
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
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# No process takes nearly as long, on any machine: only one that hangs.
LIMIT_SECONDS = 1800

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["tests.imported"])


class Forked:
    """A process that calls a function, with the part of `subprocess.Popen` that the tests need."""

    def __init__(self, action: Callable[..., None], *arguments: Any, cwd: Path, env: Mapping[str, str],
                 ignored: Sequence[signal.Signals] = ()) -> None:
        """Starts the process.

        Args:
          action: the function; it and its arguments must be picklable.
          arguments: what it is called with.
          cwd: the working directory.
          env: the whole environment.
          ignored: the signals that the process ignores from its start on.
        """
        self._texts = tempfile.TemporaryDirectory()
        self._process = _SERVER.Process(
            target=_call, args=(action, arguments, cwd, dict(env), self._texts.name, ignored), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    def poll(self) -> int | None:
        """Returns the exit status, negative if a signal ended the process; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait_for_error_text(self, text: str) -> None:
        """Waits until the process has written a text on standard error.

        Raises:
          AssertionError: it ended without.
        """
        errors = Path(self._texts.name, "err")
        while not (errors.exists() and text in errors.read_text()):
            assert self.poll() is None, errors.read_text()
            self._process.join(0.1)

    def communicate(self, timeout: float = LIMIT_SECONDS) -> tuple[str, str]:
        """Waits for the end; returns what the process wrote on standard output and standard error.

        Raises:
          subprocess.TimeoutExpired: it took longer than `timeout` seconds, and was killed.
        """
        self._process.join(timeout)
        if self.poll() is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        output, errors = (Path(self._texts.name, name).read_text() for name in ("out", "err"))
        self._texts.cleanup()
        return output, errors

    def completed(self) -> subprocess.CompletedProcess:
        """Waits for the end and returns what `subprocess.run` would."""
        output, errors = self.communicate()
        status = self.poll()
        assert status is not None
        return subprocess.CompletedProcess(self._process.name, status, output, errors)


def run_module(name: str, *arguments: str) -> None:
    """Runs a module as `python -m` does."""
    sys.argv = [name, *arguments]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _call(action: Callable[..., None], arguments: tuple[Any, ...], cwd: Path, env: dict[str, str], texts: str,
          ignored: Sequence[signal.Signals]) -> None:
    """What the new process does: it takes on its folder, environment and output files, and calls the function."""
    for name, number in (("out", 1), ("err", 2)):
        os.dup2(os.open(Path(texts, name), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    tempfile.tempdir = None  # cached from the server's environment
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore SIGINT
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    action(*arguments)
