"""A process that ends while tf.data's threads call Python."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from tests.forked import LIMIT_SECONDS

# Batches are made ahead without end when the process leaves; every element takes a while in Python.
_PROGRAM = """
import sys, time
import numpy as np
import tensorflow as tf
from tfcnn.data.python_calls import numpy_function

def slow(value):
    time.sleep(0.01)
    return value

elements = tf.data.Dataset.range(10 ** 9).map(lambda value: numpy_function(slow, [value], tf.int64), 4)
batches = iter(elements.batch(16).prefetch(8))
assert next(batches)[0] == 0
sys.exit(3)
"""


def test_process_ends_while_its_threads_run_python() -> None:
    """A real process: a forked one ends without shutting its interpreter down."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM], cwd=ROOT, capture_output=True, timeout=LIMIT_SECONDS)
    assert done.returncode == 3, done.stderr.decode()
