"""Costs, depths and fields against arithmetic by hand, published numbers and TensorFlow's profiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf
from keras.layers import (Add, AveragePooling2D, Conv2D, Conv2DTranspose, Dense, DepthwiseConv2D, Flatten,
                          GlobalAveragePooling2D, PReLU, SeparableConv2D)

from tests.small_models import Tensor, chain, field_of, inception, nested, residual, rows
from tfcnn.description.analysis import describe
from tfcnn.description.receptive_field import Field
from tfcnn.description.rendering import build_without_memory
from tfcnn.networks import alexnet, layers
from tfcnn.recipe import UsageError


def test_cost_of_an_inception_module_with_and_without_its_bottleneck() -> None:
    shape = (28, 28, 192)
    without = chain(shape, Conv2D(32, 5, padding="same"))
    reduced = chain(shape, Conv2D(16, 1), Conv2D(32, 5, padding="same"))
    assert describe(without).multiply_accumulates == 120_422_400
    assert describe(reduced).multiply_accumulates == 2_408_448 + 10_035_200  # 12.4 million
    assert describe(without).receptive_field == describe(reduced).receptive_field == (5, 5)


def test_three_3x3_convolutions_have_the_field_of_a_7x7() -> None:
    stack = describe(chain((28, 28, 8), *(Conv2D(8, 3, padding="same", use_bias=False) for _ in range(3))))
    single = describe(chain((28, 28, 8), Conv2D(8, 7, padding="same", use_bias=False)))
    assert stack.receptive_field == single.receptive_field == (7, 7)
    assert (stack.depth, single.depth) == (3, 1)
    assert stack.parameters / single.parameters == 27 / 49  # Simonyan and Zisserman 2015, section 2.3


def test_alexnet_agrees_with_hand_computed_costs_and_fields() -> None:
    """Krizhevsky et al. 2012, section 3.5; the fields from the recurrence r += (kernel - 1) * j, j *= stride."""
    model = build_without_memory("alexnet", alexnet.VARIANTS["paper"].options)
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
        assert found[name].field == Field((0, 0), (227, 227), None)
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


@pytest.mark.parametrize("build, field, cost, depth", [
    (keras.applications.VGG16, 212, 15.47e9, 16), (keras.applications.ResNet50, 483, 3.8e9, 50),
    (keras.applications.InceptionV3, 1311, 5.71e9, 48), (keras.applications.MobileNet, 315, 569e6, 28)])
def test_published_networks_have_their_published_field_cost_and_depth(
        build: Callable[..., keras.Model], field: int, cost: float, depth: int) -> None:
    with tf.Graph().as_default():
        model = build(weights=None)
    total = describe(model)
    assert total.receptive_field == (field, field) and total.depth == depth
    assert total.multiply_accumulates == pytest.approx(cost, rel=0.02)
    assert total.parameters == model.count_params()
    assert total.rows[-1].field == Field((0, 0), model.input.shape[1:3], None)


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
def test_multiply_accumulates_agree_with_tensorflows_profiler(build: Callable[[], keras.Model]) -> None:
    theirs, ours = profiled(build)
    assert theirs == ours > 10_000


def test_branches_stay_together_and_depth_is_the_longest_path() -> None:
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


def test_nested_models_are_described_like_flat_ones() -> None:
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
def test_weights_of_unknown_use_are_an_error(layer: keras.Layer) -> None:
    with pytest.raises(UsageError, match=r"layer own .* method multiply_accumulates\(input_shape, output_shape\)"):
        describe(chain((8, 8, 6), layer))


def test_custom_layers() -> None:
    assert describe(chain((8, 8, 6), Known((1500,)))).multiply_accumulates == 96_000
    assert describe(chain((8, 8, 6), Known((1500,)), Conv2D(1, 1))).depth == 2
    assert describe(chain((8, 8, 6), Cost((3, 3, 2, 6)))).multiply_accumulates == 64 * 108
    assert describe(chain((8, 8, 6), Cost((6, 6)))).multiply_accumulates == 64 * 36
    assert describe(chain((8, 8, 6), Partial())).multiply_accumulates == 36 * 9 * 7
    assert field_of(chain((8, 8, 6), Partial())) == Field((0, 0), (3, 3), (1, 1))
    model = chain((8, 8, 6), SubSampling(), EverySecond(), Conv2D(1, 2))
    total = describe(model)
    assert [row.multiply_accumulates for row in total.rows] == [0, 0, 0, 24]
    assert total.receptive_field == (6, 6) and total.depth == 1
    assert field_of(model) == Field((0, 0), (6, 6), (4, 4))


def test_models_that_cannot_be_described_are_an_error() -> None:
    class Subclassed(keras.Model):
        pass

    for model in (Subclassed(), keras.Sequential([Dense(2)])):
        with pytest.raises(UsageError, match="no functional model, or has not been built"):
            describe(model)
    with pytest.raises(UsageError, match="for images of one size"):
        describe(keras.Model(images := keras.Input((None, None, 3)), Conv2D(1, 1)(images)))
    with pytest.raises(UsageError, match="channels first"):
        describe(chain((3, 8, 8), AveragePooling2D(2, data_format="channels_first")))
