"""All explanations of a network, each of the trained network and of the same one with weights drawn anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn.recipe import UsageError
from tfcnn.trained import prediction
from tfcnn.trained.explaining import (filters, grad_cam, gradients, layers, maximization, occlusion, randomization,
                                      units)
from tfcnn.trained.network import TrainedNetwork

# How many filters, units, images for each unit, classes, and channels of a stage are shown.
FILTERS, UNITS, IMAGES, CLASSES, CHANNELS = 64, 8, 8, 10, 12


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What is explained.

    Attributes:
      images: uint8 `[n, height, width, channels]`, of the network's input size.
      names: the file of each, or its number in the test set.
      labels: the true class of each; None where it is unknown.
      classes: the class that is explained in each, `[n]`.
      probabilities: what the network gives each class, `[n, classes]`.
    """

    images: np.ndarray
    names: tuple[str, ...]
    labels: tuple[int | None, ...]
    classes: np.ndarray
    probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Pair:
    """One explanation, of the trained network and of the one with new weights.

    Attributes:
      name: of its file, such as `grad_cam`.
      title: what it is, for people.
      source: who invented it.
      trained: the explanation: maps `[n, rows, columns]` of the pictures, or what else the method gives.
      redrawn: the same after the weights were drawn anew.
      correlations: the rank correlation of each with its counterpart.
      settings: what it was made with, plain data.
    """

    name: str
    title: str
    source: str
    trained: np.ndarray
    redrawn: np.ndarray
    correlations: np.ndarray
    settings: dict[str, Any]

    @property
    def similarity(self) -> float | None:
        """The mean rank correlation; None if it is undefined, as an explanation is the same everywhere."""
        return randomization.mean(self.correlations)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """All explanations of a network.

    Attributes:
      pictures: what is explained.
      attributions: maps of the pictures: where they matter for their class; the first is the control, an edge detector.
      feature_maps: of each stage, `[n, rows, columns, channels]`, those of each picture that vary most.
      filters: of the first layer; None if they are no images.
      units: activations of the units of a layer by the test images, `[units, images]`; None without test images.
      maximized: images that maximize classes or units, `[n, height, width, channels]`.
      test_images: uint8, of the network's input size; None without them.
      left_out: the methods that make no sense for this network, or lack data, and why.
      seed: of the weights that were drawn anew.
    """

    pictures: Pictures
    attributions: list[Pair]
    feature_maps: list[Pair]
    filters: Pair | None
    units: Pair | None
    maximized: Pair
    test_images: np.ndarray | None
    left_out: dict[str, str]
    seed: int


def choose(network: TrainedNetwork, images: np.ndarray, names: Sequence[str], labels: Sequence[int | None],
           chosen_class: str = "") -> Pictures:
    """The pictures that are explained, and the class that is explained in each.

    Args:
      network: the network.
      images: uint8 `[n, height, width, channels]`, of the network's input size.
      names: of the pictures.
      labels: their true classes, None where unknown.
      chosen_class: a class's name or number; empty for the class that the network predicts.

    Raises:
      UsageError: there is no such class.
    """
    probabilities = prediction.softmax(network.logits_of_fitted(images))
    classes = probabilities.argmax(axis=1)
    if chosen_class:
        classes = np.full(len(images), find_class(network.class_names, chosen_class))
    return Pictures(images, tuple(names), tuple(labels), classes, probabilities)


def find_class(names: Sequence[str], word: str) -> int:
    """The number of a class, by its name or its number.

    Raises:
      UsageError: there is no such class.
    """
    if word in names:
        return list(names).index(word)
    if word.isdecimal() and int(word) < len(names):
        return int(word)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise UsageError(f"--class={word} is no class of the network, nor a number from 0 to {len(names) - 1}: its classes "
                     f"are {shown}")


def explain(network: TrainedNetwork, pictures: Pictures, test_images: np.ndarray | None = None, layer: str = ""
            ) -> Explanation:
    """Makes all explanations that make sense for a network.

    Weights drawn anew, and noise, have another seed than the network was trained with.

    Args:
      network: the network.
      pictures: what is explained.
      test_images: uint8 `[batch, height, width, channels]`, of the network's input size; None if there are none.
      layer: the layer of the feature maps, Grad-CAM and units; empty for the stages of the network. One without
        positions is used for its units only.

    Raises:
      UsageError: there is no such layer.
    """
    model = network.model
    if layer:
        layers.find(model, layer)
    seed = (network.recipe.seed + 1) % 2**32
    both = model, randomization.redrawn(model, seed)
    inputs = network.normalization.apply(tf.constant(pictures.images)).numpy()
    positions = bool(layer) and layers.has_positions(model, layer)
    stages = [layer] if positions else layers.stages(model)
    left_out = {}
    if not stages:
        left_out["grad_cam"] = left_out["feature_maps"] = f"{model.name} has no convolution, so it has no feature maps"
    cam_layer = layer if positions else layers.last_stage(model)
    unit_layer = layer or cam_layer or layers.last_hidden(model)
    first = _filters(both)
    if first is None:
        left_out["filters"] = f"the weights of {model.name}'s first layer are no filters of images"
    activations = None
    if test_images is None:
        left_out["units"] = "there are no test images to search"
    else:
        activations = _units(network, both, unit_layer, test_images)
    slopes = [gradients.input_gradient(one) for one in both]
    unit_slopes = [gradients.input_gradient(one, layer) for one in both] if layer else slopes
    return Explanation(
        pictures, _attributions(both, slopes, cam_layer, inputs, pictures, seed),
        _feature_maps(both, stages, inputs), first, activations,
        _maximized(network, unit_slopes, layer, pictures, activations, seed), test_images, left_out, seed)


def _pair(name: str, title: str, source: str, trained: np.ndarray, redrawn: np.ndarray, **settings: Any) -> Pair:
    return Pair(name, title, source, trained, redrawn, randomization.rank_correlations(trained, redrawn), settings)


def _attributions(both: Sequence[keras.Model], slopes: Sequence[gradients.Gradient], cam_layer: str | None,
                  inputs: np.ndarray, pictures: Pictures, seed: int) -> list[Pair]:
    """The maps of where the pictures matter for their class."""
    classes = pictures.classes
    control = randomization.edges(pictures.images)
    found = [_pair("edges", "Edge detector", "the control, which ignores weights", control, control)]
    found.append(_pair("gradient", "Gradient", "Simonyan et al. 2014",
                       *(gradients.saliency(slope, inputs, classes) for slope in slopes)))
    found.append(_pair("smoothgrad", "SmoothGrad", "Smilkov et al. 2017",
                       *(gradients.smoothgrad(slope, inputs, classes, seed) for slope in slopes),
                       noise=gradients.NOISE, copies=gradients.COPIES))
    if cam_layer:
        found.append(_pair("grad_cam", "Grad-CAM", "Selvaraju et al. 2017",
                           *(grad_cam.grad_cam(model, cam_layer, inputs, classes) for model in both), layer=cam_layer,
                           **layers.centres(both[0], cam_layer)))
    side, stride = occlusion.square(*inputs.shape[1:3])
    found.append(_pair("occlusion", "Occlusion", "Zeiler and Fergus 2014",
                       *(occlusion.occlusion(logits, inputs, classes, side, stride) for logits in map(_logits, both)),
                       side=side, stride=stride))
    return found


def _logits(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    return lambda inputs: prediction.logits(model, tf.constant(inputs)).numpy()


def _filters(both: Sequence[keras.Model]) -> Pair | None:
    found = filters.first_filters(both[0])
    if found is None:
        return None
    layer, trained = found
    redrawn = dict([filters.first_filters(both[1]) or found])[layer]
    shown = filters.strongest(trained, FILTERS)
    return _pair("filters", "Filters of the first layer", "Krizhevsky et al. 2012", trained[shown], redrawn[shown],
                 layer=layer, filters=shown.tolist(), of=len(trained))


def _feature_maps(both: Sequence[keras.Model], stages: Sequence[str], inputs: np.ndarray) -> list[Pair]:
    """The maps of each stage, of each picture's channels that vary most; the correlations are those of all channels."""
    found: dict[str, list[tuple[np.ndarray, ...]]] = {stage: [] for stage in stages}
    for image in inputs[:, np.newaxis] if stages else ():  # one at a time: all channels of all pictures are too many
        for stage, trained, redrawn in zip(stages, *(units.feature_maps(model, stages, image) for model in both)):
            maps = [np.moveaxis(values[0], -1, 0) for values in (trained, redrawn)]
            shown = np.argsort(-maps[0].std(axis=(1, 2)), kind="stable")[:CHANNELS]
            found[stage].append((*(values[..., shown] for values in (trained, redrawn)),
                                 randomization.rank_correlations(*maps)))
    pairs = []
    for stage in stages:
        trained, redrawn, correlations = (np.concatenate(values) for values in zip(*found[stage]))
        pairs.append(Pair("feature_maps", "Feature maps", "Zeiler and Fergus 2014", trained, redrawn, correlations,
                          {"layer": stage, "channels": both[0].get_layer(stage).output.shape[-1]}))
    return pairs


def _units(network: TrainedNetwork, both: Sequence[keras.Model], layer: str, images: np.ndarray) -> Pair:
    trained, redrawn = (units.activations(model, network.normalization, layer, images) for model in both)
    shown = units.most_varied(trained, UNITS)
    found = [units.most_activating(values, shown, IMAGES).tolist() for values in (trained, redrawn)]
    return _pair("units", "Test images that activate a unit most", "Zeiler and Fergus 2014", trained[:, shown].T,
                 redrawn[:, shown].T, layer=layer, units=shown.tolist(), of=trained.shape[1], images=found[0],
                 images_redrawn=found[1])


def _maximized(network: TrainedNetwork, slopes: Sequence[gradients.Gradient], layer: str, pictures: Pictures,
               activations: Pair | None, seed: int) -> Pair:
    """Images that maximize the units of the chosen layer; without one, classes: first those of the pictures."""
    if layer:
        count = network.model.get_layer(layer).output.shape[-1]
        shown = np.array(activations.settings["units"] if activations else range(min(count, UNITS)))
        titles = [f"unit {number}" for number in shown]
    else:
        order = [*dict.fromkeys(pictures.classes.tolist()), *range(len(network.class_names))]
        shown = np.sort(np.array(list(dict.fromkeys(order))[:CLASSES]))
        titles = [network.class_names[number] for number in shown]
    trained, redrawn = (maximization.maximize(slope, network.normalization, network.input_shape, shown, seed)
                        for slope in slopes)
    return _pair("activation_maximization", "Images that maximize " + ("units" if layer else "classes"),
                 "Simonyan et al. 2014, Yosinski et al. 2015", trained, redrawn, layer=layer or "logits",
                 units=shown.tolist(), shown=titles, steps=maximization.STEPS, step=maximization.STEP,
                 decay=maximization.DECAY, blur=maximization.BLUR)
