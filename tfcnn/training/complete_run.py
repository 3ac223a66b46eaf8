"""What a complete run still has: its network, and which of its files are missing or damaged.

A complete run is one with a result. Everything else may have been removed to save space, or was never there: a recorded
run has no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tfcnn import runs
from tfcnn.data import normalization
from tfcnn.data.errors import one_line

_END_OF_PNG = b"IEND\xaeB`\x82"


def inspect(folder: runs.RunFolder) -> tuple[keras.Model | None, dict[str, str]]:
    """Reads everything of a complete run but its result.

    Returns:
      The trained network, or None if it cannot be loaded; and what else is missing: the name of the file or folder ->
      `runs.MISSING`, or why it cannot be read.
    """
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    readers: dict[str, Callable[[Path], Any]] = {
        runs.RECIPE: lambda path: folder.read_recipe(),
        runs.COMMAND: lambda path: _not_empty(folder.read_command()),
        runs.METRICS: lambda path: _not_empty(folder.read_metrics()),
        runs.CURVES: lambda path: _whole_picture(path.read_bytes()),
        runs.NORMALIZATION: normalization.load,
        runs.MODEL: keras.saving.load_model,
    }
    for name, read in readers.items():
        path = folder.path / name
        try:
            if path.exists():
                found[name] = read(path)
            else:
                missing[name] = runs.MISSING
        except Exception as error:  # damaged files fail in any way
            missing[name] = one_line(error)
    for name in (runs.CHECKPOINTS, runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS):
        if not any((folder.path / name).glob("*")):
            missing[f"{name}/"] = runs.MISSING
    return found.get(runs.MODEL), missing


def _not_empty(content: list) -> list:
    if not content:
        raise ValueError("it is empty")
    return content


def _whole_picture(content: bytes) -> bytes:
    if not content.endswith(_END_OF_PNG):
        raise ValueError("it is not a whole PNG file")
    return content
