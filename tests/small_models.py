"""Small models with every kind of branch, and what is asked of their descriptions."""

from __future__ import annotations

from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
from keras.layers import Add, AveragePooling2D, Concatenate, Conv2D, Cropping2D, MaxPooling2D, ZeroPadding2D

from tfcnn.description.analysis import Row, describe
from tfcnn.description.receptive_field import Field
from tfcnn.networks import layers

Tensor = Any


def chain(shape: tuple[int, ...], *steps: Any) -> keras.Model:
    """A model of layers one after the other; a step may also be a function from tensor to tensor."""
    x = images = keras.Input(shape, name="images")
    for step in steps:
        x = step(x)
    return keras.Model(images, x)


def rows(model: keras.Model) -> dict[str, Row]:
    return {row.name: row for row in describe(model).rows}


def field_of(model: keras.Model) -> Field:
    field = describe(model).rows[-1].field
    assert field is not None
    return field


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
