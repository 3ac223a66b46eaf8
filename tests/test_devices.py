"""Several devices: the same weights as one, random numbers of each one's own; parts of a batch, clipping, float16."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import tfcnn.experiments
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import ROOT, environment
from tfcnn.recipe import Recipe
from tfcnn.training import devices
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare

STEPS = 20


def _recipes() -> dict[str, Recipe]:
    """For each network the recipe of an experiment with it, small, without dropout, and clipped."""
    recipes = {}
    for module in pkgutil.iter_modules(tfcnn.experiments.__path__):
        recipe = getattr(importlib.import_module(f"tfcnn.experiments.{module.name}"), "RECIPE", None)
        if recipe and recipe.experiment == module.name:
            recipes.setdefault(recipe.network, recipe.replace(
                dataset="folder", validation=0.2, batch_size=8, clip_norm=1.0, warmup_epochs=0.0, learning_rate=0.003,
                image_size=min(v.smallest for v in importlib.import_module(f"tfcnn.networks.{recipe.network}").VARIANTS.values()),
                **{"dropout": 0.0} if "dropout" in recipe.options else {}))
    return recipes


def train_some(recipe: Recipe, data_dir: str, count: int, steps: int = STEPS) -> tuple[list[np.ndarray], np.ndarray]:
    """The model's variables after some steps on so many devices, and what the steps returned."""
    setup = prepare(recipe, data_dir, count)
    devices.separate_seeds(setup.strategy, setup.model)
    run = Steps(recipe, setup.strategy, setup.model, setup.optimizer).run
    values = run(iter(setup.training_batches(0)), tf.constant(steps)).numpy()
    return setup.model.get_weights(), values


if __name__ == "__main__":
    import time
    devices._divide_cpu(4)
    for name, recipe in _recipes().items():
        if sys.argv[2:] and name not in sys.argv[2:]: continue
        res = {}
        for count in (1, 2, 4):
            t = time.time()
            train_some(recipe, sys.argv[1], count, 1)
            print("one step", time.time() - t)
            res[count] = train_some(recipe, sys.argv[1], count)
            print(name, count, round(time.time() - t, 1), [max(np.abs(a - b).max() for a, b in zip(x[0], res[1][0])) for x in [res[count]]], res[count][1][[0, 5, 19], :3].tolist(), flush=True)
