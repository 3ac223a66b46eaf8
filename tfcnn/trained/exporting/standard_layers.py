"""A trained network of Keras's own layers only, for a .keras file that loads without this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, ops

from tfcnn.data import normalization
from tfcnn.networks import layers
from tfcnn.recipe import UsageError
from tfcnn.trained.network import TrainedNetwork


def keras_application(network: TrainedNetwork) -> keras.Model:
    """A model of Keras's own layers and operations: from uint8 images to probabilities.

    Raises:
      UsageError: the network has a layer of ours that is not known here.
    """
    images = _input(network)
    standard = keras.models.clone_model(network.model, clone_function=lambda layer: layer, call_function=_call)
    logits = standard(_normalize(images, network.normalization))
    if isinstance(logits, (list, tuple)):
        logits, *_ = logits  # the others are auxiliary heads
    probabilities = keras.layers.Softmax(dtype="float32", name="probabilities")(logits)
    return keras.Model(images, probabilities, name=network.recipe.network)


def normalization_model(network: TrainedNetwork) -> keras.Model:
    """The input normalization as a model of Keras's own layers and operations, in float32."""
    images = _input(network)
    return keras.Model(images, _normalize(images, network.normalization), name="normalization")


def _input(network: TrainedNetwork) -> KerasTensor:
    return keras.Input(network.input_shape, dtype="uint8", name="images")


def _normalize(images: KerasTensor, kind: normalization.Normalization) -> KerasTensor:
    """The input normalization, by Keras's operations."""
    x = ops.cast(images, "float32")
    if isinstance(kind, normalization.Unit):
        return x / 255
    if isinstance(kind, (normalization.PerChannel, normalization.PixelMean)):
        shape = images.shape[1:]
        return keras.layers.Normalization(axis=(1, 2, 3), mean=np.broadcast_to(kind.mean, shape),
                                          variance=np.broadcast_to(np.square(kind.standard_deviation), shape))(x)
    size = int(np.prod(images.shape[1:]))
    values = ops.reshape(x, (-1, size))
    values = values - ops.mean(values, axis=1, keepdims=True)
    values = values / ops.maximum(ops.std(values, axis=1, keepdims=True), size ** -0.5)
    if isinstance(kind, normalization.Zca):
        values = _dense(values, kind.matrix, -kind.mean.ravel() @ kind.matrix, "whitening")
    return ops.reshape(values, (-1, *images.shape[1:]))


def _call(layer: keras.Layer, x: KerasTensor, *arguments: Any, **keywords: Any) -> KerasTensor:
    """Calls a layer, or what stands for it if it is one of ours."""
    for kind, replacement in _REPLACEMENTS.items():
        if type(layer) is kind:
            return replacement(layer, x)
    if isinstance(layer, keras.layers.Activation) and layer.activation is layers.scaled_tanh:
        return 1.7159 * ops.tanh(x * (2 / 3))
    if type(layer).__module__.startswith("tfcnn."):
        raise UsageError(f"Keras has nothing for the layer {layer.name} ({type(layer).__name__}): choose another "
                         "--format")
    return layer(x, *arguments, **keywords)


def _as_base(layer: Any, x: KerasTensor) -> KerasTensor:
    """Calls the layer of Keras that a layer of ours is derived from, with the same weights."""
    base: Any = next(kind for kind in type(layer).__mro__ if kind.__module__.startswith("keras."))
    standard = base.from_config(layer.get_config())
    outputs = standard(x)
    standard.set_weights(layer.get_weights())
    return outputs


def _lrn(layer: layers.LocalResponseNormalization, x: KerasTensor) -> KerasTensor:
    channel = np.arange(x.shape[-1])
    window = np.abs(channel[:, None] - channel) <= layer.depth_radius
    sums = _convolution(ops.square(x), window[None, None].astype(np.float32), None, f"{layer.name}_window")
    return x / ops.power(layer.bias + layer.alpha * sums, layer.beta)


def _sparse_convolution(layer: layers.SparseConnectionConv2D, x: KerasTensor) -> KerasTensor:
    kernel = np.tensordot(layer.get_weights()[0], layer._positions, 1)
    return _convolution(x, kernel, layer.get_weights()[1] if layer.use_bias else None, layer.name)


def _whitening(layer: layers.PatchWhitening, x: KerasTensor) -> KerasTensor:
    return _convolution(x, layer.kernel.numpy(), layer.bias.numpy(), layer.name)


def _subsampling(layer: layers.AverageSubsampling2D, x: KerasTensor) -> KerasTensor:
    coefficient, bias = layer.get_weights()
    means = keras.layers.AveragePooling2D(2, name=layer.name)(x)
    return _convolution(means, np.diag(4 * coefficient)[None, None], bias, f"{layer.name}_coefficients")


def _pad_channels(layer: layers.PadChannels, x: KerasTensor) -> KerasTensor:
    return ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, layer.filters - x.shape[-1]]])


def _radial_basis(layer: layers.RadialBasis, x: KerasTensor) -> KerasTensor:
    points = np.array(layer.points, np.float32)
    products = _dense(x, 2 * points.T, -np.square(points).sum(axis=1), layer.name)  # -|x - p|^2 = 2xp - p^2 - x^2
    return products - ops.sum(ops.square(x), axis=1, keepdims=True)


def _convolution(x: KerasTensor, kernel: np.ndarray, bias: np.ndarray | None, name: str) -> KerasTensor:
    layer = keras.layers.Conv2D(kernel.shape[-1], kernel.shape[:2], use_bias=bias is not None, name=name)
    outputs = layer(x)
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    return outputs


def _dense(x: KerasTensor, kernel: np.ndarray, bias: np.ndarray, name: str) -> KerasTensor:
    layer = keras.layers.Dense(kernel.shape[-1], name=name)
    outputs = layer(x)
    layer.set_weights([kernel, bias])
    return outputs


# A layer of ours and what computes the same at inference, with Keras's layers and operations.
_REPLACEMENTS: dict[type, Callable[[Any, KerasTensor], KerasTensor]] = {
    layers.Conv2D: _as_base,
    layers.GroupedConv2D: _as_base,
    layers.BatchNormalization: _as_base,
    layers.Dense: _as_base,
    layers.GELU: _as_base,
    layers.Dropout: lambda layer, x: x,
    layers.LocalResponseNormalization: _lrn,
    layers.SparseConnectionConv2D: _sparse_convolution,
    layers.PartialConv2D: _sparse_convolution,
    layers.AverageSubsampling2D: _subsampling,
    layers.PadChannels: _pad_channels,
    layers.RadialBasis: _radial_basis,
    layers.PatchWhitening: _whitening,
    layers.RandomizedReLU: lambda layer, x: keras.layers.LeakyReLU(1 / 5.5, name=layer.name)(x),
}
