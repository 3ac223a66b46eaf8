"""SIGINT and SIGTERM during training: deferred until the state is saved, except in calls that can be abandoned.

Python runs a signal handler only when the main thread returns from TensorFlow, which can take a minute: the first step
waits for XLA. A call whose result is not needed after an interruption therefore runs in another thread.

A signal that the process was started to ignore, as by `nohup` or by a shell that starts it in the background of a
script, stays ignored: nothing in the suite installs a handler for it.
"""

from __future__ import annotations

import ctypes
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import TypeVar

_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1  # prctl(2): the signal a process gets when its parent dies
_Value = TypeVar("_Value")

_interrupted_calls: list[futures.Future] = []


class Interrupted(Exception):
    """SIGINT or SIGTERM stopped the run; its state is saved.

    Attributes:
      signal_number: the signal.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"{name} after step {step}; the state is saved" if step else
                         f"{name} before the first step; there is nothing to save yet")
        self.signal_number = signal_number


class CallInterrupted(Exception):
    """A signal came during an interruptible call. The call may still be running in its thread."""


class CallTimedOut(Exception):
    """An interruptible call took too long. The call may still be running in its thread."""


def may_be_handled(number: int) -> bool:
    """Whether a signal may get a handler: in the main thread, where Python allows it, and if it is not ignored."""
    # None: a handler that Python does not know, and so could not restore.
    return (threading.current_thread() is threading.main_thread()
            and signal.getsignal(number) not in (signal.SIG_IGN, None))


def receive_when_parent_dies(number: int) -> None:
    """Lets this process get a signal when its parent dies, even if that is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Within the context, SIGINT and SIGTERM are only appended to the list that it yields.

    The training loop reads the list and stops where the state is consistent. A signal that may not be handled acts as
    before: one that is ignored, and all of them in a thread other than the main one.
    """
    received: list[int] = []
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if may_be_handled(number)]
    handlers = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, handlers):
            signal.signal(number, handler)


class InterruptibleCall:
    """Runs functions that need not finish when a signal comes, one after the other in one thread."""

    def __init__(self) -> None:
        self._thread = futures.ThreadPoolExecutor(max_workers=1)

    def run(self, function: Callable[[], _Value], received: Sequence[int], seconds: float = math.inf) -> _Value:
        """Runs a function in the thread and returns its result.

        Args:
          function: the function.
          received: the list of `deferred`, which must be active: an exception raised by a handler anywhere in here
            could leave a lock acquired.
          seconds: how long the function may take.

        Raises:
          CallInterrupted: a signal came before the function returned.
          CallTimedOut: the function took longer.
        """
        if received:
            raise CallInterrupted
        future = self._thread.submit(function)
        end = time.monotonic() + seconds
        while not futures.wait([future], _POLL_SECONDS).done:
            _restore_handlers()
            if received or time.monotonic() > end:
                _interrupted_calls.append(future)
                raise CallInterrupted if received else CallTimedOut
        return future.result()


def _restore_handlers() -> None:
    """Puts Python's handlers back: TensorFlow replaces that of SIGTERM by its own while it joins a cluster."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None:
                signal.signal(number, handler)


def calls_still_running() -> bool:
    """Whether an interrupted call is still running; the interpreter would wait for it before it exits."""
    return not all(call.done() for call in _interrupted_calls)
