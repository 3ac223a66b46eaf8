"""Importing TensorFlow without its log lines."""

from __future__ import annotations

import os
import tempfile

from tfcnn import drawing


def import_tensorflow() -> None:
    """Imports TensorFlow and lists its devices, and hides what its libraries write about the machine.

    If the import fails, what they wrote is shown.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    standard_error = os.dup(2)
    # The libraries write to the file descriptor, not to sys.stderr.
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            drawing.import_matplotlib()
            import tensorflow
            tensorflow.config.list_physical_devices()
        except Exception:
            hidden.seek(0)
            os.write(standard_error, hidden.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
