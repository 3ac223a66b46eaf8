"""Units that are silent on all training images, epoch by epoch: how ReLUs die, and whether they come back.

A unit is a channel of a convolution's activation, or one number of a dense layer's. It is silent if its activation is
positive nowhere, for no training image: with ReLU, none of its weights then has a gradient.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn import files
from tfcnn.data import datasets, normalization, pipeline
from tfcnn.recipe import Recipe
from tfcnn.runs import NORMALIZATION, OBSERVED, SILENT_UNITS, RunFolder

_BATCH = 500


def observe(folder: Path, data_dir: str | None) -> list[keras.callbacks.Callback]:
    """The callbacks of a run that watch its units: a study's `observer`.

    Args:
      folder: the run's folder. `observed.json` gets two lists there, with a number for each epoch: `silent`, the share
        of units that are silent at its end, and `resurrected`, the share that was silent at the end of the epoch before
        and no longer is.
      data_dir: folder of the data set.
    """
    return [_Observer(folder, data_dir)]


class _Observer(keras.callbacks.Callback):
    """Writes the silent units after each epoch. After a resumption an epoch may come again, and is replaced."""

    def __init__(self, folder: Path, data_dir: str | None) -> None:
        super().__init__()
        self._folder, self._data_dir = folder, data_dir

    def on_train_begin(self, logs: Any = None) -> None:
        recipe = RunFolder(self._folder).read_recipe()
        self._normalization = normalization.load(self._folder / NORMALIZATION)
        self._images = training_images(recipe, self._data_dir, self.model.input_shape[1:])
        self._units = activations(self.model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        kept = self._folder / SILENT_UNITS  # the numbers of the silent units after each epoch
        before = json.loads(kept.read_text())[:epoch] if kept.is_file() else []
        silent = silent_units(self._units, self._images, self._normalization)
        sets = [*before, np.flatnonzero(silent).tolist()]
        files.write(kept, json.dumps(sets))
        files.write(self._folder / OBSERVED, json.dumps({
            "silent": [len(numbers) / len(silent) for numbers in sets],
            "resurrected": [len(set(earlier) - set(later)) / len(silent)
                            for earlier, later in zip([sets[0], *sets], sets)]}))


def training_images(recipe: Recipe, data_dir: str | None, input_shape: Sequence[int]) -> np.ndarray:
    """All training images of a recipe, without augmentation: uint8 [images, *input_shape]."""
    dataset = datasets.load(recipe.dataset, data_dir, validation=recipe.validation, seed=recipe.seed,
                            train_images=recipe.train_images, classes=recipe.classes)
    height, width, channels = input_shape
    return pipeline.fit(dataset.train, (height, width, channels)).images


def activations(model: keras.Model) -> keras.Model:
    """A model from normalized images to what each activation layer of a network gives.

    It shares the network's layers, so it changes with them.
    """
    return keras.Model(model.inputs, [layer.output for layer in model.layers if layer.name.endswith("_activation")])


def silent_units(units: keras.Model, images: np.ndarray, inputs: normalization.Normalization) -> np.ndarray:
    """Which units are silent on all images.

    Args:
      units: what `activations` returned.
      images: uint8 [images, height, width, channels].
      inputs: the network's input normalization.

    Returns:
      bool [units], layer by layer.
    """
    highest: np.ndarray | None = None
    for start in range(0, len(images), _BATCH):
        outputs = tf.nest.flatten(units(inputs.apply(tf.constant(images[start:start + _BATCH])), training=False))
        part = np.concatenate([tf.reduce_max(output, axis=list(range(output.shape.rank - 1))).numpy()
                               for output in outputs])
        highest = part if highest is None else np.maximum(highest, part)
    assert highest is not None
    return highest <= 0
