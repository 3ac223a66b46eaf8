"""Cutout against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.augmented_images import augmented, draws_of, random_images


@pytest.mark.parametrize("size", [1, 4, 5, 30])
def test_cutout_blackens_a_square_around_any_pixel(size: int) -> None:
    count, height, width = 200, 9, 14
    images = random_images(count, height, width)
    expected = images.copy()
    centres = np.floor(draws_of("cutout", count) * [[height], [width]]).astype(int)
    for image, row, column in zip(expected, *centres):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0):top + size, max(left, 0):left + size] = 0
    assert {(row, column) for row, column in centres.T} >= {(0, 0)} or len(np.unique(centres[0])) == height
    np.testing.assert_array_equal(augmented(f"cutout:{size}", images), expected)
    np.testing.assert_array_equal(augmented(f"cutout:{size}", images / np.float32(7)), expected / np.float32(7))
