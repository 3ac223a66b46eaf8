"""The weights of a network in one small file, which NumPy alone can read."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfcnn import files
from tfcnn.recipe import UsageError

WEIGHTS = "weights.npz"


def to_bytes(model: keras.Model, dtype: str = "float16") -> bytes:
    """A model's weights, moving averages included, as the contents of a compressed .npz file for `load`.

    Args:
      model: the network.
      dtype: the type that the weights are rounded to. Values beyond its range are kept in float32.
    """
    arrays: dict[str, Any] = {}
    for number, weight in enumerate(model.weights):
        value = np.asarray(weight.numpy(), np.float32)
        small = value.astype(dtype)
        arrays[f"{number:03} {weight.path}"] = small if np.isfinite(small).all() else value
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def save(model: keras.Model, path: Path, dtype: str = "float16") -> None:
    """Writes what `to_bytes` returns into a file.

    Raises:
      UsageError: the file cannot be written.
    """
    files.write(path, to_bytes(model, dtype))


def load(model: keras.Model, path: Path) -> None:
    """Gives a model the weights of a file that `save` wrote.

    Raises:
      UsageError: the file is missing or damaged, or has the weights of another network.
    """
    try:
        with np.load(path) as stored:
            values = [stored[name].astype(np.float32) for name in stored.files]
        names = [name.partition(" ")[2].rpartition("/")[2] for name in stored.files]
    except FileNotFoundError as error:
        raise UsageError(f"{path.parent} has no weights: it lacks model.keras and {path.name}") from error
    except PermissionError as error:
        raise files.usage_error(f"cannot read {path}", error, path) from error
    except files.DAMAGED_ARRAYS as error:
        raise UsageError(f"{path} cannot be read as weights ({type(error).__name__}: {error})") from error
    own = [(weight.path.rpartition("/")[2], tuple(weight.shape)) for weight in model.weights]
    if own != [(name, value.shape) for name, value in zip(names, values)]:
        raise UsageError(f"{path} has the weights of another network")
    for weight, value in zip(model.weights, values):
        weight.assign(value)


def digest(model: keras.Model) -> str:
    """SHA-256 over the values of all weights, one after the other, as little-endian float32."""
    total = hashlib.sha256()
    for weight in model.weights:
        total.update(np.ascontiguousarray(weight.numpy(), "<f4").tobytes())
    return total.hexdigest()
