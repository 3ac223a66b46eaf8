"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tfcnn.recipe import UsageError


def temporary(path: Path) -> Path:
    """The path under which a file is written before it takes its place.

    The name is always the same, so that a later write replaces what a killed process left behind.
    """
    return path.with_name(f"{path.name}.tmp")


def write(path: Path, content: str | bytes) -> None:
    """Writes a file atomically: under a temporary name first, synchronized to disk, then renamed.

    Args:
      path: the file to write or replace.
      content: text, written as UTF-8, or bytes.

    Raises:
      UsageError: the file cannot be written.
    """
    unfinished = temporary(path)
    try:
        with open(unfinished, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except OSError as error:
        with suppress(OSError):
            unfinished.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
