"""Importing TensorFlow, and calling libraries, without their log lines."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tfcnn import drawing


def import_tensorflow() -> None:
    """Imports TensorFlow and lists its devices, and hides what its libraries write about the machine.

    If the import fails, what they wrote is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with messages_hidden():
        drawing.import_matplotlib()
        import tensorflow
        tensorflow.config.list_physical_devices()


@contextmanager
def messages_hidden() -> Iterator[None]:
    """Within the context, what is written on standard error is hidden, or shown afterwards if an exception ends it.

    Libraries write to the file descriptor, not only to `sys.stderr`.
    """
    sys.stderr.flush()
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            hidden.seek(0)
            os.write(standard_error, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(standard_error, 2)
            os.close(standard_error)
