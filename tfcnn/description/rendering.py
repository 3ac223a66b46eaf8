"""Descriptions of networks as text, Markdown, JSON, and a diagram; and the table of all variants."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shutil
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import files, markdown, networks
from tfcnn.description.analysis import Description, describe
from tfcnn.description.receptive_field import Field, Pair, Window
from tfcnn.networks.options import check_choice
from tfcnn.recipe import UsageError

if typing.TYPE_CHECKING:
    import keras

FORMATS = ("table", "json", "markdown")
BEGIN = "<!-- networks: begin, made by: python -m tfcnn.describe --all --format=markdown -->"
END = "<!-- networks: end -->"

# The columns, and how each is aligned: left, or right for numbers.
_LAYER_HEAD = ("Layer", "Kind", "Output", "Kernel", "Stride", "Padding", "Parameters", "Multiply-accumulates",
               "Receptive field", "Its stride")
_LAYER_ALIGN = "llllllrrrr"
_VARIANT_HEAD = ("Year", "Paper, or other source", "Network", "Variant", "Input", "Parameters", "Multiply-accumulates",
                 "Receptive field", "Depth")
_VARIANT_ALIGN = "lllllrrrr"


def render(description: Description, style: str = "table") -> str:
    """A description as text.

    Args:
      description: a network, as `describe` returns it.
      style: one of `FORMATS`.

    Raises:
      UsageError: there is no such style.
    """
    check_choice("format", style, FORMATS)
    if style == "json":
        return json.dumps(dataclasses.asdict(description), indent=2) + "\n"
    rows = [(row.name, row.kind, _times(row.output_shape), *_window_cells(row.window), f"{row.trainable:,}",
             f"{row.multiply_accumulates:,}", *_field_cells(row.field)) for row in description.rows]
    return f"{_table(_LAYER_HEAD, rows, _LAYER_ALIGN, style)}\n{_totals(description)}\n"


def variants_table(style: str = "markdown") -> str:
    """A table with one row for each variant of each network, by year.

    Args:
      style: one of `FORMATS`.

    Raises:
      UsageError: there is no such style.
    """
    check_choice("format", style, FORMATS)
    found = sorted(((name, key, variant) for name in networks.names()
                    for key, variant in networks.find(name).VARIANTS.items()), key=lambda entry: entry[2].year)
    entries = [(name, key, variant, describe(build_without_memory(name, variant.options)))
               for name, key, variant in found]
    if style == "json":
        return json.dumps([_variant_fields(*entry) for entry in entries], indent=2) + "\n"
    rows = [(str(variant.year), variant.source.split(";")[0], name, key, _times(variant.input_shape),
             f"{description.trainable:,}", f"{description.multiply_accumulates:,}",
             _size_cell(description.receptive_field), str(description.depth))
            for name, key, variant, description in entries]
    return _table(_VARIANT_HEAD, rows, _VARIANT_ALIGN, style)


def _variant_fields(network: str, key: str, variant: networks.Variant, description: Description) -> dict[str, Any]:
    totals = {field.name: getattr(description, field.name) for field in dataclasses.fields(description)
              if field.name not in ("name", "rows")}
    return {"year": variant.year, "source": variant.source, "network": network, "variant": key,
            "input_shape": variant.input_shape, **totals}


def rendered_page(page: Path) -> str:
    """The text that a page should have: its own, with the table of all variants between `BEGIN` and `END`.

    Raises:
      UsageError: the page cannot be read, or lacks one of the two lines.
    """
    return markdown.between(page, BEGIN, END, variants_table())


def draw(model: keras.Model, file: Path) -> None:
    """Draws a model's layers, their connections and their shapes.

    Args:
      model: the model.
      file: the PNG file to write or replace.

    Raises:
      UsageError: the file's name does not end in .png, it cannot be written, or pydot or Graphviz is missing.
    """
    import keras

    check_drawing(file)
    try:
        keras.utils.plot_model(model, to_file=str(file), show_shapes=True, show_layer_names=True)
    except OSError as error:
        raise files.usage_error(f"cannot write {file}", error, file) from error


def check_drawing(file: Path) -> None:
    """Raises UsageError if `draw` cannot write this file, or lacks a program."""
    if file.suffix != ".png":
        raise UsageError(f"--diagram={file} must be a file that ends in .png")
    if not file.parent.is_dir():
        raise UsageError(f"--diagram={file}: there is no folder {file.parent}")
    missing = [what for what, found in (
        ("pydot (pip install -e '.[diagram]')", importlib.util.find_spec("pydot")),
        ("Graphviz's program dot (on Debian: apt-get install graphviz)", shutil.which("dot"))) if not found]
    if missing:
        raise UsageError(f"a diagram needs {' and '.join(missing)}")


def build_without_memory(network: str, options: Mapping[str, Any]) -> keras.Model:
    """Builds a network whose weights take no memory: a variable of a graph that is never run has only a shape."""
    import tensorflow as tf

    build: Callable[..., keras.Model] = networks.find(network).build
    with tf.Graph().as_default():
        return build(**options)


def _totals(description: Description) -> str:
    fixed = description.parameters - description.trainable
    others = f" and {fixed:,} others, moving statistics and what else training does not learn" if fixed else ""
    return (f"{description.name}: {description.trainable:,} trainable parameters{others}; "
            f"{description.multiply_accumulates:,} multiply-accumulates; receptive field "
            f"{_size_cell(description.receptive_field)}; depth {description.depth}.")


def _window_cells(view: Window | None) -> tuple[str, str, str]:
    """Kernel, stride and padding."""
    if view is None:
        return "", "", ""
    size = _times(view.size)
    if any(step > 1 for step in view.dilation):
        size += f", dilated by {_times(view.dilation)}"
    if view.groups > 1:
        size += f", {view.groups} groups"
    return size, _times(view.strides), view.padding


def _field_cells(field: Field | None) -> tuple[str, str]:
    """The receptive field and its stride."""
    if field is None:
        return "?", "?"
    return _times(field.size), _times(field.stride) if field.stride else ""


def _size_cell(size: Pair | None) -> str:
    return _times(size) if size else "?"


def _times(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str, style: str) -> str:
    """A table in Markdown, or in columns of plain text."""
    if style == "markdown":
        return markdown.table(head, rows, align)
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = ["  ".join(f"{cell:>{width}}" if letter == "r" else f"{cell:<{width}}"
                      for cell, width, letter in zip(line, widths, align)) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "".join(f"{line.rstrip()}\n" for line in text)
