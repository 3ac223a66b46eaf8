"""The suite's own training step: what a worker process of TensorFlow does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfcnn import memory
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import devices as devices_module
from tfcnn.training import process
from tfcnn.training.setup import prepare
from tfcnn.training.steps import Steps


def pipeline_trainer(recipe: Mapping[str, Any], devices: int) -> Callable[[int], float]:
    """Returns a function that runs a number of training steps as `train` does, and returns the loss of the last one.

    Args:
      recipe: a `Recipe.to_dict()`.
      devices: the number of logical devices of this process to train on.
    """
    memory.keep_freed()
    setup = prepare(Recipe(**recipe), devices=devices)
    steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer, setup.total_steps)
    with process.low_priority_threads():
        batches = setup.training_batches(0)
    return lambda count: float(steps.run(batches, tf.constant(count))[-1, 0])


class Constant:
    """An iterator over one batch, which stays on its device, as PyTorch's does."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __iter__(self) -> Constant:
        return self

    def __next__(self) -> Any:
        return self._batch


def gpus() -> list[Any]:
    """The GPUs that the process computes on; none on a CPU, where `WorkerProcess` hides them.

    Raises:
      UsageError: TensorFlow sees none where it shall compute on one.
    """
    found: list[Any] = tf.config.list_physical_devices("GPU")
    if os.environ.get("CUDA_VISIBLE_DEVICES") != "-1" and not found:
        raise UsageError("TensorFlow sees no GPU: pip install -e '.[gpu]'")
    return found


def trainer(recipe: Mapping[str, Any], single: bool) -> Callable[[int], float]:
    """Returns a function that runs a number of training steps on one constant batch, and returns the last loss.

    Args:
      recipe: a `Recipe.to_dict()`.
      single: whether each call of the compiled graph runs only one step; otherwise one call runs all of them.
    """
    memory.keep_freed()
    on_gpu = gpus()
    setup = prepare(Recipe(**recipe))
    steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer, setup.total_steps)
    batch = next(iter(setup.pipeline.training(0)))
    batches: Any
    if on_gpu:
        with tf.device("GPU:0"):
            batches = Constant(tf.nest.map_structure(tf.identity, batch))
    else:
        batches = devices_module.distribute(setup.strategy, tf.data.Dataset.from_tensors(batch).repeat())

    def run(count: int) -> float:
        calls, steps_a_call = (count, 1) if single else (1, count)
        for _ in range(calls):
            rows = steps.run(batches, tf.constant(steps_a_call))
        return float(rows[-1, 0])

    return run
