"""The packages that a format needs, looked for before anything is computed."""

from __future__ import annotations

import importlib.util

from tfcnn.recipe import UsageError

# What writes a file of the format, and what runs it; the other formats need TensorFlow only.
_NEEDED = {"onnx": ("onnx", "tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


def check(kind: str) -> None:
    """Checks that the packages of a format are there, without importing them.

    Raises:
      UsageError: names those that are missing.
    """
    missing = [name for name in _NEEDED.get(kind, ()) if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"exporting needs {', '.join(missing)}: pip install -e '.[export]'")
