"""Costs and receptive fields against arithmetic by hand, published numbers, TensorFlow's profiler, and measurement."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf
from keras.layers import (Add, AveragePooling2D, Concatenate, Conv2D, Conv2DTranspose, Cropping2D, Dense,
                          DepthwiseConv2D, Flatten, GlobalAveragePooling2D, MaxPooling2D, Multiply, PReLU, Reshape,
                          SeparableConv2D, UpSampling2D, ZeroPadding2D)

from tests.conftest import ROOT, environment
from tfcnn import describe as module
from tfcnn import networks
from tfcnn.describe import Description, Row, describe, main, render, variants_table
from tfcnn.networks import alexnet, layers
from tfcnn.recipe import UsageError

Tensor = Any


def chain(shape: tuple[int, ...], *steps: Any) -> keras.Model:
    """A model of layers one after the other; a step may also be a function from tensor to tensor."""
    x = images = keras.Input(shape, name="images")
    for step in steps:
        x = step(x)
    return keras.Model(images, x)


def rows(model: keras.Model) -> dict[str, Row]:
    return {row.name: row for row in describe(model).rows}


def field_of(model: keras.Model) -> module.Field:
    field = describe(model).rows[-1].field
    assert field is not None
    return field


# What the issue names.

def test_inception_module_with_and_without_its_bottleneck() -> None:
    shape = (28, 28, 192)
    without = chain(shape, Conv2D(32, 5, padding="same"))
    reduced = chain(shape, Conv2D(16, 1), Conv2D(32, 5, padding="same"))
    assert describe(without).multiply_accumulates == 120_422_400
    assert describe(reduced).multiply_accumulates == 2_408_448 + 10_035_200  # 12.4 million
    assert describe(without).receptive_field == describe(reduced).receptive_field == (5, 5)


def test_three_3x3_have_the_field_of_a_7x7() -> None:
    stack = describe(chain((28, 28, 8), *(Conv2D(8, 3, padding="same", use_bias=False) for _ in range(3))))
    single = describe(chain((28, 28, 8), Conv2D(8, 7, padding="same", use_bias=False)))
    assert stack.receptive_field == single.receptive_field == (7, 7)
    assert (stack.depth, single.depth) == (3, 1)
    assert stack.parameters / single.parameters == 27 / 49  # Simonyan and Zisserman 2015, section 2.3


# By hand, from a paper's table.

def test_alexnet_by_hand() -> None:
    """Krizhevsky et al. 2012, section 3.5; the fields from the recurrence r += (kernel - 1) * j, j *= stride."""
    model = module._built("alexnet", alexnet.VARIANTS["paper"].options)
    found = rows(model)
    costs = {"conv1": 55 * 55 * 96 * 11 * 11 * 3, "conv2": 27 * 27 * 256 * 5 * 5 * 48,
             "conv3": 13 * 13 * 384 * 3 * 3 * 256, "conv4": 13 * 13 * 384 * 3 * 3 * 192,
             "conv5": 13 * 13 * 256 * 3 * 3 * 192, "fc6": 6 * 6 * 256 * 4096, "fc7": 4096 * 4096, "logits": 4096 * 1000}
    assert {name: row.multiply_accumulates for name, row in found.items() if row.multiply_accumulates} == costs
    fields = {"images": (1, 1), "conv1": (11, 4), "pool1": (19, 8), "conv2": (51, 8), "pool2": (67, 16),
              "conv3": (99, 16), "conv4": (131, 16), "conv5": (163, 16), "pool5": (195, 32)}
    for name, (size, stride) in fields.items():
        field = found[name].field
        assert field and field.size == (size, size) and field.stride == (stride, stride), name
    for name in ("flatten", "fc6", "logits"):
        assert found[name].field == module.Field((0, 0), (227, 227), None)
    assert {name: row.window.groups for name, row in found.items() if row.window and row.window.groups > 1} == {
        "conv2": 2, "conv4": 2, "conv5": 2}
    total = describe(model)
    assert (total.parameters, total.trainable) == (60_965_224, 60_965_224)
    assert total.multiply_accumulates == sum(costs.values()) == 724_406_816
    assert total.receptive_field == (195, 195) and total.depth == 8
    assert [row.name for row in total.rows] == [layer.name for layer in model.layers]


def test_parameters_with_and_without_moving_statistics() -> None:
    total = describe(chain((8, 8, 3), Conv2D(4, 3, use_bias=False), layers.BatchNormalization(),
                           PReLU(shared_axes=[1, 2]), layers.LocalResponseNormalization(), layers.RandomizedReLU()))
    assert (total.parameters, total.trainable) == (108 + 16 + 4, 108 + 8 + 4)
    assert total.multiply_accumulates == 6 * 6 * 108 and total.depth == 1
    frozen = chain((8, 8, 3), Conv2D(4, 3))
    frozen.trainable = False
    assert (describe(frozen).parameters, describe(frozen).trainable) == (112, 0)


# Published: Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks", table of modern
# networks (AlexNet's 195 is above). Costs: He et al. 2016, table 1; Howard et al. 2017; torchvision's table of weights.
# Depths are the networks' names, or their papers'.

@pytest.mark.parametrize("build, field, cost, depth", [
    (keras.applications.VGG16, 212, 15.47e9, 16), (keras.applications.ResNet50, 483, 3.8e9, 50),
    (keras.applications.InceptionV3, 1311, 5.71e9, 48), (keras.applications.MobileNet, 315, 569e6, 28)])
def test_published_networks(build: Callable[..., keras.Model], field: int, cost: float, depth: int) -> None:
    with tf.Graph().as_default():
        model = build(weights=None)
    total = describe(model)
    assert total.receptive_field == (field, field) and total.depth == depth
    assert total.multiply_accumulates == pytest.approx(cost, rel=0.02)
    assert total.parameters == model.count_params()
    assert total.rows[-1].field == module.Field((0, 0), model.input.shape[1:3], None)


# TensorFlow's profiler counts a multiplication and an addition each.

def profiled(build: Callable[[], keras.Model]) -> tuple[int, int]:
    """The multiply-accumulates that TensorFlow finds in the inference graph of a model, and those that we find."""
    with tf.Graph().as_default() as graph:
        model = build()
        model(tf.compat.v1.placeholder(tf.float32, (1, *model.input.shape[1:])), training=False)
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
    node, total = tf.compat.v1.profiler.profile(graph, cmd="op", options=options), 0
    while True:
        if node.name in ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput", "MatMul", "BatchMatMulV2"):
            total += node.float_ops
        if not node.children:
            return total // 2, describe(model).multiply_accumulates
        node, = node.children


@pytest.mark.parametrize("build", [
    lambda: alexnet.build("paper", image_size=67, normalization="none"),
    lambda: alexnet.build(normalization="batch", activation="prelu", dropout=0.5),
    lambda: chain((20, 17, 6), layers.GroupedConv2D(8, 3, groups=2), Conv2D(5, (1, 4), strides=2, padding="same"),
                  DepthwiseConv2D(3, depth_multiplier=2), SeparableConv2D(7, 3, strides=2, padding="same"),
                  Conv2DTranspose(3, 5, strides=2, padding="same"), Conv2D(4, 2, dilation_rate=2), Dense(9), Flatten(),
                  Dense(11)),
    lambda: chain((16, 16, 3), Conv2D(4, 3, strides=2, padding="same"), inception, residual, GlobalAveragePooling2D(),
                  Dense(10))], ids=["paper", "cifar", "kinds", "branches"])
def test_totals_agree_with_tensorflows_profiler(build: Callable[[], keras.Model]) -> None:
    theirs, ours = profiled(build)
    assert theirs == ours > 10_000


# The receptive field, measured.

def inception(x: Tensor) -> Tensor:
    return Concatenate()([
        Conv2D(1, 1)(x), Conv2D(2, 3, padding="same")(Conv2D(1, 1)(x)), Conv2D(2, (5, 7), padding="same")(x),
        Conv2D(1, 1)(MaxPooling2D(3, 1, padding="same")(x))])


def residual(x: Tensor) -> Tensor:
    """Two blocks: one that halves the image, whose shortcut steps over pixels, and one that does not."""
    y = Conv2D(2, 3, padding="same")(Conv2D(2, 3, strides=2, padding="same")(x))
    x = Add()([y, Conv2D(2, 1, strides=2)(x)])
    y = Conv2D(2, 3, padding="same")(x)
    return Add()([y, layers.activate(AveragePooling2D(1, 1)(x), "relu", "subsampled")])


def uneven(x: Tensor) -> Tensor:
    """Branches that look up and left of one another."""
    return Add()([Conv2D(2, 4, padding="same")(x), Cropping2D(((3, 0), (0, 3)))(Conv2D(2, 1)(ZeroPadding2D(
        ((0, 3), (3, 0)))(x)))])


def nested(x: Tensor) -> Tensor:
    inner = chain((13, 13, 2), Conv2D(2, 3, padding="same"), AveragePooling2D(2))
    return keras.Sequential([keras.Input((14, 14, 1)), Conv2D(2, 2), inner], name="outer")(x)


def measured(model: keras.Model) -> dict[str, np.ndarray]:
    """Which pixel reaches which position of each layer: `[pixel's row, its column, positions ...]`.

    With weights that are all positive nothing cancels out: what reacts to an image black but for one pixel is what sees
    that pixel. It needs no gradient, so that maxima count with all their inputs.
    """
    for variable in model.weights:
        variable.assign(np.ones(variable.shape) if len(variable.shape) > 1 else np.zeros(variable.shape))
    height, width, channels = model.input.shape[1:]
    pulses = np.eye(height * width, dtype=np.float32).reshape(-1, height, width, 1)
    outputs = keras.Model(model.input, {layer.name: layer.output for layer in model.layers})(
        np.repeat(pulses, channels, axis=-1), training=False)
    return {name: np.any(np.asarray(output) != 0, axis=-1).reshape(height, width, *output.shape[1:-1])
            for name, output in outputs.items()}


def seen(pixels: np.ndarray) -> list[tuple[int, int]]:
    """First and last row, first and last column, of the pixels that count."""
    return [(int(places[0]), int(places[-1])) for places in (
        np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0)))]


@pytest.mark.parametrize("shape, steps", [
    ((15, 16, 1), [Conv2D(1, 3), Conv2D(1, 3, padding="same"), Conv2D(1, 3)]),
    ((33, 30, 2), [Conv2D(2, 5, strides=2, padding="same"), MaxPooling2D(3, 2, padding="same"),
                   Conv2D(2, 2, padding="same")]),
    ((30, 33, 1), [AveragePooling2D(2), DepthwiseConv2D(3, strides=2, padding="same"), Conv2D(1, (1, 3))]),
    ((24, 21, 1), [Conv2D(1, 3, dilation_rate=2, padding="same"), Conv2D(1, (2, 3), dilation_rate=(3, 1))]),
    ((22, 20, 1), [ZeroPadding2D(((1, 4), (0, 3))), Conv2D(1, 4, strides=3), Cropping2D(((1, 0), (2, 1)))]),
    ((20, 21, 1), [inception, Conv2D(1, 3, strides=2, padding="same"), inception]),
    ((31, 32, 1), [residual, inception]),
    ((29, 27, 1), [uneven, AveragePooling2D(3, 2), uneven, SeparableConv2D(2, 3)]),
], ids=["stack", "same", "depthwise", "dilated", "padded", "inception", "residual", "uneven"])
def test_field_of_each_position_is_what_is_measured(shape: tuple[int, ...], steps: list[Any]) -> None:
    model = chain(shape, *steps)
    found, reached = rows(model), measured(model)
    assert set(found) == set(reached)
    for name, row in found.items():
        assert row.field and row.field.stride
        inside = 0
        for position in itertools.product(*map(range, row.output_shape[:2])):
            start = [first + index * step for first, index, step in zip(row.field.start, position, row.field.stride)]
            end = [first + size - 1 for first, size in zip(start, row.field.size)]
            if all(first >= 0 and last < length for first, last, length in zip(start, end, shape)):
                inside += 1
                assert seen(reached[name][:, :, *position]) == list(zip(start, end)), (name, position)
            elif reached[name][:, :, *position].any():
                for (first, last), low, high in zip(seen(reached[name][:, :, *position]), start, end):
                    assert low <= first <= last <= high, (name, position)
        assert inside >= 2, name


def test_field_of_the_small_alexnet_is_what_is_measured() -> None:
    model = alexnet.build(image_size=21)
    found, reached = rows(model), measured(model)
    for name, middle in (("conv1", 10), ("norm1", 5), ("conv2", 5)):
        field = found[name].field
        assert field and field.stride
        start = field.start[0] + middle * field.stride[0]
        assert seen(reached[name][:, :, middle, middle]) == [(start, start + field.size[0] - 1)] * 2
    assert seen(reached["logits"]) == [(0, 20)] * 2


@pytest.mark.parametrize("steps", [
    [Conv2D(1, 3, strides=4), Flatten(), Dense(2)], [MaxPooling2D(2), GlobalAveragePooling2D()],
    [Conv2D(1, 3, padding="same"), GlobalAveragePooling2D(keepdims=True), Conv2D(1, 1)],
    [Cropping2D(((2, 1), (0, 3))), Flatten(), Dense(4), Reshape((2, 2, 1)), Conv2D(1, 2)], [Flatten(), Dense(3)]],
    ids=["edge left over", "odd", "kept", "positions again", "perceptron"])
def test_behind_a_flattening_the_field_is_all_that_is_seen(steps: list[Any]) -> None:
    model = chain((11, 13, 1), *steps)
    for name, reached in measured(model).items():
        field = rows(model)[name].field
        assert field
        if field.stride in (None, (0, 0)):
            ends = [start + size - 1 for start, size in zip(field.start, field.size)]
            pixels = reached.reshape(11, 13, -1)
            assert all(seen(pixels[:, :, each]) == list(zip(field.start, ends)) for each in range(pixels.shape[-1]))
    assert field_of(model).stride in (None, (0, 0))


def test_field_of_a_network_is_that_of_its_last_map() -> None:
    convolution = Conv2D(2, 3, strides=2)
    assert describe(chain((11, 13, 1), convolution, Flatten(), Dense(3))).receptive_field == (3, 3)
    assert describe(chain((11, 13, 1), convolution, GlobalAveragePooling2D(keepdims=True), Conv2D(1, 1),
                          Flatten())).receptive_field == (3, 3)
    assert describe(chain((11, 13, 1), Flatten(), Dense(3), Dense(2))).receptive_field == (11, 13)
    towers = chain((11, 13, 1), lambda x: Concatenate()([Flatten()(Conv2D(1, (3, 5))(x)), Flatten()(Conv2D(1, 4)(x))]))
    assert describe(towers).receptive_field == (4, 5)
    assert describe(chain((5,), Dense(3))).receptive_field is None


def test_field_that_cannot_be_followed_is_a_question_mark() -> None:
    for steps in ([UpSampling2D(2)], [Conv2DTranspose(2, 3, strides=2)], [Flatten(), Dense(16)],
                  [lambda x: Add()([Conv2D(1, 1, strides=2)(x), Cropping2D(2)(x)])],
                  [lambda x: Multiply()([x, GlobalAveragePooling2D(keepdims=True)(x)])]):
        model = chain((8, 8, 1), *steps)
        known = isinstance(steps[0], Flatten)
        last = describe(model).rows[-1]
        assert (last.field is not None) == known
        assert ("?" in render(describe(model))) == (not known)
        assert (describe(chain((8, 8, 1), *steps, Flatten())).receptive_field is not None) == known


# Graphs other than a chain.

def test_branches_stay_together_and_depth_is_the_longest_way() -> None:
    x = images = keras.Input((8, 8, 1), name="images")
    long = Conv2D(1, 3, padding="same", name="long2")(Conv2D(1, 3, padding="same", name="long1")(x))
    x = Add(name="add")([long, Conv2D(1, 1, name="short")(x)])
    head = Dense(2, name="auxiliary")(Flatten(name="auxiliary_flatten")(long))
    logits = Dense(2, name="logits")(Flatten(name="flatten")(x))
    total = describe(keras.Model(images, [logits, head]))
    assert [row.name for row in total.rows] == ["images", "long1", "long2", "short", "add", "flatten", "logits",
                                                "auxiliary_flatten", "auxiliary"]
    assert total.depth == 3 and total.receptive_field == (5, 5)
    assert total.multiply_accumulates == 64 * (9 + 9 + 1 + 2 + 2)


def test_a_layer_used_twice_costs_twice_and_has_its_parameters_once() -> None:
    shared = Conv2D(1, 3, padding="same")
    model = chain((8, 8, 1), shared, shared)
    total = describe(model)
    assert total.parameters == model.count_params() == 10
    assert total.multiply_accumulates == 2 * 64 * 9 and total.depth == 2 and total.receptive_field == (5, 5)


def test_models_within_models() -> None:
    model = chain((16, 16, 1), Conv2D(1, 3, name="first"), nested, Conv2D(1, 3, name="last"))
    flat = chain((16, 16, 1), Conv2D(1, 3), Conv2D(2, 2), Conv2D(2, 3, padding="same"), AveragePooling2D(2),
                 Conv2D(1, 3))
    ours, plain = describe(model), describe(flat)
    assert [row.field for row in ours.rows] == [row.field for row in plain.rows]
    assert (ours.parameters, ours.multiply_accumulates, ours.depth) == (
        plain.parameters, plain.multiply_accumulates, plain.depth)
    assert ours.rows[2].name.startswith("outer/")
    sequential = keras.Sequential([keras.Input((9, 9, 1)), Conv2D(2, 3), Flatten(), Dense(2)])
    assert describe(sequential).multiply_accumulates == 49 * 18 + 98 * 2


# Layers of one's own.

class Cost(keras.layers.Layer):
    """A layer with a weight of any shape that leaves its input as it is."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(name="own")
        self.shape = shape

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.kernel = self.add_weight(shape=self.shape, name="kernel")

    def call(self, inputs: Tensor) -> Tensor:
        return inputs


class Known(Cost):
    def multiply_accumulates(self, input_shape: tuple[Any, ...], output_shape: tuple[Any, ...]) -> int:
        assert input_shape == output_shape == (None, 8, 8, 6)
        return 1500 * input_shape[1] * input_shape[2]


class Composite(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="own")
        self.inner = Conv2D(6, 3, padding="same")

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.inner.build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs)


class SubSampling(keras.layers.Layer):
    """LeCun et al. 1998: a coefficient and a bias a channel."""

    pool_size = strides = 2

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.coefficient = self.add_weight(shape=input_shape[-1:])
        self.bias = self.add_weight(shape=input_shape[-1:])

    def call(self, inputs: Tensor) -> Tensor:
        return keras.ops.average_pool(inputs, 2, 2) * self.coefficient + self.bias


class Partial(keras.layers.Layer):
    """A convolution of some pairs of channels, here seven, as in LeCun et al. 1998."""

    kernel_size = 3

    def build(self, input_shape: tuple[Any, ...]) -> None:
        self.kernel = self.add_weight(shape=(3, 3, 7))

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, 2:, 2:, :2]


class EverySecond(keras.layers.Layer):
    strides = (2, 2)
    padding = "same"

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, ::2, ::2]


@pytest.mark.parametrize("layer", [Cost((1500,)), Cost((6, 7)), Cost((2, 6, 6)), Composite(), Cost((3, 3, 3, 3, 2)),
                                   keras.layers.TimeDistributed(Dense(6), name="own")], ids=range(6))
def test_weights_that_are_not_understood_are_an_error(layer: keras.Layer) -> None:
    with pytest.raises(UsageError, match=r"layer own .* method multiply_accumulates\(input_shape, output_shape\)"):
        describe(chain((8, 8, 6), layer))


def test_layers_of_ones_own() -> None:
    assert describe(chain((8, 8, 6), Known((1500,)))).multiply_accumulates == 96_000
    assert describe(chain((8, 8, 6), Known((1500,)), Conv2D(1, 1))).depth == 2
    assert describe(chain((8, 8, 6), Cost((3, 3, 2, 6)))).multiply_accumulates == 64 * 108
    assert describe(chain((8, 8, 6), Cost((6, 6)))).multiply_accumulates == 64 * 36
    assert describe(chain((8, 8, 6), Partial())).multiply_accumulates == 36 * 9 * 7
    assert field_of(chain((8, 8, 6), Partial())) == module.Field((0, 0), (3, 3), (1, 1))
    model = chain((8, 8, 6), SubSampling(), EverySecond(), Conv2D(1, 2))
    total = describe(model)
    assert [row.multiply_accumulates for row in total.rows] == [0, 0, 0, 24]
    assert total.receptive_field == (6, 6) and total.depth == 1
    assert field_of(model) == module.Field((0, 0), (6, 6), (4, 4))


def test_models_that_cannot_be_described() -> None:
    class Subclassed(keras.Model):
        pass

    for model in (Subclassed(), keras.Sequential([Dense(2)])):
        with pytest.raises(UsageError, match="no functional model, or has not been built"):
            describe(model)
    with pytest.raises(UsageError, match="for images of one size"):
        describe(keras.Model(images := keras.Input((None, None, 3)), Conv2D(1, 1)(images)))
    with pytest.raises(UsageError, match="channels first"):
        describe(chain((3, 8, 8), AveragePooling2D(2, data_format="channels_first")))


# What is printed.

@pytest.fixture(scope="module")
def small() -> Description:
    return describe(keras.Model(
        images := keras.Input((12, 10, 4), name="images"),
        Dense(3, name="logits")(Flatten(name="flatten")(layers.BatchNormalization(name="norm")(layers.GroupedConv2D(
            6, (3, 2), strides=(2, 1), groups=2, name="conv")(images)))), name="small"))


def test_table(small: Description) -> None:
    lines = render(small).splitlines()
    assert lines[0].split("  ")[0] == "Layer" and set(lines[1]) == {"-", " "}
    cells = [re.split(r"\s{2,}", line) for line in lines[2:7]]
    assert cells == [
        ["images", "InputLayer", "12x10x4", "0", "0", "1x1", "1x1"],
        ["conv", "GroupedConv2D", "5x9x6", "3x2, 2 groups", "2x1", "valid", "78", "3,240", "3x2", "2x1"],
        ["norm", "BatchNormalization", "5x9x6", "12", "0", "3x2", "2x1"],
        ["flatten", "Flatten", "270", "0", "0", "11x10"],
        ["logits", "Dense", "3", "813", "810", "11x10"]]
    end = lines[0].index("Parameters") + len("Parameters")
    assert [line[:end].split()[-1] for line in lines[2:7]] == ["0", "78", "12", "0", "813"]
    assert lines[-1] == (
        "small: 903 trainable parameters and 12 others, moving statistics and what else training does not learn; "
        "4,050 multiply-accumulates; receptive field 3x2; depth 2.")


def test_markdown(small: Description) -> None:
    lines = render(small, "markdown").splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |"
    assert lines[3] == "| conv | GroupedConv2D | 5x9x6 | 3x2, 2 groups | 2x1 | valid | 78 | 3,240 | 3x2 | 2x1 |"
    assert len({line.count("|") for line in lines[:7]}) == 1 and lines[7] == "" and lines[8].startswith("small: 903 ")


def test_json(small: Description) -> None:
    found = json.loads(render(small, "json"))
    assert {name: value for name, value in found.items() if name != "rows"} == {
        "name": "small", "parameters": 915, "trainable": 903, "multiply_accumulates": 4050, "receptive_field": [3, 2],
        "depth": 2}
    assert found["rows"][1] == {
        "name": "conv", "kind": "GroupedConv2D", "output_shape": [5, 9, 6], "parameters": 78, "trainable": 78,
        "multiply_accumulates": 3240, "field": {"start": [0, 0], "size": [3, 2], "stride": [2, 1]},
        "window": {"size": [3, 2], "strides": [2, 1], "dilation": [1, 1], "padding": "valid", "groups": 2}}
    assert found["rows"][4]["window"] is None and found["rows"][4]["field"]["stride"] is None


def test_unknown_style_is_told(small: Description) -> None:
    for call in (lambda: render(small, "html"), lambda: variants_table("html")):
        with pytest.raises(UsageError, match="format='html' must be one of table, json, markdown"):
            call()


@pytest.fixture
def only_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "names", lambda: ["alexnet"])


def test_table_of_all_variants(only_alexnet: None, capsys: pytest.CaptureFixture) -> None:
    cifar = 32 * 32 * 64 * 25 * 3 + 16 * 16 * 64 * 25 * 64 + 4096 * 384 + 384 * 192 + 192 * 10
    assert variants_table().splitlines() == [
        "| Year | Paper, or other source | Network | Variant | Input | Parameters | Multiply-accumulates | "
        "Receptive field | Depth |",
        "| --- | --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
        "| 2012 | TensorFlow tutorial cifar10.py on whole images | alexnet | cifar | 32x32x3 | 1,756,426 | "
        f"{cifar:,} | 19x19 | 5 |",
        "| 2012 | Krizhevsky et al. 2012, section 3.5 and figure 2 | alexnet | paper | 227x227x3 | 60,965,224 | "
        "724,406,816 | 195x195 | 8 |",
        "| 2012 | Krizhevsky et al. 2012, figure 2, without its groups | alexnet | one_tower | 227x227x3 | "
        f"62,378,344 | {724_406_816 + 223_948_800 + 112_140_288 + 74_760_192:,} | 195x195 | 8 |"]
    assert main(["--all", "--format=json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["variant"] for entry in found] == ["cifar", "paper", "one_tower"]
    assert found[1] == {
        "year": 2012, "source": alexnet.VARIANTS["paper"].source, "network": "alexnet", "variant": "paper",
        "input_shape": [227, 227, 3], "parameters": 60_965_224, "trainable": 60_965_224,
        "multiply_accumulates": 724_406_816, "receptive_field": [195, 195], "depth": 8}


def test_page_on_networks_gets_the_table(only_alexnet: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "tfcnn").mkdir()
    for name in ("setup.cfg", "tfcnn/__init__.py"):
        (tmp_path / name).touch()
    (tmp_path / "docs").mkdir()
    readme = tmp_path / "docs" / "networks.md"
    monkeypatch.chdir(tmp_path)
    assert main(["--readme"]) == 2 and "cannot read" in capsys.readouterr().err
    readme.write_text("# tfcnn\n")
    assert main(["--readme"]) == 2 and module.BEGIN in capsys.readouterr().err
    readme.write_text(f"# tfcnn\n{module.BEGIN}\nold\n{module.END}\nafter\n")
    assert main(["--readme", "--check"]) == 1 and "old" in readme.read_text()
    assert main(["--readme"]) == 0
    assert readme.read_text() == f"# tfcnn\n{module.BEGIN}\n\n{variants_table()}\n{module.END}\nafter\n"
    assert main(["--readme", "--check"]) == 0


def test_page_on_networks_has_every_variant() -> None:
    text = (ROOT / "docs" / "networks.md").read_text()
    lines = text[text.index(module.BEGIN):text.index(module.END)].splitlines()[4:]  # without marker and head
    expected = {(name, key, f"{variant.parameters:,}") for name in networks.names()
                for key, variant in networks.find(name).VARIANTS.items()}
    cells = [[cell.strip() for cell in line.split("|")] for line in lines if line]
    assert {(cell[3], cell[4], cell[6]) for cell in cells} == expected and len(cells) == len(expected)


# The command.

def test_help_needs_no_tensorflow() -> None:
    program = ("import runpy, sys; sys.argv = ['describe', '--help']\n"
               "try: runpy.run_module('tfcnn.describe', run_name='__main__')\n"
               "except SystemExit as end: status = end.code\n"
               "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'pydot'} & set(sys.modules)\n"
               "sys.exit(status or f'imported {heavy}' if heavy else status)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m tfcnn.describe NETWORK" in done.stdout
    for word in ("alexnet", "--format", "--all", "--readme", "multiply_accumulates(input_shape, output_shape)"):
        assert word in done.stdout


def test_help_of_a_network_lists_its_options(capsys: pytest.CaptureFixture) -> None:
    assert main(["alexnet", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("variant", "classes", "image_size", "normalization", "activation", "dropout", "initializer",
                 "diagram"):
        assert f"--{name}: " in text
    assert "--classes: number of logits; None: 10 for `cifar`, 1,000 for the others." in text
    assert "--all" not in text


def test_options_are_those_of_build(capsys: pytest.CaptureFixture) -> None:
    assert main(["alexnet", "--format=json", "--classes=7", "--dropout=0.25", "--image_size=24", "--activation=tanh",
                 "--normalization=none"]) == 0
    found = json.loads(capsys.readouterr().out)
    plain = describe(alexnet.build(classes=7, dropout=0.25, image_size=24, activation="tanh", normalization="none"))
    assert found == json.loads(render(plain, "json"))
    assert found["rows"][0]["output_shape"] == [24, 24, 3] and found["rows"][-1]["output_shape"] == [7]
    assert main(["--format=json", "alexnet"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "alexnet_cifar"


@pytest.mark.parametrize("words, message", [
    (["resnext"], "network='resnext' must be one of alexnet, "),
    ([], "name a network, one of alexnet, "),
    (["alexnet", "--depth=20"], "'depth'; alexnet has --format, --diagram, --variant, --classes, --image_size"),
    (["--variant=paper"], "'variant'; without a network has --format, --all"),
    (["alexnet", "--all"], "alexnet has --format"),
    (["alexnet", "--variant=googlenet"], "variant='googlenet' must be one of cifar, paper, one_tower"),
    (["alexnet", "--classes=many"], "classes"), (["alexnet", "--classes=0"], "classes=0 must be at least 1"),
    (["alexnet", "--format=html"], "format"), (["alexnet", "vgg"], "'vgg' is not a flag"),
    (["--check"], "--check goes with --readme"), (["alexnet", "--image_size"], "image_size"),
    (["alexnet", "--diagram=a.gif"], "must be a file that ends in .png"),
    (["alexnet", "--diagram=nowhere/a.png"], "there is no folder nowhere")])
def test_a_mistake_is_one_line_and_status_2(words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert not printed.out and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("error: ") and message in printed.err


def test_weights_take_no_memory() -> None:
    kernel = module._built("alexnet", {"variant": "paper"}).get_layer("fc6").kernel
    assert isinstance(kernel.value.graph, tf.Graph)  # what is in a graph has a value only while a session runs
    with pytest.raises(AttributeError):
        alexnet.build().get_layer("local3").kernel.value.graph
    assert tf.executing_eagerly()


def test_missing_programs_for_a_diagram_are_told_before_anything_is_done(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "tfcnn.describe", "alexnet", "--diagram=alexnet.png"], cwd=tmp_path,
                          env=environment(tmp_path) | {"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout and not list(tmp_path.iterdir())
    line, = done.stderr.splitlines()
    assert line.startswith("error: a diagram needs ") and "dot (on Debian: apt-get install graphviz)" in line


def test_missing_pydot_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                               capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/dot")
    assert main(["alexnet", f"--diagram={tmp_path / 'alexnet.png'}"]) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: a diagram needs pydot (pip install 'tfcnn[diagram]')\n" and not printed.out


@pytest.mark.skipif(not (shutil.which("dot") and module.importlib.util.find_spec("pydot")),
                    reason="needs pydot and Graphviz's dot")
def test_diagram(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "alexnet.png"
    assert main(["alexnet", f"--diagram={file}"]) == 0
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000
    assert "1,756,426" in capsys.readouterr().out
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert main(["alexnet", f"--diagram={tmp_path / 'other.png'}"]) == 2
