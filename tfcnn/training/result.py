"""What a complete run leaves: the trained network, and the contents of result.json."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras

from tfcnn import files, processor
from tfcnn.data.datasets import Dataset
from tfcnn.runs.record import environment
from tfcnn.training import devices, validation
from tfcnn.training.checkpoints import Progress
from tfcnn.training.setup import Setup


def save_model(model: keras.Model, path: Path) -> None:
    """Saves the network atomically, without its optimizer, whose state is in the checkpoints.

    Raises:
      UsageError: the file cannot be written.
    """
    model.optimizer = None
    temporary = path.with_name(f"unfinished-{path.name}")  # Keras requires the suffix .keras
    try:
        model.save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # must be on disk before result.json marks the run complete
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise files.usage_error(f"cannot write {path}", error, path, after_remedy=", and start again") from error


def result_record(setup: Setup, progress: Progress, test: dict[str, float]) -> dict[str, Any]:
    """The contents of result.json, except when the run finished.

    Args:
      setup: the run's devices, data and network.
      progress: the state after the last epoch.
      test: `accuracy`, in [0, 1], and `loss` on the test set.
    """
    recipe, dataset, strategy, initial = setup.recipe, setup.dataset, setup.strategy, setup.initial_weights
    return {
        "experiment": recipe.experiment,
        "recipe": recipe.to_dict(),
        "network": recipe.network,
        "parameters": sum(math.prod(variable.shape) for variable in setup.model.trainable_variables),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "train_images": len(dataset.train),
            "validation_images": len(dataset.validation),
            "test_images": len(dataset.test),
            "class_names": list(dataset.class_names),
            # The size of the images before they were fitted to the network's input; streamed ones may have any.
            "image_shape": list(dataset.train.images.shape[1:]) if isinstance(dataset, Dataset) else None,
            "input_shape": list(setup.model.input_shape[1:]),
            "normalization": setup.pipeline.normalization.statistics(),
        },
        "test": test | {"images": len(dataset.test)},
        "initial_weights": {"source": initial.source, "sha256": initial.sha256} if initial else None,
        "epochs": len(progress.metrics),
        "tested_epoch": validation.best_epoch(progress.metrics) if recipe.best_weights else len(progress.metrics),
        "steps": progress.step,
        "train_seconds": progress.train_seconds,
        "train_images_per_second": progress.step * recipe.batch_size / progress.train_seconds,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "device": strategy.extended.worker_devices[0].split("device:")[-1],
        "processor": processor.description(),
        "gpus": devices.gpus(),
        "cuda": devices.cuda(),
        "precision": recipe.precision,
        "arithmetic": devices.arithmetic(recipe),
        "execution": recipe.execution,
        "seed": recipe.seed,
        "started": progress.started,
        **environment(),
    }
