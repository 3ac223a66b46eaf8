"""Writes a trained network as a SavedModel, or as an ONNX, LiteRT or Keras file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn import files
from tfcnn.data.errors import one_line
from tfcnn.recipe import UsageError
from tfcnn.startup import messages_hidden
from tfcnn.trained import prediction
from tfcnn.trained.exporting import fitting, in_float32, packages
from tfcnn.trained.exporting.standard_layers import keras_application
from tfcnn.trained.network import TrainedNetwork

SUFFIXES = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite", "keras": ".keras"}
QUANTIZED = {"saved_model": ("none",), "onnx": ("none", "int8"), "litert": ("none", "float16", "int8"),
             "keras": ("none",)}
# Formats whose networks compute in float32, whatever they were trained in.
_IN_FLOAT32 = ("onnx", "litert")
_OPSET = 18


def as_written(network: TrainedNetwork, kind: str) -> TrainedNetwork:
    """The network that a file of the format holds: the same, or with the same weights in float32."""
    return in_float32.rebuilt(network) if kind in _IN_FLOAT32 else network


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
      UsageError: a package is missing, the format cannot be quantized so, or it cannot hold this network.
    """
    packages.check(kind)
    if quantize not in QUANTIZED[kind]:
        raise UsageError(f"--format={kind} can be quantized as {', '.join(QUANTIZED[kind])} only, not {quantize}")
    failure: UsageError | None = None
    with messages_hidden():  # converters tell of their own doings, and give advice that does not apply
        try:
            _WRITERS[kind](as_written(network, kind), path, quantize, representative)
        except UsageError as error:
            failure = error
        except OSError as error:
            failure = files.usage_error(f"cannot write {path}", error, path)
            failure.__cause__ = error
        except Exception as error:  # what a converter does not know makes it fail in any way
            failure = UsageError(f"--format={kind} cannot hold this network ({type(error).__name__}: "
                                 f"{one_line(error)}): choose another --format")
            failure.__cause__ = error
    if failure:
        raise failure


def _application(network: TrainedNetwork, float32: bool = False) -> tf.Module:
    """From uint8 images to probabilities; the names of the classes; and what fits a picture.

    Args:
      float32: whether the normalization computes in float32, too.
    """
    normalize, variables = in_float32.normalization(network) if float32 else (network.normalization.apply, [])
    fitted = fitting.of(network)

    class Application(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = network.model
            # Weights become constants: LiteRT's converter would leave variables without values.
            self.values = [(variable, variable.numpy()) for variable in [*network.model.variables, *variables]]

        @tf.function(input_signature=[tf.TensorSpec((None, *network.input_shape), tf.uint8, name="images")],
                     autograph=False)
        def probabilities(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
            with keras.StatelessScope([(variable, tf.constant(value)) for variable, value in self.values]):
                logits = prediction.logits(self.model, normalize(images))
            return {"probabilities": tf.nn.softmax(tf.cast(logits, tf.float32))}

        @tf.function(input_signature=[], autograph=False)
        def class_names(self) -> dict[str, tf.Tensor]:
            return {"class_names": tf.constant(list(network.class_names))}

        @tf.function(input_signature=[], autograph=False)
        def fit(self) -> dict[str, tf.Tensor]:
            return {name: tf.constant(value) for name, value in fitted.items()}

    return Application()


def _saved_model(network: TrainedNetwork, path: Path, *_: Any) -> None:
    application = _application(network)
    tf.saved_model.save(application, str(path), signatures={
        "serving_default": application.probabilities, "class_names": application.class_names,
        "fit": application.fit})


def _onnx(network: TrainedNetwork, path: Path, quantize: str, representative: np.ndarray | None) -> None:
    import onnx
    import tf2onnx

    application = _application(network, float32=True)
    made, _ = tf2onnx.convert.from_function(
        application.probabilities, [tf.TensorSpec((None, *network.input_shape), tf.uint8, name="images")],
        opset=_OPSET, custom_op_handlers={"Erfc": (_erfc, [])})
    onnx.helper.set_model_props(made, {"class_names": json.dumps(list(network.class_names)),
                                       "fit": json.dumps(fitting.of(network))})
    if quantize == "none":
        path.write_bytes(made.SerializeToString())
    else:
        _quantized_onnx(made, path, representative)


def _erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """1 - erf(x), of which Keras's GELU is made: tf2onnx does not know it."""
    one = graph.make_const(f"{name}/one", np.array(1, np.float32)).output[0]
    erf = graph.make_node("Erf", node.input).output[0]
    graph.remove_node(name)
    graph.make_node("Sub", [one, erf], outputs=node.output, name=name)


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
    application = _application(network, float32=True)
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
    _add_files(network, path)  # TFLite's own convention: files that belong to the model are a zip archive at its end


def _keras(network: TrainedNetwork, path: Path, *_: Any) -> None:
    keras_application(network).save(path)
    _add_files(network, path)  # a .keras file is a zip archive


def _add_files(network: TrainedNetwork, path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{name}\n" for name in network.class_names))
        archive.writestr("fit.json", json.dumps(fitting.of(network)))


_WRITERS: dict[str, Callable[..., None]] = {
    "saved_model": _saved_model, "onnx": _onnx, "litert": _litert, "keras": _keras}
