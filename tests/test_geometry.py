"""Geometric augmentation against NumPy: distributions, composition and displacement fields.

In an image whose channels are the columns and rows of its pixels, the values tell from where they were read.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.augmented_images import augmented, draws_of, is_uniform, random_images, seeds_of, splitmix
from tests.numpy_images import bilinear, grid
from tfcnn.augmentations import parse
from tfcnn.data.augmentation import composition, random_numbers


def _source_positions(text: str, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The source positions of all pixels, counted from the centre; NaN outside of the image.

    Returns:
      x, y: [count, side, side].
    """
    columns, rows = grid(side, side)
    image = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float32)
    result = augmented(text, np.broadcast_to(image, (count, side, side, 3)))
    result[result[..., 2] < 0.9999] = np.nan
    return result[..., 0], result[..., 1]


def _source_map(text: str, count: int, side: int) -> np.ndarray:
    """The affine map of each image, from its centre: [count, 2, 3], of (column, row, 1) to (x, y)."""
    x, y = _source_positions(text, count, side)
    middle = side // 2
    assert side % 2  # there is a pixel in the centre
    return np.stack([np.stack([axis[:, middle, middle + 1] - axis[:, middle, middle],
                               axis[:, middle + 1, middle] - axis[:, middle, middle],
                               axis[:, middle, middle]], -1) for axis in (x, y)], 1).astype(float)


def test_rotations_have_uniform_angles() -> None:
    maps = _source_map("rotate:40", 3000, 7)
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert is_uniform(angles, -40, 40)
    radians = np.radians(angles)
    zero = 0 * angles
    expected = np.array([[np.cos(radians), -np.sin(radians), zero], [np.sin(radians), np.cos(radians), zero]])
    np.testing.assert_allclose(maps, expected.transpose(2, 0, 1), atol=1e-5)


def test_shears_have_uniform_angles() -> None:
    maps = _source_map("shear:30", 3000, 7)
    assert is_uniform(np.degrees(np.arctan(maps[:, 0, 1])), -30, 30)
    maps[:, 0, 1] = 0
    np.testing.assert_allclose(maps, np.broadcast_to(np.eye(2, 3), maps.shape), atol=1e-5)


@pytest.mark.parametrize("distance, pixels", [("3", 3.0), ("0.25", 0.25 * 15)])
def test_translations_are_uniform_in_both_directions(distance: str, pixels: float) -> None:
    maps = _source_map(f"translate:{distance}", 3000, 15)
    assert is_uniform(maps[:, 0, 2], -pixels, pixels) and is_uniform(maps[:, 1, 2], -pixels, pixels)
    assert abs(np.corrcoef(maps[:, 0, 2], maps[:, 1, 2])[0, 1]) < 0.07  # 3.8 standard errors
    np.testing.assert_allclose(maps[:, :, :2], np.broadcast_to(np.eye(2), (3000, 2, 2)), atol=1e-5)


def test_translations_by_a_share_are_relative_to_each_side() -> None:
    images = np.full((500, 10, 40, 1), 255, np.uint8)
    visible = composition.apply(tf.constant(images), seeds_of(500), parse("translate:0.5")).numpy() > 0
    rows, columns = visible.any((2, 3)).sum(1), visible.any((1, 3)).sum(1)
    # Shifted by nearly half of its side, half of the image and a part of one more pixel remain.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 10, 21, 40)


def test_zooms_are_log_uniform() -> None:
    maps = _source_map("zoom:0.5", 3000, 7)
    assert is_uniform(np.log(maps[:, 0, 0]), -np.log(1.5), np.log(1.5))
    np.testing.assert_allclose(maps[:, 0, 0], maps[:, 1, 1], atol=1e-5)
    maps[:, [0, 1], [0, 1]] = 0
    np.testing.assert_allclose(maps, 0, atol=1e-5)


def test_resized_crops_have_the_specified_areas_and_aspect_ratios() -> None:
    side, least = 21, 0.1
    x, y = _source_positions(f"resized_crop:{least}", 4000, side)
    assert not np.isnan(x).any()  # nothing is read outside, not even half a pixel
    widths, heights = (x[:, 0, -1] - x[:, 0, 0]) / (side - 1), (y[:, -1, 0] - y[:, 0, 0]) / (side - 1)
    np.testing.assert_allclose(x - np.linspace(x[:, :1, 0], x[:, :1, -1], side, axis=2), 0, atol=1e-4)
    assert is_uniform(widths * heights, least, 1)
    aspects = np.log(widths / heights)
    fitting = np.minimum(np.log(4 / 3), -np.log(widths * heights))
    assert (np.abs(aspects) < fitting + 1e-4).all()
    free = widths * heights < 0.74  # where any aspect fits
    assert is_uniform(aspects[free], -np.log(4 / 3), np.log(4 / 3))
    for centres, sides in (((x[:, 0, 0] + x[:, 0, -1]) / 2, widths), ((y[:, 0, 0] + y[:, -1, 0]) / 2, heights)):
        room = (1 - sides) * (side - 1) / 2
        assert is_uniform(centres[room > 1] / room[room > 1], -1, 1)


@pytest.mark.parametrize("text", ["crop:3,mirror,rotate:50,shear:20,translate:2,zoom:0.4",
                                  "zoom:0.4,translate:2,shear:20,rotate:50,mirror,crop:3"])
def test_geometric_operations_are_composed_in_order_into_one_resampling(text: str) -> None:
    count, height, width = 64, 14, 17
    images = random_images(count, height, width)
    matrices = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    for operation in parse(text):
        draws = draws_of(operation.name, count)
        step = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
        if operation.name == "crop":
            step[:, 1, 2], step[:, 0, 2] = np.floor(draws * 7) - 3
        elif operation.name == "mirror":
            step[:, 0, 0] = np.where(draws[0] < 0.5, -1, 1)
        elif operation.name == "rotate":
            angle = np.radians(50 * (2 * draws[0] - 1))
            step[:, 0, 0] = step[:, 1, 1] = np.cos(angle)
            step[:, 1, 0], step[:, 0, 1] = np.sin(angle), -np.sin(angle)
        elif operation.name == "shear":
            step[:, 0, 1] = np.tan(np.radians(20 * (2 * draws[0] - 1)))
        elif operation.name == "translate":
            step[:, 1, 2], step[:, 0, 2] = 2 * (2 * draws - 1)
        elif operation.name == "zoom":
            step[:, 0, 0] = step[:, 1, 1] = 1.4 ** (2 * draws[0] - 1)
        matrices = matrices @ step
    columns, rows = grid(height, width)
    positions = np.einsum("nij,jhw->nihw", matrices, np.stack([columns, rows, np.ones_like(rows)]))
    np.testing.assert_allclose(augmented(text, images), bilinear(images, positions[:, 0], positions[:, 1]), atol=0.05)


def test_elastic_displacement_is_smoothed_noise() -> None:
    side, count, alpha, sigma = 33, 600, 6.0, 2.0
    x, y = _source_positions(f"elastic:{alpha}:{sigma}", count, side)
    columns, rows = grid(side, side)
    field = np.stack([x - columns, y - rows], 1)[:, :, 8:-8, 8:-8]  # inside, where nothing is cut off
    assert not np.isnan(field).any()
    # Noise of variance 1/3, smoothed in two directions by Gaussians whose squares sum to 1 / (2 sigma sqrt(pi)).
    deviation = alpha / np.sqrt(3) / (2 * sigma * np.sqrt(np.pi))
    assert abs(field.std() / deviation - 1) < 0.03
    assert abs(field.mean()) < 0.05 * deviation
    # The covariance of two points a distance d apart falls off as exp(-d^2 / (4 sigma^2)).
    for distance in (1, 3, 6):
        for axis in (2, 3):
            ahead, behind = (np.moveaxis(field, axis, 0)[part] for part in (np.s_[distance:], np.s_[:-distance]))
            assert abs((ahead * behind).mean() / deviation**2 - np.exp(-(distance**2) / (4 * sigma**2))) < 0.05
    assert abs((field[:, 0] * field[:, 1]).mean()) < 0.05 * deviation**2  # down and right are uncorrelated
    assert abs((field[1:] * field[:-1]).mean()) < 0.05 * deviation**2  # and so are images


def test_elastic_agrees_with_numpy() -> None:
    height, width, count = 11, 14, 5
    images, seeds = random_images(count, height, width), seeds_of(count).numpy()
    numbers = 2 * height * width
    first = random_numbers.DRAWS["elastic"][0]
    raw = b"".join(splitmix(int(seed), first + draw).to_bytes(8, "little")[:max(0, numbers - 8 * draw)]
                   for seed in seeds for draw in range(-(-numbers // 8)))
    noise = (2.0 * np.frombuffer(raw, np.uint8).reshape(count, 2, height, width) - 255) / 255
    kernel = np.exp(-np.arange(-40, 41.0) ** 2 / (2 * 1.5**2))
    for axis in (2, 3):
        noise = np.apply_along_axis(lambda line: np.convolve(line, kernel / kernel.sum())[40:-40], axis, noise)
    columns, rows = grid(height, width)
    expected = bilinear(images, columns + 9 * noise[:, 1], rows + 9 * noise[:, 0])
    # The field is exact to about 9 * 0.5 / 255 of a pixel.
    np.testing.assert_allclose(augmented("elastic:9:1.5", images), expected, atol=9 * 0.6 / 255 * 2 * 255)
    assert np.abs(augmented("elastic:9:1.5", images) - expected).mean() < 0.5
