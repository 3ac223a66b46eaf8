"""The arguments of a command: flag files, and text that is no path."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Sequence

from tfcnn.recipe import UsageError

_FLAGFILE = "flagfile"
_BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def expanded(words: Sequence[str], files: Sequence[str] = ()) -> list[str]:
    """The arguments, with those that a file holds in place of each `--flagfile=FILE`.

    A flag file has an argument in each line; lines that are empty or begin with # or // are comments. It is text in
    UTF-8, or in UTF-16 with a byte order mark, and may name other flag files.

    Args:
      words: the arguments.
      files: the flag files that they are from, the outermost first.

    Raises:
      UsageError: a flag file cannot be read or includes itself, or an argument is not text in UTF-8.
    """
    found: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, file = word.partition("=")
        if name == "--":
            found += [word, *rest]
        elif not name.startswith("-") or name.lstrip("-") != _FLAGFILE:
            found.append(word)
        elif file := file if equals else next(rest, ""):
            check(file)
            path = os.path.realpath(os.path.expanduser(file))
            if path in files:
                raise UsageError(f"--flagfile={file} includes itself: remove that line from the file")
            found += expanded(_lines(os.path.expanduser(file)), (*files, path))
        else:
            raise UsageError("--flagfile needs the name of a file: --flagfile=FILE")
    for word in found:
        check(word)
    return found


def check(text: str) -> None:
    """Checks that a text can be a path for every library: TensorFlow takes paths in UTF-8 only.

    Raises:
      UsageError: it is not UTF-8, or this environment's encoding lacks some of its characters.
    """
    shown = text.encode("utf-8", "backslashreplace").decode()
    try:
        content = os.fsencode(text)
        valid = content.decode()
    except UnicodeError:
        valid = ""
    if "\0" in text:
        raise UsageError(f"{text!r} has a zero byte, which no name has")
    if valid == text:
        return
    if valid or sys.getfilesystemencoding() != "utf-8":
        raise UsageError(f"{shown} cannot be used in this environment, whose encoding is "
                         f"{sys.getfilesystemencoding()}: set PYTHONUTF8=1, or choose a name in ASCII")
    raise UsageError(f"{shown} is not text in UTF-8: choose another name")


def _lines(file: str) -> list[str]:
    """The arguments in a flag file."""
    try:
        with open(file, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UsageError(f"cannot read the flag file {file}: {error.strerror}") from error
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeError as error:
        raise UsageError(f"the flag file {file} is not text in UTF-8: save it as UTF-8") from error
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith(("#", "//"))]
