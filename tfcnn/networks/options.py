"""The options of every network, declared once: the default, the allowed values and the help text of each.

`checked` makes a network's `build` check its arguments before anything else. An experiment offers options as flags with
`choose`. Nothing here needs Keras, so that flags can be parsed, and `--help` printed, at once.

Two arguments of every `build` are not choices of a network and no flags: `classes` and `image_size`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tfcnn import recipe
from tfcnn.recipe import Scalar, UsageError


# The type that a value must have, given that of a default or a choice: numbers of NumPy are numbers, too.
_KINDS: Mapping[type, tuple[type, str]] = {
    bool: (bool, "True or False"), int: (numbers.Integral, "a whole number"), float: (numbers.Real, "a number"),
    str: (str, "a text")}


@dataclasses.dataclass(frozen=True)
class Declaration:
    """One option of a network.

    Attributes:
      default: the default of the network's `build`.
      choices: the allowed values; empty if the option is a number or a switch.
      help: what the option does and what its values mean.
      none: what a default of None stands for.
      limits: of a number, the smallest allowed value and the value that it must stay below.
    """

    default: Scalar | None
    choices: tuple[Scalar, ...] = ()
    help: str = ""
    none: str = ""
    limits: tuple[float, float] | None = None

    @property
    def kind(self) -> tuple[type, str]:
        """The type of the values, and its name."""
        samples = (*self.choices, self.default, *(self.limits or ()))
        return next(_KINDS[type(sample)] for sample in samples if sample is not None)

    @property
    def full_help(self) -> str:
        """The help text, and what None stands for: for a caller of `build`, who may pass None."""
        return f"{self.help}; None: {self.none}" if self.none else self.help


# Activations of every layer but the one that computes the logits. All but rrelu are Keras's own.
ACTIVATIONS = ("relu", "leaky_relu", "prelu", "rrelu", "elu", "tanh", "sigmoid")
# First values of the weights. Biases keep the first values that the network gives them. `paper`: what the network's
# paper says, see the head of the network's file.
INITIALIZERS = ("paper", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform", "lecun_normal",
                "orthogonal")

_ACTIVATION = Declaration("relu", ACTIVATIONS, "activation function of all layers but the last")
_INITIALIZER = Declaration("paper", INITIALIZERS, "first values of all weights but the biases; paper: those of the "
                                                  "network's paper, see the head of its file")


def _normalization(*choices: str, help: str) -> Declaration:
    """What normalizes the activations; the first choice is the default."""
    return Declaration(choices[0], choices, f"what normalizes the activations; {help}")


def _dropout(default: float | None, where: str, none: str = "") -> Declaration:
    """The fraction of the activations that training drops."""
    return Declaration(default, (), f"fraction of the activations dropped {where}", none, limits=(0.0, 1.0))


OPTIONS: Mapping[str, Mapping[str, Declaration]] = {
    "airbench": {
        "variant": Declaration("airbench94", ("airbench94",), "airbench94: the network for 94%, the only one"),
        "whitening": Declaration(True, help=(
            "the first layer whitens patches of 2x2 pixels by weights computed from the training images; if not, it is "
            "a convolution whose weights are trained")),
        "activation": dataclasses.replace(_ACTIVATION, default="gelu", choices=("gelu", *ACTIVATIONS)),
        "initializer": _INITIALIZER,
    },
    "alexnet": {
        "variant": Declaration("cifar", ("cifar", "paper", "one_tower", "cifar_four_layers"), (
            "cifar: the small network for 32x32 images; cifar_four_layers: cuda-convnet's three convolutions and one "
            "dense layer, for 32x32 images; paper: the network for ImageNet, in two groups; one_tower: the "
            "same without groups")),
        "normalization": _normalization("local_response", "local_response_pixels", "none", "batch", help=(
            "local_response: with the published constants; local_response_pixels: with an alpha that counts pixels of "
            "unit variance as those of 0 to 255, for which the constants are; batch: between each convolution and its "
            "activation")),
        "activation": _ACTIVATION,
        "dropout": _dropout(None, "where dropout_placement says",
                            "0 for 32x32 images, 0.5 for the others (section 4.2)"),
        "initializer": _INITIALIZER,
        "dropout_placement": Declaration("after", ("after", "before", "convolutions"), (
            "where dropout is; after: after the activation of each hidden dense layer; before: before that activation; "
            "convolutions: as after, and after each pooling, too. cifar_four_layers, without hidden dense layers, has "
            "it before its dense layer, or before the activation of conv3")),
        "bias": Declaration(0.0, (), (
            "what is added to the first values of the biases of all layers but the last: 0, or 1 in some layers of the "
            "networks for ImageNet"), limits=(0.0, 2.0)),
    },
    "inception": {
        "variant": Declaration("cifar", ("cifar", "googlenet", "v3", "small"), (
            "cifar: GoogLeNet for 32x32 images; googlenet: the paper's network for ImageNet; v3: Inception-v3; small: "
            "the small Inception of Zhang et al. 2017, for 28x28 images")),
        "auxiliary": Declaration(False, help=(
            "add the two auxiliary heads, which are for training only; v3 and small have none")),
        "normalization": _normalization("paper", "batch", "local_response", "none", help=(
            "batch: between each convolution and its activation; local_response: in the first layers only; paper: "
            "local_response for googlenet, batch for the others; v3 always has batch, small has no local_response")),
        "activation": _ACTIVATION,
        "dropout": _dropout(None, "before the logits; auxiliary heads drop 0.7, or nothing if this is 0",
                            "0.2 for cifar, 0.4 for googlenet (table 1), 0 for v3 and small"),
        "initializer": _INITIALIZER,
        "reductions": Declaration(True, help=(
            "reduce the channels by a 1x1 convolution before each 3x3 and 5x5 convolution of a module; if not, these "
            "see all channels, as in figure 2a; for cifar and googlenet only")),
        "width": Declaration(1.0, help="factor of the channels of all convolutions", limits=(0.01, 2.0)),
    },
    "lenet": {
        "variant": Declaration("modern", ("modern", "original"), (
            "original: the network of 1998; modern: the same with plain average pooling, and with each map of C3 "
            "connected to all maps of S2")),
        "output": Declaration("dense", ("dense", "radial_basis"), (
            "dense: linear units; radial_basis: the paper's distances from bitmaps of the ten digits, which need a "
            "third of the learning rate")),
        "normalization": _normalization("none", "batch", help="batch: between each convolution and its activation"),
        "activation": dataclasses.replace(_ACTIVATION, default="scaled_tanh", choices=("scaled_tanh", *ACTIVATIONS)),
        "dropout": _dropout(0.0, "after C5 and after F6"),
        "initializer": _INITIALIZER,
    },
    "mlp": {
        "variant": Declaration("bottleneck", (
            "bottleneck", "bottleneck_short", "plain", "fashion", "bottleneck_small", "plain_small", "one_layer",
            "three_layers"), (
                "bottleneck: seven hidden layers, every second one linear and narrow; bottleneck_short: three of "
                "these, which the paper trains on deformed images; plain: four layers of 1,000 units; fashion: "
                "256-128-100 units for 28x28 grey pixels; bottleneck_small: an eighth of the units of bottleneck; "
                "plain_small: four layers of 436 units, with as many parameters; one_layer, three_layers: layers of "
                "512 units for 28x28 pixels, as in Zhang et al. 2017")),
        "normalization": _normalization("paper", "layer", "batch", "none", help=(
            "layer: each image's activations, after each hidden layer but the last, without parameters; batch: after "
            "each hidden layer's product; paper: layer for the bottleneck networks, none for the others")),
        "activation": Declaration(None, ACTIVATIONS, none="tanh for fashion, relu for the others", help=(
            "activation function of all hidden layers but the linear ones")),
        "dropout": _dropout(None, "after each hidden layer, and in the bottleneck networks of the images, too",
                            "0.1 for the bottleneck networks, 0.4 for fashion, 0 for the others"),
        "initializer": _INITIALIZER,
    },
    "network_in_network": {
        "variant": Declaration("cifar", ("cifar",), "cifar: the network for CIFAR-10, the only one"),
        "normalization": _normalization("none", "batch", help="batch: between each convolution and its activation"),
        "activation": _ACTIVATION,
        "dropout": _dropout(None, "after each of the two poolings", "0.5, as released"),
        "initializer": _INITIALIZER,
    },
    "resnet": {
        "depth": Declaration(20, (20, 32, 44, 56, 110, 18, 34, 50, 101, 152), (
            "number of layers with weights, projections not counted: 20 to 110 in three stages, for CIFAR-10; 18, 34 "
            "(blocks of two 3x3 convolutions), 50, 101 and 152 (bottleneck blocks) in four stages, for ImageNet")),
        "stem": Declaration("3x3", ("3x3", "7x7"), (
            "first convolution; 3x3: keeps the size of small images; 7x7: with the pooling after it, a quarter of the "
            "height and width of large images, for four stages only")),
        "shortcut": Declaration("paper", ("paper", "A", "B", "C", "none"), (
            "the shortcut of a block, where it changes the dimensions; A: every second pixel, and channels of zeros; "
            "B: a projection, which is a 1x1 convolution; C: a projection in every block; none: the plain network; "
            "paper: A in three stages, B in four")),
        "normalization": _normalization("batch", "none", help=(
            "batch: after each convolution; none: what then keeps a deep network trainable, see networks/resnet.py")),
        "activation": _ACTIVATION,
        "initializer": _INITIALIZER,
    },
    "vgg": {
        "variant": Declaration(
            "cifar16", (
                "cifar16", "cifar16_one_dense", "cifar19_one_dense", "A", "A-LRN", "B", "C", "D", "E", "two_3x3",
                "one_5x5", "one_5x5_wide", "three_3x3", "one_7x7", "one_7x7_narrow"), (
                "A to E: the columns of the paper's table 1, for ImageNet; D is VGG-16 and E is VGG-19; cifar16: D for "
                "32x32 images, with two smaller hidden dense layers; cifar16_one_dense and cifar19_one_dense: D and E "
                "for 32x32 images, without hidden dense layers; two_3x3, one_5x5, three_3x3, one_7x7: small networks "
                "for 32x32 images, whose three stages have these convolutions, the first two with equal receptive "
                "fields, and the last two; one_5x5_wide, one_7x7_narrow: with as many parameters as the stack")),
        "normalization": _normalization("paper", "batch", "none", "local_response", help=(
            "batch: between each convolution and its activation; local_response: after the first activation, as in "
            "A-LRN; paper: batch for 32x32 images, local_response for A-LRN, none for the others")),
        "activation": _ACTIVATION,
        "dropout": _dropout(None, "after each hidden dense layer; for 32x32 images also before the first dense layer "
                                  "and, 0.6 or 0.8 of this fraction, between the convolutions of a stage",
                            "0.5 (section 3.1), or 0 in the variants without hidden dense layers"),
        "initializer": _INITIALIZER,
    },
}


# The arguments that every `build` has. How small an image may be, each network says itself.
_ARGUMENTS = {
    "classes": Declaration(None, none="the published number", help="number of logits", limits=(1, math.inf)),
    "image_size": Declaration(0, help="height and width of the input in pixels; 0: the network's own"),
}


def choose(network: str, /, **values: Scalar) -> dict[str, recipe.Option]:
    """The options that an experiment offers as flags, with the experiment's own values.

    Args:
      network: the network.
      **values: the experiment's value of each option that it offers.

    Returns:
      The options by name, for `Recipe.options`, in the order of their declaration.

    Raises:
      UsageError: the network has no such option, or the value is not allowed.
    """
    for name in values:
        check_choice(f"option of {network}", name, OPTIONS[network])
    check(network, **values)
    return {name: recipe.Option(values[name], declared.choices, declared.help, declared.default)
            for name, declared in OPTIONS[network].items() if name in values}


def checked(build: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a network's `build`: all arguments are checked before anything is built.

    What the arguments are to each other, and whether the images are large enough, `build` checks itself.
    """
    network = build.__module__.rpartition(".")[2]
    signature = inspect.signature(build)

    @functools.wraps(build)
    def checking(*arguments: Any, **named: Any) -> Any:
        check(network, **dict(zip(signature.parameters, arguments)) | named)
        return build(*arguments, **named)

    return checking


def check(network: str, /, **values: Any) -> None:
    """Checks the types and values of a network's options, and of the arguments that every network has.

    Raises:
      UsageError: the network has no such option, or the value is not allowed.
    """
    declarations = {**OPTIONS[network], **_ARGUMENTS}
    for name, value in values.items():
        check_choice(f"option of {network}", name, declarations)
        declared = declarations[name]
        if value is None and declared.default is None:
            continue
        kind, described = declared.kind
        number: Any = value
        if isinstance(value, bool) != (kind is bool) or not isinstance(value, kind):
            raise UsageError(f"{name}={value!r} must be "
                             + (f"one of {_listed(declared.choices)}" if declared.choices else described))
        if declared.choices:
            check_choice(name, value, declared.choices)
        if declared.limits:
            smallest, below = declared.limits
            if not smallest <= number < below:
                raise UsageError(f"{name}={value} must be at least {smallest:g}"
                                 + (f" and less than {below:g}" if below < math.inf else ""))


def check_choice(option: str, value: Any, choices: Iterable[Scalar]) -> None:
    """Raises UsageError unless the value of an option is one of the choices."""
    choices = list(choices)
    if value not in choices:
        raise UsageError(f"{option}={value!r} must be one of {_listed(choices)}")


def _listed(choices: Iterable[Scalar]) -> str:
    return ", ".join(map(str, choices))
