"""Runs an exported network without this package: a process of its own executes this file by its path.

    python -I run_exported.py FORMAT FILE IMAGES.npy RESULT.npz

IMAGES.npy holds uint8 images `[batch, height, width, channels]`. RESULT.npz gets `probabilities`, and the median time
of a batch of 1 and of 128 images, `latency_1` and `latency_128`, in seconds.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

_BATCH = 128
_MOST, _SECONDS = 20, 2.0

Run = Callable[[np.ndarray], np.ndarray]


def _saved_model(file: str) -> Run:
    import tensorflow as tf

    loaded = tf.saved_model.load(file)
    function = loaded.signatures["serving_default"]
    return lambda images: function(images=tf.constant(images))["probabilities"].numpy()


def _onnx(file: str) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def _litert(file: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=file)
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    shape: list[tuple[int, ...]] = []

    def run(images: np.ndarray) -> np.ndarray:
        if shape != [images.shape]:
            interpreter.resize_tensor_input(source, images.shape)
            interpreter.allocate_tensors()
            shape[:] = [images.shape]
        interpreter.set_tensor(source, images)
        interpreter.invoke()
        return interpreter.get_tensor(target).copy()

    return run


def _keras(file: str) -> Run:
    import keras

    model = keras.saving.load_model(file, compile=False)
    return lambda images: model.predict_on_batch(images)


_RUNNERS = {"saved_model": _saved_model, "onnx": _onnx, "litert": _litert, "keras": _keras}


def _latency(run: Run, images: np.ndarray) -> float:
    """The median time of a batch, in seconds, of at most 20 batches and 2 seconds."""
    run(images)
    times: list[float] = []
    while len(times) < _MOST and sum(times) < _SECONDS:
        start = time.perf_counter()
        run(images)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _tensor_float_32(enabled: bool) -> None:
    """Whether TensorFlow, if it is what runs the network, may multiply float32 on a GPU in TensorFloat-32."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow:
        tensorflow.config.experimental.enable_tensor_float_32_execution(enabled)


def main() -> None:
    """Runs all images in batches, then measures: the answers without TensorFloat-32, the time with it as by default."""
    kind, file, images_file, result_file = sys.argv[1:]
    images = np.load(images_file, mmap_mode="r")
    run = _RUNNERS[kind](file)
    _tensor_float_32(False)
    probabilities = np.concatenate([run(images[start:start + _BATCH]) for start in range(0, len(images), _BATCH)])
    _tensor_float_32(True)
    some = np.resize(images, (_BATCH, *images.shape[1:]))
    assert "tfcnn" not in sys.modules
    np.savez(result_file, probabilities=probabilities, latency_1=_latency(run, some[:1]),
             latency_128=_latency(run, some))


if __name__ == "__main__":
    main()
