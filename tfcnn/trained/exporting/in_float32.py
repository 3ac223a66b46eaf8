"""A trained network in float32: ONNX Runtime does not convolve in bfloat16, and LiteRT has no float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfcnn.trained.exporting import standard_layers
from tfcnn.trained.network import TrainedNetwork


def rebuilt(network: TrainedNetwork) -> TrainedNetwork:
    """The network with the same weights, all layers computing in float32; itself if they do so already."""
    if all(layer.compute_dtype == "float32" for layer in network.model.layers):
        return network
    model = keras.models.clone_model(network.model, clone_function=_layer)
    model.set_weights(network.model.get_weights())
    return dataclasses.replace(network, model=model)


def _layer(layer: Any) -> keras.Layer:
    return type(layer).from_config(layer.get_config() | {"dtype": "float32"})


def normalization(network: TrainedNetwork) -> tuple[Callable[[tf.Tensor], tf.Tensor], list[keras.Variable]]:
    """The input normalization in float32, and its variables.

    Elementwise normalizations are in float32 already. In the others, training adds in float64, in which every sum is
    exact.
    """
    if network.normalization.elementwise:
        return network.normalization.apply, []
    model = standard_layers.normalization_model(network)
    return model, model.variables
