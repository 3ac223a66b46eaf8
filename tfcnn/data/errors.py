"""Errors of data sets: what cannot be had, and other libraries' errors in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tfcnn.recipe import UsageError

if TYPE_CHECKING:
    import tensorflow as tf

_LONGEST = 300  # characters


class Unavailable(UsageError):
    """The data set is not on this machine and cannot be downloaded."""


def one_line(error: BaseException) -> str:
    """The message of an error, in one line of limited length."""
    return _shortened(str(getattr(error, "strerror", None) or error)) or type(error).__name__


def tensorflow_reason(error: tf.errors.OpError) -> str:
    """The message of an error of TensorFlow, in one line, without the names of operations in the graph."""
    return _shortened(re.sub(r"\{\{.*?\}\}|\[\[.*|\[Op:.*", "", error.message, flags=re.DOTALL))


def permission_denied(error: PermissionError) -> UsageError:
    """The error to raise where a file or folder may not be read."""
    return UsageError(f"{error.filename} may not be read ({one_line(error)}): change its permissions, or name another "
                      "--data_dir")


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
