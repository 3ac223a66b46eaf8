"""Transfer learning: a network starts with the weights of a trained one, and some of its layers are frozen."""

from __future__ import annotations

import dataclasses
import hashlib

import keras
import numpy as np

from tfcnn import _compat
from tfcnn.data.normalization import Normalization
from tfcnn.recipe import Recipe, UsageError
from tfcnn.trained.network import TrainedNetwork, load

NONE, ALL = "none", "all"


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """The weights that a network starts with.

    Attributes:
      source: the recipe's `initial_weights`.
      sha256: over the values of all weights of the source, see `digest`.
      normalization: the input normalization that these weights were trained with.
    """

    source: str
    sha256: str
    normalization: Normalization


def start_from(recipe: Recipe, model: keras.Model, class_names: tuple[str, ...]) -> InitialWeights:
    """Gives a network the weights of the trained one that the recipe names.

    The last layer before each output keeps its own first values if the classes differ.

    Args:
      recipe: names the trained network in `initial_weights`.
      model: the network, whose weights are replaced.
      class_names: the classes it will distinguish.

    Raises:
      UsageError: there is no such trained network, or its layers differ.
    """
    source = load(recipe.initial_weights)
    new = _last_layers(model) if source.class_names != class_names else set()
    own, theirs = _with_weights(model), _with_weights(source.model)
    if list(own) != list(theirs):
        odd = sorted(own.keys() ^ theirs.keys())
        raise UsageError(_differ(recipe, source, f"{', '.join(odd[:5])} {'is' if len(odd) == 1 else 'are'} in one only"
                                 if odd else "their layers have another order"))
    for name, layer in own.items():
        shapes, given = ([tuple(weight.shape) for weight in one.weights] for one in (layer, theirs[name]))
        if name not in new and shapes != given:
            raise UsageError(_differ(recipe, source, f"{name} has weights of {given} there and {shapes} here"))
    for name, layer in own.items():
        if name not in new:
            layer.set_weights(theirs[name].get_weights())
    if not source.normalization.fits(model.input_shape[1:]):
        raise UsageError(f"--initial_weights={recipe.initial_weights}: its input normalization is for images of "
                         f"{'x'.join(map(str, source.input_shape))}: choose the same --image_size")
    return InitialWeights(recipe.initial_weights, digest(source.model), source.normalization)


def freeze(recipe: Recipe, model: keras.Model) -> None:
    """Freezes layers as the recipe says. Frozen batch normalization uses its moving statistics in training too.

    Raises:
      UsageError: no layer and no stage has the name that `freeze` gives, or nothing would be left to train.
    """
    if recipe.freeze == NONE:
        return
    names = [layer.name for layer in model.layers]
    if recipe.freeze == ALL:
        frozen = set(names) - _last_layers(model)
    else:
        own = [index for index, name in enumerate(names)
               if name == recipe.freeze or name.startswith(f"{recipe.freeze}_")]
        if not own:
            raise UsageError(f"--freeze={recipe.freeze} must be none, all, or a layer or stage of the network up to "
                             f"which it is frozen: {', '.join(_with_weights(model))}")
        frozen = set(names[:own[-1] + 1])
    for layer in model.layers:
        layer.trainable = layer.name not in frozen
    if not model.trainable_variables:
        raise UsageError(f"--freeze={recipe.freeze} leaves nothing to train")


def unfreeze(model: keras.Model) -> None:
    """Makes all layers trainable again, so that a saved network is one like any other."""
    for layer in model.layers:
        layer.trainable = True


def digest(model: keras.Model) -> str:
    """SHA-256 over the values of all weights, one after the other, as little-endian float32."""
    total = hashlib.sha256()
    for weight in model.weights:
        total.update(np.ascontiguousarray(weight.numpy(), "<f4").tobytes())
    return total.hexdigest()


def _with_weights(model: keras.Model) -> dict[str, keras.Layer]:
    return {layer.name: layer for layer in model.layers if layer.weights}


def _last_layers(model: keras.Model) -> set[str]:
    """The names of the last layers with weights before each output."""
    found = set()
    for output in model.outputs:
        call = _compat.producer(output)
        while not call.operation.weights:
            call = _compat.producer(call.input_tensors[0])
        found.add(call.operation.name)
    return found


def _differ(recipe: Recipe, source: TrainedNetwork, difference: str) -> str:
    return (f"--initial_weights={recipe.initial_weights} is {source.recipe.network} "
            f"{' '.join(f'{name}={value}' for name, value in source.recipe.network_options().items())}, whose layers "
            f"differ from this network's: {difference}")
