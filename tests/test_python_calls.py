"""A process that ends while tf.data's threads call Python: without `python_calls` it hung, in all tries."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

# When the process leaves, pictures are being decoded by Pillow for batches without end.
_PROGRAM = """
import io, sys
import numpy as np
import tensorflow as tf
from PIL import Image
from tfcnn.data import image_windows

stream = io.BytesIO()
Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)).save(stream, "PNG")

def decoded(number):
    square = lambda shape: tf.concat([[0.0, 0.0], shape], 0)
    return image_windows.decode_window(tf.constant(stream.getvalue()), square, 64, 3)

batches = iter(tf.data.Dataset.range(10 ** 9).map(decoded, 4, deterministic=True).batch(64).prefetch(8))
assert next(batches).shape == (64, 64, 64, 3)
sys.exit(3)
"""


def test_process_ends_while_its_threads_run_python() -> None:
    """A real process: a forked one ends without shutting its interpreter down."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, timeout=600)
    assert done.returncode == 3, done.stderr.decode()
