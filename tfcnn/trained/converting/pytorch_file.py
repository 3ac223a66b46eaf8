"""The tensors of a file that PyTorch has written.

This module imports PyTorch, and neither TensorFlow nor Keras.
"""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfcnn import files
from tfcnn.recipe import UsageError

# Name -> float32 values.
Tensors = dict[str, np.ndarray]

_PREFIX = "module."  # of torch.nn.DataParallel
_COUNTER = "num_batches_tracked"  # of batch normalization; it plays no part in what the network computes


def read(path: Path) -> Tensors:
    """Reads a state dict, bare or under the key `state_dict`, in either of `torch.save`'s formats.

    Nothing but tensors and plain values is unpickled, so the file can run no code.

    Args:
      path: the file, of any name.

    Returns:
      The tensors by name, in the file's order, without the prefix `module.` and the counters of batch normalization.

    Raises:
      UsageError: PyTorch is not installed, or the file is unreadable, damaged, or holds something else.
    """
    # Triton, which comes with PyTorch for GPUs, aborts a process that also imports TensorFlow; nothing here needs it.
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    try:
        import torch
    except ImportError as error:
        raise UsageError("reading PyTorch's files needs PyTorch: pip install -e '.[pytorch]'") from error
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise files.usage_error(f"cannot read {path}", error, path) from error
    try:
        content = torch.load(io.BytesIO(stored), map_location="cpu", weights_only=True)
        found = content.get("state_dict", content) if isinstance(content, Mapping) else content
        if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
            raise UsageError(f"{path} holds no state dict, neither bare nor under the key state_dict: save "
                             "network.state_dict() with torch.save")
        tensors = {str(name): value.to(torch.float32).numpy() for name, value in found.items()
                   if not str(name).endswith(_COUNTER)}
    except UsageError:
        raise
    except pickle.UnpicklingError as error:
        raise UsageError(f"{path} is damaged, or holds more than tensors and plain values, which could run any code: "
                         "save network.state_dict() with torch.save") from error
    except Exception as error:  # a damaged file fails in any way, as RuntimeError, EOFError, OSError
        reason = str(error).splitlines()[0] if str(error) else "no reason given"
        raise UsageError(f"{path} cannot be read as PyTorch's weights ({type(error).__name__}: {reason})") from error
    if tensors and all(name.startswith(_PREFIX) for name in tensors):
        tensors = {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    return tensors
