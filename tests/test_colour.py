"""Colour operations against NumPy, and against Pillow where Pillow defines them."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tests.augmented_images import COMPONENTS, augmented, draws_of, is_uniform, random_images
from tfcnn.data.augmentation import colour

FACTORS = [0.0, 0.19, 1.0, 1.3, 1.81]


def _images(count: int = 6, height: int = 12, width: int = 9, channels: int = 3) -> np.ndarray:
    """Returns noise of various ranges: dark images, pale images, and one image of a single colour."""
    random = np.random.default_rng(0)
    low, high = random.integers(0, 120, (2, count, 1, 1, channels))
    images = low + random.random((count, height, width, channels)) * (high + 16)
    images[-1] = images[-1, :1, :1]
    return images.astype(np.uint8)


def _pillow(function: Callable[[Image.Image], Image.Image], images: np.ndarray) -> np.ndarray:
    if images.shape[-1] == 1:
        return np.stack([np.asarray(function(Image.fromarray(image[..., 0])))[..., None] for image in images])
    return np.stack([np.asarray(function(Image.fromarray(image))) for image in images])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("function, enhancer", [
    (colour.brightness, ImageEnhance.Brightness), (colour.contrast, ImageEnhance.Contrast),
    (colour.saturation, ImageEnhance.Color), (colour.sharpness, ImageEnhance.Sharpness)])
def test_enhancements_agree_with_pillow(function: Callable, enhancer: type, factor: float, channels: int) -> None:
    images = _images(channels=channels)
    result = function(tf.constant(images), tf.fill([len(images)], tf.constant(factor)))
    assert result.dtype == tf.float32
    expected = _pillow(lambda image: enhancer(image).enhance(factor), images).astype(int)
    # Pillow truncates the result, which we round, and rounds the grey values and means that it blends with.
    assert np.abs(colour.to_bytes(result).numpy().astype(int) - expected).max() <= 1
    if factor == 1.0:
        np.testing.assert_allclose(result, images, atol=1e-4)


def test_enhancements_use_a_factor_per_image_and_neither_round_nor_clip() -> None:
    images = _images(3).astype(np.float32) + 0.25
    factors = np.array([0.5, 1.0, 9.0], np.float32)
    grey = images @ np.array([0.299, 0.587, 0.114])
    mean = np.rint(images).mean((1, 2)) @ np.array([0.299, 0.587, 0.114])
    for function, middle in ((colour.brightness, 0 * grey), (colour.saturation, grey),
                             (colour.contrast, mean[:, None, None] + 0 * grey)):
        expected = middle[..., None] + factors[:, None, None, None] * (images - middle[..., None])
        np.testing.assert_allclose(function(tf.constant(images), tf.constant(factors)), expected, atol=1e-3)
    assert tf.reduce_max(colour.brightness(tf.constant(images), tf.constant(factors))) > 255


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_and_equalize_agree_with_pillow(channels: int) -> None:
    # The images have more than 255 pixels: equalize leaves smaller ones unchanged.
    images = np.concatenate([_images(8, 20, 30, channels), _images(4, 5, 6, channels).repeat(4, 1).repeat(5, 2)])
    stretched = colour.to_bytes(colour.autocontrast(tf.constant(images))).numpy().astype(int)
    assert np.abs(stretched - _pillow(ImageOps.autocontrast, images).astype(int)).max() <= 1
    equal = colour.equalize(tf.constant(images))
    assert equal.dtype == tf.uint8
    np.testing.assert_array_equal(equal, _pillow(ImageOps.equalize, images))
    small = _images(4, 5, 6, channels)
    np.testing.assert_array_equal(colour.equalize(tf.constant(small)), _pillow(ImageOps.equalize, small))


def test_solarize_and_posterize_agree_with_pillow() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    for threshold in (0, 1, 26, 128, 255, 256):
        expected = _pillow(lambda image: ImageOps.solarize(image, threshold), images)
        np.testing.assert_array_equal(colour.solarize(tf.constant(images), threshold), expected)
    for bits in range(1, 9):
        expected = _pillow(lambda image: ImageOps.posterize(image, bits), images)
        np.testing.assert_array_equal(colour.posterize(tf.constant(images), bits), expected)


def test_to_bytes_rounds_and_clips() -> None:
    values = tf.constant([-3.0, 0.4, 0.6, 254.6, 255.4, 999.0])
    np.testing.assert_array_equal(colour.to_bytes(values), [0, 0, 1, 255, 255, 255])
    assert colour.to_bytes(values).dtype == tf.uint8


def test_components_are_eigenvectors_of_the_covariance_times_eigenvalues() -> None:
    random = np.random.default_rng(3)
    colours = random.normal(size=(2500 * 20, 3)) @ np.diag([50, 20, 5]) @ np.linalg.qr(random.normal(size=(3, 3)))[0]
    images = np.clip(colours + 128, 0, 255).reshape(2500, 5, 4, 3).astype(np.uint8)  # more than one chunk
    components = colour.components(images)
    covariance = np.cov(images.reshape(-1, 3).T / 255, bias=True)
    lengths = np.linalg.norm(components, axis=0) / 255
    np.testing.assert_allclose(lengths, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-4)
    directions = components / 255 / lengths
    np.testing.assert_allclose(covariance @ directions, directions * lengths, atol=1e-7)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-5)
    np.testing.assert_array_equal(components, colour.components(images[::-1]))  # exact sums: order is irrelevant
    grey = images[..., :1]
    np.testing.assert_allclose(colour.components(grey), [[255 * np.var(grey / 255)]], rtol=1e-6)


def test_components_of_images_of_one_colour_are_zero() -> None:
    np.testing.assert_array_equal(colour.components(np.full((3, 4, 4, 3), 77, np.uint8)), np.zeros((3, 3)))


def test_shift_adds_one_colour_to_an_image() -> None:
    images = _images()
    components, factors = np.random.default_rng(4).normal(size=(3, 3)), np.random.default_rng(5).normal(size=(6, 3))
    shifted = colour.shift(tf.constant(images), tf.constant(factors, tf.float32), components.astype(np.float32))
    np.testing.assert_allclose(shifted, images + (factors @ components.T)[:, None, None], atol=1e-4)


# The operations of --augment, with random factors


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_uniform_around_1_and_pixels_stay_in_range(name: str) -> None:
    images = random_images(40)
    factors = 1 + 0.7 * (2 * draws_of(name, 40)[0] - 1)
    grey = images @ np.array([0.299, 0.587, 0.114])
    middle = {"brightness": 0 * grey, "saturation": grey, "contrast": grey.mean((1, 2), keepdims=True) + 0 * grey}[name]
    expected = middle[..., None] + factors[:, None, None, None] * (images - middle[..., None])
    assert expected.max() > 256 and (name == "brightness" or expected.min() < -1)
    np.testing.assert_allclose(augmented(f"{name}:0.7", images), expected.clip(0, 255), atol=1e-3)


def test_colour_pca_adds_components_with_normal_factors() -> None:
    count = 5000
    images = random_images(count, 2, 3).astype(np.float32)
    change = augmented("colour_pca:0.2", images) - images
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1], change.shape), atol=1e-3)
    factors = np.linalg.solve(COMPONENTS.astype(float), change[:, 0, 0].T) / 0.2
    normal = statistics.NormalDist()
    for row in factors:
        assert is_uniform(np.vectorize(normal.cdf)(row), 0, 1)
        assert abs(row.std() - 1) < 0.035  # 3.5 standard errors
    assert np.abs(np.corrcoef(factors) - np.eye(3)).max() < 0.05
    expected = [normal.inv_cdf(draw) for draw in draws_of("colour_pca", count)[0][:200]]
    np.testing.assert_allclose(factors[0, :200], expected, atol=0.01)
