"""Crops of streamed images: which window of an image is decoded."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from tests.streamed_images import encoded_image, photograph
from tfcnn.data import image_windows, streamed_crops
from tfcnn.recipe import UsageError


def test_evaluation_crop_of_an_image_of_256_pixels_is_its_centre() -> None:
    pixels = photograph(256, 256)
    cropped = image_windows.decode_window(
        tf.constant(encoded_image(pixels)), lambda shape: streamed_crops.centre_window(shape, 224), 224, 3)
    np.testing.assert_array_equal(cropped, pixels[16:240, 16:240])


@pytest.mark.parametrize("size, side", [(224, 256), (227, 256), (112, 128), (299, 342)])
def test_evaluation_crop_is_in_proportion_to_the_shorter_side(size: int, side: int) -> None:
    assert streamed_crops.shorter_side(size) == side
    top, left, height, width = streamed_crops.centre_window(tf.constant([300.0, 500.0]), size).numpy()
    assert height == width == pytest.approx(size * 300 / side)
    assert (top, left) == (pytest.approx((300 - height) / 2), pytest.approx((500 - width) / 2))


def test_alexnet_crops_are_all_squares_of_the_centre() -> None:
    pixels = photograph(256, 300)
    centre = pixels[:, 22:278]
    for rows, columns in ((0, 0), (32, 32), (5, 30)):
        # The draws that give these offsets, in the middle of their range.
        draws = tf.constant([(rows + 0.5) / 33, (columns + 0.5) / 33], tf.float32)
        cropped = image_windows.decode_window(
            tf.constant(encoded_image(pixels)), lambda shape: streamed_crops.alexnet_window(shape, draws, 224), 224, 3)
        np.testing.assert_array_equal(cropped, centre[rows:rows + 224, columns:columns + 224])
    last = np.float32(1 - 2**-24)
    window = streamed_crops.alexnet_window(tf.constant([512.0, 600.0]), tf.constant([last, 0]), 227).numpy()
    np.testing.assert_allclose(window, [2 * 29, 44, 454, 454])


def _resized_window(height: int, width: int, draws: np.ndarray) -> list[float]:
    """`resized_window` from its description, one attempt after the other."""
    for area_draw, ratio_draw, row, column in draws.astype(float):
        area = (0.08 + 0.92 * area_draw) * height * width
        ratio = math.exp(math.log(3 / 4) + ratio_draw * (math.log(4 / 3) - math.log(3 / 4)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return [math.floor(row * (height - high + 1)), math.floor(column * (width - wide + 1)), high, wide]
    high, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return [(height - high) // 2, (width - wide) // 2, high, wide]


@pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (64, 64), (40, 900), (900, 40), (1, 1), (3, 2)])
def test_resized_crop_is_the_first_attempt_that_fits(height: int, width: int) -> None:
    draws = np.random.default_rng(0).random((40, 10, 4), np.float32)
    crops = [streamed_crops.resized_window(tf.constant([height, width], tf.float32), tf.constant(one)).numpy()
             for one in draws]
    expected = [_resized_window(height, width, one) for one in draws]
    # Float32 may round a square root the other way.
    assert sum(not np.array_equal(*pair) for pair in zip(crops, expected)) <= 1
    for top, left, high, wide in crops:
        assert 0 <= top <= height - high and 0 <= left <= width - wide


def test_resized_crops_have_all_areas_ratios_and_positions() -> None:
    draws = np.random.default_rng(0).random((3000, 10, 4), np.float32)
    shape = tf.constant([400.0, 800.0])
    crops = tf.function(lambda: tf.map_fn(lambda one: streamed_crops.resized_window(shape, one), tf.constant(draws)))()
    top, left, height, width = crops.numpy().T
    area, ratio = height * width / (400 * 800), width / height
    # With ratios of at most 4/3, up to an area of 3/8 every attempt fits, and areas are equally likely.
    small = area[area < 0.375]
    assert small.min() < 0.09 and area.min() > 0.079 and area.max() > 0.64
    assert abs(np.histogram(small, 4, (0.08, 0.375))[0] / len(small) - 0.25).max() < 0.04  # 4 standard errors
    logarithm = np.log(ratio[area < 0.375]) / np.log(4 / 3)
    assert abs(logarithm).max() < 1.02 and abs(np.histogram(logarithm, 4, (-1, 1))[0] / len(small) - 0.25).max() < 0.04
    for position, room in ((top, 400 - height), (left, 800 - width)):
        share = (position + 0.5) / (room + 1)
        assert abs(share.mean() - 0.5) < 0.03 and share.min() < 0.02 and share.max() > 0.98


def test_ten_crops_agree_with_numpy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), np.uint8)
    corners = [pixels[:, :6, :6], pixels[:, :6, 6:], pixels[:, 3:, :6], pixels[:, 3:, 6:], pixels[:, 1:7, 3:9]]
    expected = np.stack(corners + [crop[:, :, ::-1] for crop in corners], 1)
    crops = streamed_crops.ten_crops(tf.constant(pixels), 6)
    assert crops.dtype == tf.uint8
    np.testing.assert_array_equal(crops, expected)
    np.testing.assert_array_equal(streamed_crops.ten_crops(tf.constant(pixels), 9 - 3)[:, 9], corners[4][:, :, ::-1])
    with pytest.raises(UsageError, match="9x12 pixels .* 10x10"):
        streamed_crops.ten_crops(tf.constant(pixels), 10)
