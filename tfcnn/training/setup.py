"""What a recipe needs before the first step: devices, data, network, learning-rate schedule and optimizer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfcnn import networks
from tfcnn.data import datasets, sources
from tfcnn.data.pipeline import Pipeline
from tfcnn.data.streaming import Streaming
from tfcnn.recipe import Recipe, UsageError
from tfcnn.trained.weights import digest
from tfcnn.training import devices as devices_module
from tfcnn.training import cached_features, initial_weights, machines, optimizers, schedules
from tfcnn.training.cached_features import CachedFeatures


@dataclasses.dataclass(frozen=True)
class Setup:
    """Everything that a recipe determines before the first step.

    Attributes:
      recipe: the recipe.
      strategy: the devices, and how they work together.
      dataset: the data set that was loaded.
      pipeline: its batches.
      model: the network with its initial weights.
      head: what a step computes with a batch: the network, or where features are cached what comes after them.
      initial_weights: where these are from; None if they are random.
      schedule: the learning rate as a function of the step.
      optimizer: built for the network's weights.
    """

    recipe: Recipe
    strategy: tf.distribute.Strategy
    dataset: datasets.Dataset | sources.Source
    pipeline: Pipeline | Streaming | CachedFeatures
    model: keras.Model
    head: keras.Model
    initial_weights: initial_weights.InitialWeights | None
    schedule: keras.optimizers.schedules.LearningRateSchedule
    optimizer: keras.optimizers.Optimizer

    @property
    def total_steps(self) -> int:
        """The steps of the whole training."""
        return self.recipe.epochs * self.pipeline.steps_per_epoch

    def training_batches(self, first_step: int) -> Iterator:
        """The training batches from a step on, without end. Each worker makes those of its own replicas only."""
        def worker_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            batches = self.pipeline.training(first_step, context.num_replicas_in_sync,
                                             context.input_pipeline_id * local, local)
            # With an unknown cardinality, workers would agree before each step on whether there is another batch.
            return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return devices_module.distribute_from(self.strategy, worker_batches)

    def evaluation_batches(self, part: str) -> tuple[Iterator, int]:
        """The batches of a part, "validation" or "test", repeated without end, and the number of batches in it."""
        batches = self.pipeline.evaluation(part)
        # Every device needs an image, and of ten crops a batch has a tenth as many images: the others have weight 0.
        missing = -batches.element_spec[0].shape[0] % self.strategy.num_replicas_in_sync
        if missing:
            batches = batches.map(lambda *values: tuple(
                tf.pad(value, [[0, missing]] + [[0, 0]] * (value.shape.rank - 1)) for value in values))
        return devices_module.distribute(self.strategy, batches.repeat()), len(batches)


def prepare(recipe: Recipe, data_dir: str | None = None, devices: int = 0, cluster: str = "", wait: float = 0.0,
            cache_features: bool = False) -> Setup:
    """Sets up devices, data, network and optimizer; writes nothing.

    The random seed of the process is set, and TensorFlow's determinism is enabled if the recipe asks for it.

    Args:
      recipe: what to set up.
      data_dir: folder of the data set, as in `train`.
      devices: number of devices that share a batch, as in `train`.
      cluster: where the workers are described, as in `train`.
      wait: minutes to wait for the other workers, as in `train`.
      cache_features: cache features where possible, as in `train`. The caller must call `compute` of the pipeline.

    Raises:
      UsageError: a value or the data is invalid.
    """
    devices_module.set_up(recipe)
    strategy = devices_module.strategy(recipe, devices, cluster, wait)
    machines.check_equal(strategy, "the recipe", recipe.to_json())
    machines.check_equal(strategy, "what layers compute in (see --keep_precision)",
                         devices_module.computed_precision(recipe))
    height, width, channels = networks.input_shape(recipe.network, recipe.network_options())
    input_shape = (recipe.image_size or height, recipe.image_size or width, channels)
    dataset, pipeline = _load_data(recipe, data_dir, input_shape)
    counts = [len(part) for part in (dataset.train, dataset.validation, dataset.test)]
    machines.check_equal(strategy, f"the data set {dataset.name}", counts)
    total_steps = recipe.epochs * pipeline.steps_per_epoch
    if recipe.lookahead > total_steps:
        raise UsageError(f"--lookahead={recipe.lookahead} is more than the {total_steps} steps of the training, at "
                         "whose end the first weights would be tested: make it less")
    with strategy.scope(), devices_module.precision(recipe):
        model = networks.find(recipe.network).build(
            classes=len(dataset.class_names), image_size=input_shape[0], **recipe.network_options())
        initial_weights.adapt(model, pipeline)
        initial = None
        if recipe.initial_weights:
            initial = initial_weights.start_from(recipe, model, tuple(dataset.class_names))
            pipeline.normalization = initial.normalization
        initial_weights.freeze(recipe, model)
        schedule = schedules.schedule(recipe, pipeline.steps_per_epoch)
        optimizer = optimizers.optimizer(recipe, schedule, model.trainable_variables)
    if machines.is_multi_worker(strategy):
        machines.check_equal(strategy, "the number of devices", strategy.num_replicas_in_sync)
        machines.check_equal(strategy, "the network's first weights", digest(model))
    devices_module.set_synchronization(recipe, strategy, model)
    head = model
    batches: Pipeline | Streaming | CachedFeatures = pipeline
    if cache_features and isinstance(pipeline, Pipeline) and (
            halves := cached_features.split(recipe, model, sum(counts))):
        stream = sys.stdout if machines.is_chief(strategy) else None
        head, batches = halves.head, CachedFeatures(pipeline, recipe.batch_size, halves.features, stream)
    return Setup(recipe, strategy, dataset, batches, model, head, initial, schedule, optimizer)


def _load_data(recipe: Recipe, data_dir: str | None, input_shape: tuple[int, int, int]
               ) -> tuple[datasets.Dataset | sources.Source, Pipeline | Streaming]:
    """Loads the data set into memory, or opens it for streaming; returns it and its batches."""
    chosen: dict[str, Any] = {"validation": recipe.validation, "seed": recipe.seed, "train_images": recipe.train_images,
                              "random_labels": recipe.random_labels, "classes": recipe.classes}
    if recipe.stream:
        source = sources.load(recipe.dataset, data_dir, **chosen)
        return source, Streaming(source, recipe, input_shape)
    dataset = datasets.load(recipe.dataset, data_dir, image_size=input_shape[:2], **chosen)
    return dataset, Pipeline(dataset, recipe, input_shape)
