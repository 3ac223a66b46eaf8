"""VGG: deep stacks of small convolutions, second at ImageNet in 2014; and its relatives for CIFAR-10.

*Source*: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015;
sections and tables below refer to it. The variants for CIFAR-10 follow widely used implementations of columns D and E
of table 1. `cifar16` has the dense layers of github.com/chengyangfu/pytorch-vgg-cifar10, and dropout and batch
normalization as in github.com/szagoruyko/cifar.torch; the variants with one dense layer are those of
github.com/kuangliu/pytorch-cifar. `two_3x3` to `one_7x7_narrow` are this suite's own, to compare stacks of small
kernels with single larger ones: section 4.1 replaces each pair of 3x3 convolutions of `B` by one of 5x5.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero (section 2.1) and, as the suite feeds
them, unit variance; class logits `[batch, classes]` in float32, without softmax.

*Differs from the paper in*:
- The weights of `A` to `E` are drawn by Glorot and Bengio's rule, so that each network can be trained by itself. The
  authors found that this works after they had submitted the paper (section 3.1). For the paper's results the deeper
  networks started from layers of a trained `A`, which started from normally distributed weights of "10^-2 variance".
  Biases start at zero, as in the paper.
- Dropout scales up the kept activations in training, instead of scaling all of them down at test.
- The dense layers are dense. The paper turns them into convolutions to test on images of any size (section 3.2).
- Batch normalization, invented a year later, stands between a convolution and its activation. The convolutions then
  have no bias, except in `cifar16_one_dense` and `cifar19_one_dense`, whose published parameter count includes them.
- CIFAR-10: weights are drawn as in the first two implementations, by He et al.'s rule for convolutions and by Torch's
  own for dense layers; biases start at zero. In `cifar16` dropout also stands before the first dense layer and, at 0.6
  (after the first convolution) or 0.8 of its rate, after each convolution but the last of a stage: 0.3, 0.4 and 0.5 in
  cifar.torch, which has a single hidden dense layer and normalizes it. The variants with one dense layer have no
  dropout unless it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options

# Table 1, transposed: for each column the kernel sizes of the convolutions in the five stages. All convolutions of a
# stage have the same number of filters, and a 2x2 max-pooling follows them. The shapes after the stages are
# 224x224 pixels: 112x112x64, 56x56x128, 28x28x256, 14x14x512, 7x7x512,
# 32x32 pixels:   16x16x64,   8x8x128,   4x4x256,   2x2x512,   1x1x512.
# Two 3x3 convolutions see 5x5 pixels, and three see 7x7, with fewer weights than one larger kernel has, and with more
# nonlinearities (section 2.3).
_FILTERS = (64, 128, 256, 512, 512)
_COLUMNS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
    # Not in table 1: three stages, whose shapes for 32x32 pixels are 16x16x32, 8x8x64, 4x4x128.
    "two_3x3": ((3, 3),) * 3,
    "one_5x5": ((5,),) * 3,
    "three_3x3": ((3, 3, 3),) * 3,
    "one_7x7": ((7,),) * 3,
}


class _Network(NamedTuple):
    column: str  # of _COLUMNS
    hidden: tuple[int, ...] = (4096, 4096)  # units of the dense layers before the last
    normalization: str = "none"
    dropout: float = 0.5  # section 3.1
    filters: tuple[int, ...] = ()  # in each stage; empty: _FILTERS
    bias: bool = False  # whether convolutions have one before batch normalization, whose offset makes it redundant


def _field(column: str, *filters: int) -> _Network:
    """A network to compare receptive fields, with so many filters in each stage."""
    return _Network(column, (), "batch", dropout=0.0, filters=filters)


_NETWORKS = {
    "cifar16": _Network("D", (512, 512), "batch"),
    "cifar16_one_dense": _Network("D", (), "batch", dropout=0.0, bias=True),
    "cifar19_one_dense": _Network("E", (), "batch", dropout=0.0, bias=True),
    "A": _Network("A"),
    "A-LRN": _Network("A", normalization="local_response"),
    "B": _Network("B"),
    "C": _Network("C"),
    "D": _Network("D"),
    "E": _Network("E"),
    "two_3x3": _field("two_3x3", 32, 64, 128),
    "one_5x5": _field("one_5x5", 32, 64, 128),
    "one_5x5_wide": _field("one_5x5", 34, 67, 135),  # as many parameters as `two_3x3`, as nearly as possible
    "three_3x3": _field("three_3x3", 32, 64, 128),
    "one_7x7": _field("one_7x7", 32, 64, 128),
    "one_7x7_narrow": _field("one_7x7", 31, 62, 126),  # as many parameters as `three_3x3`, as nearly as possible
}


@options.checked
def build(variant: str = "cifar16", classes: int | None = None, image_size: int = 0, normalization: str = "paper",
          activation: str = "relu", dropout: float | None = None, initializer: str = "paper") -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10 for CIFAR-10's networks, 1,000 for the paper's.
      image_size: height and width of the input in pixels; 0: the variant's own, 32 or 224.
      variant, normalization, activation, dropout, initializer: see `options.OPTIONS["vgg"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    table, network = VARIANTS[variant], _NETWORKS[variant]
    classes, image_size = table.sizes(classes, image_size)
    normalization = network.normalization if normalization == "paper" else normalization
    dropout = network.dropout if dropout is None else dropout
    cifar = table.input_shape[0] == 32

    x = images = keras.Input((image_size, image_size, 3), name="images")
    for stage, (filters, sizes) in enumerate(zip(network.filters or _FILTERS, _COLUMNS[network.column]), 1):
        for number, size in enumerate(sizes, 1):
            name = f"conv{stage}_{number}"
            x = _convolve(x, filters, size, name, normalization, normalization != "batch" or network.bias, activation,
                          _convolution_weights(initializer, cifar))
            if cifar and number < len(sizes):
                x = layers.drop(x, dropout * (0.6 if name == "conv1_1" else 0.8), f"{name}_dropout")
        x = keras.layers.MaxPooling2D(2, 2, name=f"pool{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)  # 25088; for 32x32 images 512, or 2048 after three stages
    if cifar:
        x = layers.drop(x, dropout, "flatten_dropout")
    for units, name in zip(network.hidden, ("fc6", "fc7")):
        x = layers.Dense(units, kernel_initializer=_dense_weights(initializer, cifar), name=name)(x)
        x = layers.activate(x, activation, f"{name}_activation")
        x = layers.drop(x, dropout, f"{name}_dropout")
    logits = layers.Dense(classes, kernel_initializer=_dense_weights(initializer, cifar), dtype="float32",
                          name="logits")(x)
    return keras.Model(images, logits, name=f"vgg_{variant}")


def _convolve(x: KerasTensor, filters: int, size: int, name: str, normalization: str, use_bias: bool, activation: str,
              weights: str | keras.Initializer) -> KerasTensor:
    """A convolution and its activation, with the normalization that is chosen."""
    x = layers.Conv2D(filters, size, padding="same", use_bias=use_bias, kernel_initializer=weights, name=name)(x)
    if normalization == "batch":
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    x = layers.activate(x, activation, f"{name}_activation")
    if normalization == "local_response" and name == "conv1_1":
        x = layers.LocalResponseNormalization(name="norm1")(x)  # with AlexNet's constants: section 2.1
    return x


def _convolution_weights(initializer: str, cifar: bool) -> str | keras.Initializer:
    he = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
    return layers.initializer(initializer, he if cifar else "glorot_uniform")


def _dense_weights(initializer: str, cifar: bool) -> str | keras.Initializer:
    torch = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(inputs)
    return layers.initializer(initializer, torch if cifar else "glorot_uniform")


_OWN = "this suite's own, after Simonyan and Zisserman 2015, sections 2.3 and 4.1"
_PAPER = "Simonyan and Zisserman 2015, table 1; table 2 says"
VARIANTS = {name: Variant(
    input_shape=(size, size, 3), parameters=parameters, options={"variant": name, "classes": classes}, source=source,
    year=2015, smallest=2 ** len(_COLUMNS[_NETWORKS[name].column]))  # leaves one position after the poolings
    for name, size, classes, parameters, source in (
        ("cifar16", 32, 10, 15_249_354, "pytorch-vgg-cifar10, vgg16_bn, less the biases before batch normalization"),
        ("cifar16_one_dense", 32, 10, 14_728_266, "kuangliu/pytorch-cifar, VGG16"),
        ("cifar19_one_dense", 32, 10, 20_040_522, "kuangliu/pytorch-cifar, VGG19"),
        ("A", 224, 1000, 132_863_336, f"{_PAPER} 133 million"),
        ("A-LRN", 224, 1000, 132_863_336, f"{_PAPER} 133 million"),
        ("B", 224, 1000, 133_047_848, f"{_PAPER} 133 million"),
        ("C", 224, 1000, 133_638_952, f"{_PAPER} 134 million"),
        ("D", 224, 1000, 138_357_544, f"{_PAPER} 138 million"),
        ("E", 224, 1000, 143_667_240, f"{_PAPER} 144 million"),
        ("two_3x3", 32, 10, 307_946, _OWN), ("one_5x5", 32, 10, 279_338, _OWN),
        ("one_5x5_wide", 32, 10, 307_707, _OWN), ("three_3x3", 32, 10, 501_930, _OWN),
        ("one_7x7", 32, 10, 527_402, _OWN), ("one_7x7_narrow", 32, 10, 502_131, _OWN))}
