"""What forked processes have already imported, see `tests.forked`."""

import tfcnn  # noqa: F401 - before anything imports TensorFlow
from tfcnn.startup import import_tensorflow

import_tensorflow()
import tfcnn.training.trainer  # noqa: E402, F401
