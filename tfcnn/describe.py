"""What course notes work out by hand: a network's shapes, parameters, cost and receptive field, layer by layer.

    python -m tfcnn.describe NETWORK [--option=value ...] [--format=table|json|markdown] [--diagram=FILE.png]
    python -m tfcnn.describe NETWORK --help          the options of that network
    python -m tfcnn.describe --all [--format=...]    a line for each published variant of every network
    python -m tfcnn.describe --readme [--check]      put that table into docs/networks.md, or see whether it is there

*Multiply-accumulates* are of one image at inference: the products of weights and activations in convolutions and dense
layers. Biases, activations, normalizations and pooling are not counted, and a product of two activations is not either.

*The receptive field* is the part of the image, as rows x columns, that one position of a layer's output depends on. It
is the theoretical one: the smallest rectangle around all pixels that count, and where it reaches over the edge of the
image, padding is a part of it, so that it can be larger than the image. Its *stride* is how many pixels lie between the
fields of neighbouring positions. Behind a flattening or a global pooling there are no positions any more: the field is
then all that the layer sees of the image. A layer that keeps height and width, and has no kernel, is taken to work on
each position by itself. `?` stands where a field cannot be followed: behind a layer that enlarges its input, or where
branches meet whose strides differ.

*The receptive field of a network* is that of its last feature map, before flattening or global pooling; a network
without any window, such as a multilayer perceptron, sees the whole image at once. *Depth* is the number of layers with
multiply-accumulates, so convolutions and dense layers, on the longest way from the input to an output.

Authors of a layer of their own: attributes named as in Keras, `kernel_size` or `pool_size`, `strides`, `padding`,
`dilation_rate`, tell its window (`strides` alone: it sub-samples). A weight with four axes, or one whose first two are
the layer's `kernel_size`, is taken for a convolution's kernel; one with two axes, as long as the input and the output
have channels, for a dense layer's. If the layer has other weights, or uses these otherwise, let it have a method
`multiply_accumulates(input_shape, output_shape)` that returns their number for one image; the shapes are as in Keras's
`compute_output_shape`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import math
import re
import shutil
import sys
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from absl import flags

from tfcnn import networks
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import UsageError
from tfcnn.files import write
from tfcnn.markdown import between
from tfcnn.runs.record import repository_root
from tfcnn.startup import import_tensorflow

if typing.TYPE_CHECKING:
    import keras

FORMATS = ("table", "json", "markdown")
BEGIN = "<!-- networks: begin, made by: python -m tfcnn.describe --all --format=markdown -->"
END = "<!-- networks: end -->"

Pair = tuple[int, int]
Shape = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Field:
    """Which pixels the positions of a layer's output depend on; each pair is rows, columns.

    The position in row r and column c sees `size` pixels from `start + (r, c) * stride` on.

    Attributes:
      start: where the field of the first position begins; negative in the padding.
      size: its height and width.
      stride: how far apart the fields of neighbouring positions are; None if the output has no positions.
    """

    start: Pair
    size: Pair
    stride: Pair | None


@dataclasses.dataclass(frozen=True)
class Window:
    """What a convolution or a pooling slides over its input.

    Attributes:
      size: height and width.
      strides: of neighbouring positions, in rows and columns of the input.
      dilation: distance of neighbouring rows and columns inside the window.
      padding: `valid` or `same`.
      groups: into how many parts the channels are split that do not see each other.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str
    groups: int


@dataclasses.dataclass(frozen=True)
class Row:
    """One use of one layer.

    Attributes:
      name: the layer's; of a layer in a nested model, behind that model's name and a slash.
      kind: its class.
      output_shape: without the batch.
      window: None if it has none.
      parameters: numbers in its weights; 0 where a layer is used again.
      trainable: those of them that training changes.
      multiply_accumulates: for one image.
      field: None if it cannot be followed.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    window: Window | None
    parameters: int
    trainable: int
    multiply_accumulates: int
    field: Field | None


@dataclasses.dataclass(frozen=True)
class Description:
    """A network's layers and totals, which the head of this module defines.

    Attributes:
      name: the model's.
      parameters: numbers in all weights, moving statistics included.
      trainable: those of them that training changes.
      multiply_accumulates: for one image, auxiliary heads included.
      receptive_field: height and width; None if it cannot be followed.
      depth: layers with multiply-accumulates on the longest way.
      rows: the layers, each behind those that it takes its input from.
    """

    name: str
    parameters: int
    trainable: int
    multiply_accumulates: int
    receptive_field: Pair | None
    depth: int
    rows: tuple[Row, ...]


def describe(model: keras.Model) -> Description:
    """What a model consists of, costs and sees. The model is left as it is; its weights' values are not looked at.

    Args:
      model: a functional or sequential model of fixed image size, `[batch, height, width, channels]`.

    Raises:
      UsageError: the model is neither, its image size or the order of its axes does not fit, or it has a layer of
        which it is not known how often it uses its weights.
    """
    if not getattr(model, "outputs", None):
        raise UsageError(f"{model.name} cannot be described: it is no functional model, or has not been built")
    trace = _Trace()
    for tensor in model.inputs:
        trace.begin(tensor)
    trace.follow(model, "")
    rows = tuple(trace.rows)
    output = trace.states[id(model.outputs[0])]
    seen = output.last_map
    if seen and seen.size == (1, 1):  # no window at all: only what is flattened or pooled looks around
        seen = output.field
    return Description(model.name, sum(row.parameters for row in rows), sum(row.trainable for row in rows),
                       sum(row.multiply_accumulates for row in rows), seen.size if seen else None,
                       max(trace.states[id(tensor)].depth for tensor in model.outputs), rows)


def multiply_accumulates(layer: keras.Operation, input_shape: Shape | list[Shape], output_shape: Shape) -> int:
    """How many products of a weight and an activation a layer sums up for one image.

    This is the one place that knows; the head of this module says how a layer of one's own tells its number.

    Args:
      layer: a layer, or an operation without weights.
      input_shape: of its input, the batch included; a list of them if it has several.
      output_shape: of its output, the batch included.

    Raises:
      UsageError: the layer has weights of which it is not known how often they are used.
    """
    import keras

    if hasattr(layer, "multiply_accumulates"):
        return int(layer.multiply_accumulates(input_shape, output_shape))
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.layers.PReLU):
        return 0
    unknown = UsageError(f"layer {layer.name} ({type(layer).__name__}) has weights of which it is not known how often "
                         "they are used: give it a method multiply_accumulates(input_shape, output_shape)")
    if layer.weights and (isinstance(input_shape, list) or layer._flatten_layers(include_self=False)):
        raise unknown
    # A transposed convolution spreads each position of its input, where others gather for each position of the output.
    positions = math.prod((input_shape if isinstance(layer, keras.layers.Conv2DTranspose) else output_shape)[1:-1])
    total, view = 0, window(layer)
    for weight in layer.weights:
        shape = tuple(weight.shape)
        if len(output_shape) == 4 and (len(shape) == 4 or len(shape) > 2 and view and shape[:2] == view.size):
            total += positions * math.prod(shape)
        elif len(shape) == 2 and input_shape[1:-1] == output_shape[1:-1] and sorted(shape) == sorted(
                (input_shape[-1], output_shape[-1])):
            total += positions * math.prod(shape)
        elif len(shape) > 1 or math.prod(shape) not in (1, input_shape[-1], output_shape[-1]):
            raise unknown  # what is left over, one number a channel, is biases, factors and statistics
    return total


def window(layer: keras.Operation) -> Window | None:
    """What a layer slides over its input, by its attributes; None if it has none."""
    size = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    strides = getattr(layer, "strides", None)
    if size is None and strides is None:
        return None
    return Window(_several(size or 1), _several(strides or 1), _several(getattr(layer, "dilation_rate", 1)),
                  getattr(layer, "padding", "valid"), getattr(layer, "groups", 1))


@dataclasses.dataclass(frozen=True)
class _State:
    """What is known of a tensor: its field, that of the last feature map before it, and the layers behind it."""

    field: Field | None
    last_map: Field | None
    depth: int


class _Trace:
    """The layers of a model as they follow one another, and what is known of each tensor between them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.states: dict[int, _State] = {}  # by the id of a tensor
        self._image = (0, 0)
        self._counted: set[int] = set()

    def begin(self, tensor: Any) -> None:
        """Takes an input of the model."""
        operation, field = tensor._keras_history.operation, None
        shape = _fixed_shape(operation, tensor)
        if len(shape) == 4:
            field = Field((0, 0), (1, 1), (1, 1))
            self._image = (max(self._image[0], shape[1]), max(self._image[1], shape[2]))
        self.states[id(tensor)] = _State(field, field, 0)
        self._add(operation, "", shape, 0, field)

    def follow(self, model: keras.Model, prefix: str) -> None:
        """Takes all layers of a model whose inputs are known."""
        for node in _nodes(model):
            operation = node.operation
            inputs = [self.states[id(tensor)] for tensor in node.input_tensors]
            if getattr(operation, "outputs", None):  # a model within the model
                self.states |= {id(tensor): state for tensor, state in zip(operation.inputs, inputs)}
                self.follow(operation, f"{prefix}{operation.name}/")
                outputs = [self.states[id(tensor)] for tensor in operation.outputs]
            else:
                outputs = [self._call(node, inputs, prefix)] * len(node.output_tensors)
            self.states |= {id(tensor): state for tensor, state in zip(node.output_tensors, outputs)}

    def _call(self, node: Any, inputs: list[_State], prefix: str) -> _State:
        operation = node.operation
        input_shapes = [_fixed_shape(operation, tensor) for tensor in node.input_tensors]
        output_shape = _fixed_shape(operation, node.output_tensors[0])
        if getattr(operation, "data_format", None) == "channels_first":
            raise UsageError(f"layer {operation.name} has its channels first; they must be the last axis")
        cost = multiply_accumulates(operation, input_shapes[0] if len(input_shapes) == 1 else input_shapes,
                                    output_shape)
        field = _field(operation, [state.field for state in inputs], [shape[1:3] for shape in input_shapes],
                       output_shape, self._image)
        self._add(operation, prefix, output_shape, cost, field)
        pooled = len(output_shape) != 4 or field and field.stride == (0, 0)
        last_map = _union([state.last_map for state in inputs]) if pooled else field
        return _State(field, last_map, max(state.depth for state in inputs) + (cost > 0))

    def _add(self, operation: Any, prefix: str, output_shape: Shape, cost: int, field: Field | None) -> None:
        weights = [weight for weight in getattr(operation, "weights", []) if id(weight) not in self._counted]
        self._counted |= {id(weight) for weight in weights}
        trainable = {id(weight) for weight in getattr(operation, "trainable_weights", [])}
        self.rows.append(Row(
            prefix + operation.name, type(operation).__name__, tuple(output_shape[1:]), window(operation),
            sum(math.prod(weight.shape) for weight in weights),
            sum(math.prod(weight.shape) for weight in weights if id(weight) in trainable), cost, field))


def _fixed_shape(operation: Any, tensor: Any) -> Shape:
    shape = tuple(tensor.shape)
    if None in shape[1:]:
        raise UsageError(f"layer {operation.name} has shape {shape}: the model must be built for images of one size to "
                         "be described")
    return shape


def _nodes(model: keras.Model) -> Iterator[Any]:
    """The uses of layers that lead to a model's outputs, each behind those it needs and one branch after the other."""
    done = {id(_node(tensor)) for tensor in model.inputs}
    for output in model.outputs:
        waiting = [_node(output)]
        while waiting:
            node = waiting[-1]
            missing = [before for before in map(_node, node.input_tensors) if id(before) not in done]
            if missing:
                waiting.append(missing[0])
                continue
            waiting.pop()
            if id(node) not in done:
                done.add(id(node))
                yield node


def _node(tensor: Any) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _field(operation: Any, fields: Sequence[Field | None], grids: Sequence[tuple[int, ...]], output_shape: Shape,
           image: Pair) -> Field | None:
    """The field of an operation's output.

    Args:
      operation: the layer.
      fields: of its inputs.
      grids: their heights and widths.
      output_shape: the batch included.
      image: height and width of the network's input.
    """
    import keras

    known = [field for field in fields if field]
    if len(known) < len(fields):
        return None
    if len(output_shape) != 4:
        return _union([_hull(field, grid, image) for field, grid in zip(known, grids)])
    if isinstance(operation, keras.layers.GlobalAveragePooling2D | keras.layers.GlobalMaxPooling2D):
        return dataclasses.replace(_hull(known[0], grids[0], image), stride=(0, 0))
    field, grid = _union(known, grids[0]), grids[0]
    if field is None or any(other != grid for other in grids):
        return None
    if field.stride is None:  # positions made out of what has none: each of them sees all
        return dataclasses.replace(field, stride=(0, 0))
    after = tuple(output_shape[1:3])
    if isinstance(operation, keras.layers.ZeroPadding2D):
        return _shifted(field, [-before for before, _ in operation.padding])
    if isinstance(operation, keras.layers.Cropping2D):
        return _shifted(field, [before for before, _ in operation.cropping])
    view = window(operation)
    if view is None:
        return field if after == grid else None
    extents = [(size - 1) * dilation + 1 for size, dilation in zip(view.size, view.dilation)]
    if view.padding == "same":
        expected = [-(-length // stride) for length, stride in zip(grid, view.strides)]
        # TensorFlow's: as much as is needed, and if that is odd, the smaller part before.
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
    """The field if the first position is another: so many positions further down and to the right."""
    stride = field.stride or (0, 0)
    return dataclasses.replace(field, start=(field.start[0] + positions[0] * stride[0],
                                             field.start[1] + positions[1] * stride[1]))


def _hull(field: Field, grid: tuple[int, ...], image: Pair) -> Field:
    """What all positions together see of the image."""
    if field.stride is None:
        return field
    first = [max(start, 0) for start in field.start]
    last = [min(start + (count - 1) * stride + size, length) for start, count, stride, size, length in zip(
        field.start, grid, field.stride, field.size, image)]
    return Field((first[0], first[1]), (last[0] - first[0], last[1] - first[1]), None)


def _union(fields: Sequence[Field | None], grid: tuple[int, ...] | None = None) -> Field | None:
    """The smallest rectangle that holds the fields at each position; None if they do not move alike.

    Along an axis of the grid with one position there is nothing to move.
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


def _several(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


def render(description: Description, style: str = "table") -> str:
    """A description as text.

    Args:
      description: what `describe` returned.
      style: one of `FORMATS`.

    Raises:
      UsageError: there is no such style.
    """
    networks.check_choice("format", style, FORMATS)
    if style == "json":
        return json.dumps(dataclasses.asdict(description), indent=2) + "\n"
    head = ("Layer", "Kind", "Output", "Kernel", "Stride", "Padding", "Parameters", "Multiply-accumulates",
            "Receptive field", "Its stride")
    lines = [(row.name, row.kind, _times(row.output_shape), *_window_cells(row.window), f"{row.trainable:,}",
              f"{row.multiply_accumulates:,}", _times(row.field.size) if row.field else "?",
              "?" if row.field is None else _times(row.field.stride) if row.field.stride else "")
             for row in description.rows]
    fixed = description.parameters - description.trainable
    totals = (f"{description.name}: {description.trainable:,} trainable parameters"
              + (f" and {fixed:,} others, moving statistics and what else training does not learn" if fixed else "")
              + f"; {description.multiply_accumulates:,} multiply-accumulates; receptive field "
              f"{_times(description.receptive_field) if description.receptive_field else '?'}; depth "
              f"{description.depth}.")
    return f"{_grid([head, *lines], style, left=6)}\n{totals}\n"


def variants_table(style: str = "markdown") -> str:
    """One line for each variant of each network, by year: what it is, costs and sees.

    Args:
      style: one of `FORMATS`.

    Raises:
      UsageError: there is no such style.
    """
    networks.check_choice("format", style, FORMATS)
    found = sorted(((name, key, variant) for name in networks.names()
                    for key, variant in networks.find(name).VARIANTS.items()), key=lambda entry: entry[2].year)
    entries = [(name, key, variant, describe(_built(name, variant.options))) for name, key, variant in found]
    if style == "json":
        return json.dumps([{
            "year": variant.year, "source": variant.source, "network": name, "variant": key,
            "input_shape": variant.input_shape,
            **{field.name: getattr(description, field.name) for field in dataclasses.fields(description)
               if field.name not in ("name", "rows")}} for name, key, variant, description in entries], indent=2) + "\n"
    head = ("Year", "Paper, or other source", "Network", "Variant", "Input", "Parameters", "Multiply-accumulates",
            "Receptive field", "Depth")
    lines = [(str(variant.year), variant.source.split(";")[0], name, key, _times(variant.input_shape),
              f"{description.trainable:,}", f"{description.multiply_accumulates:,}",
              _times(description.receptive_field) if description.receptive_field else "?", str(description.depth))
             for name, key, variant, description in entries]
    return _grid([head, *lines], style, left=5)


def rendered_readme(readme: Path) -> str:
    """The text that docs/networks.md should have: its own, with the table of all variants between `BEGIN` and `END`.

    Raises:
      UsageError: the file cannot be read, or lacks the two lines.
    """
    return between(readme, BEGIN, END, variants_table())


def draw(model: keras.Model, file: Path) -> None:
    """Draws a model's layers and how they are joined, with their shapes.

    Args:
      model: what to draw.
      file: a PNG file, which may exist.

    Raises:
      UsageError: the file's name does not end in .png, it cannot be written, or pydot or Graphviz is missing.
    """
    import keras

    check_drawing(file)
    try:
        keras.utils.plot_model(model, to_file=str(file), show_shapes=True, show_layer_names=True)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def check_drawing(file: Path) -> None:
    """Raises UsageError if `draw` cannot work for want of a program, or of a fitting place for the file."""
    if file.suffix != ".png":
        raise UsageError(f"--diagram={file} must be a file that ends in .png")
    if not file.parent.is_dir():
        raise UsageError(f"--diagram={file}: there is no folder {file.parent}")
    missing = [what for what, there in (
        ("pydot (pip install 'tfcnn[diagram]')", importlib.util.find_spec("pydot")),
        ("Graphviz's program dot (on Debian: apt-get install graphviz)", shutil.which("dot"))) if not there]
    if missing:
        raise UsageError(f"a diagram needs {' and '.join(missing)}")


def _built(network: str, options: Any) -> keras.Model:
    """The network without memory for its weights: in a graph that is never run, a variable is but a shape."""
    import tensorflow as tf

    build: Callable[..., keras.Model] = networks.find(network).build
    with tf.Graph().as_default():
        return build(**options)


def _window_cells(view: Window | None) -> tuple[str, str, str]:
    if view is None:
        return "", "", ""
    size = _times(view.size)
    if any(step > 1 for step in view.dilation):
        size += f", dilated by {_times(view.dilation)}"
    if view.groups > 1:
        size += f", {view.groups} groups"
    return size, _times(view.strides), view.padding


def _times(numbers: Iterable[int]) -> str:
    return "x".join(map(str, numbers))


def _grid(lines: Sequence[Sequence[str]], style: str, left: int) -> str:
    """Cells in columns, the first line being the head. The first `left` columns are words, the others numbers."""
    if style == "markdown":
        marks = ["---" if column < left else "---:" for column in range(len(lines[0]))]
        return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n"
                       for line in [lines[0], marks, *lines[1:]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(f"{cell:<{width}}" if column < left else f"{cell:>{width}}"
                      for column, (cell, width) in enumerate(zip(line, widths))) for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths))
    return "".join(f"{line.rstrip()}\n" for line in text)


def _define(values: flags.FlagValues, group: str, name: str, kind: type, default: Any, help_text: str) -> None:
    define = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float,
              str: flags.DEFINE_string}[kind]
    define(name, default, help_text, flag_values=values, module_name=group)


def _flag_values(network: str | None) -> flags.FlagValues:
    """The flags that may follow a network's name, its options among them; those without one for None."""
    values = flags.FlagValues()
    group = "tfcnn.describe"
    flags.DEFINE_enum("format", "table", FORMATS, "how it is printed", flag_values=values, module_name=group)
    if network is None:
        _define(values, group, "all", bool, False, "print one line for each variant of each network")
        _define(values, group, "readme", bool, False, "put that table into docs/networks.md")
        _define(values, group, "check", bool, False, "with --readme: write nothing; exit with status 1 if it is stale")
        return values
    _define(values, group, "diagram", str, "", "draw the layers into this PNG file; needs pydot and Graphviz")
    build = networks.find(network).build
    kinds, texts = typing.get_type_hints(build), _documented_arguments(build)
    texts |= {name: option.full_help for name, option in OPTIONS[network].items()}
    for name, parameter in inspect.signature(build).parameters.items():
        kind, = set(typing.get_args(kinds[name]) or [kinds[name]]) - {NoneType}
        _define(values, f"network {network}", name, kind, parameter.default, texts.get(name, ""))
    return values


def _documented_arguments(function: Callable) -> dict[str, str]:
    """What the section Args of a docstring says of each argument."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", inspect.getdoc(function) or "", re.MULTILINE | re.DOTALL)
    entries = re.findall(r"^  (\w+): (.*?)(?=^  \w|\Z)", section[1] if section else "", re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()) for name, text in entries}


def _parse(network: str | None, words: Sequence[str]) -> flags.FlagValues:
    values = _flag_values(network)
    try:
        rest = values(["describe", *words])[1:]
    except flags.UnrecognizedFlagError as error:
        known = [f"--{flag.name}" for group in values.flags_by_module_dict().values() for flag in group]
        raise UsageError(f"{' '.join(str(error).split())}; {network or 'without a network'} has {', '.join(known)}"
                         ) from error
    except (flags.Error, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag; flags are written --name=value")
    return values


def _help(network: str | None) -> str:
    about = "" if network else f"\n{(__doc__ or '').strip()}\n\nThe networks: {', '.join(networks.names())}.\n"
    return (f"usage: python -m tfcnn.describe {network or 'NETWORK'} [--flag=value ...]\n{about}"
            f"{_flag_values(network).get_help()}\n")


def _run(words: list[str]) -> int:
    network = next((word for word in words if not word.startswith("-")), None)
    if network is not None:
        words.remove(network)
        networks.check_choice("network", network, networks.names())
        import_tensorflow()
    if any(word in ("--help", "-help", "-h", "--helpfull", "--helpshort") for word in words):
        print(_help(network), end="")
        return 0
    values = _parse(network, words)
    if network is not None:
        return _run_network(network, values)
    if values["check"].value and not values["readme"].value:
        raise UsageError("--check goes with --readme")
    if values["readme"].value:
        return _run_readme(values["check"].value)
    if not values["all"].value:
        raise UsageError(f"name a network, one of {', '.join(networks.names())}, or give --all; --help says more")
    import_tensorflow()
    print(variants_table(values["format"].value), end="")
    return 0


def _run_network(network: str, values: flags.FlagValues) -> int:
    names = inspect.signature(networks.find(network).build).parameters
    diagram = Path(values["diagram"].value)
    if values["diagram"].value:
        check_drawing(diagram)
    model = _built(network, {name: values[name].value for name in names if values[name].present})
    print(render(describe(model), values["format"].value), end="")
    if values["diagram"].value:
        draw(model, diagram)
        print(f"diagram: {diagram}", file=sys.stderr)
    return 0


def _run_readme(check: bool) -> int:
    readme = repository_root() / "docs" / "networks.md"
    import_tensorflow()
    text = rendered_readme(readme)
    stale = text != readme.read_text(encoding="utf-8")
    if check:
        if stale:
            print(f"stale: {readme.name}; run: python -m tfcnn.describe --readme", file=sys.stderr)
        return int(stale)
    if stale:
        write(readme, text)
    print(f"rendered {readme.name}" if stale else "nothing to render: the table is up to date")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """The command `python -m tfcnn.describe`.

    Args:
      words: the command line after the program's name; by default that of the process.

    Returns:
      The exit status: 0 done, 1 the table in docs/networks.md is stale, 2 a usage error.
    """
    try:
        return _run(list(sys.argv[1:] if words is None else words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
