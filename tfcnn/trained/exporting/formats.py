"""Writes a trained network as a SavedModel, or as an ONNX, LiteRT or Keras file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn.recipe import UsageError
from tfcnn.startup import messages_hidden
from tfcnn.trained import prediction
from tfcnn.trained.exporting.standard_layers import keras_application
from tfcnn.trained.network import TrainedNetwork

SUFFIXES = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite", "keras": ".keras"}
QUANTIZED = {"saved_model": ("none",), "onnx": ("none", "int8"), "litert": ("none", "float16", "int8"),
             "keras": ("none",)}
_OPSET = 18
_LABELS = "labels.txt"


def write(network: TrainedNetwork, kind: str, path: Path, quantize: str = "none",
          representative: np.ndarray | None = None) -> None:
    """Writes a network.

    Args:
      network: the network.
      kind: one of `SUFFIXES`.
      path: the file, or for saved_model the folder.
      quantize: `none`, `float16` (weights), or `int8` (weights and activations).
      representative: uint8 training images of the network's input shape, which int8 takes the ranges of activations
        from.

    Raises:
      UsageError: a package is missing, or the format cannot be quantized so.
    """
    if quantize not in QUANTIZED[kind]:
        raise UsageError(f"--format={kind} can be quantized as {', '.join(QUANTIZED[kind])} only, not {quantize}")
    with messages_hidden():  # converters tell of their own doings, and give advice that does not apply
        _WRITERS[kind](network, path, quantize, representative)


def _application(network: TrainedNetwork) -> tf.Module:
    """From uint8 images to probabilities, and the names of the classes."""
    class Application(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network.model
            # Weights become constants: LiteRT's converter would leave variables without values.
            self.values = [(variable, variable.numpy()) for variable in network.model.variables]

        @tf.function(input_signature=[tf.TensorSpec((None, *network.input_shape), tf.uint8, name="images")],
                     autograph=False)
        def probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in self.values]):
                logits = prediction.logits(self.model, network.normalization.apply(images))
            return {"probabilities": tf.nn.softmax(tf.cast(logits, tf.float32))}

        @tf.function(input_signature=[], autograph=False)
        def class_names(self) -> dict[str, tf.Tensor]:
            return {"class_names": tf.constant(list(network.class_names))}

    return Application()


def _saved_model(network: TrainedNetwork, path: Path, *_: Any) -> None:
    application = _application(network)
    tf.saved_model.save(application, str(path), signatures={
        "serving_default": application.probabilities, "class_names": application.class_names})


def _onnx(network: TrainedNetwork, path: Path, quantize: str, representative: np.ndarray | None) -> None:
    try:
        import onnx
        import tf2onnx
    except ImportError as error:
        raise _missing(error) from error
    application = _application(network)
    made, _ = tf2onnx.convert.from_function(
        application.probabilities, [tf.TensorSpec((None, *network.input_shape), tf.uint8, name="images")],
        opset=_OPSET)
    onnx.helper.set_model_props(made, {"class_names": json.dumps(list(network.class_names))})
    if quantize == "none":
        path.write_bytes(made.SerializeToString())
    else:
        _quantized_onnx(made, path, representative)


def _quantized_onnx(made: Any, path: Path, representative: np.ndarray | None) -> None:
    from onnxruntime import quantization

    assert representative is not None
    name = made.graph.input[0].name
    batches = iter([{name: representative[start:start + 100]} for start in range(0, len(representative), 100)])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(batches, None)

    # Only products are computed in int8: quantizing the rest costs accuracy and saves no time. Weights have 7 bits:
    # with 8, sums of two products overflow 16 bits on processors without VNNI instructions.
    quantization.quantize_static(made, str(path), Reader(), activation_type=quantization.QuantType.QUInt8,
                                 per_channel=True, reduce_range=True,
                                 op_types_to_quantize=["Conv", "MatMul", "Gemm"])


def _litert(network: TrainedNetwork, path: Path, quantize: str, representative: np.ndarray | None) -> None:
    application = _application(network)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [application.probabilities.get_concrete_function()], application)
    if quantize != "none":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        assert representative is not None
        converter.representative_dataset = lambda: ([image[None]] for image in representative)
    path.write_bytes(converter.convert())
    # TFLite's own convention: files that belong to the model are a zip archive at its end.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_LABELS, _lines(network.class_names))


def _keras(network: TrainedNetwork, path: Path, *_: Any) -> None:
    keras_application(network).save(path)
    with zipfile.ZipFile(path, "a") as archive:  # a .keras file is a zip archive
        archive.writestr(_LABELS, _lines(network.class_names))


def _lines(class_names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in class_names)


def _missing(error: ImportError) -> UsageError:
    return UsageError(f"exporting needs {error.name}: pip install 'tfcnn[export]'")


_WRITERS: dict[str, Callable[..., None]] = {
    "saved_model": _saved_model, "onnx": _onnx, "litert": _litert, "keras": _keras}
