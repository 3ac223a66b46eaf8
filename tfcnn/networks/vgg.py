"""VGG: small convolutions in deep stacks, second at ImageNet in 2014; and its relatives for CIFAR-10.

*Source*: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015; the
sections and tables below are of that paper. The variants for CIFAR-10 are those of widely used implementations, on
columns D and E of table 1: `cifar16` has the dense layers of github.com/chengyangfu/pytorch-vgg-cifar10, and dropout
and batch normalization as in github.com/szagoruyko/cifar.torch; those with one dense layer are of
github.com/kuangliu/pytorch-cifar.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero (section 2.1) and, as the suite feeds
them, unit variance; class logits `[batch, classes]` in float32, without softmax.

*Differs from the paper in*:
- The weights of `A` to `E` are drawn as Glorot and Bengio have it, which the authors found to do after the paper was
  submitted (section 3.1), so that each network can be trained by itself. For the paper's results the deeper ones began
  with layers of a trained `A`, and that with normally distributed weights of "10^-2 variance". Biases begin at zero, as
  there.
- Dropout scales up what it keeps in training, instead of scaling everything down at test.
- The dense layers are dense: the paper turns them into convolutions to test on images of any size (section 3.2).
- Batch normalization, which came a year later, stands between a convolution and its activation. The convolutions then
  have no bias, except where the published count has it: with one dense layer for CIFAR-10.
- CIFAR-10: weights as in the first two implementations, which is He et al.'s way for convolutions and Torch's own for
  dense layers; but for biases, zero here. In `cifar16` dropout also stands before the first dense layer and after each
  convolution but the last of its stage, there at 0.6 of the dense layers' share after the first convolution and at 0.8
  after the others: 0.3, 0.4 and 0.5 in cifar.torch, which has one hidden dense layer, and normalizes it. The variants
  with one dense layer have no dropout, unless it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import keras

from tfcnn.networks import Variant, check_size, layers, options

# Table 1, on its side: of each column, the kernel sizes of the convolutions in the five stages. The convolutions of a
# stage have the same number of filters, and 2x2 max-pooling follows them, which leaves of
# 224x224 pixels: 112x112x64, 56x56x128, 28x28x256, 14x14x512, 7x7x512,
# 32x32 pixels:   16x16x64,   8x8x128,   4x4x256,   2x2x512,   1x1x512.
_FILTERS = (64, 128, 256, 512, 512)
_COLUMNS = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3), (3, 3), (3, 3), (3, 3), (3, 3)),
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}


class _Network(NamedTuple):
    column: str  # of table 1
    hidden: tuple[int, ...] = (4096, 4096)  # units of the dense layers before the last
    normalization: str = "none"
    dropout: float = 0.5  # section 3.1
    bias: bool = False  # of convolutions that batch normalization follows, which has an offset of its own


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
}


def build(variant: str = "cifar16", classes: int | None = None, image_size: int = 0, normalization: str = "paper",
          activation: str = "relu", dropout: float | None = None, initializer: str = "paper") -> keras.Model:
    """An untrained network.

    Args:
      classes: number of logits; None: 10 for CIFAR-10's networks, 1,000 for the paper's.
      image_size: height and width of the input in pixels; 0: the variant's own, 32 or 224.
      variant, normalization, activation, dropout, initializer: see `options.OPTIONS["vgg"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    options.check("vgg", variant=variant, normalization=normalization, activation=activation, dropout=dropout,
                  initializer=initializer)
    table, network = VARIANTS[variant], _NETWORKS[variant]
    normalization = network.normalization if normalization == "paper" else normalization
    classes = int(table.options["classes"]) if classes is None else classes
    dropout = network.dropout if dropout is None else dropout
    image_size = image_size or table.input_shape[0]
    check_size(classes, image_size, table.smallest)
    cifar = variant.startswith("cifar")

    def convolution_weights() -> str | keras.Initializer:
        he = keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")
        return layers.initializer(initializer, he if cifar else "glorot_uniform")

    def dense_weights() -> str | keras.Initializer:
        torch = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")  # within 1 / sqrt(inputs)
        return layers.initializer(initializer, torch if cifar else "glorot_uniform")

    x = images = keras.Input((image_size, image_size, 3), name="images")
    for stage, (filters, sizes) in enumerate(zip(_FILTERS, _COLUMNS[network.column]), 1):
        for number, size in enumerate(sizes, 1):
            name = f"conv{stage}_{number}"
            x = layers.Conv2D(filters, size, padding="same", use_bias=normalization != "batch" or network.bias,
                              kernel_initializer=convolution_weights(), name=name)(x)
            if normalization == "batch":
                x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
            x = layers.activate(x, activation, f"{name}_activation")
            if normalization == "local_response" and name == "conv1_1":
                x = layers.LocalResponseNormalization(name="norm1")(x)  # with AlexNet's constants: section 2.1
            if cifar and number < len(sizes):
                x = layers.drop(x, dropout * (0.6 if name == "conv1_1" else 0.8), f"{name}_dropout")
        x = keras.layers.MaxPooling2D(2, 2, name=f"pool{stage}")(x)
    x = keras.layers.Flatten(name="flatten")(x)  # 25088, or 512
    if cifar:
        x = layers.drop(x, dropout, "flatten_dropout")
    for units, name in zip(network.hidden, ("fc6", "fc7")):
        x = keras.layers.Dense(units, kernel_initializer=dense_weights(), name=name)(x)
        x = layers.activate(x, activation, f"{name}_activation")
        x = layers.drop(x, dropout, f"{name}_dropout")
    logits = keras.layers.Dense(classes, kernel_initializer=dense_weights(), dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"vgg_{variant}")


_PAPER = "Simonyan and Zisserman 2015, table 1; table 2 says"
VARIANTS = {name: Variant(
    input_shape=(size, size, 3), parameters=parameters, options={"variant": name, "classes": classes}, source=source,
    year=2015, smallest=32)  # leaves one position after the five poolings
    for name, size, classes, parameters, source in (
        ("cifar16", 32, 10, 15_249_354, "pytorch-vgg-cifar10, vgg16_bn, less the biases before batch normalization"),
        ("cifar16_one_dense", 32, 10, 14_728_266, "kuangliu/pytorch-cifar, VGG16"),
        ("cifar19_one_dense", 32, 10, 20_040_522, "kuangliu/pytorch-cifar, VGG19"),
        ("A", 224, 1000, 132_863_336, f"{_PAPER} 133 million"),
        ("A-LRN", 224, 1000, 132_863_336, f"{_PAPER} 133 million"),
        ("B", 224, 1000, 133_047_848, f"{_PAPER} 133 million"),
        ("C", 224, 1000, 133_638_952, f"{_PAPER} 134 million"),
        ("D", 224, 1000, 138_357_544, f"{_PAPER} 138 million"),
        ("E", 224, 1000, 143_667_240, f"{_PAPER} 144 million"))}
