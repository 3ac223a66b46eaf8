"""Resampling against NumPy: source positions, and what is read there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.numpy_images import bilinear, grid
from tfcnn.data.augmentation import resampling

SIZES = [(1, 1), (2, 3), (8, 8), (9, 7), (28, 28), (32, 32), (33, 20), (64, 11)]


def _images(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def _factors(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float32)[:, None, None]


@pytest.mark.parametrize("height, width", SIZES)
def test_identity_keeps_the_bits(height: int, width: int) -> None:
    images = _images(3, height, width)
    result = resampling.interpolate(tf.constant(images), resampling.IDENTITY, tf.zeros((3, 2, height, width)))
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, images)
    gathered = resampling.gather(tf.constant(images), tf.range(len(images)), resampling.IDENTITY)
    np.testing.assert_array_equal(gathered, images)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 28, 32, 33, 50])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_and_mirror_are_exact_permutations(size: int, quarters: int) -> None:
    images = _images(4, size, size)
    angles = quarters * math.pi / 2 * np.ones(4)
    rotated = np.rot90(images, quarters, (1, 2))  # counter-clockwise
    source = resampling.rotate(resampling.IDENTITY, _factors(*np.cos(angles)), _factors(*np.sin(angles)))
    np.testing.assert_array_equal(resampling.interpolate(tf.constant(images), source), rotated)
    mirrored = resampling.mirror(source, tf.constant([True, False, True, False])[:, None, None])
    expected = rotated.copy()
    # Mirrored first, then rotated: operations are composed backwards.
    expected[::2] = np.rot90(images[::2, :, ::-1], quarters, (1, 2))
    np.testing.assert_array_equal(resampling.interpolate(tf.constant(images), mirrored), expected)


def test_interpolation_between_pixels_and_beyond_the_edge() -> None:
    image = np.array([[10, 20], [30, 60]], np.uint8)[None, :, :, None]
    shifted = resampling.shift(resampling.IDENTITY, _factors(0.5), _factors(0.0))
    np.testing.assert_array_equal(resampling.interpolate(tf.constant(image), shifted)[0, :, :, 0], [[15, 10], [45, 30]])
    shifted = resampling.shift(resampling.IDENTITY, _factors(-0.25), _factors(0.5))
    np.testing.assert_array_equal(
        resampling.interpolate(tf.constant(image), shifted)[0, :, :, 0], [[15, 35], [11.25, 26.25]])
    for distance in (1.0, 2.0, 50.0, 1e6):  # black outside, however far
        shifted = resampling.shift(resampling.IDENTITY, _factors(distance), _factors(-distance))
        interpolated = resampling.interpolate(tf.constant(image), shifted)
        assert np.count_nonzero(interpolated) == 0 or distance < 2
        np.testing.assert_array_equal(interpolated, resampling.gather(tf.constant(image), tf.range(1), shifted))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("height, width, channels", [(9, 7, 3), (32, 32, 1), (12, 30, 3)])
def test_affine_maps_and_fields_agree_with_numpy(height: int, width: int, channels: int, kind: type) -> None:
    count, random = 20, np.random.default_rng(1)
    images = _images(count, height, width, channels).astype(kind)
    angle, across, along = random.uniform(-3, 3, count), random.uniform(0.5, 2, count), random.uniform(0.5, 2, count)
    slant, right, down = random.uniform(-1, 1, count), random.uniform(-9, 9, count), random.uniform(-9, 9, count)
    field = random.uniform(-3, 3, (count, 2, height, width))

    source = resampling.shift(resampling.IDENTITY, _factors(*right), _factors(*down))
    source = resampling.shear(source, across=_factors(*slant), along=0.0)
    source = resampling.shear(source, across=0.0, along=_factors(*(slant / 2)))
    source = resampling.scale(source, _factors(*across), _factors(*along))
    source = resampling.rotate(source, _factors(*np.cos(angle)), _factors(*np.sin(angle)))
    x, y = grid(height, width)
    x, y = x + right[:, None, None], y + down[:, None, None]
    x = x + slant[:, None, None] * y
    y = y + slant[:, None, None] / 2 * x
    x, y = x * across[:, None, None], y * along[:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = cosine * x - sine * y, sine * x + cosine * y

    np.testing.assert_allclose(resampling.interpolate(tf.constant(images), source), bilinear(images, x, y), atol=0.02)
    warped = resampling.interpolate(tf.constant(images), source, tf.constant(field, tf.float32))
    np.testing.assert_allclose(warped, bilinear(images, x + field[:, 1], y + field[:, 0]), atol=0.02)
    # A map with coefficients for one axis only.
    one = resampling.scale(resampling.IDENTITY, _factors(*across), 1.0)
    x, y = grid(height, width)
    np.testing.assert_allclose(resampling.interpolate(tf.constant(images), one),
                               bilinear(images, x * across[:, None, None], y + 0 * x), atol=0.02)


def test_gathering_whole_pixels_agrees_with_numpy_and_keeps_the_dtype() -> None:
    height, width = 6, 9
    images = _images(30, height, width).astype(np.float32) + 0.5
    random = np.random.default_rng(2)
    right, down = random.integers(-12, 12, (2, 30))
    source = resampling.shift(resampling.IDENTITY, _factors(*right), _factors(*down))
    padded = np.pad(images, [(0, 0), (12, 12), (12, 12), (0, 0)])
    expected = [image[12 + top:12 + top + height, 12 + left:12 + left + width]
                for image, top, left in zip(padded, down, right)]
    np.testing.assert_array_equal(resampling.gather(tf.constant(images), tf.range(len(images)), source), expected)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_warp_is_a_gaussian_smoothing_of_the_noise(sigma: float) -> None:
    height, width, alpha = 13, 20, 30.0
    noise = 2.0 * np.random.default_rng(0).integers(0, 256, (3, 2, height, width)) - 255
    field = resampling.warp(tf.constant(noise, tf.float32), alpha, sigma).numpy()
    reach = 40
    kernel = np.exp(-np.arange(-reach, reach + 1.0) ** 2 / (2 * sigma**2))
    kernel /= kernel.sum()
    smooth = np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], -1, noise / 255)
    smooth = np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], -2, smooth)
    # Rounded once to 1/255, and weights of 2^-16 rounded down.
    np.testing.assert_allclose(field, alpha * smooth, atol=alpha * 0.7 / 255)
    assert np.abs(field - alpha * smooth).mean() < alpha * 0.2 / 255


def test_sums_of_warp_are_exact() -> None:
    """Even the largest possible sums: any order of addition gives the same, so the batch size does not matter."""
    for size in (3, 28, 64):
        for sigma in (0.01, 0.3, 4.0, 100.0):
            noise = np.full((1, 2, size, size), 255.0, np.float32)
            weights = resampling.warp(tf.constant(noise), 1.0, sigma).numpy()
            assert weights.max() <= 1.0 and weights.min() >= 0
    noise = np.random.default_rng(0).integers(-255, 256, (50, 2, 28, 28)).astype(np.float32)
    together = resampling.warp(tf.constant(noise), 8.0, 4.0).numpy()
    for count in (1, 2, 3, 49):
        np.testing.assert_array_equal(resampling.warp(tf.constant(noise[:count]), 8.0, 4.0), together[:count])
