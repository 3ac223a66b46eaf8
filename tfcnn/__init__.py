"""tfcnn: the classic convolutional networks, reproduced with TensorFlow and Keras."""

import os
import sys
import warnings

# Keras's settings, which are the user's for all programs, must not change ours: networks have their channels last, and
# a result follows from its recipe alone. Names of functions in `keras.config`.
_KERAS_SETTINGS = {"backend": "tensorflow", "image_data_format": "channels_last", "floatx": "float32", "epsilon": 1e-7}

if "keras" in sys.modules:
    for _name, _value in _KERAS_SETTINGS.items():
        _found = getattr(sys.modules["keras"].config, _name)()
        if _found != _value:
            raise ImportError(f"tfcnn needs Keras with {_name}={_value}, but keras is already imported with {_found}: "
                              "import tfcnn before keras")
if "tensorflow" in sys.modules and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
    warnings.warn("import tfcnn before tensorflow and keras: some processors then train twice as fast", stacklevel=2)

# All are read once, when TensorFlow and Keras are first imported or used, so they are set here, before anything of the
# suite can import them. TensorFlow turns oneDNN on by itself only for processors with AVX-512 or AMX; on others its
# convolutions then run at about half the speed. It would prepare the larger operations' backward passes anew in each
# step, to save memory.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE", "false")
# Keras has its defaults, which are those above, where there is no keras.json, and none can be below a file.
_NO_FOLDER = os.path.join(os.devnull, "keras")
# The user's folder of Keras, in which it keeps downloaded weights.
KERAS_FOLDER = os.path.join(os.path.expanduser("~"), ".keras")
if os.environ.get("KERAS_HOME") not in (None, "", _NO_FOLDER):
    KERAS_FOLDER = os.environ["KERAS_HOME"]
os.environ["KERAS_HOME"] = _NO_FOLDER
os.environ["KERAS_BACKEND"] = "tensorflow"
for _name in ("KERAS_NNX_ENABLED", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"):
    os.environ.pop(_name, None)

__version__ = "0.1.0"
