"""Work for worker processes that needs no framework and no time: it advances a simulated clock."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def _simulate_clock() -> Callable[[float], None]:
    """Replaces this process's clock with one that stands still, and returns what advances it by some seconds."""
    now = time.perf_counter()
    time.perf_counter = lambda: now

    def advance(seconds: float) -> None:
        nonlocal now
        now += seconds

    return advance


def counting(log: str = "", name: str = "", seconds: float = 1 / 64) -> Callable[[int], float]:
    """Counts how often the work was done.

    Args:
      log: a file to which each call appends its name and its number of times; "" for none.
      name: the name to log.
      seconds: how long the work takes each time; a quarter longer in every third call.
    """
    print("what a library prints is no answer")
    advance = _simulate_clock()
    calls = done = 0

    def work(times: int) -> float:
        nonlocal calls, done
        calls += 1
        done += times
        advance(seconds * times * (1.25 if calls % 3 == 0 else 1.0))
        if log:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{name} {times}\n")
        return float(done)

    return work


def environment(name: str) -> Callable[[int], float]:
    """Answers with the number that an environment variable holds."""
    advance = _simulate_clock()

    def work(times: int) -> float:
        advance(times / 64)
        return float(os.environ[name])

    return work


def failing(at: int, how: str) -> Callable[[int], float]:
    """Does its work `at` times and then fails: how is raise, kill, exit, wait (for ever) or diverge."""
    advance = _simulate_clock()
    done = 0

    def work(times: int) -> float:
        nonlocal done
        done += times
        advance(times / 64)
        if done > at:
            if how == "raise":
                raise MemoryError("out of\n  memory")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                raise SystemExit("torn apart")
            if how == "wait":
                signal.pause()
        return float("nan") if how == "diverge" and done > at else 0.0

    return work
