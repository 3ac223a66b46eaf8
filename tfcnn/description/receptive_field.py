"""Receptive fields: which pixels of the image each position of a layer's output depends on.

It is the theoretical field, the smallest rectangle around all pixels that can have an influence, followed from layer to
layer by the recurrence of Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks".
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

if typing.TYPE_CHECKING:
    import keras

Pair = tuple[int, int]
Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Field:
    """The pixels that the positions of a layer's output depend on; each pair is rows, columns.

    The position in row r and column c sees `size` pixels, the first of them at `start + (r, c) * stride`.

    Attributes:
      start: where the field of the first position begins; negative if it begins in the padding.
      size: height and width of the field.
      stride: distance between the fields of neighbouring positions; (0, 0) if all positions see the same; None if the
        output has no positions.
    """

    start: Pair
    size: Pair
    stride: Pair | None


@dataclasses.dataclass(frozen=True)
class Window:
    """The window that a convolution or a pooling slides over its input.

    Attributes:
      size: height and width.
      strides: steps of the window, in rows and columns of the input.
      dilation: distance between neighbouring rows and columns inside the window.
      padding: `valid` or `same`.
      groups: number of parts into which the channels are split; a part does not see the others.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    groups: int


def window(layer: keras.Operation) -> Window | None:
    """The window of a layer, read from its attributes, which are named as in Keras; None if it has no window."""
    size = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    strides = getattr(layer, "strides", None)
    if size is None and strides is None:
        return None
    return Window(_pair(size or 1), _pair(strides or 1), _pair(getattr(layer, "dilation_rate", 1)),
                  getattr(layer, "padding", "valid"), getattr(layer, "groups", 1))


def field_of_output(operation: keras.Operation, fields: Sequence[Field | None], grids: Sequence[tuple[int, ...]],
                    output_shape: Shape, image: Pair) -> Field | None:
    """The receptive field of an operation's output.

    Args:
      operation: a layer, or an operation without weights.
      fields: the fields of its inputs; None stands for an unknown field.
      grids: the height and width of each input.
      output_shape: the shape of its output, the batch included.
      image: height and width of the network's input.

    Returns:
      The field; None if it cannot be determined.
    """
    import keras

    known = [field for field in fields if field]
    if len(known) < len(fields):
        return None
    if len(output_shape) != 4:
        return union([_hull(field, grid, image) for field, grid in zip(known, grids)])
    if isinstance(operation, keras.layers.GlobalAveragePooling2D | keras.layers.GlobalMaxPooling2D):
        return dataclasses.replace(_hull(known[0], grids[0], image), stride=(0, 0))
    field, grid = union(known, grids[0]), grids[0]
    if field is None or any(other != grid for other in grids):
        return None
    if field.stride is None:  # positions made from an input without positions: each of them sees everything
        return dataclasses.replace(field, stride=(0, 0))
    after = tuple(output_shape[1:3])
    if isinstance(operation, keras.layers.ZeroPadding2D):
        return _shifted(field, [-before for before, _ in operation.padding])
    if isinstance(operation, keras.layers.Cropping2D):
        return _shifted(field, [before for before, _ in operation.cropping])
    view = window(operation)
    if view is None:
        return field if after == grid else None
    return _field_behind_window(field, view, grid, after)


def _field_behind_window(field: Field, view: Window, grid: tuple[int, ...], after: tuple[int, ...]) -> Field | None:
    """The field behind a window.

    With jump j between the fields of neighbouring positions, and a window of extent e (dilation included) that moves
    in steps of s: size += (e - 1) * j, then j *= s.

    Args:
      field: the field of the input.
      view: the window.
      grid: height and width of the input.
      after: height and width of the output.

    Returns:
      The field; None if the output is not as large as such a window makes it.
    """
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(view.size, view.dilation)]
    if view.padding == "same":
        expected = [-(-length // stride) for length, stride in zip(grid, view.strides)]
        # TensorFlow pads as much as is needed; if that is odd, the smaller part comes before the image.
        before = [max((count - 1) * stride + extent - length, 0) // 2
                  for count, stride, extent, length in zip(expected, view.strides, extents, grid)]
    else:
        expected = [(length - extent) // stride + 1 for length, extent, stride in zip(grid, extents, view.strides)]
        before = [0, 0]
    if list(after) != expected or view.padding not in ("same", "valid"):
        return None
    (start, size, stride), strides = dataclasses.astuple(_shifted(field, [-count for count in before])), view.strides
    return Field(start, (size[0] + (extents[0] - 1) * stride[0], size[1] + (extents[1] - 1) * stride[1]),
                 (stride[0] * strides[0], stride[1] * strides[1]))


def _shifted(field: Field, positions: Sequence[int]) -> Field:
    """The field after its first position has moved down and to the right by these numbers of positions."""
    stride = field.stride or (0, 0)
    return dataclasses.replace(field, start=(field.start[0] + positions[0] * stride[0],
                                             field.start[1] + positions[1] * stride[1]))


def _hull(field: Field, grid: tuple[int, ...], image: Pair) -> Field:
    """The part of the image that all positions see together."""
    if field.stride is None:
        return field
    first = [max(start, 0) for start in field.start]
    last = [min(start + (count - 1) * stride + size, length) for start, count, stride, size, length in zip(
        field.start, grid, field.stride, field.size, image)]
    return Field((first[0], first[1]), (last[0] - first[0], last[1] - first[1]), None)


def union(fields: Sequence[Field | None], grid: tuple[int, ...] | None = None) -> Field | None:
    """The field of several inputs together: at each position, the smallest rectangle around their fields.

    Args:
      fields: the fields; None stands for an unknown field.
      grid: height and width of the inputs; along an axis of length 1 the strides do not matter.

    Returns:
      The field; None if one of them is unknown, or if their strides differ.
    """
    known = [field for field in fields if field]
    if len(known) < len(fields):
        return None
    strides = [field.stride for field in known if field.stride]
    if 0 < len(strides) < len(known):
        return None
    for axis in (0, 1):
        if len({stride[axis] for stride in strides}) > 1 and (grid is None or grid[axis] > 1):
            return None
    start = [min(field.start[axis] for field in known) for axis in (0, 1)]
    end = [max(field.start[axis] + field.size[axis] for field in known) for axis in (0, 1)]
    stride = (max(stride[0] for stride in strides), max(stride[1] for stride in strides)) if strides else None
    return Field((start[0], start[1]), (end[0] - start[0], end[1] - start[1]), stride)


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
