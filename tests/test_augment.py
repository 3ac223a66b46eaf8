"""Augmentation against NumPy and against the published outputs of SplitMix64."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfcnn.data import augment

MASK = 2**64 - 1


def _splitmix(state: int, draw: int) -> int:
    """The draw-th output of SplitMix64 from a state, as in Steele, Lea and Flood's listing, in Python's integers."""
    bits = (state + (draw + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def _seeds(count: int, seed: int = 1, epoch: int = 0) -> tf.Tensor:
    return augment.image_seeds(seed, tf.constant(epoch, tf.int64), tf.range(count, dtype=tf.int64))


def _images(count: int, height: int = 9, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def test_uniform_is_splitmix64() -> None:
    # The first outputs from the state 1234567, as published with the generator's reference implementations.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [_splitmix(1234567, draw) for draw in range(4)] == published
    states = [0, 1, 1234567, 2**63 + 5, MASK]
    for draw in (0, 1, 2, 17):
        expected = [(_splitmix(state, draw) >> 40) / 2**24 for state in states]
        np.testing.assert_array_equal(augment.uniform(tf.constant(states, tf.uint64), draw), expected)


def test_uniform_is_uniform_and_its_draws_are_independent() -> None:
    count = 100_000
    draws = np.stack([augment.uniform(_seeds(count), draw) for draw in range(3)])
    histograms = [np.histogram(values, 20, (0, 1))[0] for values in draws]
    for histogram in histograms:  # chi-square with 19 degrees of freedom: 43.8 is its 99.9% point
        assert ((histogram - count / 20) ** 2 / (count / 20)).sum() < 43.8
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.015  # 4.7 standard errors


def test_seeds_differ_in_image_epoch_and_seed() -> None:
    seeds = np.concatenate([_seeds(1000, seed, epoch) for seed in range(5) for epoch in range(5)])
    assert len(np.unique(seeds)) == seeds.size
    np.testing.assert_array_equal(_seeds(10, 3, 4), _seeds(20, 3, 4)[:10])


@pytest.mark.parametrize("padding", [1, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_crop_is_numpys(padding: int, kind: type) -> None:
    images, seeds = _images(64).astype(kind), _seeds(64)
    tops = np.floor(augment.uniform(seeds, 0).numpy() * (2 * padding + 1)).astype(int)
    lefts = np.floor(augment.uniform(seeds, 1).numpy() * (2 * padding + 1)).astype(int)
    padded = np.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    expected = [image[top:top + 9, left:left + 7] for image, top, left in zip(padded, tops, lefts)]
    result = augment.crop(tf.constant(images), seeds, padding)
    assert result.dtype == kind
    np.testing.assert_array_equal(result, expected)


def test_crops_are_spread_evenly_over_all_offsets() -> None:
    count, padding = 20_000, 2
    image = np.zeros((5, 5, 1), np.uint8)
    image[2, 2] = 1
    crops = augment.crop(tf.constant(np.broadcast_to(image, (count, 5, 5, 1))), _seeds(count), padding).numpy()
    places = crops.sum(axis=0).ravel()  # the marked pixel lands on each of the 25 places equally often
    assert places.sum() == count
    assert ((places - count / 25) ** 2 / (count / 25)).sum() < 51.2  # chi-square, 24 degrees of freedom, 99.9%


def test_crop_without_padding_is_the_identity() -> None:
    images = _images(8)
    np.testing.assert_array_equal(augment.crop(tf.constant(images), _seeds(8), 0), images)


def test_mirror_is_numpys_and_turns_half() -> None:
    images, seeds = _images(2000), _seeds(2000)
    turned = augment.uniform(seeds, 2).numpy() < 0.5
    expected = np.where(turned[:, None, None, None], images[:, :, ::-1], images)
    np.testing.assert_array_equal(augment.mirror(tf.constant(images), seeds), expected)
    assert abs(turned.mean() - 0.5) < 0.04  # 3.6 standard errors


@pytest.mark.parametrize("function", [lambda images, seeds: augment.crop(images, seeds, 4), augment.mirror])
def test_an_image_is_altered_alike_whatever_is_beside_it(function) -> None:
    images, seeds = _images(50), _seeds(50)
    together = function(tf.constant(images), seeds).numpy()
    order = np.random.default_rng(1).permutation(50)
    np.testing.assert_array_equal(function(tf.constant(images[order]), tf.gather(seeds, order)), together[order])
    np.testing.assert_array_equal(function(tf.constant(images[7:8]), seeds[7:8]), together[7:8])
    np.testing.assert_array_equal(tf.function(function)(tf.constant(images), seeds), together)
