"""The files that a benchmark leaves in its folder: a page, a picture and a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tfcnn import drawing, files
from tfcnn.recipe import UsageError


def write(workdir: Path, result: Mapping[str, Any], page: str, picture_name: str, picture: Callable[[], bytes]
          ) -> None:
    """Writes the picture, `README.md` and `result.json`, each atomically and the result last.

    A picture that cannot be drawn is a warning.

    Args:
      workdir: the folder, created if necessary.
      result: what was measured, as plain data.
      page: the text of `README.md`.
      picture_name: the name of the picture's file.
      picture: draws it, as a PNG.

    Raises:
      UsageError: a file cannot be written.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / picture_name
    drawing.warn_if_not(lambda: files.write(path, picture()), path, (UsageError,))
    files.write(workdir / "README.md", page)
    files.write(workdir / "result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")


def short_commit(result: Mapping[str, Any]) -> str:
    """The first seven digits of the commit that was measured, with the mark of uncommitted changes, if any."""
    commit, *dirty = result["commit"].split("-")
    return "-".join([commit[:7], *dirty])
