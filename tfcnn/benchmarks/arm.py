"""One of the things that are compared, in a process of its own that sleeps until it is its turn.

Frameworks that share a process share its threads and memory, too, and would have to share its libraries. So each arm of
a comparison has its own process, which imports one framework only, and what waits is stopped by a signal, for a pool of
threads may look busily for work while there is none.

The process is `python -m tfcnn.benchmarks.arm JSON`. It makes its work ready, does it once, and then as often as each
line on standard input says; each time it answers on standard output with a line of JSON. `Arm` is the other end.
Several arms can also be told to work at the same time, and then be asked for their answers.

This module imports no framework: a process of PyTorch's never loads TensorFlow.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_REASON = 300  # characters of a reason for failing
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


class Failed(Exception):
    """The process could not do what it was asked; the message is one line that says why."""


class Arm:
    """A process that does its work when it is told to, and else is stopped."""

    def __init__(self, work: str, arguments: Mapping[str, Any], limit: float, cores: Iterable[int] = (),
                 environment: Mapping[str, str] | None = None, stopped: bool = True) -> None:
        """Starts the process; its first answer tells that it has done its work once.

        Args:
          work: "module:function"; the function returns what does the work so many times and then returns a number.
          arguments: of the function, as plain data.
          limit: how many seconds the process may take for any answer, the first one among them.
          cores: those that it may use, from its first thread on; by default those of this thread.
          environment: variables that it has besides those of this process.
          stopped: whether it is stopped while it waits. Processes that must not lose sight of each other are not.
        """
        self._limit = limit
        self._stopped = stopped
        self._folder = tempfile.TemporaryDirectory(prefix="tfcnn-arm-")
        self._errors = Path(self._folder.name, "errors")
        # Compiled code kept from an earlier run would make the first step look shorter than it is. All arms compute on
        # the CPU, so that they can be compared.
        variables = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._folder.name, "CUDA_VISIBLE_DEVICES": "-1"} | dict(
            environment or {})
        command = [sys.executable, "-m", __name__, json.dumps({"work": work, "arguments": dict(arguments)})]
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, cores or allowed)  # a new process has the cores of the thread that starts it
            with open(self._errors, "wb") as errors:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                                 bufsize=0, env=variables)
        finally:
            os.sched_setaffinity(0, allowed)

    def run(self, times: int) -> dict[str, Any]:
        """Has the work done so many times, and returns the answer.

        Raises:
          Failed: it could not be done.
        """
        self.tell(times)
        return self.answer()

    def tell(self, times: int) -> None:
        """Has the process begin to do its work so many times."""
        assert self._process.stdin
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(f"{times}\n".encode())
        except BrokenPipeError:  # it died while it waited: there is no answer, then
            pass

    def answer(self) -> dict[str, Any]:
        """Waits until the process has done what it was told, or has started.

        Returns:
          `seconds`, what the work took; `value`, what it returned; `peak_bytes`, the most memory that the process has
          had. Of the start, instead of `seconds`: `import_seconds`, what importing the work's module took, and
          `first_seconds`, what making the work ready and doing it once took after that.

        Raises:
          Failed: it could not be done.
        """
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], self._limit)
        if not ready:
            raise Failed(f"no answer within {self._limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self._end())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        if self._stopped:
            self._process.send_signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """Ends the process, whatever it is doing."""
        with self._process:
            self._process.kill()
        self._folder.cleanup()

    def __enter__(self) -> Arm:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _end(self) -> str:
        """How the process ended."""
        status = self._process.wait()
        how = f"the process was ended by {signal.Signals(-status).name}" if status < 0 else (
            f"the process ended with status {status}")
        lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return _one_line(f"{how}: {last}" if last else how)


def serve(argument: str) -> None:
    """Does the work that the argument describes, whenever a line on standard input says how many times.

    Args:
      argument: JSON with `work` and `arguments`, those of `Arm`.
    """
    # Only answers go where answers are read; what libraries print goes where errors go.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        # A stopped process would else outlive a parent that was killed.
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        try:
            _serve(json.loads(argument), answers)
        except Exception as error:
            _write(answers, {"error": _one_line(f"{type(error).__name__}: {error}")})


def _serve(asked: Mapping[str, Any], answers: IO[str]) -> None:
    module, function = asked["work"].split(":")
    begin = time.perf_counter()
    imported = importlib.import_module(module)
    ready = time.perf_counter()
    work = getattr(imported, function)(**asked["arguments"])
    value = work(1)
    _tell(answers, value, import_seconds=ready - begin, first_seconds=time.perf_counter() - ready)
    for line in sys.stdin:
        begin = time.perf_counter()
        value = work(int(line))
        _tell(answers, value, seconds=time.perf_counter() - begin)


def _tell(answers: IO[str], value: float, **seconds: float) -> None:
    if not math.isfinite(value):
        raise ArithmeticError(f"the result is {value}")
    _write(answers, seconds | {"value": value, "peak_bytes": _peak_bytes()})


def _write(answers: IO[str], answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _peak_bytes() -> int:
    with open("/proc/self/status", encoding="utf-8") as file:
        kibibytes, = (line.split()[1] for line in file if line.startswith("VmHWM:"))
    return 1024 * int(kibibytes)


def _one_line(text: str) -> str:
    return textwrap.shorten(text, _REASON, placeholder=" ...")


if __name__ == "__main__":
    serve(sys.argv[1])
