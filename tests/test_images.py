"""Decoding of windows of images, for the stream, against Pillow. `test_one_decoder` has files of every kind."""

from __future__ import annotations

import errno
import io
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.streamed_images import encoded_image, photograph
from tfcnn.data import image_windows, images, streamed_crops
from tfcnn.recipe import UsageError


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("height, width, channels", [(90, 130, 3), (131, 77, 3), (40, 40, 1), (9, 200, 3), (10, 7, 1)])
def test_windows_are_decoded_and_resized_as_by_pillow(kind: str, height: int, width: int, channels: int) -> None:
    encoded = encoded_image(photograph(height, width, channels), kind)
    image = Image.open(io.BytesIO(encoded))
    random = np.random.default_rng(1)
    for _ in range(6):
        extent = random.uniform(4, [height, width])
        corner = random.uniform(0, [height, width] - extent)
        (top, left), (bottom, right) = corner, corner + extent
        window = tf.constant([*corner, *extent], tf.float32)
        decoded = image_windows.decode_window(tf.constant(encoded), lambda shape: window, 24, channels)
        expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR, (left, top, right, bottom)))
        difference = np.abs(decoded.numpy().astype(int) - expected.reshape(24, 24, channels))
        # Pillow rounds between rows and columns.
        assert difference.max() <= 3 and difference.mean() < 0.5


def test_a_file_that_the_system_refuses_to_open_is_not_called_damaged(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded_image(photograph(8, 8, 3)))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(OSError) as raised:
            images.decode(file)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert raised.value.errno == errno.EMFILE and raised.value.filename == str(file)
    file.unlink()
    with pytest.raises(UsageError, match="a.png cannot be read as an image .No such file.* get it again, or remove it"):
        images.decode(file)


def test_files_of_any_colour_mode_get_the_channels_of_the_network() -> None:
    colour = np.full((20, 20, 3), (200, 100, 50), np.uint8)
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    files = {"colour": encoded_image(colour, "JPEG"), "png": encoded_image(colour),
             "grey": encoded_image(np.full((20, 20, 1), grey, np.uint8), "JPEG"),
             "print": b"", "transparent": b"", "palette": b""}
    for name, mode, kind in (("print", "CMYK", "JPEG"), ("transparent", "RGBA", "PNG"), ("palette", "P", "PNG")):
        stream = io.BytesIO()
        Image.fromarray(colour).convert(mode).save(stream, kind)
        files[name] = stream.getvalue()
    for name, encoded in files.items():
        for channels, expected in ((3, [grey] * 3 if name == "grey" else colour[0, 0]), (1, [grey])):
            decoded = image_windows.decode_window(
                tf.constant(encoded), lambda shape: streamed_crops.centre_window(shape, 8), 8, channels)
            tolerance = 30 if name == "palette" else 2  # Pillow's palette has few colours
            assert np.abs(decoded.numpy() - np.array(expected, float)).max() <= tolerance, (name, channels)
