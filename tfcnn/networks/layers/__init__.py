"""Layers that the papers need and that Keras lacks or runs slowly, and what the networks' shared options stand for.

Importing this package tells Keras all classes by name: `keras.saving.load_model` needs that for a saved network.
"""

from __future__ import annotations

from tfcnn.networks.layers.activation import GELU, RandomizedReLU, activate, scaled_tanh
from tfcnn.networks.layers.bias import Dense, add_bias
from tfcnn.networks.layers.convolution import Conv2D, GroupedConv2D, PartialConv2D, SparseConnectionConv2D
from tfcnn.networks.layers.dropout import Dropout, drop
from tfcnn.networks.layers.initializers import Dirac, FanInUniform, initializer
from tfcnn.networks.layers.normalization import BatchNormalization, LocalResponseNormalization
from tfcnn.networks.layers.padding import PadChannels
from tfcnn.networks.layers.pooling import AverageSubsampling2D
from tfcnn.networks.layers.radial_basis import RadialBasis
from tfcnn.networks.layers.whitening import PatchWhitening

__all__ = [
    "AverageSubsampling2D", "BatchNormalization", "Conv2D", "Dense", "Dirac", "Dropout", "FanInUniform", "GELU",
    "GroupedConv2D", "LocalResponseNormalization", "PadChannels", "PartialConv2D", "PatchWhitening", "RadialBasis",
    "RandomizedReLU", "SparseConnectionConv2D", "activate", "add_bias", "drop", "initializer", "scaled_tanh"]
