"""Which layers are explained, and a model opened at one of them."""

from __future__ import annotations

from typing import Any

import keras

from tfcnn.description.analysis import describe
from tfcnn.recipe import UsageError

_HAS_NO_FEATURES = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Dropout,
                    keras.layers.SpatialDropout2D, keras.layers.Flatten)
_SMALLEST = 4  # positions along height and width: Grad-CAM on fewer shows hardly where something is


def stages(model: keras.Model) -> list[str]:
    """The layers that end a network's stages.

    A stage is a sequence of layers whose outputs have the same height and width, at least one of them a convolution;
    it ends with the last of these layers. Stages of a single position are left out, and so are auxiliary heads.

    Returns:
      The names of the layers, from the first stage to the last; none for a network without convolutions.
    """
    last: dict[tuple[int, ...], str] = {}
    with_convolution = set()
    for layer in _layers(model):
        shape = tuple(layer.output.shape)
        if len(shape) != 4 or shape[1] * shape[2] == 1:
            continue
        size = shape[1:3]
        last[size] = layer.name
        if hasattr(layer, "kernel_size"):
            with_convolution.add(size)
    return [name for size, name in last.items() if size in with_convolution]


def last_stage(model: keras.Model) -> str | None:
    """The layer that ends the last stage with at least 4x4 positions, or if there is none, the last stage.

    Returns:
      Its name; None for a network without convolutions.
    """
    found = stages(model)
    large = [name for name in found if min(model.get_layer(name).output.shape[1:3]) >= _SMALLEST]
    return next(reversed(large or found), None)


def last_hidden(model: keras.Model) -> str:
    """The last layer before the one that computes the logits; the logits' own in a network of one layer."""
    names = [layer.name for layer in _layers(model)]
    return names[-2] if len(names) > 1 else names[-1]


def find(model: keras.Model, name: str) -> str:
    """Checks the name of a layer.

    Raises:
      UsageError: the network has no such layer.
    """
    names = [layer.name for layer in _layers(model)]
    if name in names:
        return name
    suggested = [*stages(model), last_hidden(model)]
    raise UsageError(f"{model.name} has no layer {name} to explain: take for instance {', '.join(suggested)}; `python "
                     "-m tfcnn.describe` lists all layers")


def has_positions(model: keras.Model, name: str) -> bool:
    """Whether a layer's output is a feature map: `[batch, height, width, channels]`."""
    return len(model.get_layer(name).output.shape) == 4


def centres(model: keras.Model, name: str) -> dict[str, Any]:
    """Where the positions of a feature map look in the picture: pixels, rows and columns, counted from 0.

    Returns:
      `first_centre`, the centre of what the first position sees, and `stride`, from there to the next; None if the
      positions are at no fixed distance.
    """
    field = next(row.field for row in describe(model).rows if row.name == name)
    if not field or not field.stride or not all(field.stride):
        return {"first_centre": None, "stride": None}
    return {"first_centre": [start + (size - 1) / 2 for start, size in zip(field.start, field.size)],
            "stride": list(field.stride)}


def opened(model: keras.Model, *names: str) -> keras.Model:
    """The network with several outputs: those of some layers, and then the logits."""
    return keras.Model(model.inputs[0], [*(model.get_layer(name).output for name in names), model.outputs[0]])


def _layers(model: keras.Model) -> list[keras.Layer]:
    """The layers on the way to the logits that compute something, in their order."""
    return [layer for layer in keras.Model(model.inputs[0], model.outputs[0]).layers
            if not isinstance(layer, _HAS_NO_FEATURES)]
