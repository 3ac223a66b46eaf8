"""Training steps in PyTorch that train as those of `tfcnn.training.steps` do, in several of the ways that PyTorch has.

Those of the suite also compute the accuracy and the norms of the gradient in each step; these do not.

This module imports PyTorch, and neither TensorFlow nor Keras, so that a process measures one without the other.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import swa_utils

from tfcnn import memory
from tfcnn.benchmarks.pytorch_networks import CLASSES, NETWORKS, image_shape
from tfcnn.recipe import UsageError

# Recipe fields that are not implemented here, with the value that turns each off.
_NOT_IMPLEMENTED = {"accumulate": 1, "clip_norm": 0.0, "image_size": 0, "l1": 0.0, "lookahead": 0, "weight_decay": 0.0}


class Trainer:
    """Training steps of one network, with the loss and the optimizer of a recipe.

    The learning rate is constant: the recipe's peak, whatever its schedule.

    Attributes:
      network: the PyTorch network.
      average: the moving average of its weights, or None if the recipe keeps none.
    """

    def __init__(self, network: nn.Module, recipe: Mapping[str, Any], *, compiled: bool = False,
                 bfloat16: bool = False, cuda_graphs: bool = False) -> None:
        """Puts the network into training mode and creates the optimizer.

        Args:
          network: the network to train.
          recipe: a `Recipe.to_dict()`.
          compiled: whether `torch.compile` compiles network and loss together.
          bfloat16: whether layers compute in bfloat16, by `torch.autocast`.
          cuda_graphs: whether the compiled code is recorded once and then replayed on a GPU, by `torch.compile`'s mode
            `reduce-overhead`.

        Raises:
          UsageError: the recipe needs something that is not implemented here.
        """
        for name, value in _NOT_IMPLEMENTED.items():
            if recipe[name] != value:
                raise UsageError(f"--{name}={recipe[name]} is not implemented for PyTorch: give --{name}={value}")
        self._bfloat16 = bfloat16
        self._label_smoothing = recipe["label_smoothing"]
        self.network = network.train()
        self._loss = torch.compile(
            self._compute_loss, mode="reduce-overhead" if cuda_graphs else None) if compiled else self._compute_loss
        self._optimizer = optimizer(recipe, self.network)
        self.average = swa_utils.AveragedModel(
            self.network, multi_avg_fn=functools.partial(self._average, recipe["ema"]), use_buffers=True
        ) if recipe["ema"] else None

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step on images `[batch, channels, height, width]`. Returns the mean loss, without penalties."""
        self._optimizer.zero_grad()
        loss = self._loss(images, labels)
        loss.backward()
        self._optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return loss.detach()

    def _compute_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self._bfloat16):
            logits = self.network(images)
        return functional.cross_entropy(logits.float(), labels, label_smoothing=self._label_smoothing)

    def _average(self, decay: float, averages: Sequence[Tensor], values: Sequence[Tensor], _: Tensor) -> None:
        """Moves averages, which begin with the first values, towards values: `tfcnn.training.averages`.

        PyTorch also gives the number of updates, but on the device, which would have to finish its work to tell it.
        """
        assert self.average is not None
        updates = int(self.average.n_averaged)
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + updates) / (10 + updates)))
        else:  # the number of batches that batch normalization has seen
            torch._foreach_copy_(averages, values)


def optimizer(recipe: Mapping[str, Any], network: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer in PyTorch, in its fused form; its penalties l2 and shift_l2 are weight decay.

    Raises:
      UsageError: the recipe's optimizer is not stochastic gradient descent.
    """
    shifts = [module.bias for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    parameters = [parameter for parameter in network.parameters()
                  if not any(parameter is shift for shift in shifts)]
    # PyTorch adds `weight_decay` times the weight to its gradient: the gradient of l2 / 2 * sum(w^2).
    groups = [{"params": [parameter for parameter in parameters if parameter.dim() > 1], "weight_decay": recipe["l2"]},
              {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0}]
    if shifts:
        groups.append({"params": shifts, "weight_decay": recipe["shift_l2"],
                       "lr": recipe["learning_rate"] * recipe["shift_rate"]})
    name = recipe["optimizer"]
    if name not in ("sgd", "momentum", "nesterov"):
        raise UsageError(f"--optimizer={name} is not implemented for PyTorch: give sgd, momentum or nesterov")
    return torch.optim.SGD(groups, recipe["learning_rate"], momentum=0.0 if name == "sgd" else recipe["momentum"],
                           nesterov=name == "nesterov", fused=True)


def trainer(network: str, recipe: Mapping[str, Any], *, compiled: bool, channels_last: bool, bfloat16: bool,
            batch_size: int, threads: int, cuda_graphs: bool = False) -> Callable[[int], float]:
    """Returns a function that trains a network for a number of steps and returns the loss of the last one.

    It trains on one constant batch of random images: on the first GPU if the process may use one. There matrix products
    and convolutions may use TensorFloat-32, as TensorFlow's do, and cuDNN tries out its algorithms.

    Args:
      network: a name of `NETWORKS`.
      recipe: a `Recipe.to_dict()` of the experiment of that network.
      compiled: see `Trainer`.
      channels_last: whether images, activations and kernels are stored with their channels last.
      bfloat16: see `Trainer`.
      batch_size: the number of images in a step.
      threads: the number of threads that an operation may use.
      cuda_graphs: see `Trainer`.

    Raises:
      UsageError: the recipe needs something that is not implemented here, or PyTorch does not see the GPU.
    """
    memory.keep_freed()  # as TensorFlow's worker does
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as TensorFlow does; momentum decays to denormal numbers where gradients are zero
    torch.manual_seed(recipe["seed"])
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    on_gpu = os.environ.get("CUDA_VISIBLE_DEVICES") != "-1"
    if on_gpu and not torch.cuda.is_available():
        raise UsageError("PyTorch sees no GPU: install a build of it for CUDA")
    device = "cuda" if on_gpu else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    training = Trainer(NETWORKS[network]().to(device, memory_format=memory_format), recipe, compiled=compiled,
                       bfloat16=bfloat16, cuda_graphs=cuda_graphs)
    images = torch.randn(batch_size, *image_shape(network)).to(device).contiguous(memory_format=memory_format)
    labels = torch.randint(CLASSES, (batch_size,)).to(device)

    def run(steps: int) -> float:
        for _ in range(steps):
            loss = training.step(images, labels)
        return loss.item()

    return run
