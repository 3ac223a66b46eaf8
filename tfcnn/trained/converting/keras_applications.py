"""ImageNet weights by keras.applications: VGG-16 and 19, ResNet-50, 101 and 152, Inception-v3.

The weights are the authors' own for VGG, and for ResNet and Inception those that Keras publishes. Keras downloads them
once, and keeps them in `~/.keras/models`. What its networks have and ours lack becomes part of other weights:

- VGG and ResNet take blue, green, red: the input channels of the first kernel are reversed.
- The convolutions of ResNet have a bias, and batch normalization takes it up: x + b normalized by the mean m is x
  normalized by m - b.
- Another epsilon of batch normalization is added to the moving variance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfcnn
from tfcnn import _compat, signals, streams
from tfcnn.data.normalization import Normalization, PerChannel
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import Scalar, UsageError
from tfcnn.trained.weights import digest

# SHA-256 of the 1,000 names of ImageNet's classes (n01440764 ...), sorted and joined by line ends: the logits' order.
_CLASSES_SHA256 = "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
_NETWORK_SECONDS = 30  # without an answer


@dataclasses.dataclass(frozen=True)
class Published:
    """Published weights in our terms.

    Attributes:
      description: what they are, for people.
      weights: by the name of our layer, in our model's order, what its `set_weights` takes, of the published shapes.
      normalization: the input normalization that they were trained with.
      input_shape: height, width and channels of the images.
      sha256: over the values of all weights of Keras's network, see `tfcnn.trained.weights.digest`.
    """

    description: str
    weights: dict[str, list[np.ndarray]]
    normalization: Normalization
    input_shape: tuple[int, ...]
    sha256: str


@dataclasses.dataclass(frozen=True)
class _Family:
    """One of our networks, and what of it keras.applications has.

    Attributes:
      option: the option that tells its networks apart.
      applications: the value of that option -> the name in keras.applications.
      needs: what other options must be.
      means, deviation: of the pixels, from 0 to 255; red, green, blue.
      reversed: whether Keras's network takes blue, green, red.
      pairs: (our network, Keras's) -> the name of our layer -> the name of Keras's.
    """

    option: str
    applications: Mapping[Scalar, str]
    needs: Mapping[str, tuple[Scalar, ...]]
    means: tuple[float, float, float]
    deviation: float
    reversed: bool
    pairs: Callable[[keras.Model, keras.Model], dict[str, str]]


def load(network: str, options: Mapping[str, Scalar], model: keras.Model) -> Published:
    """ImageNet weights for a network, downloaded unless Keras has done so before.

    Args:
      network: its name.
      options: the options that it was built with; those that are missing have their defaults.
      model: the network, which is not changed.

    Raises:
      UsageError: there are no ImageNet weights for it, or they cannot be downloaded.
    """
    name = find(network, options)
    return convert(network, name, _downloaded(name), model)


def find(network: str, options: Mapping[str, Scalar]) -> str:
    """The name in keras.applications of one of our networks.

    Raises:
      UsageError: there is none, and why.
    """
    family = _FAMILIES.get(network)
    if family is None:
        known = ", ".join(f"{name} with --{one.option}={_either(one.applications)}" for name, one in _FAMILIES.items())
        raise UsageError(f"--initial_weights=imagenet: there are none for {network}, but for {known}")
    chosen: dict[str, Any] = {
        name: options.get(name, declared.default) for name, declared in OPTIONS[network].items()}
    for name, allowed in {family.option: tuple(family.applications), **family.needs}.items():
        if chosen[name] not in allowed:
            raise UsageError(f"--initial_weights=imagenet: {network} with --{name}={chosen[name]} has none; choose "
                             f"--{name}={_either(allowed)}")
    return family.applications[chosen[family.option]]


def convert(network: str, name: str, theirs: keras.Model, model: keras.Model) -> Published:
    """The weights of a network of keras.applications in our terms.

    Args:
      network: the name of our network.
      name: the name of Keras's.
      theirs: Keras's network.
      model: our network.

    Raises:
      UsageError: the layers of the two differ.
    """
    family = _FAMILIES[network]
    size = theirs.input_shape[1]
    description = f"{name} of keras.applications for images of {size}x{size} pixels"
    pairs = family.pairs(model, theirs)
    own, their = ([layer for layer in one.layers if layer.weights] for one in (model, theirs))
    if {*pairs} != {layer.name for layer in own} or {*pairs.values()} != {layer.name for layer in their}:
        raise UsageError(f"--initial_weights=imagenet: this version of Keras ({keras.__version__}) has another {name}, "
                         f"with {len(their)} layers that have weights, and here it has {len(own)}")
    weights = {layer.name: _converted(layer, pairs, theirs) for layer in own}
    if family.reversed:
        first = own[0].name
        weights[first][0] = weights[first][0][:, :, ::-1]
    normalization = PerChannel(family.means, (family.deviation,) * 3)
    return Published(description, weights, normalization, theirs.input_shape[1:], digest(theirs))


def _either(values: Iterable[Scalar]) -> str:
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def are_imagenet(class_names: Sequence[str]) -> bool:
    """Whether classes are ImageNet's, under the names and in the order of the published logits."""
    return hashlib.sha256("\n".join(class_names).encode()).hexdigest() == _CLASSES_SHA256


def _converted(layer: keras.Layer, pairs: Mapping[str, str], theirs: keras.Model) -> list[np.ndarray]:
    """What `set_weights` of one of our layers takes."""
    other = theirs.get_layer(pairs[layer.name])
    values = {weight.name: weight.numpy() for weight in other.weights}
    if "moving_mean" in values:
        before = theirs.get_layer(pairs[layer.name.removesuffix("_normalization")])
        if before.use_bias:
            values["moving_mean"] = values["moving_mean"] - before.bias.numpy()
        values["moving_variance"] = values["moving_variance"] + np.float32(other.epsilon - layer.epsilon)
    return [values[weight.name] for weight in layer.weights]


def _downloaded(name: str) -> keras.Model:
    """A network of keras.applications with ImageNet weights."""
    folder = Path(tfcnn.KERAS_FOLDER).expanduser()
    with suppress(OSError):  # without it, Keras uses another one
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _compat.keras_folder(folder), _impatient():
            return getattr(keras.applications, name)(weights="imagenet", classifier_activation=None)
    except (signals.Interrupted, streams.OutputLost):
        raise
    except Exception as error:  # Keras raises an Exception of no kind if it cannot download, and others for damage
        reason = " ".join(str(error).split())
        raise UsageError(f"--initial_weights=imagenet: Keras cannot load {file(name)} ({reason}): download it "
                         f"elsewhere and put it into {folder / 'models'}") from error


def file(name: str) -> str:
    """What Keras calls the file with a network's weights."""
    return f"{name.lower().replace('v3', '_v3')}_weights_tf_dim_ordering_tf_kernels.h5"


@contextmanager
def _impatient() -> Iterator[None]:
    """Within the context, a server that does not answer is an error after a while."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_NETWORK_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _vgg_pairs(model: keras.Model, theirs: keras.Model) -> dict[str, str]:
    del theirs
    dense = {"fc6": "fc1", "fc7": "fc2", "logits": "predictions"}
    return {layer.name: dense.get(layer.name, re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", layer.name))
            for layer in model.layers if layer.weights}


def _resnet_pairs(model: keras.Model, theirs: keras.Model) -> dict[str, str]:
    del theirs

    def other(name: str) -> str:
        kind = "bn" if name.endswith("_normalization") else "conv"
        block = re.match(r"conv(\d)_(\d+)_(shortcut|conv(\d))", name)
        return f"conv{block[1]}_block{block[2]}_{block[4] or 0}_{kind}" if block else f"conv1_{kind}"

    return {layer.name: "predictions" if layer.name == "logits" else other(layer.name)
            for layer in model.layers if layer.weights}


def _inception_pairs(model: keras.Model, theirs: keras.Model) -> dict[str, str]:
    """By order, since Keras numbers its layers through all networks of a process."""
    own, other = ([call.operation.name for call in _compat.calls(one) if call.operation.weights]
                  for one in (model, theirs))
    return dict(zip(own, other))


_RELU: dict[str, tuple[Scalar, ...]] = {"activation": ("relu",)}
# keras.applications, preprocess_input: "caffe" for VGG and ResNet, and "tf" for Inception.
_CAFFE_MEANS = (123.68, 116.779, 103.939)
_FAMILIES = {
    "vgg": _Family("variant", {"D": "VGG16", "E": "VGG19"}, {"normalization": ("paper", "none"), **_RELU},
                   _CAFFE_MEANS, 1.0, True, _vgg_pairs),
    "resnet": _Family("depth", {50: "ResNet50", 101: "ResNet101", 152: "ResNet152"},
                      {"stem": ("7x7",), "shortcut": ("paper", "B"), "normalization": ("batch",), **_RELU},
                      _CAFFE_MEANS, 1.0, True, _resnet_pairs),
    "inception": _Family("variant", {"v3": "InceptionV3"}, _RELU, (127.5, 127.5, 127.5), 127.5, False,
                         _inception_pairs),
}
