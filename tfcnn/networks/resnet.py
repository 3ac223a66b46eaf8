"""ResNet, whose shortcuts make networks of a hundred and more layers trainable, and plain networks without shortcuts.

*Source*: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016; section numbers below refer
to it. Depths 18, 34, 50, 101 and 152 are the networks for ImageNet of table 1; depths 20, 32, 44, 56 and 110 are the
networks for CIFAR-10 of section 4.2.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero and unit variance, as the suite feeds
them (the paper subtracts the mean image); class logits `[batch, classes]` in float32, without softmax.

*Differs from the paper in*:
- A bottleneck block has its stride in the first 1x1 convolution, as in the authors' released networks and in
  `keras.applications`, and as table 1's 3.8 billion multiply-adds for ResNet-50 imply. torchvision has it in the 3x3
  convolution ("v1.5"): the same number of parameters, 4.1 billion multiply-adds.
- A convolution with a stride pads all sides equally, so that its windows are centred on the pixels that the block's
  shortcut takes; TensorFlow's "same" would be off by one. The pooling of the 7x7 stem also pads all sides, with zeros
  as in `keras.applications`, which changes no maximum after a ReLU; the authors' pooling pads the right and the bottom.
- Shortcut A appends its channels of zeros; the paper does not say where they go.
- Weights are drawn from a Gaussian with variance 2 / fan-in (section 3.4 refers to He et al. 2015, "Delving deep into
  rectifiers", equation 10), those of the logits, too.
- Inference uses moving averages of the batches' means and variances. The authors computed averages over many images
  after training, according to the README of their released networks.
- The 3x3 stem is the paper's for CIFAR-10, but not with depths 18 to 152: that is kuangliu's `pytorch-cifar`.
- Without batch normalization, an option of this suite, convolutions have biases, and two rules of Zhang, Dauphin and Ma
  2019, "Fixup initialization", keep a residual network trainable at the paper's learning rate. The last convolution of
  each block starts at zero, so that at first the signal is that of the shortcuts, for any number of blocks. The
  standard deviations of a block's other kernels are multiplied by `blocks ** (-1 / (2 * m - 2))`, where m is the
  number of the block's convolutions, so that a step changes the output of a deep network no more than that of a
  shallow one. Fixup's scalars are left out (biases replace those that are added), and the logits' weights do not
  start at zero. A plain network has He's initialization only: with 110 layers its signal can fade a hundredfold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, check_size, layers, options
from tfcnn.recipe import UsageError


@options.checked
def build(depth: int = 20, stem: str = "3x3", shortcut: str = "paper", classes: int | None = None, image_size: int = 0,
          normalization: str = "batch", activation: str = "relu", initializer: str = "paper") -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10 with the 3x3 stem, 1,000 with the 7x7 stem.
      image_size: height and width of the input in pixels; 0: 32 with the 3x3 stem, 224 with the 7x7 stem.
      depth, stem, shortcut, normalization, activation, initializer: see `options.OPTIONS["resnet"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    image_size = image_size or input_shape({"stem": stem})[0]
    classes = {"3x3": 10, "7x7": 1000}[stem] if classes is None else classes
    check_size(image_size, smallest=1)
    blocks = BLOCKS[depth]
    three_stages = len(blocks) == 3
    if three_stages and stem == "7x7":
        raise UsageError(f"stem='7x7' is for depths 18, 34, 50, 101 and 152: depth={depth} needs stem='3x3'")
    if shortcut == "paper":
        shortcut = "A" if three_stages else "B"
    style = _Style(shortcut, depth in BOTTLENECK, sum(blocks), normalization, activation, initializer)

    images = keras.Input((image_size, image_size, 3), name="images")
    filters = 16 if three_stages else 64
    #           32x32 images, three stages   32x32 images, four stages   224x224 images, four stages
    # conv1     32x32x16                     32x32x64                    112x112x64
    # pool1                                                              56x56x64
    # conv2_x   32x32x16                     32x32x64                    56x56x64
    # conv3_x   16x16x32                     16x16x128                   28x28x128
    # conv4_x   8x8x64                       8x8x256                     14x14x256
    # conv5_x                                4x4x512                     7x7x512
    # After bottleneck blocks there are four times as many channels.
    x = _stem(images, filters, stem, style)
    for stage, count in enumerate(blocks, 2):
        for number in range(1, count + 1):
            x = _block(x, filters, 2 if number == 1 and stage > 2 else 1, style, f"conv{stage}_{number}")
        filters *= 2
    x = keras.layers.GlobalAveragePooling2D(name="average_pool")(x)
    logits = layers.Dense(classes, kernel_initializer=layers.initializer(initializer, _he_normal()),
                          dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"{'plain' if shortcut == 'none' else 'resnet'}{depth}")


def input_shape(chosen: Mapping[str, Any]) -> tuple[int, int, int]:
    """Returns height, width and channels of the images that `build(**chosen)` was designed for, by its stem."""
    stem = chosen.get("stem", "3x3")
    return (32, 32, 3) if stem == "3x3" else (224, 224, 3)


@dataclasses.dataclass(frozen=True)
class _Style:
    """What all blocks of a network have in common: options of `build`, and the number of blocks."""

    shortcut: str
    bottleneck: bool
    blocks: int
    normalization: str
    activation: str
    initializer: str


def _stem(x: KerasTensor, filters: int, stem: str, style: _Style) -> KerasTensor:
    """The layers before the blocks: conv1, and for large images pool1."""
    x = _convolution(x, filters, *((3, 1) if stem == "3x3" else (7, 2)), style, "conv1")
    x = layers.activate(x, style.activation, "conv1_activation")
    if stem == "7x7":
        x = keras.layers.ZeroPadding2D(1, name="pool1_padding")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    return x


def _block(x: KerasTensor, filters: int, strides: int, style: _Style, name: str) -> KerasTensor:
    """A building block, figures 2 and 5: `activation(residual(x) + shortcut(x))`; plain: `activation(residual(x))`."""
    convolutions = [(1, filters), (3, filters), (1, 4 * filters)] if style.bottleneck else [(3, filters), (3, filters)]
    before_last = len(convolutions) - 1
    residual = x
    for number, (size, width) in enumerate(convolutions, 1):
        layer, last = f"{name}_conv{number}", number > before_last
        variance = 1.0
        if style.normalization == "none" and style.shortcut != "none":  # Fixup: see the docstring of this file
            variance = 0.0 if last else style.blocks ** (-1 / before_last)
        residual = _convolution(residual, width, size, strides if number == 1 else 1, style, layer, variance)
        if not last:
            residual = layers.activate(residual, style.activation, f"{layer}_activation")
    if style.shortcut != "none":
        shortcut = _shortcut(x, residual.shape[-1], strides, style, f"{name}_shortcut")
        residual = keras.layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.activate(residual, style.activation, f"{name}_activation")


def _shortcut(x: KerasTensor, filters: int, strides: int, style: _Style, name: str) -> KerasTensor:
    """The input of a block, with the dimensions of the block's output: section 3.3."""
    same = strides == 1 and x.shape[-1] == filters
    if style.shortcut == "C" or (style.shortcut == "B" and not same):
        return _convolution(x, filters, 1, strides, style, name)
    if strides > 1:
        x = keras.layers.AveragePooling2D(1, strides, name=f"{name}_subsample")(x)  # every second pixel
    if x.shape[-1] < filters:
        x = layers.PadChannels(filters, name=name)(x)
    return x


def _convolution(x: KerasTensor, filters: int, size: int, strides: int, style: _Style, name: str,
                 variance: float = 1.0) -> KerasTensor:
    """A convolution and its normalization; `variance` is relative to the paper's first weights, and 0 means zeros."""
    padding = "same"
    if strides > 1 and size > 1:
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_padding")(x)
        padding = "valid"
    kernel = layers.initializer(style.initializer, _he_normal(variance)) if variance else "zeros"
    batch = style.normalization == "batch"
    x = layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=not batch,
                      kernel_initializer=kernel, name=name)(x)
    if batch:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    return x


def _he_normal(variance: float = 1.0) -> keras.Initializer:
    # Keras's own "he_normal" truncates the tails, which the paper does not.
    return keras.initializers.VarianceScaling(2.0 * variance, "fan_in", "untruncated_normal")


# Blocks in each stage: n = 3, 5, 7, 9, 18 of section 4.2 (6n + 2 layers), then table 1.
BLOCKS: dict[int, tuple[int, ...]] = {
    20: (3, 3, 3), 32: (5, 5, 5), 44: (7, 7, 7), 56: (9, 9, 9), 110: (18, 18, 18),
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK = (50, 101, 152)


def _variant(parameters: int, source: str, depth: int, stem: str = "3x3", shortcut: str = "paper") -> Variant:
    chosen: dict[str, Any] = {"depth": depth, "stem": stem, "shortcut": shortcut}
    return Variant(input_shape=input_shape(chosen), parameters=parameters, source=source, year=2016, smallest=1,
                   options=chosen | {"classes": 10 if stem == "3x3" else 1000})


_CIFAR = "He et al. 2016, section 4.2; table 6 says"
_IMAGENET = "He et al. 2016, table 1; counted by torchvision's table of models"
VARIANTS = {
    "resnet20": _variant(269_722, f"{_CIFAR} 0.27 million", 20),
    "resnet32": _variant(464_154, f"{_CIFAR} 0.46 million", 32),
    "resnet44": _variant(658_586, f"{_CIFAR} 0.66 million", 44),
    "resnet56": _variant(853_018, f"{_CIFAR} 0.85 million", 56),
    "resnet110": _variant(1_727_962, f"{_CIFAR} 1.7 million", 110),
    "plain20": _variant(269_722, "He et al. 2016, figure 6: ResNet-20 without its shortcuts", 20, shortcut="none"),
    "resnet18_cifar": _variant(11_173_962, "kuangliu's pytorch-cifar, models/resnet.py", 18),
    "resnet18": _variant(11_689_512, _IMAGENET, 18, "7x7"),
    "resnet34": _variant(21_797_672, _IMAGENET, 34, "7x7"),
    "resnet50": _variant(25_557_032, _IMAGENET, 50, "7x7"),
    "resnet101": _variant(44_549_160, _IMAGENET, 101, "7x7"),
    "resnet152": _variant(60_192_808, _IMAGENET, 152, "7x7"),
    "plain34": _variant(21_623_848, "He et al. 2016, figure 3, middle: ResNet-34 without its shortcuts", 34, "7x7",
                        "none"),
}
