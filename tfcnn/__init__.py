"""tfcnn: the classic convolutional networks, reproduced with TensorFlow and Keras."""

import os
import sys
import warnings

# All are read once, when TensorFlow and Keras are first imported or used, so they are set here, before anything of the
# suite can import them. TensorFlow turns oneDNN on by itself only for processors with AVX-512 or AMX; on others its
# convolutions then run at about half the speed. It would prepare the larger operations' backward passes anew in each
# step, to save memory. Keras would otherwise follow the user's configuration file.
if "tensorflow" in sys.modules and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
    warnings.warn("import tfcnn before tensorflow and keras: some processors then train twice as fast", stacklevel=2)
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE", "false")
os.environ["KERAS_BACKEND"] = "tensorflow"

__version__ = "0.1.0"
