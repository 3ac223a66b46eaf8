"""Images to be streamed: photographs, and images that tell their number and label by their colour."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfcnn.data.sources import Source
from tfcnn.data.streaming import Streaming
from tfcnn.recipe import Recipe

SIZE = 14  # of the network's input: the shorter side of an image is resized to 16
TRAIN, TEST = 103, 23


def recipe(**changes) -> Recipe:
    return Recipe(experiment="", network="", stream=True,
                  **{"batch_size": 16, "augment": "none", "input_normalization": "none"} | changes)


def stream_of(source: Source, size: int = SIZE, channels: int = 3, **changes) -> Streaming:
    return Streaming(source, recipe(**changes), (size, size, channels))


def encoded_image(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, kind, **options)
    return stream.getvalue()


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shapes of all sizes: JPEG keeps them, antialiasing changes them."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height))
    pixels = np.asarray(coarse) + random.normal(0, 25, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., :channels]


def numbered_image(number: int) -> np.ndarray:
    """An image in one colour, which tells its number and its label; the size depends on the number, too."""
    height, width = 10 + number % 7, 10 + number % 11
    return np.full((height, width, 3), (number // 256, number % 256, number % 3), np.uint8)


def numbered_folders(root: Path, train: int = TRAIN, test: int = TEST) -> Path:
    """Writes numbered images in class folders: training images from 0, test images from 1000."""
    for part, count, first in (("train", train, 0), ("test", test, 1000)):
        for number in range(first, first + count):
            folder = root / part / f"class{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / f"{number:04}.{'png' if number % 2 else 'PNG'}"
            file.write_bytes(encoded_image(numbered_image(number)))
    return root


def members(first: int, count: int) -> list[tuple[int, int]]:
    """The (number, label) of some numbered images."""
    return [(number, number % 3) for number in range(first, first + count)]


def prepare(tmp_path_factory: pytest.TempPathFactory, file_format: str, splits: dict[str, list[tuple[int, int]]],
            files: int = 1) -> Any:
    """Prepares numbered images, (number, label) by split, as a data set of tensorflow-datasets; returns its builder."""
    import tensorflow_datasets as tfds

    class Numbered(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "numbered"

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                "image": tfds.features.Image(shape=(None, None, 3)), "note": tfds.features.Text(),
                "label": tfds.features.ClassLabel(names=["class0", "class1", "class2"])}))

        def _split_generators(self, manager):
            return {split: self._generate_examples(members) for split, members in splits.items()}

        def _generate_examples(self, members):
            for number, label in members:
                yield number, {"image": numbered_image(number), "label": label, "note": "not read"}

    builder = Numbered(data_dir=tmp_path_factory.mktemp("numbered"), file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=files))
    return tfds.builder_from_directory(builder.data_path)
