"""GoogLeNet, which won ImageNet in 2014, relatives of it for 28x28 and 32x32 images, and Inception-v3.

*Source*: for `googlenet` and `cifar` Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, to which sections,
figures and table 1 below refer unless stated otherwise; for `v3` Szegedy et al., "Rethinking the Inception Architecture
for Computer Vision", CVPR 2016, in the layout of `keras.applications.InceptionV3`. `cifar` is what is commonly trained
on CIFAR-10 (kuangliu's `pytorch-cifar`, huyvnphan's `PyTorch_CIFAR10`): table 1 from inception (3a) on, after a single
3x3 convolution instead of the early layers, which reduce height and width by a factor of eight. `small` is the small
Inception of Zhang et al., "Understanding deep learning requires rethinking generalization", ICLR 2017, figure 3.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero and unit variance; class logits
`[batch, classes]` in float32, without softmax. With auxiliary heads (section 5) a list of three such logits: those of
the network, of the head at (4a) and of the head at (4d). The heads are for training only.

*Differs from the papers in*:
- The papers do not say how the weights were drawn. Here: He's initialization and zero biases, which keep the scale of
  the signal through 22 layers of ReLUs without batch normalization.
- `googlenet`: the constants of response normalization are not given either; these are from Krizhevsky et al. 2012. The
  7x7 average pooling before the classifier spans the whole image, whatever its size.
- `cifar`: batch normalization between each convolution and its activation, and 20% dropout, as in huyvnphan's network.
  But the 5x5 convolutions are 5x5, where huyvnphan has one of 3x3 and kuangliu two of 3x3. Auxiliary heads, if asked
  for, are the paper's.
- `v3`: the released network, which differs from the paper's table 1. A 1x1 and a 3x3 convolution (80 and 192 channels)
  and a max pooling come before the modules, where the table has three 3x3 convolutions (80, 192 and 288). The modules
  at 35x35 have a 5x5 convolution where figure 5 has a 3x3 one, and the first has 256 channels. Modules after figure 10
  halve height and width. Batch normalization has no scale. As in keras.applications there is no auxiliary head, and no
  dropout unless asked for.
- `small`: the paper does not say how its layers pad. Here all do, so that the last pooling spans 7x7 positions, as in
  the figure. Batch normalization has no scale, which gives the paper's number of parameters.
- `reductions=False` leaves out the 1x1 convolutions before the 3x3 and the 5x5 ones, as in figure 2a. The 1x1
  convolution after the pooling stays, where figure 2a has none: without it a module's output would have all channels of
  its input in addition to its own, and could not keep its size.
- The moving averages of batch normalization keep 0.9 of their value in each step, for shorter training than ImageNet's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, check_size, layers, options
from tfcnn.networks.options import check_choice
from tfcnn.recipe import UsageError

# (images, filters, size, name, strides, padding) -> images: a convolution, its normalization and its activation.
Convolve = Callable[..., KerasTensor]


@options.checked
def build(variant: str = "cifar", classes: int | None = None, image_size: int = 0, auxiliary: bool = False,
          normalization: str = "paper", activation: str = "relu", dropout: float | None = None,
          initializer: str = "paper", reductions: bool = True, width: float = 1.0) -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10 for `cifar` and `small`, 1,000 for the others.
      image_size: height and width of the input in pixels; 0: the variant's own, 28, 32, 224 or 299. With auxiliary
        heads `cifar` needs 9 or more, `googlenet` 65 or more.
      variant, auxiliary, normalization, activation, dropout, initializer, reductions, width: see
        `options.OPTIONS["inception"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`, or with auxiliary heads to
      a list of three such logits, the network's own first.

    Raises:
      UsageError: a value that is not allowed.
    """
    _check_options(variant, auxiliary, normalization, reductions)
    units, image_size = VARIANTS[variant].sizes(classes, image_size)
    if auxiliary:
        check_size(image_size, _SMALLEST_WITH_HEADS[variant])
    normalization = _NORMALIZATION[variant] if normalization == "paper" else normalization
    dropout = _DROPOUT[variant] if dropout is None else dropout

    scaled = variant not in ("v3", "small")
    convolve: Convolve = functools.partial(_convolution, normalization=normalization, scaled=scaled,
                                           activation=activation, initializer=initializer, width=width)
    classify = functools.partial(_classify, units=units, initializer=initializer)

    images = keras.Input((image_size, image_size, 3), name="images")
    if variant in ("v3", "small"):
        features, heads = (_v3 if variant == "v3" else _small)(images, convolve), []
    else:
        stem = _cifar_stem if variant == "cifar" else _googlenet_stem
        modules = _modules(stem(images, convolve, normalization), convolve, reductions)
        features, heads = modules["5b"], [modules["4a"], modules["4d"]] if auxiliary else []  # section 5
    logits = classify(keras.layers.GlobalAveragePooling2D(name="average_pool")(features), dropout)
    outputs = [logits]
    for number, x in enumerate(heads, start=1):
        x = _auxiliary_features(x, f"auxiliary{number}", convolve, activation, initializer)
        outputs.append(classify(x, 0.7 if dropout else 0.0, f"auxiliary{number}_"))  # section 5
    return keras.Model(images, outputs if auxiliary else logits, name=f"inception_{variant}")


def _check_options(variant: str, auxiliary: bool, normalization: str, reductions: bool) -> None:
    """Raises UsageError unless the options go together."""
    if variant in ("v3", "small"):
        if auxiliary:
            raise UsageError(f"auxiliary=True needs variant=cifar or variant=googlenet: {variant} has no auxiliary "
                             "heads")
        if not reductions:
            raise UsageError(f"reductions=False needs variant=cifar or variant=googlenet: not for variant={variant}")
    if variant == "v3":
        check_choice("normalization", normalization, ("paper", "batch"))
    if variant == "small":
        check_choice("normalization", normalization, ("paper", "batch", "none"))


def _classify(x: KerasTensor, rate: float, prefix: str = "", *, units: int, initializer: str) -> KerasTensor:
    """Dropout and the layer that computes logits."""
    x = layers.drop(x, rate, f"{prefix}dropout")
    return layers.Dense(units, kernel_initializer=_weights(initializer), dtype="float32",
                        name=f"{prefix}logits")(x)


# GoogLeNet

# The inception modules of table 1: the filters of the 1x1 convolution; of the 1x1 convolution that reduces the channels
# before the 3x3 one, which makes it affordable (section 4), and of the 3x3 one; the same for 5x5; of the 1x1
# convolution after the pooling. The shapes are for 224x224 images, and for 32x32 images in `cifar`.
TABLE_1 = (
    # name, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
    ("3a", 64, 96, 128, 16, 32, 32),  # 28x28x256, cifar: 32x32x256
    ("3b", 128, 128, 192, 32, 96, 64),  # 28x28x480, cifar: 32x32x480
    ("4a", 192, 96, 208, 16, 48, 64),  # 14x14x512, cifar: 16x16x512
    ("4b", 160, 112, 224, 24, 64, 64),  # 14x14x512
    ("4c", 128, 128, 256, 24, 64, 64),  # 14x14x512
    ("4d", 112, 144, 288, 32, 64, 64),  # 14x14x528, cifar: 16x16x528
    ("4e", 256, 160, 320, 32, 128, 128),  # 14x14x832, cifar: 16x16x832
    ("5a", 256, 160, 320, 32, 128, 128),  # 7x7x832, cifar: 8x8x832
    ("5b", 384, 192, 384, 48, 128, 128),  # 7x7x1024, cifar: 8x8x1024
)


def _googlenet_stem(x: KerasTensor, convolve: Convolve, normalization: str) -> KerasTensor:
    """The layers before the inception modules, as in figure 3; the shapes are for 224x224 images."""
    x = convolve(x, 64, 7, "conv1", strides=2)  # 112x112x64
    x = _pool(x, "pool1")  # 56x56x64
    x = _normalize(x, normalization, "norm1")
    x = convolve(x, 64, 1, "conv2_reduce")  # 56x56x64
    x = convolve(x, 192, 3, "conv2")  # 56x56x192
    x = _normalize(x, normalization, "norm2")
    return _pool(x, "pool2")  # 28x28x192


def _cifar_stem(x: KerasTensor, convolve: Convolve, normalization: str) -> KerasTensor:
    """One convolution with the channels that `_googlenet_stem` ends with."""
    return _normalize(convolve(x, 192, 3, "conv1"), normalization, "norm1")  # 32x32x192


def _modules(x: KerasTensor, convolve: Convolve, reductions: bool) -> dict[str, KerasTensor]:
    """The output of each inception module of table 1."""
    outputs = {}
    for name, *filters in TABLE_1:
        if name in ("4a", "5a"):
            x = _pool(x, f"pool{int(name[0]) - 1}")  # 14x14x480, cifar: 16x16x480; then 7x7x832, cifar: 8x8x832
        x = outputs[name] = _inception(x, f"inception_{name}", convolve, reductions, *filters)
    return outputs


def _inception(x: KerasTensor, name: str, convolve: Convolve, reductions: bool, filters_1x1: int, reduce_3x3: int,
               filters_3x3: int, reduce_5x5: int, filters_5x5: int, pool_projection: int) -> KerasTensor:
    """Figure 2b: four branches see the same input at different scales; their channels are concatenated."""
    one = convolve(x, filters_1x1, 1, f"{name}_1x1")
    three = convolve(x, reduce_3x3, 1, f"{name}_3x3_reduce") if reductions else x
    three = convolve(three, filters_3x3, 3, f"{name}_3x3")
    five = convolve(x, reduce_5x5, 1, f"{name}_5x5_reduce") if reductions else x
    five = convolve(five, filters_5x5, 5, f"{name}_5x5")
    pooled = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{name}_pool")(x)
    pooled = convolve(pooled, pool_projection, 1, f"{name}_pool_projection")
    return keras.layers.Concatenate(name=name)([one, three, five, pooled])


def _auxiliary_features(x: KerasTensor, name: str, convolve: Convolve, activation: str, initializer: str
                        ) -> KerasTensor:
    """An auxiliary head up to its logits: its loss gives the early layers a gradient of their own (section 5)."""
    x = keras.layers.AveragePooling2D(5, 3, name=f"{name}_pool")(x)  # 4x4x512, after (4d) 4x4x528
    x = convolve(x, 128, 1, f"{name}_conv")  # 4x4x128
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)  # 2048
    x = layers.Dense(1024, kernel_initializer=_weights(initializer), name=f"{name}_fc")(x)  # 1024
    return layers.activate(x, activation, f"{name}_fc_activation")


def _pool(x: KerasTensor, name: str) -> KerasTensor:
    return keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x)


def _normalize(x: KerasTensor, normalization: str, name: str) -> KerasTensor:
    return layers.LocalResponseNormalization(name=name)(x) if normalization == "local_response" else x


# Inception-v3: figures and table 1 are those of the paper of 2016

# The parallel branches of a module. Each is a chain of convolutions, written as height x width x filters, and of 3x3
# poolings. Two convolutions joined by | both take the output of the step before them.


def _figure_5(projection: int) -> tuple[str, ...]:
    """Two 3x3 convolutions in place of GoogLeNet's 5x5, beside one that stayed 5x5 in the released network."""
    return "1x1x64", "1x1x48 5x5x64", "1x1x64 3x3x96 3x3x96", f"average 1x1x{projection}"


def _figure_6(n: int) -> tuple[str, ...]:
    """One and two 7x7 convolutions, factorized into 1x7 and 7x1, which need two sevenths of the multiplications."""
    return ("1x1x192", f"1x1x{n} 1x7x{n} 7x1x192", f"1x1x{n} 7x1x{n} 1x7x{n} 7x1x{n} 1x7x192", "average 1x1x192")


_FIGURE_7 = ("1x1x320", "1x1x384 1x3x384|3x1x384", "1x1x448 3x3x384 1x3x384|3x1x384", "average 1x1x192")

V3_MODULES = (
    # name as in keras.applications; stride of the last step of each branch, 2 after figure 10; branches
    ("mixed0", 1, _figure_5(32)),  # 35x35x256
    ("mixed1", 1, _figure_5(64)),  # 35x35x288
    ("mixed2", 1, _figure_5(64)),  # 35x35x288
    ("mixed3", 2, ("3x3x384", "1x1x64 3x3x96 3x3x96", "max")),  # 17x17x768
    ("mixed4", 1, _figure_6(128)),  # 17x17x768
    ("mixed5", 1, _figure_6(160)),  # 17x17x768
    ("mixed6", 1, _figure_6(160)),  # 17x17x768
    ("mixed7", 1, _figure_6(192)),  # 17x17x768
    ("mixed8", 2, ("1x1x192 3x3x320", "1x1x192 1x7x192 7x1x192 3x3x192", "max")),  # 8x8x1280
    ("mixed9", 1, _FIGURE_7),  # 8x8x2048
    ("mixed10", 1, _FIGURE_7),  # 8x8x2048
)


def _v3(x: KerasTensor, convolve: Convolve) -> KerasTensor:
    """The layers before the logits; the shapes are for 299x299 images."""
    x = convolve(x, 32, 3, "conv1", strides=2, padding="valid")  # 149x149x32
    x = convolve(x, 32, 3, "conv2", padding="valid")  # 147x147x32
    x = convolve(x, 64, 3, "conv3")  # 147x147x64
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)  # 73x73x64
    x = convolve(x, 80, 1, "conv4")  # 73x73x80
    x = convolve(x, 192, 3, "conv5", padding="valid")  # 71x71x192
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)  # 35x35x192
    for name, strides, branches in V3_MODULES:
        x = _factorized(x, name, strides, branches, convolve)
    return x


def _factorized(x: KerasTensor, name: str, strides: int, branches: tuple[str, ...],
                convolve: Convolve) -> KerasTensor:
    """A module of Inception-v3 from its row in `V3_MODULES`."""

    def step(x: KerasTensor, what: str, name: str, strides: int) -> KerasTensor:
        padding = "same" if strides == 1 else "valid"
        if what in ("average", "max"):
            pool = keras.layers.AveragePooling2D if what == "average" else keras.layers.MaxPooling2D
            return pool(3, strides, padding=padding, name=f"{name}_pool")(x)
        height, width, filters = map(int, what.split("x"))
        return convolve(x, filters, (height, width), f"{name}_{height}x{width}", strides, padding)

    outputs = []
    for number, branch in enumerate(branches, start=1):
        *first, last = branch.split()
        y = x
        for position, what in enumerate(first, start=1):
            y = step(y, what, f"{name}_branch{number}_{position}", strides=1)
        outputs += [step(y, what, f"{name}_branch{number}_{len(first) + 1}", strides) for what in last.split("|")]
    return keras.layers.Concatenate(name=name)(outputs)


# The small network of Zhang et al. 2017: its figure 3

# Inception modules, with the filters of their 1x1 and 3x3 convolutions, and modules that halve height and width, with
# the filters of their 3x3 convolution. The shapes are for 28x28 images.
SMALL_MODULES = (
    ("inception1", 32, 32),  # 28x28x64
    ("inception2", 32, 48),  # 28x28x80
    ("downsample1", 80),  # 14x14x160
    ("inception3", 112, 48),  # 14x14x160
    ("inception4", 96, 64),  # 14x14x160
    ("inception5", 80, 80),  # 14x14x160
    ("inception6", 48, 96),  # 14x14x144
    ("downsample2", 96),  # 7x7x240
    ("inception7", 176, 160),  # 7x7x336
    ("inception8", 176, 160),  # 7x7x336
)


def _small(x: KerasTensor, convolve: Convolve) -> KerasTensor:
    """The layers before the logits; the shapes are for 28x28 images."""
    x = convolve(x, 96, 3, "conv1")  # 28x28x96
    for name, *filters in SMALL_MODULES:
        if name.startswith("inception"):
            branches = [convolve(x, filters[0], 1, f"{name}_1x1"), convolve(x, filters[1], 3, f"{name}_3x3")]
        else:
            branches = [convolve(x, filters[0], 3, f"{name}_3x3", strides=2), _pool(x, f"{name}_pool")]
        x = keras.layers.Concatenate(name=name)(branches)
    return x


# What all variants share

def _convolution(x: KerasTensor, filters: int, size: int | tuple[int, int], name: str, strides: int = 1,
                 padding: str = "same", *, normalization: str, scaled: bool, activation: str, initializer: str,
                 width: float) -> KerasTensor:
    """A convolution and its activation, with batch normalization between them if it is chosen."""
    filters = max(1, round(width * filters))
    x = layers.Conv2D(filters, size, strides=strides, padding=padding, use_bias=normalization != "batch",
                      kernel_initializer=_weights(initializer), name=name)(x)
    if normalization == "batch":
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, scale=scaled, name=f"{name}_normalization")(x)
    return layers.activate(x, activation, f"{name}_activation")


def _weights(initializer: str) -> str | keras.Initializer:
    return layers.initializer(initializer, "he_normal")


# What normalization="paper" and dropout=None stand for.
_NORMALIZATION = {"cifar": "batch", "googlenet": "local_response", "v3": "batch", "small": "batch"}
_DROPOUT = {"cifar": 0.2, "googlenet": 0.4, "v3": 0.0, "small": 0.0}

# The 5x5 pooling of a head must fit into the image at (4a), which is smaller by a factor of 2 or 16, rounded up.
_SMALLEST_WITH_HEADS = {"cifar": 9, "googlenet": 65}

VARIANTS = {
    "cifar": Variant(
        input_shape=(32, 32, 3), parameters=5_871_914, options={"variant": "cifar", "auxiliary": False, "classes": 10},
        source="Szegedy et al. 2015, table 1 from (3a) on; huyvnphan's 5.491 million have 3x3 kernels for 5x5",
        year=2015, smallest=1),
    "googlenet": Variant(
        input_shape=(224, 224, 3), parameters=6_998_552,
        options={"variant": "googlenet", "auxiliary": False, "classes": 1000},
        source="Szegedy et al. 2015, table 1, without auxiliary heads", year=2015, smallest=1),
    "googlenet_auxiliary": Variant(
        input_shape=(224, 224, 3), parameters=13_378_280,
        options={"variant": "googlenet", "auxiliary": True, "classes": 1000},
        source="Szegedy et al. 2015, table 1 and section 5, with both auxiliary heads", year=2015,
        smallest=_SMALLEST_WITH_HEADS["googlenet"]),
    "v3": Variant(
        input_shape=(299, 299, 3), parameters=23_817_352, options={"variant": "v3", "classes": 1000},
        source="keras.applications.InceptionV3: 23,851,784, of which 34,432 are moving averages", year=2016,
        smallest=75),  # leaves one position after mixed8
    "small": Variant(
        input_shape=(28, 28, 3), parameters=1_649_402, options={"variant": "small", "classes": 10},
        source="Zhang et al. 2017, table 1, Inception", year=2017, smallest=1),
}
