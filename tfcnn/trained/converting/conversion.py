"""Converts published weights: from a file's tensors to our network, and to a folder that `trained.load` reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras

from tfcnn import files, networks
from tfcnn.data.normalization import Normalization, PerChannel, Unit
from tfcnn.recipe import Recipe, Scalar, UsageError
from tfcnn.runs import NORMALIZATION, RECIPE, RunFolder
from tfcnn.runs.record import environment
from tfcnn.trained import weights
from tfcnn.trained.converting import resnet, vgg
from tfcnn.trained.converting.pytorch_file import Tensors

# What is known of how a published network was trained: nothing but these.
_KNOWN = ("experiment", "network", "options", "dataset", "validation", "image_size", "stream", "augment",
          "input_normalization")
# From this size on, networks are published with their results on the centre of images whose shorter side is 8/7 of it,
# such as 224 of 256, which is how streamed images are tested here.
_CENTRE_FROM = 128


@dataclasses.dataclass(frozen=True)
class Converted:
    """A published network in our terms.

    Attributes:
      model: the network, with the published weights.
      network: its name here.
      options: the options of its `build`.
    """

    model: keras.Model
    network: str
    options: dict[str, Scalar]


def convert(tensors: Tensors, network: str, choice: int | str, image_size: int = 0, zeros: str = "both") -> Converted:
    """Builds the network and gives it the published weights.

    Args:
      tensors: what `pytorch_file.read` returned.
      network: `resnet` or `vgg`.
      choice: the depth of a ResNet, or the variant of a VGG.
      image_size: height and width of the network's input; 0: those that it was designed for.
      zeros: where the published shortcut A adds its channels of zeros, `both` or `after`: see `resnet.plan`.

    Raises:
      UsageError: the tensors are those of another network; the message names the differences.
    """
    module: Any = {"resnet": resnet, "vgg": vgg}[network]
    options = module.find_options(tensors, choice)
    model = networks.find(network).build(classes=module.classes(tensors, options), image_size=image_size, **options)
    plan = (resnet.plan(model, tensors, options, zeros) if network == "resnet" else vgg.plan(model, options))
    plan.check(tensors, f"{network} with {', '.join(f'{name}={value}' for name, value in options.items())}")
    plan.assign(tensors)
    return Converted(model, network, options)


def normalization(mean: Sequence[float], deviation: Sequence[float]) -> Normalization:
    """The input normalization: (pixel - mean) / deviation with pixels in [0, 1], or pixels in [0, 1] without any.

    Args:
      mean: a number for each channel, or none.
      deviation: likewise.
    """
    if not mean:
        return Unit()
    return PerChannel(tuple(255 * value for value in mean), tuple(255 * value for value in deviation))


def write(converted: Converted, folder: Path, file: Path, normalize: Normalization, class_names: Sequence[str],
          dataset: str) -> None:
    """Writes a converted network's folder, whole or not at all.

    It has recipe.json, normalization.npz, weights.npz (float32) and result.json. The recipe has no field on training,
    and the result null for all that is not known of it. `converted`, in the result, says what the network was made
    from.

    Args:
      converted: the network.
      folder: must not exist, or be empty.
      file: the file that the weights come from.
      normalize: the input normalization.
      class_names: the names of the classes; empty if they are not known, and then they are numbered.
      dataset: the name of the data set that it was trained on; empty if that is not known.

    Raises:
      UsageError: the number of class names is not that of the logits, or the folder is there or cannot be written.
    """
    classes = converted.model.output_shape[-1]
    if class_names and len(class_names) != classes:
        raise UsageError(f"{len(class_names)} class names for a network with {classes} logits: give {classes} in "
                         "--classes")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already: choose another --out, or remove it first")
    recipe = Recipe(experiment="converted", network=converted.network, options=converted.options, dataset=dataset,
                    validation=0.0, image_size=converted.model.input_shape[1],
                    stream=converted.model.input_shape[1] >= _CENTRE_FROM, augment="none",
                    input_normalization=normalize.kind).to_dict()
    recipe = {name: recipe[name] for name in _KNOWN}
    unfinished = files.temporary(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        files.write(unfinished / RECIPE, json.dumps(recipe, indent=2) + "\n")
        files.write(unfinished / NORMALIZATION, normalize.to_bytes())
        weights.save(converted.model, unfinished / weights.WEIGHTS, "float32")
        RunFolder(unfinished).write_result(_result(converted, recipe, file, normalize, class_names))
        os.replace(unfinished, folder)
    except OSError as error:
        raise files.usage_error(f"cannot write {folder}", error, folder, after_remedy="; --out names it") from error
    finally:
        with suppress(OSError):
            shutil.rmtree(unfinished)


def _result(converted: Converted, recipe: dict[str, Any], file: Path, normalize: Normalization,
            class_names: Sequence[str]) -> dict[str, Any]:
    """The contents of result.json: versions and commit are those of the conversion."""
    model = converted.model
    shape = list(model.input_shape[1:])
    unknown = ("epochs", "steps", "train_seconds", "train_images_per_second", "strategy", "replicas", "precision",
               "execution", "seed", "started", "finished")
    return {
        "experiment": recipe["experiment"],
        "recipe": recipe,
        "network": converted.network,
        "parameters": sum(math.prod(variable.shape) for variable in model.trainable_variables),
        "dataset": {
            "name": recipe["dataset"],
            "source": "",
            "train_images": None,
            "validation_images": 0,
            "test_images": None,
            "class_names": list(class_names) or [str(number) for number in range(model.output_shape[-1])],
            "image_shape": None if recipe["stream"] else shape,
            "input_shape": shape,
            "normalization": normalize.statistics(),
        },
        "test": {"accuracy": None, "loss": None, "images": None},
        **dict.fromkeys(unknown),
        **environment(),
        "converted": {
            "file": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
            "named_classes": bool(class_names),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    }
