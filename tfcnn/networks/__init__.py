"""The networks, one paper a file, found by their module's name.

A network's module has `build(...) -> keras.Model` and `VARIANTS`, a table of what the paper describes; the first entry
is the default of `build`. A new network is a new file in this folder: nothing else has to know of it.

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


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of a paper.

    Attributes:
      input_shape: height, width and channels of an image.
      parameters: how many trainable parameters `build(**options)` has, exactly.
      source: where that number, or the table it follows from, is published.
      options: the keyword arguments of `build` that give this network, its published number of classes among them.
    """

    input_shape: tuple[int, int, int]
    parameters: int
    source: str
    options: Mapping[str, Scalar]


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

    Args:
      name: the network.
      options: keyword arguments of its `build`; without a `variant` among them, the network's default is meant.

    Raises:
      UsageError: there is no such network, or no such variant of it.
    """
    variants = find(name).VARIANTS
    variant = options.get("variant", next(iter(variants)))
    check_choice("variant", variant, variants)
    return variants[variant].input_shape


def check_choice(option: str, value: Any, choices: Iterable[str]) -> None:
    """Raises UsageError unless the value of an option is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise UsageError(f"{option}={value!r} must be one of {', '.join(choices)}")
