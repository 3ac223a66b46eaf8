"""A worker process: one side of a comparison, in a process of its own that is paused while others are timed.

Frameworks in one process would share its threads, its memory and its libraries. Therefore each side of a comparison
runs in its own process, which imports one framework only. A process that waits is paused by a signal, because idle
thread pools may spin.

The process is `python -m tfcnn.benchmarks.worker_process JSON`. It prepares its work and does it once, then as many
times as each line on standard input says. It answers each time with one line of JSON on standard output.
`WorkerProcess` is the other end. Several processes can be told to work at the same time, and asked for their answers
afterwards.

This module imports no framework: a PyTorch process never loads TensorFlow.
"""

from __future__ import annotations

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

from tfcnn import nvidia, signals

_MAX_REASON_LENGTH = 300


class WorkerFailed(Exception):
    """A worker process could not do its work. The message is one line that says why."""


class WorkerProcess:
    """A process that works when it is told to and is paused in between.

    Attributes:
      limit: seconds within which the process must answer.
    """

    def __init__(self, work: str, arguments: Mapping[str, Any], limit: float, cores: Iterable[int] = (),
                 environment: Mapping[str, str] | None = None, paused: bool = True) -> None:
        """Starts the process. Its first answer says that it has done its work once.

        Args:
          work: "module:function". The function returns a callable that does the work a given number of times and
            returns a number.
          arguments: keyword arguments of the function, as plain data.
          limit: seconds within which the process must answer, the first answer included.
          cores: the cores that all its threads may use; by default those of the calling thread.
          environment: variables to set in addition to those of the calling process.
          paused: whether the process is paused while it waits. Processes that exchange heartbeats must not be.
        """
        self.limit = limit
        self._paused = paused
        self._folder = tempfile.TemporaryDirectory(prefix="tfcnn-worker-")
        self._errors = Path(self._folder.name, "errors")
        # Cached compiled code would make the first step look faster than it is. Every worker process computes on the
        # CPU unless `environment` says otherwise, so that they can be compared.
        variables = os.environ | {"TORCHINDUCTOR_CACHE_DIR": self._folder.name, "CUDA_VISIBLE_DEVICES": "-1"} | dict(
            environment or {})
        command = [sys.executable, "-m", __name__, json.dumps({"work": work, "arguments": dict(arguments)})]
        allowed = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, cores or allowed)  # a child process inherits the cores of the thread that starts it
            with open(self._errors, "wb") as errors:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                                 bufsize=0, env=variables)
        finally:
            os.sched_setaffinity(0, allowed)

    def run(self, times: int) -> dict[str, Any]:
        """Does the work a number of times and returns the answer, see `answer`.

        Raises:
          WorkerFailed: the work failed or took too long.
        """
        self.start(times)
        return self.answer()

    def start(self, times: int) -> None:
        """Tells the process to do the work a number of times, and does not wait for it."""
        assert self._process.stdin
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(f"{times}\n".encode())
        except BrokenPipeError:  # the process has ended; `answer` will say how
            pass

    def answer(self) -> dict[str, Any]:
        """Waits until the process has done its work, or has started.

        Returns:
          `seconds`, how long the work took; `value`, what it returned; `peak_bytes`, the peak memory of the process so
          far. The first answer has no `seconds` but `import_seconds`, the time to import the work's module;
          `first_seconds`, the time after that to prepare the work and to do it once; and `libraries`, the versions of
          CUDA and cuDNN that the work has loaded, see `nvidia.libraries`.

        Raises:
          WorkerFailed: the work failed or took too long.
        """
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], self.limit)
        if not ready:
            raise WorkerFailed(f"no answer within {self.limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(self._describe_end())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(answer["error"])
        if self._paused:
            self._process.send_signal(signal.SIGSTOP)
        return answer

    def close(self) -> None:
        """Kills the process, whatever it is doing."""
        with self._process:
            self._process.kill()
        self._folder.cleanup()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def _describe_end(self) -> str:
        """How the process ended, with the last line it wrote to standard error."""
        status = self._process.wait()
        how = f"the process was ended by {signal.Signals(-status).name}" if status < 0 else (
            f"the process ended with status {status}")
        lines = self._errors.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return _one_line(f"{how}: {last}" if last else how)


def serve(request: str) -> None:
    """Does the requested work whenever a line on standard input says how many times.

    Args:
      request: JSON with the `work` and `arguments` of `WorkerProcess`.
    """
    # Standard output is for answers only; what libraries print goes to standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        # Otherwise a paused process would outlive a parent that was killed.
        signals.receive_when_parent_dies(signal.SIGKILL)
        try:
            _serve(json.loads(request), answers)
        except Exception as error:
            _write(answers, {"error": _one_line(f"{type(error).__name__}: {error}")})


def _serve(request: Mapping[str, Any], answers: IO[str]) -> None:
    module, function = request["work"].split(":")
    begin = time.perf_counter()
    imported = importlib.import_module(module)
    ready = time.perf_counter()
    work = getattr(imported, function)(**request["arguments"])
    value = work(1)
    _answer(answers, value, import_seconds=ready - begin, first_seconds=time.perf_counter() - ready,
            libraries=nvidia.libraries())
    for line in sys.stdin:
        begin = time.perf_counter()
        value = work(int(line))
        _answer(answers, value, seconds=time.perf_counter() - begin)


def _answer(answers: IO[str], value: float, **measured: Any) -> None:
    if not math.isfinite(value):
        raise ArithmeticError(f"the result is {value}")
    _write(answers, measured | {"value": value, "peak_bytes": _peak_bytes()})


def _write(answers: IO[str], answer: Mapping[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _peak_bytes() -> int:
    """The peak memory of this process.

    Read from /proc, because psutil knows only the present memory on Linux, and the `ru_maxrss` of `getrusage` includes
    the peak that the parent process had before this one was started.
    """
    with open("/proc/self/status", encoding="utf-8") as file:
        kibibytes, = (line.split()[1] for line in file if line.startswith("VmHWM:"))
    return 1024 * int(kibibytes)


def _one_line(text: str) -> str:
    return textwrap.shorten(text, _MAX_REASON_LENGTH, placeholder=" ...")


if __name__ == "__main__":
    serve(sys.argv[1])
