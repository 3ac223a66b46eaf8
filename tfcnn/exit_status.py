"""How an experiment's process ends: the exit statuses, and the signals and errors that lead to them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.training import signals

DONE = 0
USAGE_ERROR = 2
NOT_FINITE = 3
MACHINE_LOST = 4


def end_process(action: Callable[[], int]) -> NoReturn:
    """Ends the process with the status that an action returns, or that its error stands for.

    A UsageError gives `USAGE_ERROR` and one line on standard error, and so does what the system refuses, such as to
    write on a full disk, wherever no one has caught it; an interruption 128 + the number of the signal; an
    output that is no longer read, as in `--help | head`, likewise. All other errors are bugs and show their traceback.

    Args:
      action: does the work and returns the status.
    """
    try:
        with _sigterm_raises():
            status = action()
        sys.stdout.flush()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        status = USAGE_ERROR
    except KeyboardInterrupt as interrupt:  # the training loop itself stops where its state can be saved
        print("\ninterrupted before there was anything to save", file=sys.stderr)
        status = of_interrupt(interrupt)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    except OSError as error:
        refused = files.refusal(error)
        if not refused:
            raise
        print(f"error: {refused}", file=sys.stderr)
        status = USAGE_ERROR
    sys.stderr.flush()
    if signals.calls_still_running():  # the interpreter would wait for them
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


def of_interrupt(interrupt: KeyboardInterrupt) -> int:
    """The status of a process that SIGINT or, under `end_process`, SIGTERM has interrupted."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Within the context SIGTERM raises an exception, as SIGINT does."""
    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
