"""Mixup and cutmix: partners, weights and labels."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.augmented_images import draws_of, random_images, seeds_of, splitmix
from tfcnn.augmentations import parse
from tfcnn.data.augmentation import mixing, random_numbers


def test_partners_are_uniform_over_all_images() -> None:
    count, images = 50_000, 40
    partners = mixing.partner_indices(seeds_of(count), images).numpy()
    assert partners.min() == 0 and partners.max() == images - 1
    counts = np.bincount(partners)
    assert ((counts - count / images) ** 2 / (count / images)).sum() < 72.1  # chi-square, 39 degrees, 99.9%
    assert abs(np.corrcoef(partners[:-1], partners[1:])[0, 1]) < 0.02
    many = 2**32 - 1
    first, _ = random_numbers.DRAWS["partner"]
    expected = [(splitmix(int(seed), first) >> 32) * many >> 32 for seed in seeds_of(20).numpy()]
    np.testing.assert_array_equal(mixing.partner_indices(seeds_of(20), many), expected)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 3.0, 60.0])
def test_weights_of_mixup_have_a_beta_distribution(alpha: float) -> None:
    count = 40_000
    nothing = tf.zeros((count, 1, 1, 1), tf.uint8)
    mixed, shares = mixing.mix(nothing, nothing + 255, seeds_of(count), parse(f"mixup:{alpha}"))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], 255 * (1 - shares), atol=1e-3)
    shares = np.sort(shares)
    assert shares[0] >= 0 and shares[-1] <= 1
    assert abs(shares.mean() - 0.5) < 0.01
    assert abs(shares.var() / (0.25 / (2 * alpha + 1)) - 1) < 0.03
    reference = np.sort(np.random.default_rng(0).beta(alpha, alpha, count))
    at = np.concatenate([shares, reference.astype(np.float32)])
    distance = np.abs(np.searchsorted(shares, at, "right") - np.searchsorted(reference.astype(np.float32), at, "right"))
    assert distance.max() / count < 1.95 * np.sqrt(2 / count)  # Kolmogorov-Smirnov, 0.1%


def test_mixup_is_the_weighted_mean_of_images() -> None:
    images, partners = random_images(30), random_images(60)[30:]
    mixed, shares = mixing.mix(tf.constant(images), tf.constant(partners), seeds_of(30), parse("standard,mixup:1"))
    assert mixed.dtype == tf.float32 and shares.dtype == tf.float32
    weights = draws_of("mixup", 30)[0]  # Beta(1, 1) is uniform
    np.testing.assert_allclose(shares, weights, atol=1e-5)
    weights = weights[:, None, None, None]
    np.testing.assert_allclose(mixed, weights * images + (1 - weights) * partners, atol=0.01)


def test_cutmix_replaces_a_rectangle_and_weighs_labels_by_area() -> None:
    count, height, width = 400, 10, 15
    images, partners = random_images(count, height, width) // 2, random_images(count, height, width) // 2 + 128
    mixed, shares = mixing.mix(tf.constant(images), tf.constant(partners), seeds_of(count), parse("cutmix:1"))
    assert mixed.dtype == tf.uint8
    expected, kept = images.copy(), np.ones(count)
    side, down, right = draws_of("cutmix", count)
    for number in range(count):
        row, column = int(down[number] * height), int(right[number] * width)
        half = [int(np.sqrt(side[number]) * pixels) // 2 for pixels in (height, width)]
        part = np.s_[max(row - half[0], 0):row + half[0], max(column - half[1], 0):column + half[1]]
        expected[number][part] = partners[number][part]
        kept[number] -= expected[number][part][..., 0].size / (height * width)
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(shares, kept, atol=1e-6)
    np.testing.assert_allclose((mixed.numpy() < 128).mean((1, 2, 3)), kept, atol=1e-6)
    assert kept.min() < 0.3 and kept.max() == 1


def test_without_a_mixing_operation_nothing_is_mixed() -> None:
    images = tf.constant(random_images(4))
    assert not mixing.mixes(parse("strong")) and mixing.mixes(parse("strong,mixup"))
    with pytest.raises(ValueError, match="none of mixup, cutmix"):
        mixing.mix(images, images, seeds_of(4), parse("strong"))
