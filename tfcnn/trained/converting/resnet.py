"""ResNets as published for PyTorch.

The networks for CIFAR-10 (`conv1`, `bn1`, `layer1.0.conv1`, ..., `linear` or `fc`), with the parameter-free shortcut A
or with projections (`shortcut.0` or `downsample.0`), and torchvision's ResNet-18 and ResNet-34.

Strided convolutions there pad all sides equally, as ours do. The pooling after the 7x7 stem pads with minus infinity
there and with zeros here, which is the same after a ReLU.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np

from tfcnn.networks import options, resnet
from tfcnn.recipe import Scalar, UsageError
from tfcnn.trained.converting.plan import Permutation, Plan
from tfcnn.trained.converting.pytorch_file import Tensors


def find_options(tensors: Tensors, depth: int) -> dict[str, Scalar]:
    """The options of our network that the tensors were made with, as far as these tell it.

    Raises:
      UsageError: there is no such depth, or networks of it differ from ours.
    """
    options.check("resnet", depth=depth)
    if depth in resnet.BOTTLENECK:
        raise UsageError(f"--depth={depth} cannot be converted: a bottleneck block has its stride in the 3x3 "
                         "convolution in PyTorch, and here, as in the paper, in the 1x1 convolution before it")
    stem = tensors.get("conv1.weight", np.zeros(0)).shape[-1:]
    return {"depth": depth, "stem": "7x7" if stem == (7,) else "3x3",
            "shortcut": "B" if _projection(tensors) else "A", "normalization": "batch"}


def classes(tensors: Tensors, chosen: Mapping[str, Scalar]) -> int | None:
    """The number of logits; None if the tensors do not tell it."""
    weight = tensors.get(f"{_logits(tensors)}.weight")
    return len(weight) if weight is not None and weight.ndim else None


def plan(model: keras.Model, tensors: Tensors, chosen: Mapping[str, Scalar], zeros: str) -> Plan:
    """Says which tensor becomes which weight.

    Shortcut A adds channels of zeros to a block's input. Published networks often add half of them before the given
    channels and half after them, while ours adds all of them after. With their channels in another order the two are
    the same network: the order of a stage's channels is followed through all its layers. The channels between the two
    convolutions of a block stay in their order.

    Args:
      model: our network.
      tensors: the file's tensors.
      chosen: what `find_options` found.
      zeros: `both`, or `after` where the published network adds its zeros as ours does.
    """
    made = Plan(model)
    made.convolution("conv1", "conv1")
    made.normalization("conv1_normalization", "bn1")
    order: Permutation = np.arange(model.get_layer("conv1").filters)
    for stage, count in enumerate(resnet.BLOCKS[int(chosen["depth"])], 2):
        for number in range(1, count + 1):
            ours, theirs = f"conv{stage}_{number}", f"layer{stage - 1}.{number - 1}"
            filters, before = model.get_layer(f"{ours}_conv1").filters, order
            if chosen["shortcut"] == "A":
                order = _padded(order, filters, zeros)
            elif len(order) < filters:
                order = np.arange(filters)
            made.convolution(f"{ours}_conv1", f"{theirs}.conv1", inputs=before)
            made.normalization(f"{ours}_conv1_normalization", f"{theirs}.bn1")
            made.convolution(f"{ours}_conv2", f"{theirs}.conv2", outputs=order)
            made.normalization(f"{ours}_conv2_normalization", f"{theirs}.bn2", order)
            if chosen["shortcut"] == "B" and number == 1 and stage > 2:
                name = f"{theirs}.{_projection(tensors)}"
                made.convolution(f"{ours}_shortcut", f"{name}.0", inputs=before, outputs=order)
                made.normalization(f"{ours}_shortcut_normalization", f"{name}.1", order)
    made.dense("logits", _logits(tensors), inputs=order)
    return made


def _padded(order: Permutation, filters: int, zeros: str) -> Permutation:
    """The order of the channels after shortcut A has padded them: ours are the given ones, then the zeros."""
    added = filters - len(order)
    before = added // 2 if zeros == "both" else 0
    padding = [*range(before), *range(before + len(order), filters)]
    return np.concatenate([order + before, np.array(padding, order.dtype)])


def _projection(tensors: Tensors) -> str:
    """What the projections of a published network are called; empty if it has none."""
    return next((name for name in ("downsample", "shortcut") if any(f".{name}." in key for key in tensors)), "")


def _logits(tensors: Tensors) -> str:
    return "linear" if "linear.weight" in tensors else "fc"
