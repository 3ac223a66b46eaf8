"""Receptive fields against measurement: which pixels change which positions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
from keras.layers import (Add, AveragePooling2D, Concatenate, Conv2D, Conv2DTranspose, Cropping2D, Dense,
                          DepthwiseConv2D, Flatten, GlobalAveragePooling2D, MaxPooling2D, Multiply, Reshape,
                          SeparableConv2D, UpSampling2D, ZeroPadding2D)

from tests.small_models import chain, field_of, inception, residual, rows, uneven
from tfcnn.description.analysis import describe
from tfcnn.description.rendering import render
from tfcnn.networks import alexnet


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
def test_the_field_of_each_position_is_the_measured_one(shape: tuple[int, ...], steps: list[Any]) -> None:
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


def test_the_fields_of_the_small_alexnet_are_the_measured_ones() -> None:
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
def test_after_a_flattening_the_field_is_everything_that_is_seen(steps: list[Any]) -> None:
    model = chain((11, 13, 1), *steps)
    for name, reached in measured(model).items():
        field = rows(model)[name].field
        assert field
        if field.stride in (None, (0, 0)):
            ends = [start + size - 1 for start, size in zip(field.start, field.size)]
            pixels = reached.reshape(11, 13, -1)
            assert all(seen(pixels[:, :, each]) == list(zip(field.start, ends)) for each in range(pixels.shape[-1]))
    assert field_of(model).stride in (None, (0, 0))


def test_the_field_of_a_network_is_that_of_its_last_feature_map() -> None:
    convolution = Conv2D(2, 3, strides=2)
    assert describe(chain((11, 13, 1), convolution, Flatten(), Dense(3))).receptive_field == (3, 3)
    assert describe(chain((11, 13, 1), convolution, GlobalAveragePooling2D(keepdims=True), Conv2D(1, 1),
                          Flatten())).receptive_field == (3, 3)
    assert describe(chain((11, 13, 1), Flatten(), Dense(3), Dense(2))).receptive_field == (11, 13)
    towers = chain((11, 13, 1), lambda x: Concatenate()([Flatten()(Conv2D(1, (3, 5))(x)), Flatten()(Conv2D(1, 4)(x))]))
    assert describe(towers).receptive_field == (4, 5)
    assert describe(chain((5,), Dense(3))).receptive_field is None


def test_an_unknown_field_is_a_question_mark() -> None:
    for steps in ([UpSampling2D(2)], [Conv2DTranspose(2, 3, strides=2)], [Flatten(), Dense(16)],
                  [lambda x: Add()([Conv2D(1, 1, strides=2)(x), Cropping2D(2)(x)])],
                  [lambda x: Multiply()([x, GlobalAveragePooling2D(keepdims=True)(x)])]):
        model = chain((8, 8, 1), *steps)
        known = isinstance(steps[0], Flatten)
        last = describe(model).rows[-1]
        assert (last.field is not None) == known
        assert ("?" in render(describe(model))) == (not known)
        assert (describe(chain((8, 8, 1), *steps, Flatten())).receptive_field is not None) == known
