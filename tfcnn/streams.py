"""The standard streams as the suite needs them: always open, printing any text, and saying when output is lost.

`prepare` replaces them once, when a command starts. All that is printed afterwards follows these rules:

- A stream that was closed when the process started is /dev/null.
- Text that the stream's encoding lacks is printed with backslashes; a path's bytes that are no text, as they are.
- What standard output does not take is an `OutputLost`. Standard error only has messages: what it does not take is
  dropped.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from typing import Any

_ERRORS = "tfcnn-bytes-or-backslashes"
# The ways of encoding that raise errors for some texts, or are Python's default for standard error.
_REPLACED_ERRORS = ("strict", "surrogateescape", "backslashreplace")


class OutputLost(Exception):
    """Standard output does not take what is written: its reader has gone, or its device is full.

    It is no OSError, so that nobody takes it for an error of a file.

    Attributes:
      error: why.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror}")
        self.error = error


def prepare() -> None:
    """Makes the standard streams of this process follow the module's rules. Call it before any file is opened."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # otherwise the next file that is opened would be this stream
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    codecs.register_error(_ERRORS, _bytes_or_backslashes)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")
    sys.stdout = _prepared(sys.stdout, 1, _Output)
    sys.stderr = _prepared(sys.stderr, 2, _Messages)


def discard_output() -> None:
    """Sends what is still to be written on standard output to /dev/null."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


class _Raw(io.FileIO):
    """A descriptor that waits if it is non-blocking and full."""

    def write(self, content: Any) -> int:
        while (count := super().write(content)) is None:
            select.select([], [self], [])
        return count


class _Output(_Raw):
    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError as error:
            raise OutputLost(error) from error


class _Messages(_Raw):
    def write(self, content: Any) -> int:
        try:
            return super().write(content)
        except OSError:
            return len(content)


def _prepared(stream: Any, number: int, raw: type[_Raw]) -> Any:
    """The stream to use in place of a standard stream; the stream itself if it is not the process's own."""
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(stream, "buffer", None)
    own = getattr(buffer, "raw", buffer)  # without a buffer if PYTHONUNBUFFERED is set
    if not isinstance(own, io.FileIO) or own.fileno() != number:
        return stream  # a notebook's or a test's
    stream.flush()
    errors = _ERRORS if stream.errors in _REPLACED_ERRORS else stream.errors
    return io.TextIOWrapper(io.BufferedWriter(raw(number, "w", closefd=False)), stream.encoding, errors,
                            line_buffering=stream.line_buffering or stream.write_through)


def _bytes_or_backslashes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encodes what an encoding lacks, see `codecs.register_error`."""
    assert isinstance(error, UnicodeEncodeError)
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return codecs.lookup_error("backslashreplace")(error)
