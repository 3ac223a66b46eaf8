"""The files that a benchmark leaves in its folder: a page, a picture and a result."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfcnn import files


def write(workdir: Path, result: Mapping[str, Any], page: str, picture_name: str, picture: bytes) -> None:
    """Writes the picture, `README.md` and `result.json`, each atomically and the result last.

    Args:
      workdir: the folder, created if necessary.
      result: what was measured, as plain data.
      page: the text of `README.md`.
      picture_name: the name of the picture's file.
      picture: a PNG.

    Raises:
      UsageError: a file cannot be written.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    files.write(workdir / picture_name, picture)
    files.write(workdir / "README.md", page)
    files.write(workdir / "result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")


def png(figure: Figure) -> bytes:
    """The figure as a PNG, drawn without a display."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def short_commit(result: Mapping[str, Any]) -> str:
    """The first seven digits of the commit that was measured, with the mark of uncommitted changes, if any."""
    commit, *dirty = result["commit"].split("-")
    return "-".join([commit[:7], *dirty])
