"""How the tensors of a published network become the weights of ours: compared first, then assigned."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from tfcnn.recipe import UsageError
from tfcnn.trained.converting.pytorch_file import Tensors

# Our channel -> the published network's channel.
Permutation = np.ndarray

_SHOWN = 4  # names in a message


class Plan:
    """The tensors that the published network must have, and what becomes of each.

    Each method adds the tensors of one layer. A permutation gives, for each channel of ours, the published one; None
    leaves the channels in their order.

    Args:
      model: our network.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._values: dict[str, Callable[[Tensors], np.ndarray]] = {}  # by the path of our weight

    def convolution(self, layer: str, name: str, inputs: Permutation | None = None,
                    outputs: Permutation | None = None, bias: bool = False) -> None:
        """A convolution. Its bias, if our layer has none, must be given to the normalization that follows.

        Args:
          layer: the name of our layer.
          name: the name of the published one.
          inputs: the permutation of its input channels.
          outputs: that of its filters.
          bias: whether the published one has a bias.
        """
        own = self._weights(layer)
        height, width, channels, filters = own["kernel"].shape
        self._shapes[f"{name}.weight"] = (filters, channels, height, width)
        ins, outs = _order(inputs, channels), _order(outputs, filters)
        self._values[own["kernel"].path] = lambda tensors: (
            tensors[f"{name}.weight"][outs][:, ins].transpose(2, 3, 1, 0))
        if bias:
            self._shapes[f"{name}.bias"] = (filters,)
        if "bias" in own:
            self._values[own["bias"].path] = lambda tensors: tensors[f"{name}.bias"][outs]

    def normalization(self, layer: str, name: str, channels: Permutation | None = None, bias: str = "") -> None:
        """Batch normalization; epsilon, which a file does not hold, is 1e-5 in PyTorch and here.

        Args:
          layer: the name of our layer.
          name: the name of the published one.
          channels: the permutation of its channels.
          bias: the tensor with the bias of the convolution before it, if ours has none: x + bias normalized by mean is
            x normalized by mean - bias.
        """
        own = self._weights(layer)
        order = _order(channels, own["gamma"].shape[0])
        for ours, theirs in (("gamma", "weight"), ("beta", "bias"), ("moving_variance", "running_var")):
            self._vector(own[ours], f"{name}.{theirs}", order)
        self._vector(own["moving_mean"], f"{name}.running_mean", order)
        if bias:
            self._values[own["moving_mean"].path] = lambda tensors: (
                tensors[f"{name}.running_mean"] - tensors[bias])[order]

    def dense(self, layer: str, name: str, inputs: Permutation | None = None,
              shape: tuple[int, ...] | None = None, kernel: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """A dense layer.

        Args:
          layer: the name of our layer.
          name: the name of the published one.
          inputs: the permutation of its inputs.
          shape: that of the published weights, if it is not [outputs, inputs].
          kernel: makes our kernel [inputs, outputs] of the published weights, if that is not their transpose.
        """
        own = self._weights(layer)
        units, outputs = own["kernel"].shape
        order = _order(inputs, units)
        make = kernel or (lambda weight: weight[:, order].T)
        self._shapes[f"{name}.weight"] = shape or (outputs, units)
        self._values[own["kernel"].path] = lambda tensors: make(tensors[f"{name}.weight"])
        self._vector(own["bias"], f"{name}.bias", np.arange(outputs))

    def check(self, tensors: Tensors, network: str) -> None:
        """Compares the file's tensors with those that the network needs.

        Args:
          tensors: the file's.
          network: what the network is called in messages.

        Raises:
          UsageError: they differ; the message names the differences.
        """
        missing = [name for name in self._shapes if name not in tensors]
        unexpected = [name for name in tensors if name not in self._shapes]
        shapes = [f"{name} is {_text(tensors[name].shape)} instead of {_text(shape)}"
                  for name, shape in self._shapes.items() if name in tensors and tensors[name].shape != shape]
        differences = [f"{what} {_listed(names)}" for what, names in
                       (("it lacks", missing), ("it also has", unexpected), ("", shapes)) if names]
        if differences:
            raise UsageError(f"the file's tensors are not those of {network}: "
                             f"{'; '.join(text.strip() for text in differences)}")

    def assign(self, tensors: Tensors) -> None:
        """Gives our network the weights, which `check` has found to be the right ones."""
        for weight in self.model.weights:
            weight.assign(self._values[weight.path](tensors))

    def _vector(self, weight: keras.Variable, name: str, order: np.ndarray) -> None:
        self._shapes[name] = tuple(weight.shape)
        self._values[weight.path] = lambda tensors: tensors[name][order]

    def _weights(self, layer: str) -> dict[str, keras.Variable]:
        return {weight.name: weight for weight in self.model.get_layer(layer).weights}


def _order(permutation: Permutation | None, count: int) -> np.ndarray:
    return np.arange(count) if permutation is None else permutation


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
