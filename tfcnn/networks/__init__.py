"""The networks, one paper a file, found by their module's name.

A network's module has `build(...) -> keras.Model` and `VARIANTS`, a table of what the paper describes; the first entry
is the default of `build`. A new network is a new file in this folder: nothing else has to know of it.

Options that several networks have are named and checked alike: `activation`, `normalization`, `initializer`, `dropout`.

Importing this package does not import Keras; importing one of the networks does.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from tfcnn.recipe import Scalar, UsageError

# Of every layer but those that make the logits. All are Keras's own but rrelu.
ACTIVATIONS = ("relu", "leaky_relu", "prelu", "rrelu", "elu", "tanh", "sigmoid")
# Of the weights; biases keep the network's own first values. paper: the paper's, see the head of the network's file.
INITIALIZERS = ("paper", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
                "orthogonal")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of a paper.

    Attributes:
      input_shape: height, width and channels of an image.
      parameters: how many trainable parameters `build(**options)` has, exactly.
      source: where that number, or the table it follows from, is published.
      options: the keyword arguments of `build` that give this network, its published number of classes among them.
      year: of the paper.
      smallest: height and width of the smallest images that the network can be built for.
    """

    input_shape: tuple[int, int, int]
    parameters: int
    source: str
    options: Mapping[str, Scalar]
    year: int
    smallest: int


def names() -> list[str]:
    """The networks there are, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "layers")


def find(name: str) -> ModuleType:
    """The module of a network.

    Raises:
      UsageError: there is no such network.
    """
    check_choice("network", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def input_shape(name: str, options: Mapping[str, Any]) -> tuple[int, int, int]:
    """Height, width and channels of the images that a network was designed for.

    That is what `VARIANTS` has for the option `variant`, or, in a network that is chosen by other options, what its
    module's own `input_shape(options)` says.

    Args:
      name: the network.
      options: keyword arguments of its `build`; those that are not given have their defaults.

    Raises:
      UsageError: there is no such network, or no such variant of it.
    """
    module = find(name)
    if hasattr(module, "input_shape"):
        return module.input_shape(options)
    variant = options.get("variant", next(iter(module.VARIANTS)))
    check_choice("variant", variant, module.VARIANTS)
    return module.VARIANTS[variant].input_shape


def check_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Raises UsageError unless the value of an option is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise UsageError(f"{option}={value!r} must be one of {', '.join(choices)}")


def check_options(*, classes: int, image_size: int, smallest: int, dropout: float = 0.0, activation: str = "relu",
                  initializer: str = "paper") -> None:
    """Checks the options that the networks share.

    Args:
      classes: number of logits, at least 1.
      image_size: height and width of the input in pixels, at least `smallest`.
      smallest: what the network needs.
      dropout: share of the activations dropped, in [0, 1).
      activation: one of `ACTIVATIONS`.
      initializer: one of `INITIALIZERS`.

    Raises:
      UsageError: a value that is not allowed.
    """
    if classes < 1:
        raise UsageError(f"classes={classes} must be at least 1")
    if image_size < smallest:
        raise UsageError(f"image_size={image_size} must be at least {smallest} for this network")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout={dropout} must be at least 0 and less than 1")
    check_choice("activation", activation, ACTIVATIONS)
    check_choice("initializer", initializer, INITIALIZERS)
