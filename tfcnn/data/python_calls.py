"""Python functions in tf.data's graphs, and the end of the process.

tf.data makes batches ahead in threads of its own. When the interpreter shuts down, a thread that wants to run Python
never gets to: it is stopped where it is, and the process, which waits for it to delete the data set, never ends. So
before the interpreter shuts down, running calls are waited for, and no more are begun.
"""

from __future__ import annotations

import atexit
import functools
import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

# On a busy machine a thread of tf.data may wait this long for a core.
_QUIET_SECONDS = 1.0

_condition = threading.Condition()
_called = False
_running = 0
_refused = 0
_ending = False


def numpy_function(function: Callable[..., Any], arguments: list[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
    """`tf.numpy_function` of a function without side effects, to be called in tf.data's threads.

    Args:
      function: of arrays; returns one array. Strings that are scalars come as bytes.
      arguments: its arguments.
      dtype: of its result.
    """
    return tf.numpy_function(_ended_in_time(function), arguments, dtype, stateful=False)


def _ended_in_time(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        global _called, _running, _refused
        with _condition:
            _called = True
            if _ending:
                _refused += 1
                raise RuntimeError("the process ends")
            _running += 1
        try:
            return function(*arguments)
        finally:
            with _condition:
                _running -= 1
                _condition.notify_all()

    return call


def _end() -> None:
    """Waits for running calls, then until tf.data's buffers are full of refused ones: until a second without a call."""
    global _ending
    with _condition:
        _ending = True
        quiet = not _called
        while not quiet:
            before = _refused
            a_call_ended = _condition.wait(_QUIET_SECONDS)  # its thread may come back for the next one
            quiet = not a_call_ended and not _running and _refused == before


atexit.register(_end)
