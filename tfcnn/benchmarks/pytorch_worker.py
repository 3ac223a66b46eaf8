"""Training steps in PyTorch, as fast as PyTorch does them, on the work that `tfcnn.training.steps` does.

This module imports PyTorch, and neither TensorFlow nor Keras, so that a process measures the one without the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import swa_utils

from tfcnn.benchmarks.pytorch_networks import CLASSES, NETWORKS, image_shape
from tfcnn.recipe import UsageError

# What a recipe can ask for beyond what is done here, and the values with which it does not.
_NOT_ASKED_FOR = {"accumulate": 1, "clip_norm": 0.0, "image_size": 0, "l1": 0.0, "label_smoothing": 0.0,
                  "weight_decay": 0.0}


class Trainer:
    """Training steps of one network, with the loss and the optimizer of a recipe.

    The learning rate is the recipe's at its peak, whatever its schedule.

    Attributes:
      network: the PyTorch network.
      average: the moving average of its weights, if the recipe keeps one.
    """

    def __init__(self, network: nn.Module, recipe: Mapping[str, Any], *, compiled: bool = False,
                 bfloat16: bool = False) -> None:
        """Makes the optimizer ready.

        Args:
          network: is put into training mode.
          recipe: a `Recipe.to_dict()`.
          compiled: by `torch.compile`, network and loss together, in its default mode.
          bfloat16: whether layers compute in bfloat16, by `torch.autocast`.

        Raises:
          UsageError: the recipe wants what is not done here.
        """
        for name, value in _NOT_ASKED_FOR.items():
            if recipe[name] != value:
                raise UsageError(f"--{name}={recipe[name]} is not there for PyTorch: give --{name}={value}")
        self._bfloat16 = bfloat16
        self.network = network.train()
        self._loss = torch.compile(self._compute_loss) if compiled else self._compute_loss
        self._optimizer = optimizer(recipe, self.network)
        self.average = swa_utils.AveragedModel(
            self.network, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(recipe["ema"])) if recipe["ema"] else None

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step on images `[batch, channels, height, width]`; returns the mean loss, without penalties."""
        self._optimizer.zero_grad()
        loss = self._loss(images, labels)
        loss.backward()
        self._optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach()

    def _compute_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            logits = self.network(images)
        return functional.cross_entropy(logits.float(), labels)


def optimizer(recipe: Mapping[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    """PyTorch's optimizer of a recipe, in its fused form, with the penalty on kernels as weight decay.

    Raises:
      UsageError: the recipe's is another than stochastic gradient descent.
    """
    parameters = list(network.parameters())
    # PyTorch adds `weight_decay` times the weight to its gradient, which is that of l2 / 2 * sum(w^2).
    groups = [{"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": recipe["l2"]},
              {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0}]
    name = recipe["optimizer"]
    if name not in ("sgd", "momentum", "nesterov"):
        raise UsageError(f"--optimizer={name} is not there for PyTorch: give sgd, momentum or nesterov")
    return torch.optim.SGD(groups, recipe["learning_rate"], momentum=0.0 if name == "sgd" else recipe["momentum"],
                           nesterov=name == "nesterov", fused=True)


def trainer(network: str, recipe: Mapping[str, Any], *, compiled: bool, channels_last: bool, bfloat16: bool,
            batch_size: int, threads: int) -> Callable[[int], float]:
    """What trains a network on one constant batch of random images: so many steps, of which it returns the last loss.

    Args:
      network: a name of `NETWORKS`.
      recipe: a `Recipe.to_dict()` of the experiment of that network.
      compiled: see `Trainer`.
      channels_last: whether images, activations and kernels are kept with their channels last.
      bfloat16: see `Trainer`.
      batch_size: images a step.
      threads: of this process, for each operation.

    Raises:
      UsageError: the recipe wants what is not done here.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as TensorFlow does: the momentum of a weight without gradients comes to be one
    torch.manual_seed(recipe["seed"])
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    training = Trainer(NETWORKS[network]().to(memory_format=memory_format), recipe, compiled=compiled,
                       bfloat16=bfloat16)
    images = torch.randn(batch_size, *image_shape(network)).contiguous(memory_format=memory_format)
    labels = torch.randint(CLASSES, (batch_size,))

    def run(steps: int) -> float:
        for _ in range(steps):
            loss = training.step(images, labels)
        return loss.item()

    return run
