"""VGG as torchvision publishes it, with and without batch normalization, and its widely used relatives for CIFAR-10.

Modules are numbered: `features` has the convolutions, and between them normalization, activations and poolings, which
have numbers too; `classifier` the dense layers. The relatives are those of `tfcnn.networks.vgg`: chengyangfu's
(`cifar16`) and kuangliu's (`cifar16_one_dense`, `cifar19_one_dense`).
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from tfcnn.networks import options
from tfcnn.recipe import Scalar, UsageError
from tfcnn.trained.converting.plan import Plan
from tfcnn.trained.converting.pytorch_file import Tensors

# The variants of which PyTorch's weights are published, or those of a network with the same layers.
PUBLISHED = ("A", "B", "C", "D", "E", "cifar16", "cifar16_one_dense", "cifar19_one_dense")

# torchvision averages the last feature maps to this height and width, whatever the size of the images.
_GRID = 7


def find_options(tensors: Tensors, variant: str) -> dict[str, Scalar]:
    """The options of our network that the tensors were made with, as far as these tell it.

    Raises:
      UsageError: there is no such variant, or none is published.
    """
    options.check("vgg", variant=variant)
    if variant == "A-LRN":
        raise UsageError("--variant=A-LRN cannot be converted: PyTorch's VGG-11 has no local response normalization; "
                         "choose --variant=A")
    if variant not in PUBLISHED:
        raise UsageError(f"--variant={variant} cannot be converted: no weights of it are published")
    normalized = any(name.endswith(".running_mean") for name in tensors)
    return {"variant": variant, "normalization": "batch" if normalized else "none"}


def classes(tensors: Tensors, chosen: Mapping[str, Scalar]) -> int | None:
    """The number of logits; None if the tensors do not tell it."""
    weight = tensors.get(f"{_dense_names(str(chosen['variant']))[-1]}.weight")
    return len(weight) if weight is not None and weight.ndim else None


def plan(model: keras.Model, chosen: Mapping[str, Scalar]) -> Plan:
    """Says which tensor becomes which weight.

    The convolutions of the published networks have biases before batch normalization too; where ours has none, its
    moving means take them up.

    Args:
      model: our network.
      chosen: what `find_options` found.
    """
    made = Plan(model)
    variant, normalized = str(chosen["variant"]), chosen["normalization"] == "batch"
    number = 0
    for stage in range(1, 6):
        convolutions = [layer for layer in model.layers
                        if isinstance(layer, keras.layers.Conv2D) and layer.name.startswith(f"conv{stage}_")]
        for layer in convolutions:
            made.convolution(layer.name, f"features.{number}", bias=True)
            if normalized:
                made.normalization(f"{layer.name}_normalization", f"features.{number + 1}",
                                   bias="" if layer.use_bias else f"features.{number}.bias")
            number += 3 if normalized else 2  # with the activation
        number += 1  # the pooling
    first, *others = _dense_names(variant)
    height, width, channels = model.get_layer("flatten").input.shape[1:]
    names = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    units = model.get_layer(names[0]).units
    averaged = not variant.startswith("cifar")
    rows, columns = (_GRID, _GRID) if averaged else (height, width)
    made.dense(names[0], first, shape=(units, channels * rows * columns),
               kernel=lambda weight: _flattened(weight.reshape(units, channels, rows, columns), height, width))
    for ours, theirs in zip(names[1:], others, strict=True):
        made.dense(ours, theirs)
    return made


def _flattened(weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel of the first dense layer.

    PyTorch flattens the channels first, we flatten them last. Averaging to `_GRID` positions is linear, and so it
    becomes part of the kernel where the feature maps have another size.

    Args:
      weight: [units, channels, rows, columns].
      height, width: the size of our feature maps.

    Returns:
      [height * width * channels, units].
    """
    if weight.shape[2:] == (height, width):
        kernel = weight.transpose(2, 3, 1, 0)
    else:
        kernel = np.einsum("ocij,ih,jw->hwco", weight, _averages(height), _averages(width), optimize=True)
    return kernel.reshape(-1, len(weight))


def _averages(size: int) -> np.ndarray:
    """PyTorch's adaptive average pooling along one axis, as a matrix: [_GRID, size], float32."""
    matrix = np.zeros((_GRID, size), np.float32)
    for row in range(_GRID):
        start, end = row * size // _GRID, -(-(row + 1) * size // _GRID)
        matrix[row, start:end] = 1 / (end - start)
    return matrix


def _dense_names(variant: str) -> tuple[str, ...]:
    if variant.endswith("one_dense"):
        return ("classifier",)
    return tuple(f"classifier.{number}" for number in ((1, 4, 6) if variant == "cifar16" else (0, 3, 6)))
