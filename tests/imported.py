"""What forked processes have already imported, and what else is the same in most of them, see `tests.forked`."""

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tfcnn.startup import import_tensorflow

import_tensorflow()
import tensorflow as tf  # noqa: E402

import tfcnn.training.trainer  # noqa: E402, F401
from tfcnn.training.steps import Steps  # noqa: E402

# AutoGraph keeps what it has converted. A forked process would leave the converted functions' files in /tmp: it ends
# without Python's shutdown, which removes them.
for function in (Steps._run, Steps._evaluate):
    tf.autograph.to_graph(function)
