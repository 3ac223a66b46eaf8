"""How an experiment's process ends: the exit statuses, and the signals and errors that lead to them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tfcnn import files, signals, streams
from tfcnn.recipe import UsageError

DONE = 0
USAGE_ERROR = 2
NOT_FINITE = 3
MACHINE_LOST = 4


def end_process(action: Callable[[], int]) -> NoReturn:
    """Ends the process with the status that an action returns, or that its error stands for.

    A UsageError gives `USAGE_ERROR` and one line on standard error, and so does what the system refuses, such as to
    write on a full disk, wherever no one has caught it, or a full standard output; an interruption 128 + the number of
    the signal; an output that is no longer read, as in `--help | head`, likewise. All other errors are bugs and show
    their traceback.

    Args:
      action: does the work and returns the status.
    """
    streams.prepare()
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
    except streams.OutputLost as lost:
        status = _of_lost_output(lost)
    except OSError as error:
        refused = files.refusal(error)
        if not refused:
            raise
        print(f"error: {refused}", file=sys.stderr)
        status = USAGE_ERROR
    sys.stderr.flush()
    try:  # what was printed before an error
        sys.stdout.flush()
    except streams.OutputLost as lost:
        status = status or _of_lost_output(lost)
        streams.discard_output()
    if signals.calls_still_running():  # the interpreter would wait for them
        os._exit(status)
    sys.exit(status)


def _of_lost_output(lost: streams.OutputLost) -> int:
    """The status where standard output takes no more, after one line that says so unless its reader has gone."""
    streams.discard_output()
    if isinstance(lost.error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    print(f"error: {lost}; send it elsewhere and start again", file=sys.stderr)
    return USAGE_ERROR


class _Terminated(KeyboardInterrupt):
    """SIGTERM was received."""


def of_interrupt(interrupt: KeyboardInterrupt) -> int:
    """The status of a process that SIGINT or, under `end_process`, SIGTERM has interrupted."""
    return 128 + (signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Within the context SIGTERM raises an exception, as SIGINT does, unless the process was started to ignore it."""
    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    if not signals.may_be_handled(signal.SIGTERM):
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
