"""SIGINT and SIGTERM while a run trains: remembered until its state is saved, or heeded while a call is under way.

Python runs a signal's handler when the main thread comes back from TensorFlow, which may be after a minute: the first
step waits for XLA. So a call whose result can be done without is computed in another thread.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from typing import TypeVar

_LOOK_SECONDS = 0.1
_Value = TypeVar("_Value")

_abandoned: list[futures.Future] = []


class Interrupted(Exception):
    """SIGINT or SIGTERM came; what was done is saved.

    Attributes:
      signal_number: which of them.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"{name} after step {step}; the state is saved" if step else
                         f"{name} before the first step; there is nothing to save yet")
        self.signal_number = signal_number


class Abandoned(Exception):
    """A signal came while a call was under way that need not come to its end, and may go on beside what follows."""


@contextmanager
def signals() -> Iterator[list[int]]:
    """Within the context SIGINT and SIGTERM only enter a list, for the loop to stop where its state is whole."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, handlers):
            signal.signal(number, handler)


class Abandonable:
    """Calls that are made in a thread of their own, all in the same one."""

    def __init__(self) -> None:
        self._thread = futures.ThreadPoolExecutor(max_workers=1)

    def call(self, function: Callable[[], _Value], received: Sequence[int]) -> _Value:
        """What the function returns.

        Args:
          function: what to call.
          received: signals, as `signals` lists them. It must do so meanwhile: an exception of a handler, anywhere in
            here, could leave a lock behind.

        Raises:
          Abandoned: a signal came first.
        """
        if received:
            raise Abandoned
        future = self._thread.submit(function)
        while not futures.wait([future], _LOOK_SECONDS).done:
            if received:
                _abandoned.append(future)
                raise Abandoned
        return future.result()


def calls_go_on() -> bool:
    """Whether an abandoned call goes on, whose end the interpreter's own would wait for."""
    return not all(call.done() for call in _abandoned)
