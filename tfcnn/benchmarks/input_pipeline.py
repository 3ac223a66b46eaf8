"""How fast the input pipeline is: each augmentation beside Keras's layer, and all beside the training that it feeds."""

from __future__ import annotations

import functools
import gc
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfcnn import files
from tfcnn.benchmarks import rates
from tfcnn.data import augment, colour, datasets
from tfcnn.data import pipeline as pipelines
from tfcnn.recipe import Recipe
from tfcnn.runs.record import environment
from tfcnn.training import devices
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare

SHAPE = (32, 32, 3)
IMAGES = 50_000  # as CIFAR-10 has them: more than caches hold

# What is measured, and Keras's layers that do the like, if there are any. Values are bytes, from 0 to 255.
_RANGE = (0, 255)
KERAS: dict[str, Callable[[], list[keras.Layer]] | None] = {
    "mirror": lambda: [keras.layers.RandomFlip("horizontal")],
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
    "elastic:8:4": lambda: [keras.layers.RandomElasticTransform(1.0, 0.25, value_range=_RANGE)],
    "colour_pca:0.1": None,
    "brightness:0.4": lambda: [keras.layers.RandomBrightness(0.4, value_range=_RANGE)],
    "contrast:0.4": lambda: [keras.layers.RandomContrast(0.4, value_range=_RANGE)],
    "saturation:0.4": lambda: [keras.layers.RandomSaturation(0.4, value_range=_RANGE)],
    "cutout:8": lambda: [keras.layers.RandomErasing(factor=1.0, scale=(0.0625, 0.0625), value_range=_RANGE)],
    "randaugment:2:9": lambda: [keras.layers.RandAugment(value_range=_RANGE, num_ops=2, factor=0.9)],
    "mixup:0.2": lambda: [keras.layers.MixUp(0.2)],
    "cutmix:1": lambda: [keras.layers.CutMix(1.0)],
    "standard": None,
    "alexnet": None,
    "strong": None,
}
ONE, ALL, KERAS_ONE, KERAS_ALL = "one core", "all cores", "Keras, one core", "Keras, all cores"
CONSTANT = "constant batch"

# A round is off by several percent, however long it is: training has many short ones, and so many times as long in all.
_MORE = 6


def augmentations(batch_size: int, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Images a second of each augmentation of `KERAS`, ours and Keras's, on one core and on all.

    Ours reads its images from 50,000 of them, by index; Keras's layers get batches that are there already.
    """
    sample = pipelines.fit(datasets.load("sample", validation=0).train, SHAPE)
    images = np.resize(sample.images, (IMAGES, *SHAPE))
    with tf.device("CPU"):
        stored = tf.constant(images)
    components = colour.components(sample.images + np.arange(3, dtype=np.uint8))
    batch = {"images": tf.cast(images[:batch_size], tf.float32), "labels": tf.one_hot(np.arange(batch_size) % 10, 10)}
    core_counts = {ONE: 1, ALL: len(rates.available())}
    work: dict[str, dict[str, tuple[rates.Start, int]]] = {ONE: {}, ALL: {}, KERAS_ONE: {}, KERAS_ALL: {}}
    for name, make in KERAS.items():
        for where, count in core_counts.items():
            work[where][name] = _ours(name, stored, components, batch_size, count), batch_size
            if make is not None:
                work[f"Keras, {where}"][name] = _kerass(make(), batch, count), batch_size
    found = {}
    for where in work:
        with rates.cores(core_counts[where.removeprefix("Keras, ")]):
            found[where] = rates.median(rates.compare(work[where], rounds, seconds))
    return {name: {where: found[where][name] for where in found if name in found[where]} for name in KERAS}


def _ours(name: str, stored: tf.Tensor, components: np.ndarray, batch_size: int, threads: int) -> rates.Start:
    operations = Recipe(experiment="", network="", augment=name).augmentations()

    def altered(step: tf.Tensor) -> tf.Tensor:
        first = step * batch_size
        indices = tf.random.experimental.index_shuffle(
            (first + tf.range(batch_size, dtype=tf.int64)) % IMAGES, [0, 1], IMAGES - 1)
        seeds = augment.image_seeds(0, first // IMAGES, indices)
        images = augment.take(stored, indices, seeds, operations, components)
        if augment.mixes(operations):
            images, _ = augment.mix(images, tf.gather(stored, augment.partner_indices(seeds, IMAGES)), seeds,
                                    operations)
        return images

    return _mapped(altered, threads)


def _kerass(layers: Sequence[keras.Layer], batch: Mapping[str, tf.Tensor], threads: int) -> rates.Start:
    def altered(step: tf.Tensor) -> Any:
        # MixUp and CutMix need labels, the others take none.
        data: Any = dict(batch) if isinstance(layers[0], keras.layers.MixUp | keras.layers.CutMix) else batch["images"]
        for layer in layers:
            data = layer(data, training=True)
        return data["images"] if isinstance(data, dict) else data

    return _mapped(altered, threads)


def _mapped(function: Callable[[tf.Tensor], tf.Tensor], threads: int) -> rates.Start:
    """Draws batches through tf.data, as training does."""
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
    """Images a second of training on one constant batch, and on the pipeline with each of the presets.

    Args:
      recipe: what is trained.
      presets: of augmentations.
      rounds: how often all are measured at least: there are so many more rounds as fill six times their time.
      seconds: about how long a round is. One has no more steps than the pipeline plans at once, but at least one.
    """
    setup = prepare(recipe)
    steps = Steps(recipe, setup.strategy, setup.model, setup.optimizer)
    dataset = datasets.load(recipe.dataset, validation=recipe.validation)
    feeds = {preset: pipelines.Pipeline(dataset, recipe.replace(augment=preset), setup.model.input_shape[1:])
             .training(0) for preset in presets}
    feeds = {CONSTANT: tf.data.Dataset.from_tensors(next(iter(feeds[presets[0]]))).repeat()} | feeds

    def start(batches: tf.data.Dataset) -> rates.Work:
        with devices.giving_way():
            iterator = iter(devices.distribute(setup.strategy, batches))
        return lambda times: steps.run(iterator, tf.constant(times)).numpy()

    starts = {name: (functools.partial(start, batches), recipe.batch_size) for name, batches in feeds.items()}
    step = recipe.batch_size / rates.compare({CONSTANT: starts[CONSTANT]}, 1, seconds)[CONSTANT][0]
    turn = max(step, min(seconds, pipelines.PLANNED * step))
    return rates.compare(starts, max(rounds, round(_MORE * rounds * seconds / turn)), turn)


def measure(recipes: Mapping[str, Recipe], presets: Sequence[str], rounds: int, seconds: float, workdir: Path) -> None:
    """Measures everything, and leaves `result.json`, `README.md` and `speeds.png` in the folder."""
    batch_size = next(iter(recipes.values())).batch_size
    speeds = augmentations(batch_size, rounds, seconds)
    consumed: dict[str, Any] = {}
    for name, recipe in recipes.items():
        found = training(recipe, presets, rounds, 4 * seconds)
        consumed[name] = {CONSTANT: statistics.median(found[CONSTANT]), "rounds": len(found[CONSTANT])} | {
            f"{figure} of {preset}": of(found, preset, CONSTANT) for preset in presets
            for figure, of in (("cost", rates.cost), ("uncertainty", rates.uncertainty))}
        print(f"{name}: {consumed[name]}", flush=True)
        gc.collect()
    result = {"experiment": "input_pipeline", "machine": rates.machine(), "batch_size": batch_size, "rounds": rounds,
              "images_per_second": speeds, "training": consumed, **environment()}
    workdir.mkdir(parents=True, exist_ok=True)
    _draw(result, workdir / "speeds.png")
    text = _report(result, presets)
    files.write(workdir / "README.md", text)
    files.write(workdir / "result.json", json.dumps(result, indent=2) + "\n")
    print(text)


def _report(result: Mapping[str, Any], presets: Sequence[str]) -> str:
    columns = (ONE, ALL, KERAS_ONE, KERAS_ALL)
    commit, *dirty = result["commit"].split("-")
    lines = ["# The speed of the input pipeline", "",
             f"{result['machine']}; 32x32x3 images, batch {result['batch_size']}, medians, in one process; "
             f"TensorFlow {result['versions']['tensorflow']}, commit {'-'.join([commit[:7], *dirty])}.",
             "", f"Images a second, of {result['rounds']} rounds:", "",
             f"| augmentation | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name, speeds in result["images_per_second"].items():
        cells = [f"{speeds[column]:,.0f}" if column in speeds else "" for column in columns]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines += ["", "Training, on all cores, and what augmentation costs it (the share of speed lost, with its standard "
              "error), beside how many times as fast the pipeline alone is:", "",
              "| network | rounds | on one constant batch, images/s | " + " | ".join(
                  f"`{preset}`, times | cost" for preset in presets) + " |",
              f"|---|---:|---:|{'---:|---:|' * len(presets)}"]
    for name, row in result["training"].items():
        cells = [f"{result['images_per_second'][preset][ALL] / row[CONSTANT]:,.0f} | {row[f'cost of {preset}']:.1%} "
                 f"± {row[f'uncertainty of {preset}']:.1%}" for preset in presets]
        lines.append(f"| {name} | {row['rounds']} | {row[CONSTANT]:,.0f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "![Images a second of each augmentation](speeds.png)", ""])


def _draw(result: Mapping[str, Any], path: Path) -> None:
    """Bars of ours and Keras's on one core, and lines where networks train."""
    names = list(result["images_per_second"])[::-1]
    figure = Figure(figsize=(10, 0.36 * len(names) + 1.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for side, (column, colour_name) in enumerate(((KERAS_ONE, "tab:gray"), (ONE, "tab:blue"))):
        shown = [(number, result["images_per_second"][name][column]) for number, name in enumerate(names)
                 if column in result["images_per_second"][name]]
        bars = axes.barh([number - 0.2 + 0.4 * side for number, _ in shown], [speed for _, speed in shown], 0.4,
                         label="tfcnn" if column == ONE else "keras.layers", color=colour_name)
        axes.bar_label(bars, [f"{speed:,.0f}" for _, speed in shown], padding=2, fontsize=7)
    place = 0.0
    for name, speed in sorted(((name, row[CONSTANT]) for name, row in result["training"].items()),
                              key=lambda entry: entry[1]):
        axes.axvline(speed, color="tab:red", linewidth=0.8, linestyle=":")
        place = max(speed, 1.3 * place)  # not on top of the name before
        axes.text(place, len(names) - 0.3, name, rotation=60, fontsize=7, color="tab:red")
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(-0.6, len(names) + 2.2)
    axes.set_xlabel(f"images a second on one core (32x32x3, batch {result['batch_size']}); "
                    "dotted: what networks consume in training, on all cores")
    axes.legend(loc="lower right")
    axes.margins(x=0.15)
    figure.savefig(path)
