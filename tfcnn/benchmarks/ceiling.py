"""The ceiling of a network's training speed: its convolutions and matrix products alone.

A training step computes each of them three times: forward, and in the gradients of its input and of its weights. The
first layer's input needs none. All else in a step, normalizations, activations, poolings, sums, loss and optimizer,
comes on top. So the time of these operations alone, each as TensorFlow has it, on the network's own shapes and one
after the other, is what a step can hardly undercut with the same operations.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfcnn import networks
from tfcnn.networks import layers
from tfcnn.recipe import Recipe
from tfcnn.training import devices

Shape = tuple[int, ...]
_CLASSES = 10  # of the sample, on which the other arms train


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a matrix product in a network, done for a whole batch.

    Attributes:
      source: names what it is applied to; products of the same source are.
      inputs: [batch, height, width, channels], or [rows, features].
      kernel: [height, width, channels, filters], or [features, units].
      outputs: [batch, height, width, filters], or [rows, units].
      strides: of a convolution, in rows and columns.
      padding: of a convolution, VALID or SAME.
      dtype: in which it is computed.
      input_gradient: whether something before it learns, so that the gradient of its input is needed.
    """

    source: str
    inputs: Shape
    kernel: Shape
    outputs: Shape
    strides: tuple[int, int]
    padding: str
    dtype: str
    input_gradient: bool

    @property
    def multiply_accumulates(self) -> int:
        """How many a training step needs: forward, for the weights' gradient, and for the input's if need be."""
        return (3 if self.input_gradient else 2) * math.prod(self.outputs[:-1]) * math.prod(self.kernel)


def products(model: keras.Model, batch_size: int) -> list[Product]:
    """The convolutions and dense layers of a functional model whose layers are used once each, from first to last.

    A convolution in groups is one product a group, as the suite computes it.
    """
    found = []
    behind_weights: set[int] = set()  # ids of the tensors whose gradients are needed
    for operation in model.operations:
        tensors = tf.nest.flatten(operation.input)
        needed = any(id(tensor) in behind_weights for tensor in tensors)
        if needed or getattr(operation, "trainable_weights", []):
            behind_weights |= {id(tensor) for tensor in tf.nest.flatten(operation.output)}
        if isinstance(operation, keras.layers.Dense):
            rows = batch_size * math.prod(operation.output.shape[1:-1])
            kernel = tuple(operation.kernel.shape)
            found.append(Product(tensors[0].name, (rows, kernel[0]), kernel, (rows, kernel[1]), (1, 1), "VALID",
                                 operation.compute_dtype, needed))
        elif isinstance(operation, keras.layers.Conv2D | layers.SparseConnectionConv2D):
            groups = getattr(operation, "groups", 1)
            *sizes, channels = operation.input.shape[1:]
            *positions, filters = operation.output.shape[1:]
            kernel_size = tuple(operation.kernel.shape[:2])
            found += [Product(
                f"{tensors[0].name}/{group}", (batch_size, *sizes, channels // groups),
                (*kernel_size, channels // groups, filters // groups), (batch_size, *positions, filters // groups),
                getattr(operation, "strides", (1, 1)), getattr(operation, "padding", "valid").upper(),
                operation.compute_dtype, needed) for group in range(groups)]
    return found


def repeater(recipe: Mapping[str, Any]) -> Callable[[int], float]:
    """What does all operations of a training step's products so many times, one operation after the other.

    It returns the sum of one number of each result, which says nothing, but has the results needed.

    Args:
      recipe: whose network, batch size and precision it is, as `Recipe.to_dict` has it.
    """
    asked = Recipe(**recipe)
    with tf.Graph().as_default(), devices.precision(asked):  # of the model only the shapes are wanted
        model = networks.find(asked.network).build(classes=_CLASSES, **asked.network_options())
        found = products(model, asked.batch_size)
    operations = _operations(found)

    @tf.function
    def repeat(times: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(times):
            for operation in operations:
                # An operation whose result nobody needs would be removed, one that waits for none could run at the same
                # time as another, and one that reads no variable could be done once for all times.
                with tf.control_dependencies([total]):
                    result = operation()
                total += tf.cast(tf.reshape(result, [-1])[0], tf.float32)
        return total

    return lambda times: float(repeat(tf.constant(times)))


def _operations(found: list[Product]) -> list[Callable[[], tf.Tensor]]:
    """The operations of a training step in their order: forward, then backward from the last product to the first."""
    variables: dict[Hashable, tf.Variable] = {}

    def values(key: Hashable, shape: Shape, dtype: str) -> tf.Variable:
        if key not in variables:
            variables[key] = tf.Variable(tf.cast(tf.random.normal(shape), dtype))
        return variables[key]

    forward, backward = [], []
    for place, product in enumerate(found):
        # Inputs are kept for the backward pass, so each has its own memory; gradients come and go.
        inputs = values(product.source, product.inputs, product.dtype)
        kernel = values(place, product.kernel, product.dtype)
        gradient = values((product.outputs, product.dtype), product.outputs, product.dtype)
        make = _convolution if len(product.kernel) == 4 else _matrix_product
        ahead, *back = make(product, inputs, kernel, gradient)
        forward.append(ahead)
        backward.append(back if product.input_gradient else back[:1])
    return forward + [operation for back in reversed(backward) for operation in back]


def _convolution(product: Product, inputs: tf.Variable, kernel: tf.Variable,
                 gradient: tf.Variable) -> list[Callable[[], tf.Tensor]]:
    """Forward, the gradient of the weights, and that of the input."""
    window = {"strides": [1, *product.strides, 1], "padding": product.padding}
    return [
        lambda: tf.nn.conv2d(inputs.read_value(), kernel.read_value(), **window),
        lambda: tf.raw_ops.Conv2DBackpropFilter(input=inputs.read_value(), filter_sizes=product.kernel,
                                                out_backprop=gradient.read_value(), **window),
        lambda: tf.raw_ops.Conv2DBackpropInput(input_sizes=product.inputs, filter=kernel.read_value(),
                                               out_backprop=gradient.read_value(), **window)]


def _matrix_product(product: Product, inputs: tf.Variable, kernel: tf.Variable,
                    gradient: tf.Variable) -> list[Callable[[], tf.Tensor]]:
    """Forward, the gradient of the weights, and that of the input."""
    return [
        lambda: tf.matmul(inputs.read_value(), kernel.read_value()),
        lambda: tf.matmul(inputs.read_value(), gradient.read_value(), transpose_a=True),
        lambda: tf.matmul(gradient.read_value(), kernel.read_value(), transpose_b=True)]
