"""A contact sheet: a picture that shows what each augmentation does to a test card and to images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfcnn import drawing, files
from tfcnn.augmentations import Operation
from tfcnn.data.augmentation import colour, composition, mixing, random_numbers

_ENLARGED = 3  # pixels of the sheet for each pixel of an image, in both directions
_GAP = 2  # pixels around each image
_HEADING = 24  # pixels above a row, for the names of the operations
_LEFT, _TOP = 200, 30  # pixels beside and above the sheet, for headings
_BACKGROUND = 190  # grey, so that white and black borders are visible


def test_card(side: int) -> np.ndarray:
    """A grey card that reveals shifts by half a pixel and what happens at the edges: [side, side, 3], uint8.

    It has a white frame one pixel wide, a black cross in the middle whose lines are two pixels wide, one on each side
    of the centre, a coloured square in each corner, and a short white line that tells left from right.
    """
    card = np.full((side, side, 3), 96, np.uint8)
    half, quarter = side // 2, side // 4
    card[3:quarter, 3:quarter], card[3:quarter, -quarter:-3] = (255, 0, 0), (0, 255, 0)
    card[-quarter:-3, 3:quarter], card[-quarter:-3, -quarter:-3] = (0, 0, 255), (255, 255, 0)
    card[half - 1:half + 1], card[:, half - 1:half + 1] = 0, 0
    card[half - 4, half + 3:half + 8] = 255
    card[[0, -1]], card[:, [0, -1]] = 255, 255
    return card


def draw(images: np.ndarray, shown: Mapping[str, Sequence[Sequence[Operation]]], seed: int, workdir: Path) -> Path:
    """Draws one row for each name: the unchanged images, then the images after each list of operations.

    Args:
      images: [n, side, side, 3], uint8; a test card is shown before them.
      shown: name -> lists of operations, the same number for each name.
      seed: the seed of the random draws.
      workdir: the folder of the picture, created if necessary.

    Returns:
      The path of the picture.
    """
    images = np.concatenate([test_card(images.shape[1])[None], images])
    components = colour.components(images[1:])
    seeds = random_numbers.image_seeds(seed, tf.constant(0, tf.int64), tf.range(len(images), dtype=tf.int64))

    def augmented(operations: Sequence[Operation]) -> np.ndarray:
        result = composition.apply(tf.constant(images), seeds, operations, components)
        if mixing.mixes(operations):
            result, _ = mixing.mix(result, tf.roll(result, 1, 0), seeds, operations)
        return colour.to_bytes(result).numpy()

    rows = [[images, *map(augmented, lists)] for lists in shown.values()]
    sheet = np.concatenate([_row(row) for row in rows])
    width, height = sheet.shape[1] + _LEFT, sheet.shape[0] + _TOP
    with drawing.figure(figsize=(width / 100, height / 100), dpi=100) as figure:
        axes = figure.add_axes((_LEFT / width, 0, sheet.shape[1] / width, sheet.shape[0] / height))
        axes.imshow(sheet, interpolation="nearest")
        axes.set_axis_off()
        row_height, group = sheet.shape[0] / len(rows), sheet.shape[1] / len(rows[0])
        for number, (name, lists) in enumerate(shown.items()):
            axes.text(-8, (number + 0.5) * row_height, name.replace(",", ",\n"), ha="right", va="center", fontsize=14)
            for column, operations in enumerate(lists, 1):
                label = ",".join(map(str, operations))
                axes.text(column * group + 8, number * row_height + _HEADING - 5, label, fontsize=11)
        for column, title in enumerate(["unchanged", *["weak", "default", "strong"][:len(rows[0]) - 1]]):
            axes.text((column + 0.5) * group, -8, title, ha="center", fontsize=14)
        picture = drawing.png(figure)
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "augmentations.png"
    files.write(path, picture)
    return path


def _row(batches: Sequence[np.ndarray]) -> np.ndarray:
    """Batches of images side by side on grey, with a wider gap between batches."""
    groups = []
    for batch in batches:
        enlarged = batch.repeat(_ENLARGED, 1).repeat(_ENLARGED, 2)
        framed = np.pad(enlarged, ((0, 0), (_GAP, _GAP), (_GAP, _GAP), (0, 0)), constant_values=_BACKGROUND)
        group = np.concatenate(list(framed), 1)
        groups.append(np.pad(group, ((_HEADING, 3), (6, 6), (0, 0)), constant_values=_BACKGROUND))
    return np.concatenate(groups, 1)
