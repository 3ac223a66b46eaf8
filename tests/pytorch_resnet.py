"""A ResNet for CIFAR-10 in PyTorch, with the names of tensors that published ones have."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Pad(nn.Module):
    """Shortcut A: every second pixel, and `before` channels of zeros before the given ones and `after` after them."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class _Block(nn.Module):
    def __init__(self, channels: int, filters: int, shortcut: str) -> None:
        super().__init__()
        stride = 1 if channels == filters else 2
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.shortcut: nn.Module = nn.Sequential()
        added = filters - channels
        if added and shortcut == "projection":
            self.shortcut = nn.Sequential(nn.Conv2d(channels, filters, 1, 2, bias=False), nn.BatchNorm2d(filters))
        elif added:
            self.shortcut = _Pad(added // 2, added // 2) if shortcut == "both" else _Pad(0, added)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(residual + self.shortcut(x))


class Network(nn.Module):
    """A ResNet of 6 * blocks + 2 layers.

    Args:
      blocks: in each of the three stages.
      classes: the number of logits.
      shortcut: `both` or `after`, where shortcut A adds its zeros; or `projection`.
      logits: the name of the last layer, `linear` or `fc`.
    """

    def __init__(self, blocks: int = 3, classes: int = 10, shortcut: str = "both", logits: str = "linear") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        channels = 16
        for number, filters in enumerate((16, 32, 64), 1):
            stage = [_Block(channels if block == 0 else filters, filters, shortcut) for block in range(blocks)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            channels = filters
        self.add_module(logits, nn.Linear(64, classes))
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for number in (1, 2, 3):
            x = self.get_submodule(f"layer{number}")(x)
        return self.get_submodule(self.logits)(x.mean(dim=(2, 3)))


def shake(network: nn.Module) -> nn.Module:
    """Gives all weights random values that keep the strength of the signal; returns the network for inference."""
    generator = torch.Generator().manual_seed(0)
    for name, values in [*network.named_parameters(), *network.named_buffers()]:
        if values.ndim > 1:
            values.data.normal_(0, (2 / values[0].numel()) ** 0.5, generator=generator)
        elif values.ndim and name.endswith(("weight", "running_var")):
            values.data.uniform_(0.5, 1.5, generator=generator)
        elif values.ndim:
            values.data.uniform_(-0.2, 0.2, generator=generator)
    return network.eval()
