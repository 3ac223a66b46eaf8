"""Random numbers of augmentation against the published outputs of SplitMix64."""

from __future__ import annotations

import itertools

import numpy as np
import tensorflow as tf

from tests.augmented_images import MASK, seeds_of, splitmix
from tfcnn.augmentations import KINDS
from tfcnn.data.augmentation import random_numbers


def test_uniform_is_splitmix64() -> None:
    # The first outputs from the state 1234567, as published with the generator's reference implementations.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [splitmix(1234567, draw) for draw in range(4)] == published
    states = [0, 1, 1234567, 2**63 + 5, MASK]
    for draw in (0, 1, 2, 17):
        expected = [(splitmix(state, draw) >> 40) / 2**24 for state in states]
        np.testing.assert_array_equal(random_numbers.uniform(tf.constant(states, tf.uint64), draw), expected)


def test_uniform_is_uniform_and_its_draws_are_independent() -> None:
    count = 100_000
    draws = np.stack([random_numbers.uniform(seeds_of(count), draw) for draw in range(3)])
    histograms = [np.histogram(values, 20, (0, 1))[0] for values in draws]
    for histogram in histograms:  # chi-square with 19 degrees of freedom: 43.8 is its 99.9% point
        assert ((histogram - count / 20) ** 2 / (count / 20)).sum() < 43.8
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.015  # 4.7 standard errors


def test_no_two_operations_share_a_draw() -> None:
    assert set(random_numbers.DRAWS) == set(KINDS) | {"partner", "streamed_crop"}
    ranges = sorted((first, first + count) for first, count in random_numbers.DRAWS.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    # Recorded runs depend on these.
    assert random_numbers.DRAWS["crop"] == (0, 2) and random_numbers.DRAWS["mirror"] == (2, 1)


def test_seeds_and_orders_are_those_of_recorded_runs() -> None:
    epochs = [splitmix(splitmix(7, 0), epoch - 1) for epoch in range(3)]
    for epoch, state in enumerate(epochs):
        np.testing.assert_array_equal(seeds_of(3, 7, epoch), [splitmix(state, image - 1) for image in range(3)])
    orders = np.array([splitmix(state, -2) for state in epochs], "<u8")
    np.testing.assert_array_equal(random_numbers.order_seed(7, tf.range(3, dtype=tf.int64)),
                                  orders.view("<i4").reshape(3, 2))


def test_positions_of_several_orders_are_shuffled_as_tensorflow_shuffles_one() -> None:
    seeds = random_numbers.order_seed(7, tf.constant([0, 0, 5], tf.int64))
    positions = tf.constant([[0, 1, 2, 3], [4, 5, 6, 7], [0, 1, 8, 9]], tf.int64)
    indices = random_numbers.shuffled_indices(positions, seeds, 10)
    expected = [tf.random.experimental.index_shuffle(row, seed, 9) for row, seed in zip(positions, seeds)]
    np.testing.assert_array_equal(indices, expected)
    assert len(np.unique(indices[:2])) == 8  # of one order


def test_seeds_differ_in_image_epoch_and_seed() -> None:
    seeds = np.concatenate([seeds_of(1000, seed, epoch) for seed in range(5) for epoch in range(5)])
    assert len(np.unique(seeds)) == seeds.size
    np.testing.assert_array_equal(seeds_of(10, 3, 4), seeds_of(20, 3, 4)[:10])
