"""The networks, one paper a file, found by the name of their module.

A network's module has `build(...) -> keras.Model` and `VARIANTS`, a table of the networks that the paper describes; the
first entry is the default of `build`. A new network is a new file in this folder, and its options in `options.py`.

Importing this package does not import Keras; importing one of the networks does.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tfcnn.networks.options import check, check_choice
from tfcnn.recipe import Scalar, UsageError


@dataclasses.dataclass(frozen=True)
class Variant:
    """One network of a paper.

    Attributes:
      input_shape: height, width and channels of an image.
      parameters: exact number of trainable parameters of `build(**options)`.
      source: where that number, or the table that it follows from, is published.
      options: the keyword arguments of `build` for this network, the published number of classes among them.
      year: year of the paper.
      smallest: height and width of the smallest images that the network can be built for.
    """

    input_shape: tuple[int, int, int]
    parameters: int
    source: str
    options: Mapping[str, Scalar]
    year: int
    smallest: int

    def sizes(self, classes: int | None, image_size: int) -> tuple[int, int]:
        """Returns the number of logits, and height and width of the input, with which to build the network.

        Args:
          classes: number of logits; None: the published one.
          image_size: height and width of the input in pixels; 0: those of `input_shape`.

        Raises:
          UsageError: the images are too small for the network.
        """
        image_size = image_size or self.input_shape[0]
        check_size(image_size, self.smallest)
        return int(self.options["classes"]) if classes is None else classes, image_size


def names() -> list[str]:
    """The names of all networks, in alphabetical order."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__)
                  if not module.ispkg and module.name != "options")


def find(name: str) -> ModuleType:
    """Imports the module of a network.

    Raises:
      UsageError: there is no such network.
    """
    check_choice("network", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def input_shape(name: str, options: Mapping[str, Any]) -> tuple[int, int, int]:
    """Returns height, width and channels of the images that a network was designed for.

    They are those of the option `variant` in `VARIANTS`. A network without that option has a function
    `input_shape(options)` of its own.

    Args:
      name: the network.
      options: keyword arguments of its `build`; those that are missing have their defaults.

    Raises:
      UsageError: there is no such network, it has no such option, or a value is not allowed.
    """
    module = find(name)
    check(name, **options)
    if hasattr(module, "input_shape"):
        return module.input_shape(options)
    variant = options.get("variant", next(iter(module.VARIANTS)))
    return module.VARIANTS[variant].input_shape


def check_size(image_size: int, smallest: int) -> None:
    """Checks that images are large enough for a network.

    Args:
      image_size: height and width of the input in pixels.
      smallest: height and width of the smallest images that the network can be built for.

    Raises:
      UsageError: they are not.
    """
    if image_size < smallest:
        raise UsageError(f"image_size={image_size} must be at least {smallest} for this network")
