"""The folder for what a command makes of a trained network."""

from __future__ import annotations

from pathlib import Path

from tfcnn import files
from tfcnn.runs.folder import new_folder


def output_folder(out: str, own: Path | None, name: str) -> Path:
    """Creates the folder for a command's output, unless it is there.

    Args:
      out: the folder that the user names; empty for none.
      own: the folder if none is named; None for a new one under `runs/`.
      name: what is made, the beginning of a new folder's name.

    Raises:
      UsageError: the folder cannot be created.
    """
    folder = files.expanded(out) if out else own
    if folder is None:
        return new_folder(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise files.usage_error(f"cannot use {folder}", error, folder, after_remedy="; --out names it") from error
    return folder
