"""Resampling against NumPy: where pixels come from, and what is read there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tfcnn.data import resample

from .numpy_images import bilinear, grid

SIZES = [(1, 1), (2, 3), (8, 8), (9, 7), (28, 28), (32, 32), (33, 20), (64, 11)]


def _images(count: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def _factors(*values: float) -> tf.Tensor:
    return tf.constant(values, tf.float32)[:, None, None]


@pytest.mark.parametrize("height, width", SIZES)
def test_an_unmoved_image_is_the_same_bits(height: int, width: int) -> None:
    images = _images(3, height, width)
    unmoved = resample.interpolate(tf.constant(images), resample.UNMOVED, tf.zeros((3, 2, height, width)))
    assert unmoved.dtype == tf.float32
    np.testing.assert_array_equal(unmoved, images)
    np.testing.assert_array_equal(resample.read(tf.constant(images), tf.range(len(images)), resample.UNMOVED), images)


@pytest.mark.parametrize("size", [1, 2, 7, 8, 28, 32, 33, 50])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_quarter_turns_and_mirror_are_exact_permutations(size: int, quarters: int) -> None:
    images = _images(4, size, size)
    angles = quarters * math.pi / 2 * np.ones(4)
    turned = np.rot90(images, quarters, (1, 2))  # counter-clockwise, as seen
    place = resample.rotate(resample.UNMOVED, _factors(*np.cos(angles)), _factors(*np.sin(angles)))
    np.testing.assert_array_equal(resample.interpolate(tf.constant(images), place), turned)
    mirrored = resample.mirror(place, tf.constant([True, False, True, False])[:, None, None])
    expected = turned.copy()
    # First mirrored, then turned: the list is gone through backwards.
    expected[::2] = np.rot90(images[::2, :, ::-1], quarters, (1, 2))
    np.testing.assert_array_equal(resample.interpolate(tf.constant(images), mirrored), expected)


def test_interpolation_is_half_way_between_pixels_and_fades_into_black() -> None:
    image = np.array([[10, 20], [30, 60]], np.uint8)[None, :, :, None]
    shifted = resample.shift(resample.UNMOVED, _factors(0.5), _factors(0.0))
    np.testing.assert_array_equal(resample.interpolate(tf.constant(image), shifted)[0, :, :, 0], [[15, 10], [45, 30]])
    shifted = resample.shift(resample.UNMOVED, _factors(-0.25), _factors(0.5))
    np.testing.assert_array_equal(
        resample.interpolate(tf.constant(image), shifted)[0, :, :, 0], [[15, 35], [11.25, 26.25]])
    for distance in (1.0, 2.0, 50.0, 1e6):  # nothing outside, however far
        shifted = resample.shift(resample.UNMOVED, _factors(distance), _factors(-distance))
        interpolated = resample.interpolate(tf.constant(image), shifted)
        assert np.count_nonzero(interpolated) == 0 or distance < 2
        np.testing.assert_array_equal(interpolated, resample.read(tf.constant(image), tf.range(1), shifted))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("height, width, channels", [(9, 7, 3), (32, 32, 1), (12, 30, 3)])
def test_any_affine_map_and_field_is_numpys(height: int, width: int, channels: int, kind: type) -> None:
    count, random = 20, np.random.default_rng(1)
    images = _images(count, height, width, channels).astype(kind)
    angle, across, along = random.uniform(-3, 3, count), random.uniform(0.5, 2, count), random.uniform(0.5, 2, count)
    slant, right, down = random.uniform(-1, 1, count), random.uniform(-9, 9, count), random.uniform(-9, 9, count)
    field = random.uniform(-3, 3, (count, 2, height, width))

    place = resample.shift(resample.UNMOVED, _factors(*right), _factors(*down))
    place = resample.shear(place, across=_factors(*slant), along=0.0)
    place = resample.shear(place, across=0.0, along=_factors(*(slant / 2)))
    place = resample.scale(place, _factors(*across), _factors(*along))
    place = resample.rotate(place, _factors(*np.cos(angle)), _factors(*np.sin(angle)))
    x, y = grid(height, width)
    x, y = x + right[:, None, None], y + down[:, None, None]
    x = x + slant[:, None, None] * y
    y = y + slant[:, None, None] / 2 * x
    x, y = x * across[:, None, None], y * along[:, None, None]
    cosine, sine = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = cosine * x - sine * y, sine * x + cosine * y

    np.testing.assert_allclose(resample.interpolate(tf.constant(images), place), bilinear(images, x, y), atol=0.02)
    warped = resample.interpolate(tf.constant(images), place, tf.constant(field, tf.float32))
    np.testing.assert_allclose(warped, bilinear(images, x + field[:, 1], y + field[:, 0]), atol=0.02)
    # A place of one axis only, and of none.
    one = resample.scale(resample.UNMOVED, _factors(*across), 1.0)
    x, y = grid(height, width)
    np.testing.assert_allclose(resample.interpolate(tf.constant(images), one),
                               bilinear(images, x * across[:, None, None], y + 0 * x), atol=0.02)


def test_reading_whole_pixels_is_numpys_and_keeps_the_type() -> None:
    height, width = 6, 9
    images = _images(30, height, width).astype(np.float32) + 0.5
    random = np.random.default_rng(2)
    right, down = random.integers(-12, 12, (2, 30))
    place = resample.shift(resample.UNMOVED, _factors(*right), _factors(*down))
    padded = np.pad(images, [(0, 0), (12, 12), (12, 12), (0, 0)])
    expected = [image[12 + top:12 + top + height, 12 + left:12 + left + width]
                for image, top, left in zip(padded, down, right)]
    np.testing.assert_array_equal(resample.read(tf.constant(images), tf.range(len(images)), place), expected)


@pytest.mark.parametrize("sigma", [0.5, 2.0, 5.0])
def test_warp_is_a_gaussian_smoothing_of_the_noise(sigma: float) -> None:
    height, width, alpha = 13, 20, 30.0
    noise = 2.0 * np.random.default_rng(0).integers(0, 256, (3, 2, height, width)) - 255
    field = resample.warp(tf.constant(noise, tf.float32), alpha, sigma).numpy()
    reach = 40
    kernel = np.exp(-np.arange(-reach, reach + 1.0) ** 2 / (2 * sigma**2))
    kernel /= kernel.sum()
    smooth = np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], -1, noise / 255)
    smooth = np.apply_along_axis(lambda line: np.convolve(line, kernel)[reach:-reach], -2, smooth)
    # Rounded once to 1/255, and weights of 2^-16 rounded down.
    np.testing.assert_allclose(field, alpha * smooth, atol=alpha * 0.7 / 255)
    assert np.abs(field - alpha * smooth).mean() < alpha * 0.2 / 255


def test_warps_sums_are_exact() -> None:
    """The largest sums that can occur: any order of adding must give them, so no batch size can show."""
    for size in (3, 28, 64):
        for sigma in (0.01, 0.3, 4.0, 100.0):
            noise = np.full((1, 2, size, size), 255.0, np.float32)
            weights = resample.warp(tf.constant(noise), 1.0, sigma).numpy()
            assert weights.max() <= 1.0 and weights.min() >= 0
    noise = np.random.default_rng(0).integers(-255, 256, (50, 2, 28, 28)).astype(np.float32)
    together = resample.warp(tf.constant(noise), 8.0, 4.0).numpy()
    for count in (1, 2, 3, 49):
        np.testing.assert_array_equal(resample.warp(tf.constant(noise[:count]), 8.0, 4.0), together[:count])
