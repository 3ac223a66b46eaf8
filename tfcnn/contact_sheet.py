"""Contact sheets: many images in one picture, each with some words below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_COLUMNS = 5
# Pixels. Small images are enlarged by a whole factor up to this size, larger ones are reduced to it. TensorBoard shows
# a sheet about 350 pixels wide, and the text should still be readable then.
_SIDE = 112
_MARGIN = 8
_LINE, _FONT = 19, 15
_BACKGROUND, _TEXT = 255, 0


def contact_sheet(images: np.ndarray, captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Draws a contact sheet.

    Args:
      images: [n, height, width, channels], uint8, with one channel or three.
      captions: the lines below each image; lines that are too long are cut.

    Returns:
      The sheet, [height, width, 3], uint8.
    """
    pictures = [_resized(image) for image in images]
    width, height = pictures[0].size
    cell_width, cell_height = width + _MARGIN, height + _MARGIN + _LINE * max(map(len, captions))
    columns = min(_COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_width + _MARGIN, rows * cell_height + _MARGIN), (_BACKGROUND,) * 3)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for index, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(index, columns)
        left, top = _MARGIN + column * cell_width, _MARGIN + row * cell_height
        sheet.paste(picture, (left, top))
        for number, line in enumerate(caption):
            draw.text((left, top + height + number * _LINE), _shortened(line, font, width), (_TEXT,) * 3, font)
    return np.asarray(sheet)


def class_captions(labels: np.ndarray, class_names: Sequence[str]) -> list[list[str]]:
    """A caption for each label: its class, or the two classes of a mixed image with their shares.

    Args:
      labels: [n], the number of each image's class; or [n, classes], the share of each class in a mixed image.
      class_names: the names of the classes.
    """
    return [_class_caption(label, class_names) for label in labels]


def _resized(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")
    longest = max(picture.size)
    if longest > _SIDE:
        picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        return picture
    factor = _SIDE // longest
    return picture.resize((factor * picture.width, factor * picture.height), Image.Resampling.NEAREST)


def _class_caption(label: np.ndarray, class_names: Sequence[str]) -> list[str]:
    if not label.ndim:
        return [class_names[int(label)]]
    largest = np.argsort(-label, kind="stable")[:2]
    return [f"{label[index]:.2f} {class_names[index]}" for index in largest if label[index] > 0]


def _shortened(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut at its end so that it is at most so many pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."
