"""Transfer learning: a network starts with the weights of a trained one, and some of its layers are frozen."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import keras
import numpy as np

from tfcnn import _compat
from tfcnn.data.normalization import Normalization
from tfcnn.data.pipeline import Pipeline
from tfcnn.data.streaming import Streaming
from tfcnn.networks import layers
from tfcnn.recipe import Recipe, Scalar, UsageError
from tfcnn.trained.converting import keras_applications
from tfcnn.trained.network import load
from tfcnn.trained.weights import digest

NONE, ALL = "none", "all"
# What `initial_weights` says for the weights with which a network was published.
IMAGENET = "imagenet"
# Options that change only the first values of the weights, or what is random in training.
_FIRST_OR_RANDOM = ("initializer", "bias", "dropout", "dropout_placement")
# What stands for another value of the same option, which the layers show.
_PAPER = "paper"
# The number of pixels of training images from which a layer computes its weights: 5,000 images of 32x32.
_ADAPTED_TO = 5000 * 32 * 32


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """The weights that a network starts with.

    Attributes:
      source: the recipe's `initial_weights`.
      sha256: over the values of all weights of the source, see `tfcnn.trained.weights.digest`.
      normalization: the input normalization that these weights were trained with.
    """

    source: str
    sha256: str
    normalization: Normalization


@dataclasses.dataclass(frozen=True)
class _Source:
    """Where weights come from.

    Attributes:
      description: what it is, for people.
      weights: of each layer, by its name here.
      same_classes: whether its classes are those of the run, in the same order.
      normalization: the input normalization that the weights were trained with.
      input_shape: height, width and channels of the images.
      sha256: of its weights.
      options: of its network; none if they are the run's own.
    """

    description: str
    weights: Mapping[str, list[np.ndarray]]
    same_classes: bool
    normalization: Normalization
    input_shape: tuple[int, ...]
    sha256: str
    options: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)


def adapt(model: keras.Model, pipeline: Pipeline | Streaming) -> None:
    """Computes the weights that a layer has from the training images: see `PatchWhitening`."""
    for layer in model.layers:
        if isinstance(layer, layers.PatchWhitening):
            height, width = model.input_shape[1:3]
            layer.adapt(pipeline.inspected(max(1, _ADAPTED_TO // (height * width))).numpy())


def start_from(recipe: Recipe, model: keras.Model, class_names: tuple[str, ...]) -> InitialWeights:
    """Gives a network the weights that the recipe names.

    The last layer before each output keeps its own first values if the classes differ.

    Args:
      recipe: names a trained network in `initial_weights`, or the published weights of its own network.
      model: the network, whose weights are replaced.
      class_names: the classes it will distinguish.

    Raises:
      UsageError: there are no such weights, or the network differs.
    """
    find = _published if recipe.initial_weights == IMAGENET else _trained
    source = find(recipe, model, class_names)
    new = set() if source.same_classes else _last_layers(model)
    own, theirs = _with_weights(model), source.weights
    if list(own) != list(theirs):
        odd = sorted(own.keys() ^ theirs.keys())
        raise UsageError(_differ(recipe, source, f"{', '.join(odd[:5])} {'is' if len(odd) == 1 else 'are'} in one only"
                                 if odd else "their layers have another order"))
    for name, layer in own.items():
        shapes, given = [tuple(weight.shape) for weight in layer.weights], [value.shape for value in theirs[name]]
        if name not in new and shapes != given:
            raise UsageError(_differ(recipe, source, f"{name} has weights of {given} there and {shapes} here"))
    for name, value in recipe.network_options().items():
        trained = source.options.get(name, value)
        if name not in _FIRST_OR_RANDOM and trained != value and _PAPER not in (trained, value):
            raise UsageError(f"--initial_weights={recipe.initial_weights} was trained with --{name}={trained}: give "
                             f"that here, too, instead of {value}")
    for name, layer in own.items():
        if name not in new:
            layer.set_weights(theirs[name])
    if not source.normalization.fits(model.input_shape[1:]):
        raise UsageError(f"--initial_weights={recipe.initial_weights}: its input normalization is for images of "
                         f"{'x'.join(map(str, source.input_shape))}: choose the same --image_size")
    return InitialWeights(recipe.initial_weights, source.sha256, source.normalization)


def _trained(recipe: Recipe, model: keras.Model, class_names: tuple[str, ...]) -> _Source:
    """The weights of a trained network of the suite."""
    del model
    source = load(recipe.initial_weights)
    options = source.recipe.network_options()
    # A converted network whose classes have no names has those of the data set that it was converted for.
    numbered = (source.numbered and source.recipe.dataset == recipe.dataset
                and len(source.class_names) == len(class_names))
    return _Source(
        f"{source.recipe.network} {' '.join(f'{name}={value}' for name, value in options.items())}",
        {name: layer.get_weights() for name, layer in _with_weights(source.model).items()},
        numbered or source.class_names == class_names, source.normalization, source.input_shape, digest(source.model),
        options)


def _published(recipe: Recipe, model: keras.Model, class_names: tuple[str, ...]) -> _Source:
    """The weights with which the network was published."""
    found = keras_applications.load(recipe.network, recipe.network_options(), model)
    return _Source(found.description, found.weights, keras_applications.are_imagenet(class_names),
                   found.normalization, found.input_shape, found.sha256)


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


def _differ(recipe: Recipe, source: _Source, difference: str) -> str:
    return (f"--initial_weights={recipe.initial_weights} is {source.description}, whose layers differ from this "
            f"network's: {difference}")
