"""What a complete run still has: its network, and which of its files are missing or damaged.

A complete run is one with a result. Everything else may have been removed to save space, or was never there: a recorded
run has no weights.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

import tfcnn.networks.layers  # noqa: F401 - Keras loads a network if it knows the suite's own layers
from tfcnn import runs
from tfcnn.data import normalization
from tfcnn.data.errors import one_line
from tfcnn.recipe import UsageError

_END_OF_PNG = b"IEND\xaeB`\x82"


def inspect(folder: runs.RunFolder) -> tuple[keras.Model | None, dict[str, str]]:
    """Reads everything of a complete run but its result.

    Returns:
      The trained network, or None if it cannot be loaded; and what cannot be used: the name of the file or folder ->
      `runs.MISSING`, or what is wrong with it.
    """
    found: dict[str, Any] = {}
    unusable: dict[str, str] = {}
    readers: dict[str, Callable[[Path], Any]] = {
        runs.RECIPE: lambda path: folder.read_recipe(),
        runs.COMMAND: _text,
        runs.METRICS: lambda path: _text(path) and folder.read_metrics(),
        runs.CURVES: _picture,
        runs.NORMALIZATION: normalization.load,
        runs.MODEL: _network,
    }
    for name, read in readers.items():
        path = folder.path / name
        try:
            found[name] = read(path) if path.exists() else None
            if not path.exists():
                unusable[name] = runs.MISSING
        except (UsageError, OSError) as error:
            unusable[name] = one_line(error).removeprefix(f"{path} ")
    unusable |= {f"{name}/": runs.MISSING for name in (runs.CHECKPOINTS, runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS)
                 if not any((folder.path / name).glob("*"))}
    return found.get(runs.MODEL), unusable


def _text(path: Path) -> str:
    """The content of a file of lines."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.endswith("\n"):
        raise UsageError("is empty" if not text else "is cut short")
    return text


def _picture(path: Path) -> None:
    if not path.read_bytes().endswith(_END_OF_PNG):
        raise UsageError("is not a whole PNG file")


def _network(path: Path) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise UsageError(f"is not a whole file of Keras ({one_line(error)})") from error
    if damaged:
        raise UsageError(f"is damaged: its part {damaged} has another checksum")
    try:
        return keras.saving.load_model(path)
    except Exception as error:  # another version of Keras or of the suite may have written it, and fails in any way
        raise UsageError(f"cannot be loaded ({type(error).__name__}: {one_line(error)})") from error
