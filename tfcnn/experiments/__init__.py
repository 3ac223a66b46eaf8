"""The experiments, one a file, found by the name of their module. Each is run by `python -m tfcnn.experiments.NAME`.

An experiment that trains a network has `RECIPE`, and `SAMPLE`: the fields and options of the recipe that it changes on
the sample, which is small and should take minutes. It may have `PRESETS`: what each value of --preset changes, by its
name. The others measure something and have none of these.

Importing an experiment does not import TensorFlow, nor does anything here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tfcnn.recipe import Recipe


def recipes() -> dict[str, Recipe]:
    """The recipe of each experiment that trains a network, by the experiment's name, in alphabetical order."""
    return {name: module.RECIPE for name, module in _trainings().items()}


def samples() -> dict[str, Mapping[str, Any]]:
    """What each of these experiments changes on the sample, by the experiment's name."""
    return {name: module.SAMPLE for name, module in _trainings().items()}


def presets() -> dict[str, Mapping[str, Mapping[str, Any]]]:
    """The presets of each of these experiments, by the experiment's name: what each changes, by the preset's name."""
    return {name: getattr(module, "PRESETS", {}) for name, module in _trainings().items()}


def _trainings() -> dict[str, ModuleType]:
    modules = {module.name: importlib.import_module(f"{__name__}.{module.name}")
               for module in pkgutil.iter_modules(__path__)}
    return {name: module for name, module in modules.items() if hasattr(module, "RECIPE")}
