"""A process that ends while tf.data's threads call Python: without `python_calls` it hung, in all tries."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.conftest import ROOT
from tfcnn.data import python_calls

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


def test_end_waits_for_a_thread_that_comes_back_after_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine: the last call has ended, and its thread asks for the next one only after a while."""
    for name in ("_called", "_running", "_refused", "_ending"):
        monkeypatch.setattr(python_calls, name, getattr(python_calls, name))  # restores them afterwards
    monkeypatch.setattr(python_calls, "_QUIET_SECONDS", 3.0)  # so that a busy machine does not decide the test
    begun, refused = threading.Event(), threading.Event()

    def work(array: np.ndarray) -> np.ndarray:
        begun.set()
        time.sleep(0.2)
        return array

    call = python_calls._ended_in_time(work)

    def thread_of_tf_data() -> None:
        call(np.zeros(1))
        time.sleep(0.3)
        with pytest.raises(RuntimeError, match="the process ends"):
            call(np.zeros(1))
        refused.set()

    thread = threading.Thread(target=thread_of_tf_data)
    thread.start()
    begun.wait()
    python_calls._end()
    assert refused.is_set()
    thread.join()
