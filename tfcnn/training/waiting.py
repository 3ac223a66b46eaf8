"""Waiting for the other workers of a run: interruptible, limited, and with a line now and then that names the missing.

TensorFlow itself waits for them in silence, and Python handles a signal only when the main thread returns from
TensorFlow. So what waits runs in another thread.
"""

from __future__ import annotations

import math
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from tfcnn import signals

REPORT_SECONDS = 30.0  # between two lines that say who is missing
_CONNECT_SECONDS = 3.0
_Value = TypeVar("_Value")


class TimeIsUp(Exception):
    """The other workers were not there in time. The message names those that do not answer."""


def wait(call: Callable[[], _Value], others: Sequence[str], minutes: float = 0.0) -> _Value:
    """Returns the value of a call that returns as soon as all other workers are there.

    A signal ends the wait. It then has the effect that it would have had without the wait: under `cli.run`, SIGINT and
    SIGTERM raise a KeyboardInterrupt. The call may then still be running in its thread.

    Args:
      call: what waits for the other workers.
      others: host:port of each.
      minutes: how long to wait at most; 0 for without end.

    Raises:
      TimeIsUp: the call did not return in time.
    """
    done = threading.Event()
    threading.Thread(target=_report, args=(others, done), daemon=True).start()
    try:
        with signals.deferred() as received, suppress(signals.CallInterrupted):
            value = signals.InterruptibleCall().run(call, received, 60 * minutes or math.inf)
    except signals.CallTimedOut as error:
        names = ", ".join(missing(others)) or "the others, which answer but have not joined"
        raise TimeIsUp(f"waited {minutes:g} minutes for {names}") from error
    finally:
        done.set()
    if received:  # even if the call has returned meanwhile
        signal.raise_signal(received[0])
        raise signals.Interrupted(received[0], 0)  # its handler has returned
    return value


def missing(addresses: Sequence[str]) -> list[str]:
    """Returns the addresses that do not answer a TCP connection within seconds, each with the reason."""
    reasons = dict.fromkeys(addresses, "no answer")

    def connect(address: str) -> None:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()
            reasons[address] = ""
        except OSError as error:
            reasons[address] = error.strerror or "no answer"

    threads = [threading.Thread(target=connect, args=(address,), daemon=True) for address in addresses]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 2 * _CONNECT_SECONDS  # a name server may take longer than a connection
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [f"{address} ({reasons[address]})" for address in addresses if reasons[address]]


def _report(others: Sequence[str], done: threading.Event) -> None:
    """Says now and then whom the process waits for, until it is done."""
    while not done.wait(REPORT_SECONDS):
        names = ", ".join(missing(others)) or "the other machines, all of which answer"
        with suppress(OSError, ValueError):  # nobody reads the line
            print(f"still waiting for {names}", file=sys.stderr, flush=True)
