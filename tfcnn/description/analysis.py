"""What a network consists of and costs: shapes, parameters, multiply-accumulates, receptive field, depth.

`tfcnn/describe.py` defines these terms, and says what a layer must have so that they can be computed.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

from tfcnn import _compat
from tfcnn.description.receptive_field import Field, Pair, Shape, Window, field_of_output, union, window
from tfcnn.recipe import UsageError

if typing.TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Row:
    """One call of one layer.

    Attributes:
      name: the layer's name; for a layer in a nested model, after that model's name and a slash.
      kind: the layer's class.
      output_shape: without the batch.
      window: None if the layer has none.
      parameters: the numbers in its weights; 0 if an earlier row has counted them.
      trainable: those of them that training changes.
      multiply_accumulates: for one image.
      field: the receptive field of its output; None if it cannot be determined.
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
    """A network's layers and totals.

    Attributes:
      name: the model's name.
      parameters: the numbers in all weights, moving statistics included.
      trainable: those of them that training changes.
      multiply_accumulates: for one image, auxiliary heads included.
      receptive_field: height and width; None if it cannot be determined.
      depth: number of layers with multiply-accumulates on the longest path.
      rows: the layers, each after those that it takes its input from.
    """

    name: str
    parameters: int
    trainable: int
    multiply_accumulates: int
    receptive_field: Pair | None
    depth: int
    rows: tuple[Row, ...]


def describe(model: keras.Model) -> Description:
    """Describes a model, which is left unchanged; the values of its weights are not read.

    Args:
      model: a functional or sequential model for images of one size, `[batch, height, width, channels]`.

    Raises:
      UsageError: the model is of another kind, its image size is not fixed, its channels are not the last axis, or it
        has a layer whose multiply-accumulates are unknown.
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
    if not any(row.window for row in rows):  # only a flattening or a pooling over all sees more than one pixel
        seen = output.field
    return Description(model.name, sum(row.parameters for row in rows), sum(row.trainable for row in rows),
                       sum(row.multiply_accumulates for row in rows), seen.size if seen else None,
                       max(trace.states[id(tensor)].depth for tensor in model.outputs), rows)


def multiply_accumulates(layer: keras.Operation, input_shape: Shape | list[Shape], output_shape: Shape) -> int:
    """The number of products of a weight and an activation that a layer computes for one image.

    Args:
      layer: a layer, or an operation without weights.
      input_shape: the shape of its input, the batch included; a list of shapes if it has several inputs.
      output_shape: the shape of its output, the batch included.

    Raises:
      UsageError: it is not known how often the layer uses its weights.
    """
    import keras

    if hasattr(layer, "multiply_accumulates"):
        return int(layer.multiply_accumulates(input_shape, output_shape))
    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.layers.PReLU):
        return 0
    unknown = UsageError(f"layer {layer.name} ({type(layer).__name__}) has weights of which it is not known how often "
                         "they are used: give it a method multiply_accumulates(input_shape, output_shape)")
    if layer.weights and (isinstance(input_shape, list) or _has_sublayers(layer)):
        raise unknown
    # A transposed convolution uses its kernel once for each position of its input, all others of their output.
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
            raise unknown  # weights with one number for each channel are biases, factors and statistics
    return total


def _has_sublayers(layer: keras.Layer) -> bool:
    """Whether a layer has other layers among its attributes, also in lists or dictionaries."""
    import keras

    return any(isinstance(value, keras.Layer) for value in keras.tree.flatten(list(vars(layer).values())))


@dataclasses.dataclass(frozen=True)
class _State:
    """What is known of a tensor.

    Attributes:
      field: its receptive field.
      last_map: the field of the last feature map on the way to it, itself included.
      depth: number of layers with multiply-accumulates on the longest path to it.
    """

    field: Field | None
    last_map: Field | None
    depth: int


class _Trace:
    """Walks through the calls of a model's layers, and collects their rows and the state of each tensor."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.states: dict[int, _State] = {}  # by the id of a tensor
        self._image = (0, 0)
        self._counted: set[int] = set()

    def begin(self, tensor: Any) -> None:
        """Adds an input of the model."""
        operation, field = _compat.producer(tensor).operation, None
        shape = _fixed_shape(operation, tensor)
        if len(shape) == 4:
            field = Field((0, 0), (1, 1), (1, 1))
            self._image = (max(self._image[0], shape[1]), max(self._image[1], shape[2]))
        self.states[id(tensor)] = _State(field, field, 0)
        self._add(operation, "", shape, 0, field)

    def follow(self, model: keras.Model, prefix: str) -> None:
        """Adds all layers of a model whose inputs have been added."""
        for call in _compat.calls(model):
            operation = call.operation
            inputs = [self.states[id(tensor)] for tensor in call.input_tensors]
            if getattr(operation, "outputs", None):  # a nested model
                self.states |= {id(tensor): state for tensor, state in zip(operation.inputs, inputs)}
                self.follow(operation, f"{prefix}{operation.name}/")
                outputs = [self.states[id(tensor)] for tensor in operation.outputs]
            else:
                outputs = [self._state_after(call, inputs, prefix)] * len(call.output_tensors)
            self.states |= {id(tensor): state for tensor, state in zip(call.output_tensors, outputs)}

    def _state_after(self, call: Any, inputs: list[_State], prefix: str) -> _State:
        operation = call.operation
        input_shapes = [_fixed_shape(operation, tensor) for tensor in call.input_tensors]
        output_shape = _fixed_shape(operation, call.output_tensors[0])
        if getattr(operation, "data_format", None) == "channels_first":
            raise UsageError(f"layer {operation.name} has its channels first; they must be the last axis")
        cost = multiply_accumulates(operation, input_shapes[0] if len(input_shapes) == 1 else input_shapes,
                                    output_shape)
        field = field_of_output(operation, [state.field for state in inputs], [shape[1:3] for shape in input_shapes],
                                output_shape, self._image)
        self._add(operation, prefix, output_shape, cost, field)
        pooled = len(output_shape) != 4 or field and field.stride == (0, 0)
        last_map = union([state.last_map for state in inputs]) if pooled else field
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
