"""SIGINT and SIGTERM during training: deferred until the state is saved, except in calls that can be abandoned.

Python runs a signal handler only when the main thread returns from TensorFlow, which can take a minute: the first step
waits for XLA. A call whose result is not needed after an interruption therefore runs in another thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import TypeVar

_POLL_SECONDS = 0.1
_Value = TypeVar("_Value")

_interrupted_calls: list[futures.Future] = []


def is_ignored(number: int) -> bool:
    """Whether the process was told to ignore a signal when it was started: then it goes on ignoring it.

    So a shell starts the background jobs of a script, and `nohup` its command.
    """
    return signal.getsignal(number) == signal.SIG_IGN


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


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Within the context, SIGINT and SIGTERM are only appended to the list that it yields.

    The training loop reads the list and stops where the state is consistent. In a thread other than the main one Python
    allows no handlers: there the list stays empty and signals act as before.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if not is_ignored(number)]
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

    def run(self, function: Callable[[], _Value], received: Sequence[int]) -> _Value:
        """Runs a function in the thread and returns its result.

        Args:
          function: the function.
          received: the list of `deferred`, which must be active: an exception raised by a handler anywhere in here
            could leave a lock acquired.

        Raises:
          CallInterrupted: a signal came before the function returned.
        """
        if received:
            raise CallInterrupted
        future = self._thread.submit(function)
        while not futures.wait([future], _POLL_SECONDS).done:
            if received:
                _interrupted_calls.append(future)
                raise CallInterrupted
        return future.result()


def calls_still_running() -> bool:
    """Whether an interrupted call is still running; the interpreter would wait for it before it exits."""
    return not all(call.done() for call in _interrupted_calls)
