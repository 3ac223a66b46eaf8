"""RandAugment against Pillow. The choice and the direction of each layer are two draws."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.augmented_images import augmented, draws_of, random_images
from tests.numpy_images import bilinear, grid


def _enhance(enhancer: type, strength: float) -> Callable[[Image.Image, int], Image.Image]:
    return lambda image, sign: enhancer(image).enhance(1 + sign * 0.9 * strength)


def _pillow_operations(strength: float) -> list[Callable[[Image.Image, int], Image.Image]]:
    return [lambda image, sign: image, lambda image, sign: ImageOps.autocontrast(image),
            lambda image, sign: ImageOps.equalize(image),
            lambda image, sign: ImageOps.solarize(image, round(256 - 256 * strength)),
            lambda image, sign: ImageOps.posterize(image, round(8 - 4 * strength)),
            *(_enhance(enhancer, strength) for enhancer in (ImageEnhance.Color, ImageEnhance.Contrast,
                                                            ImageEnhance.Brightness, ImageEnhance.Sharpness))]


def _layer_reference(image: np.ndarray, choice: int, sign: int, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    operations = _pillow_operations(strength)
    if choice < len(operations):
        return np.asarray(operations[choice](Image.fromarray(image), sign)).astype(int)
    x, y = grid(height, width)
    amount = sign * strength
    if choice == 9:
        angle = np.radians(30 * amount)
        x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    x, y = {9: (x, y), 10: (x + 0.3 * amount * y, y), 11: (x, y + 0.3 * amount * x),
            12: (x + amount * 150 / 331 * width, y), 13: (x, y + amount * 150 / 331 * height)}[choice]
    return np.rint(bilinear(image[None], x[None], y[None])[0]).astype(int)


@pytest.mark.parametrize("magnitude", [0, 4, 9])
def test_randaugment_agrees_with_pillow(magnitude: int) -> None:
    count, strength = 250, magnitude / 10
    images = np.random.default_rng(0).normal(120, 40, (count, 18, 21, 3)).clip(20, 230).astype(np.uint8)
    result = augmented(f"randaugment:1:{magnitude}", images).astype(int)
    draws = draws_of("randaugment", count)
    choices, signs = (14 * draws[0]).astype(int), np.where(draws[1] < 0.5, -1, 1)
    assert set(choices) == set(range(14))
    for image, choice, sign, augmented_image in zip(images, choices, signs, result):
        reference = _layer_reference(image, choice, sign, strength)
        # Pillow truncates where we round; what it computes in whole numbers is the same.
        assert np.abs(augmented_image - reference).max() <= (0 if choice in (0, 2, 3, 4) else 1), choice
        if magnitude == 0 and choice not in (1, 2):
            np.testing.assert_array_equal(augmented_image, image)


def test_layers_are_applied_in_order() -> None:
    count = 400
    images = random_images(count, 18, 21)
    result = augmented("randaugment:3:7", images)
    choices = (14 * draws_of("randaugment", count)[:6:2]).astype(int)
    exact = [number for number in range(count) if set(choices[:, number]) <= {0, 2, 3, 4}]
    assert len(exact) > 5 and len({tuple(choices[:, number]) for number in exact}) > 5
    for number in exact:
        reference = images[number]
        for choice in choices[:, number]:
            reference = _layer_reference(reference, choice, 1, 0.7).astype(np.uint8)
        np.testing.assert_array_equal(result[number], reference)
