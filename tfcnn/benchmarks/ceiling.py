"""The ceiling of a network's training speed: its convolutions and matrix products alone.

A training step computes each of them three times: the forward pass, the gradient of its input and the gradient of its
weights. The first layer needs no gradient of its input. Everything else in a step (normalization, activation, pooling,
addition, loss, optimizer) comes on top. The time of these operations alone, each as TensorFlow provides it, on the
network's shapes and one after the other, is therefore about the least that a step made of the same operations can take.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfcnn import networks
from tfcnn.benchmarks import tensorflow_worker
from tfcnn.networks import layers
from tfcnn.recipe import Recipe
from tfcnn.training import devices

Shape = tuple[int, ...]
_CLASSES = 10  # those of the sample, on which the other worker processes train


@dataclasses.dataclass(frozen=True)
class Product:
    """A convolution or a matrix product of a network, for a whole batch.

    Attributes:
      source: the name of its input; products with the same input share it.
      inputs: [batch, height, width, channels], or [rows, features].
      kernel: [height, width, channels, filters], or [features, units].
      outputs: [batch, height, width, filters], or [rows, units].
      strides: of a convolution, in rows and columns.
      padding: of a convolution, VALID or SAME.
      dtype: the type it is computed in.
      input_gradient: whether an earlier layer has weights, so that the gradient of the input is needed.
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
        """The number in a training step: forward, for the weights' gradient, and for the input's if it is needed."""
        return (3 if self.input_gradient else 2) * math.prod(self.outputs[:-1]) * math.prod(self.kernel)


def products(model: keras.Model, batch_size: int) -> list[Product]:
    """The convolutions and dense layers of a functional model, from first to last. Each layer must be used only once.

    A grouped convolution counts as one product for each group, which is how the suite computes it. A layer that whitens
    patches, whose kernel has no gradient, is left out.
    """
    found = []
    behind_weights: set[int] = set()  # the ids of tensors that depend on weights
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
    """Returns a function that runs all products of a training step a given number of times, one after the other.

    The function returns the sum of one number from each result. The sum is meaningless, but makes TensorFlow compute
    the results.

    Args:
      recipe: a `Recipe.to_dict()`; its network, batch size and precision matter.

    Raises:
      UsageError: the process shall compute on a GPU, and TensorFlow sees none.
    """
    tensorflow_worker.gpus()
    parsed = Recipe(**recipe)
    with tf.Graph().as_default(), devices.precision(parsed):  # only the shapes of the model are needed
        model = networks.find(parsed.network).build(classes=_CLASSES, **parsed.network_options())
        found = products(model, parsed.batch_size)
    operations = _operations(found)

    @tf.function
    def repeat(times: tf.Tensor) -> tf.Tensor:
        total = tf.constant(0.0)
        for _ in tf.range(times):
            for operation in operations:
                # TensorFlow removes an operation whose result is unused, runs independent operations in parallel, and
                # computes an operation on constants only once. Hence the sum, the control dependency and the variables.
                with tf.control_dependencies([total]):
                    result = operation()
                total += tf.cast(tf.reshape(result, [-1])[0], tf.float32)
        return total

    return lambda times: float(repeat(tf.constant(times)))


def _operations(found: list[Product]) -> list[Callable[[], tf.Tensor]]:
    """The operations of a training step in order: forward, then backward from the last product to the first."""
    variables: dict[Hashable, tf.Variable] = {}

    def values(key: Hashable, shape: Shape, dtype: str) -> tf.Variable:
        if key not in variables:
            variables[key] = tf.Variable(tf.cast(tf.random.normal(shape), dtype))
        return variables[key]

    forward, backward = [], []
    for position, product in enumerate(found):
        # Inputs are kept for the backward pass, so each has memory of its own. Gradients of the same shape share it.
        inputs = values(product.source, product.inputs, product.dtype)
        kernel = values(position, product.kernel, product.dtype)
        gradient = values((product.outputs, product.dtype), product.outputs, product.dtype)
        make = _convolution if len(product.kernel) == 4 else _matrix_product
        forward_operation, *gradients = make(product, inputs, kernel, gradient)
        forward.append(forward_operation)
        backward.append(gradients if product.input_gradient else gradients[:1])
    return forward + [operation for gradients in reversed(backward) for operation in gradients]


def _convolution(product: Product, inputs: tf.Variable, kernel: tf.Variable,
                 gradient: tf.Variable) -> list[Callable[[], tf.Tensor]]:
    """The forward pass, the gradient of the weights, and the gradient of the input."""
    window = {"strides": [1, *product.strides, 1], "padding": product.padding}
    return [
        lambda: tf.nn.conv2d(inputs.read_value(), kernel.read_value(), **window),
        lambda: tf.raw_ops.Conv2DBackpropFilter(input=inputs.read_value(), filter_sizes=product.kernel,
                                                out_backprop=gradient.read_value(), **window),
        lambda: tf.raw_ops.Conv2DBackpropInput(input_sizes=product.inputs, filter=kernel.read_value(),
                                               out_backprop=gradient.read_value(), **window)]


def _matrix_product(product: Product, inputs: tf.Variable, kernel: tf.Variable,
                    gradient: tf.Variable) -> list[Callable[[], tf.Tensor]]:
    """The forward pass, the gradient of the weights, and the gradient of the input."""
    return [
        lambda: tf.matmul(inputs.read_value(), kernel.read_value()),
        lambda: tf.matmul(inputs.read_value(), gradient.read_value(), transpose_a=True),
        lambda: tf.matmul(gradient.read_value(), kernel.read_value(), transpose_b=True)]
