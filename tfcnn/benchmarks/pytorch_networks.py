"""The suite's networks written in PyTorch, as a reference for its speed.

Each is the network that `tfcnn.networks` builds with the options of its experiment, for ten classes: with the same
weights it computes the same logits and learns the same from a batch. They are written in the usual style of PyTorch:
images are `[batch, channels, height, width]`, and the caller chooses the memory format. Initial weights are PyTorch's
own. A module has the name of our layer, with a dot where ours has an underscore between a block and its part.

This module imports PyTorch, and neither TensorFlow nor Keras.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10


def _sequence(modules: Mapping[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(modules))


class _NormalizedConvolution(nn.Conv2d):
    """A convolution, padded by half the kernel and without bias, followed by batch normalization."""

    def __init__(self, channels: int, filters: int, size: int, stride: int = 1, epsilon: float = 1e-5) -> None:
        super().__init__(channels, filters, size, stride, padding=size // 2, bias=False)
        self.normalization = nn.BatchNorm2d(filters, epsilon)  # PyTorch's momentum of 0.1 is Keras's 0.9

    def forward(self, images: Tensor) -> Tensor:
        return self.normalization(super().forward(images))


# LeNet-5

# LeCun et al. 1998, table I: for each map of C3 the maps of S2 it is connected to.
_C3_INPUTS = ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
              (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
              (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
              (0, 1, 2, 3, 4, 5))


class _ScaledTanh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(2 / 3 * x)


class _Subsampling(nn.Module):
    """The sum over each 2x2 window, times a trained coefficient, plus a trained bias; both per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(channels).uniform_(-0.6, 0.6))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, images: Tensor) -> Tensor:
        sums = functional.avg_pool2d(images, 2, divisor_override=1)
        return torch.addcmul(self.bias[:, None, None], sums, self.coefficient[:, None, None])


class _SparseConnectionConvolution(nn.Module):
    """A convolution in which each filter is connected to some channels only, and has weights only for these.

    Args:
      channels: the number of input channels.
      connections: for each filter the input channels it is connected to.
      size: height and width of the kernel.
    """

    def __init__(self, channels: int, connections: Sequence[Sequence[int]], size: int) -> None:
        super().__init__()
        indices = [number * channels + channel for number, inputs in enumerate(connections) for channel in inputs]
        self.shape = (len(connections), channels, size, size)
        self.kernel = nn.Parameter(torch.empty(len(indices), size, size).uniform_(-0.1, 0.1))
        self.bias = nn.Parameter(torch.zeros(len(connections)))
        self.register_buffer("indices", torch.tensor(indices))

    def forward(self, images: Tensor) -> Tensor:
        filters, channels, *size = self.shape
        kernel = self.kernel.new_zeros(filters * channels, *size).index_copy(0, self.indices, self.kernel)
        return functional.conv2d(images, kernel.view(self.shape), self.bias)


def _lenet5() -> nn.Module:
    return _sequence({
        "C1": nn.Conv2d(1, 6, 5), "C1_activation": _ScaledTanh(),  # 28x28x6
        "S2": _Subsampling(6), "S2_activation": _ScaledTanh(),  # 14x14x6
        "C3": _SparseConnectionConvolution(6, _C3_INPUTS, 5), "C3_activation": _ScaledTanh(),  # 10x10x16
        "S4": _Subsampling(16), "S4_activation": _ScaledTanh(),  # 5x5x16
        "C5": nn.Conv2d(16, 120, 5), "C5_activation": _ScaledTanh(),  # 1x1x120
        "flatten": nn.Flatten(),
        "F6": nn.Linear(120, 84), "F6_activation": _ScaledTanh(),
        "logits": nn.Linear(84, CLASSES)})


# AlexNet

def _alexnet() -> nn.Module:
    def normalization() -> nn.Module:
        return nn.LocalResponseNorm(9, alpha=0.001, beta=0.75, k=1.0)  # divides alpha by the 9 channels

    # With ceil_mode the last pooling window may extend beyond the edge, as with TensorFlow's padding "same".
    return _sequence({
        "conv1": nn.Conv2d(3, 64, 5, padding=2), "conv1_activation": nn.ReLU(inplace=True),  # 32x32x64
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True), "norm1": normalization(),  # 16x16x64
        "conv2": nn.Conv2d(64, 64, 5, padding=2), "conv2_activation": nn.ReLU(inplace=True),  # 16x16x64
        "norm2": normalization(), "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),  # 8x8x64
        "flatten": nn.Flatten(),
        "local3": nn.Linear(4096, 384), "local3_activation": nn.ReLU(inplace=True),
        "local4": nn.Linear(384, 192), "local4_activation": nn.ReLU(inplace=True),
        "logits": nn.Linear(192, CLASSES)})


# VGG

def _vgg() -> nn.Module:
    modules: dict[str, nn.Module] = {}
    channels = 3
    for stage, (filters, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, count + 1):
            name = f"conv{stage}_{number}"
            modules[name] = _NormalizedConvolution(channels, filters, 3)
            modules[f"{name}_activation"] = nn.ReLU(inplace=True)
            if number < count:
                modules[f"{name}_dropout"] = nn.Dropout(0.3 if name == "conv1_1" else 0.4)
            channels = filters
        modules[f"pool{stage}"] = nn.MaxPool2d(2)
    modules |= {"flatten": nn.Flatten(), "flatten_dropout": nn.Dropout(0.5)}
    for name in ("fc6", "fc7"):
        modules |= {name: nn.Linear(512, 512), f"{name}_activation": nn.ReLU(inplace=True),
                    f"{name}_dropout": nn.Dropout(0.5)}
    return _sequence(modules | {"logits": nn.Linear(512, CLASSES)})


# Network in Network

def _network_in_network() -> nn.Module:
    def convolution(channels: int, filters: int, size: int, name: str) -> dict[str, nn.Module]:
        return {name: nn.Conv2d(channels, filters, size, padding=size // 2),
                f"{name}_activation": nn.ReLU(inplace=True)}

    return _sequence(
        convolution(3, 192, 5, "conv1") | convolution(192, 160, 1, "cccp1") | convolution(160, 96, 1, "cccp2")
        | {"pool1": nn.MaxPool2d(3, 2, ceil_mode=True), "pool1_dropout": nn.Dropout(0.5)}  # 16x16x96
        | convolution(96, 192, 5, "conv2") | convolution(192, 192, 1, "cccp3") | convolution(192, 192, 1, "cccp4")
        | {"pool2": nn.AvgPool2d(3, 2, ceil_mode=True), "pool2_dropout": nn.Dropout(0.5)}  # 8x8x192
        | convolution(192, 192, 3, "conv3") | convolution(192, 192, 1, "cccp5")
        | {"cccp6": nn.Conv2d(192, CLASSES, 1), "logits": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()})


# GoogLeNet for 32x32 images

# Szegedy et al. 2015, table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
_MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}
_INCEPTION_EPSILON = 1e-3


class _Inception(nn.ModuleDict):
    """Four parallel branches whose channels are concatenated."""

    def __init__(self, channels: int, filters_1x1: int, reduce_3x3: int, filters_3x3: int, reduce_5x5: int,
                 filters_5x5: int, pool_projection: int) -> None:
        sizes = {"1x1": (channels, filters_1x1, 1),
                 "3x3_reduce": (channels, reduce_3x3, 1), "3x3": (reduce_3x3, filters_3x3, 3),
                 "5x5_reduce": (channels, reduce_5x5, 1), "5x5": (reduce_5x5, filters_5x5, 5),
                 "pool_projection": (channels, pool_projection, 1)}
        super().__init__({name: _NormalizedConvolution(*size, epsilon=_INCEPTION_EPSILON)
                          for name, size in sizes.items()})

    def forward(self, images: Tensor) -> Tensor:
        one = self._convolve(images, "1x1")
        three = self._convolve(self._convolve(images, "3x3_reduce"), "3x3")
        five = self._convolve(self._convolve(images, "5x5_reduce"), "5x5")
        pooled = self._convolve(functional.max_pool2d(images, 3, 1, padding=1), "pool_projection")
        return torch.cat([one, three, five, pooled], dim=1)

    def _convolve(self, images: Tensor, name: str) -> Tensor:
        return functional.relu(self[name](images), inplace=True)


def _inception() -> nn.Module:
    modules: dict[str, nn.Module] = {"conv1": _NormalizedConvolution(3, 192, 3, epsilon=_INCEPTION_EPSILON),
                                     "conv1_activation": nn.ReLU(inplace=True)}  # 32x32x192
    channels = 192
    for name, filters in _MODULES.items():
        if name in ("4a", "5a"):
            modules[f"pool{int(name[0]) - 1}"] = nn.MaxPool2d(3, 2, ceil_mode=True)  # 16x16x480; then 8x8x832
        modules[f"inception_{name}"] = _Inception(channels, *filters)
        filters_1x1, _, filters_3x3, _, filters_5x5, projection = filters
        channels = filters_1x1 + filters_3x3 + filters_5x5 + projection
    return _sequence(modules | {"average_pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(),
                                "dropout": nn.Dropout(0.2), "logits": nn.Linear(channels, CLASSES)})


# ResNet

class _PaddedShortcut(nn.Module):
    """Shortcut A of He et al. 2016: subsampled by the stride, with channels of zeros appended."""

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, images: Tensor) -> Tensor:
        return functional.pad(images[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, 0, self.extra_channels))


class _Block(nn.Module):
    def __init__(self, channels: int, filters: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = _NormalizedConvolution(channels, filters, 3, stride)
        self.conv2 = _NormalizedConvolution(filters, filters, 3)
        self.shortcut: nn.Module = nn.Identity()
        if channels != filters:
            self.shortcut = _NormalizedConvolution(channels, filters, 1, stride) if projection else (
                _PaddedShortcut(filters - channels, stride))

    def forward(self, images: Tensor) -> Tensor:
        residual = self.conv2(functional.relu(self.conv1(images), inplace=True))
        residual += self.shortcut(images)
        return functional.relu(residual, inplace=True)


def _resnet(stages: Sequence[int], blocks: int, projection: bool) -> nn.Module:
    """A residual network.

    Args:
      stages: the number of filters of each stage.
      blocks: the number of blocks of each stage.
      projection: whether shortcuts that change the shape are projections (B of the paper); else they are padded (A).
    """
    channels = stages[0]
    modules: dict[str, nn.Module] = {"conv1": _NormalizedConvolution(3, channels, 3),
                                     "conv1_activation": nn.ReLU(inplace=True)}
    for stage, filters in enumerate(stages, 2):
        for number in range(1, blocks + 1):
            modules[f"conv{stage}_{number}"] = _Block(channels, filters, 1 if filters == channels else 2,
                                                      projection)
            channels = filters
    return _sequence(modules | {"average_pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(),
                                "logits": nn.Linear(channels, CLASSES)})


def _resnet20() -> nn.Module:
    return _resnet((16, 32, 64), 3, projection=False)


def _resnet18() -> nn.Module:
    return _resnet((64, 128, 256, 512), 2, projection=True)


# The network without convolution

def _mlp() -> nn.Module:
    modules: dict[str, nn.Module] = {"flatten": nn.Flatten(), "images_dropout": nn.Dropout(0.1)}
    hidden = {"zero_bias1": 4000, "linear1": 1000, "zero_bias2": 4000, "linear2": 1000, "zero_bias3": 4000,
              "linear3": 1000, "zero_bias4": 4000}
    inputs = 32 * 32 * 3
    for name, units in hidden.items():
        modules[name] = nn.Linear(inputs, units, bias=False)
        if name.startswith("zero_bias"):
            modules[f"{name}_activation"] = nn.ReLU(inplace=True)
        if name != "zero_bias4":
            modules[f"{name}_normalization"] = nn.LayerNorm(units, elementwise_affine=False)
        modules[f"{name}_dropout"] = nn.Dropout(0.1)
        inputs = units
    return _sequence(modules | {"logits": nn.Linear(inputs, CLASSES)})


# Jordan's network for CIFAR-10

class _Shift(nn.BatchNorm2d):
    """Batch normalization without scale."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, momentum=0.4)
        self.register_parameter("weight", None)


class _Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def _airbench() -> nn.Module:
    modules: dict[str, nn.Module] = {"whitening": nn.Conv2d(3, 24, 2), "whitening_activation": nn.GELU()}
    modules["whitening"].weight.requires_grad_(False)
    channels = 24
    for number, filters in enumerate((64, 256, 256), 1):
        for part in (1, 2):
            name = f"conv{number}_{part}"
            modules[name] = nn.Conv2d(channels, filters, 3, padding=1, bias=False)
            if part == 1:
                modules[f"pool{number}"] = nn.MaxPool2d(2)
            modules |= {f"{name}_normalization": _Shift(filters), f"{name}_activation": nn.GELU()}
            channels = filters
    return _sequence(modules | {"pool4": nn.AdaptiveMaxPool2d(1), "flatten": nn.Flatten(),
                                "dense": nn.Linear(channels, CLASSES, bias=False), "logits": _Times(1 / 9)})


# Name -> builds the network with initial weights. All take 32x32 images, `lenet5` of one channel, the others of three.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "lenet5": _lenet5, "alexnet": _alexnet, "vgg": _vgg, "network_in_network": _network_in_network,
    "inception": _inception, "resnet20": _resnet20, "resnet18": _resnet18, "mlp": _mlp, "airbench": _airbench}


def image_shape(network: str) -> tuple[int, int, int]:
    """Channels, height and width of a network's input images."""
    return (1 if network == "lenet5" else 3), 32, 32
