"""Random images and what augmentation makes of them, with an independent SplitMix64 in Python's integers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfcnn.augmentations import parse
from tfcnn.data.augmentation import colour, composition, random_numbers

MASK = 2**64 - 1
COMPONENTS = colour.components(np.random.default_rng(9).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8))


def splitmix(state: int, draw: int) -> int:
    """The draw-th output of SplitMix64 from a state: the listing of Steele, Lea and Flood, in Python's integers."""
    bits = (state + (draw + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def seeds_of(count: int, seed: int = 1, epoch: int = 0) -> tf.Tensor:
    """The seeds of the first images of the training set, uint64 [count]."""
    return random_numbers.image_seeds(seed, tf.constant(epoch, tf.int64), tf.range(count, dtype=tf.int64))


def random_images(count: int, height: int = 9, width: int = 7, channels: int = 3) -> np.ndarray:
    """Noise without black pixels, which appear only outside of the image: uint8."""
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def augmented(text: str, images: np.ndarray, seeds: tf.Tensor | None = None) -> np.ndarray:
    """The images after the operations of a specification; by default with `seeds_of`."""
    seeds = seeds_of(len(images)) if seeds is None else seeds
    return composition.apply(tf.constant(images), seeds, parse(text), COMPONENTS).numpy()


def draws_of(name: str, count: int) -> np.ndarray:
    """The draws of an operation for `seeds_of(count)`, in double precision: [draws, count]."""
    first, number = random_numbers.DRAWS[name]
    draws = [random_numbers.uniform(seeds_of(count), first + draw).numpy() for draw in range(number)]
    return np.stack(draws).astype(float)


def is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    """The Kolmogorov-Smirnov test, at a significance level of 0.1%."""
    ordered = (np.sort(values.ravel()) - low) / (high - low)
    return np.abs(ordered - (np.arange(ordered.size) + 0.5) / ordered.size).max() < 1.95 / np.sqrt(ordered.size)
