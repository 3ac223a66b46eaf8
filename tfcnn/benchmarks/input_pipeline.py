"""The speed of the input pipeline: each augmentation compared with Keras's layer, and both with training."""

from __future__ import annotations

import functools
import gc
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn import memory, processor
from tfcnn.benchmarks import hardware, input_pipeline_report, rates, report
from tfcnn.benchmarks.input_pipeline_report import ALL_CORES, CONSTANT, KERAS, ONE_CORE
from tfcnn.data import datasets
from tfcnn.data import pipeline as pipelines
from tfcnn.data.augmentation import colour, composition, mixing
from tfcnn.recipe import Recipe
from tfcnn.runs import record
from tfcnn.training import devices, process
from tfcnn.training.setup import prepare
from tfcnn.training.steps import Steps

SHAPE = (32, 32, 3)
IMAGES = 50_000  # as many as CIFAR-10 has, so that they do not fit into caches

_RANGE = (0, 255)  # of pixel values
# What is measured -> builds the Keras layers that do the same, or come nearest; None if there are none. Keras shears in
# one direction only, and its strongest elastic deformation is weaker (3.2 and 1.6 instead of 8 and 4 pixels).
KERAS_LAYERS: dict[str, Callable[[], list[keras.Layer]] | None] = {
    "mirror": lambda: [keras.layers.RandomFlip("horizontal")],
    "alternating_mirror": None,
    "crop:4": lambda: [keras.layers.ZeroPadding2D(4), keras.layers.RandomCrop(32, 32)],
    "crop:4,mirror": lambda: [keras.layers.ZeroPadding2D(4), keras.layers.RandomCrop(32, 32),
                              keras.layers.RandomFlip("horizontal")],
    "resized_crop:0.08": None,
    "rotate:15": lambda: [keras.layers.RandomRotation(15 / 360, fill_mode="constant")],
    "shear:10": lambda: [keras.layers.RandomShear(x_factor=0.176, fill_mode="constant")],
    "translate:0.1": lambda: [keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant")],
    "zoom:0.1": lambda: [keras.layers.RandomZoom(0.1, fill_mode="constant")],
    "rotate:15,shear:10,zoom:0.1": lambda: [keras.layers.RandomRotation(15 / 360, fill_mode="constant"),
                                            keras.layers.RandomShear(x_factor=0.176, fill_mode="constant"),
                                            keras.layers.RandomZoom(0.1, fill_mode="constant")],
    "elastic:8:4": lambda: [keras.layers.RandomElasticTransform((1.0, 1.0), (1.0, 1.0), value_range=_RANGE)],
    "colour_pca:0.1": None,
    "brightness:0.4": lambda: [keras.layers.RandomBrightness(0.4, value_range=_RANGE)],
    "contrast:0.4": lambda: [keras.layers.RandomContrast(0.4, value_range=_RANGE)],
    "saturation:0.4": lambda: [keras.layers.RandomSaturation(0.4, value_range=_RANGE)],
    "cutout:8": lambda: [keras.layers.RandomErasing(factor=(1.0, 1.0), scale=(0.0625, 0.0625), fill_value=0.0,
                                                    value_range=_RANGE)],
    "randaugment:2:9": lambda: [keras.layers.RandAugment(value_range=_RANGE, num_ops=2, factor=0.9)],
    "mixup:0.2": lambda: [keras.layers.MixUp(0.2)],
    "cutmix:1": lambda: [keras.layers.CutMix(1.0)],
    "standard": None,
    "alexnet": None,
    "strong": None,
}

# Each round is off by several percent, however long it is. Training is therefore measured in many short rounds, which
# take this many times as long in all.
_TRAINING_FACTOR = 6


def augmentations(batch_size: int, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """The speed of each augmentation of `KERAS_LAYERS`, ours and Keras's in turn, on one core and on all.

    Ours gathers the images of each batch from 50,000 by index, as in training; Keras's layers get one ready batch.

    Returns:
      augmentation -> column of the table -> images per second.
    """
    sample = pipelines.fit(datasets.load("sample", validation=0).train, SHAPE)
    images = np.resize(sample.images, (IMAGES, *SHAPE))
    with tf.device("CPU"):
        stored = tf.constant(images)
    components = colour.components(sample.images + np.arange(3, dtype=np.uint8))
    batch = {"images": tf.cast(images[:batch_size], tf.float32), "labels": tf.one_hot(np.arange(batch_size) % 10, 10)}
    core_counts = {ONE_CORE: 1, ALL_CORES: len(processor.available_cores())}
    found: dict[str, dict[str, float]] = {name: {} for name in KERAS_LAYERS}
    for column, count in core_counts.items():
        work: dict[str, tuple[rates.Start, int]] = {}
        for name, build in KERAS_LAYERS.items():
            work[name] = _our_work(name, stored, components, batch_size, count), batch_size
            if build is not None:
                work[KERAS + name] = _keras_work(build(), batch, count), batch_size
        with hardware.limited_to(count):
            speeds = rates.median(rates.compare(work, rounds, seconds))
        for name, speed in speeds.items():
            found[name.removeprefix(KERAS)][KERAS + column if name.startswith(KERAS) else column] = speed
    return found


def _our_work(name: str, stored: tf.Tensor, components: np.ndarray, batch_size: int, threads: int) -> rates.Start:
    """Our augmentation of shuffled images.

    Args:
      name: the augmentation, as `--augment` has it.
      stored: [n, height, width, channels], uint8, the images.
      components: the principal components of their colours.
      batch_size: images in a batch.
      threads: batches that are prepared in parallel.
    """
    operations = Recipe(experiment="", network="", augment=name).augmentations()

    def augmented(step: tf.Tensor) -> tf.Tensor:
        first = step * batch_size
        indices = tf.random.experimental.index_shuffle(
            (first + tf.range(batch_size, dtype=tf.int64)) % IMAGES, [0, 1], IMAGES - 1)
        seeds = composition.image_seeds(0, first // IMAGES, indices, operations)
        images = composition.gather_and_augment(stored, indices, seeds, operations, components)
        if mixing.mixes(operations):
            partners = tf.gather(stored, mixing.partner_indices(seeds, IMAGES))
            images, _ = mixing.mix(images, partners, seeds, operations)
        return images

    return _mapped(augmented, threads)


def _keras_work(layers: Sequence[keras.Layer], batch: Mapping[str, tf.Tensor], threads: int) -> rates.Start:
    """Keras's layers, one after the other, on one batch."""
    def augmented(step: tf.Tensor) -> Any:
        # MixUp and CutMix need labels; the others accept none.
        data: Any = dict(batch) if isinstance(layers[0], keras.layers.MixUp | keras.layers.CutMix) else batch["images"]
        for layer in layers:
            data = layer(data, training=True)
        return data["images"] if isinstance(data, dict) else data

    return _mapped(augmented, threads)


def _mapped(function: Callable[[tf.Tensor], tf.Tensor], threads: int) -> rates.Start:
    """Draws batches from a tf.data pipeline that maps the function, as training does."""
    batches = pipelines.in_parallel(tf.data.Dataset.range(2**40), function, threads)

    def start() -> rates.Work:
        iterator = iter(batches)
        return lambda times: _draw_batches(iterator, tf.constant(times))

    return start


@tf.function(reduce_retracing=True)
def _draw_batches(iterator: Iterator, times: tf.Tensor) -> None:
    for _ in tf.range(times):
        next(iterator)


def training(recipe: Recipe, presets: Sequence[str], rounds: int, seconds: float) -> rates.Rates:
    """The speed of training on one constant batch, and on the pipeline with each of the presets.

    Args:
      recipe: what is trained.
      presets: presets of augmentation.
      rounds: the least number of rounds. More are measured, until they take six times `rounds * seconds`.
      seconds: the longest duration of a measurement. It is shorter if the pipeline plans fewer steps at once, but at
        least one step.

    Returns:
      `CONSTANT` or the preset -> images per second in each round.
    """
    memory.keep_freed()
    setup = prepare(recipe)
    steps = Steps(recipe, setup.strategy, setup.model, setup.optimizer, setup.total_steps)
    dataset = datasets.load(recipe.dataset, validation=recipe.validation)
    feeds = {preset: pipelines.Pipeline(dataset, recipe.replace(augment=preset), setup.model.input_shape[1:])
             .training(0) for preset in presets}
    feeds = {CONSTANT: tf.data.Dataset.from_tensors(next(iter(feeds[presets[0]]))).repeat()} | feeds

    def start(batches: tf.data.Dataset) -> rates.Work:
        with process.low_priority_threads():
            iterator = devices.distribute(setup.strategy, batches)
        return lambda times: steps.run(iterator, tf.constant(times)).numpy()

    starts = {name: (functools.partial(start, batches), recipe.batch_size) for name, batches in feeds.items()}
    step = recipe.batch_size / rates.compare({CONSTANT: starts[CONSTANT]}, 1, seconds)[CONSTANT][0]
    turn = max(step, min(seconds, pipelines.PLANNED * step))
    return rates.compare(starts, max(rounds, round(_TRAINING_FACTOR * rounds * seconds / turn)), turn)


def measure(recipes: Mapping[str, Recipe], presets: Sequence[str], rounds: int, seconds: float, workdir: Path) -> None:
    """Measures everything and writes `result.json`, `README.md` and `speeds.png` into the folder.

    Args:
      recipes: experiment -> recipe of the network that is trained; all have the same batch size.
      presets: presets of augmentation to train with.
      rounds: how often everything is measured, see `training`.
      seconds: the approximate duration of a measurement; in training at most four times as long.
      workdir: the folder, created if necessary.
    """
    batch_size = next(iter(recipes.values())).batch_size
    speeds = augmentations(batch_size, rounds, seconds)
    consumed: dict[str, Any] = {}
    for name, recipe in recipes.items():
        found = training(recipe, presets, rounds, 4 * seconds)
        consumed[name] = {CONSTANT: statistics.median(found[CONSTANT]), "rounds": len(found[CONSTANT])} | {
            f"{what} of {preset}": compute(found, preset, CONSTANT) for preset in presets
            for what, compute in (("cost", rates.cost), ("uncertainty", rates.uncertainty))}
        print(f"{name}: {consumed[name]}", flush=True)
        gc.collect()
    result = {"experiment": "input_pipeline", "machine": processor.description(), "batch_size": batch_size,
              "rounds": rounds, "images_per_second": speeds, "training": consumed, **record.environment()}
    page = input_pipeline_report.text(result)
    report.write(workdir, result, page, "speeds.png", lambda: input_pipeline_report.picture(result))
    print(page)
