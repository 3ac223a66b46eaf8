"""Work for arms that need no framework."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path


def counting(log: str = "", name: str = "", seconds: float = 0.0) -> Callable[[int], float]:
    """Counts how often it was done, and keeps in a file who did so much when."""
    print("what a library prints is no answer")
    done = 0

    def work(times: int) -> float:
        nonlocal done
        done += times
        time.sleep(seconds * times)
        if log:
            with Path(log).open("a", encoding="utf-8") as file:
                file.write(f"{name} {times}\n")
        return float(done)

    return work


def failing(at: int, how: str) -> Callable[[int], float]:
    """Does its work `at` times, and then not."""
    done = 0

    def work(times: int) -> float:
        nonlocal done
        done += times
        if done > at:
            if how == "raise":
                raise MemoryError("out of\n  memory")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "exit":
                raise SystemExit("torn apart")
            if how == "wait":
                time.sleep(60)
        return float("nan") if how == "diverge" and done > at else 0.0

    return work
