"""LeNet-5, which read digits on cheques: the network of 1998, and the form in which it is mostly built today.

*Source*: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document Recognition", Proceedings of
the IEEE 1998; section II.B and table I, which also name the layers.

*Input / output*: images `[batch, height, width, 1]` with mean zero and unit variance, close to section II.B's values of
-0.1 for white and 1.175 for black; class logits `[batch, classes]` in float32, without softmax.

`original` differs from `modern` in two places. S2 and S4 add up 2x2 units, multiply the sum by a trained coefficient,
add a trained bias and squash the result, instead of taking the mean. Each map of C3 sees only the maps of S2 that table
I lists for it, not all of them.

*Differs from the paper in*:
- The output is 10 linear units by default. With `output="radial_basis"` it is the paper's: the squared distances y of
  F6 from ten fixed bitmaps of 7x12 pixels (equation 7). The logits are then -y: softmax cross-entropy of -y is the
  paper's discriminative criterion (equation 9), except for the constant class e^-j, which stands for images without a
  digit. The paper prints its bitmaps in figure 3 only; those here are drawn after it, not copied.
- Biases start at zero. Appendix A draws weights uniformly within 2.4 / fan-in and does not mention biases.
- `modern` keeps the paper's scaled tanh, so that the two variants differ only in what is said above.
- For images larger than 32x32 F6 is connected to all positions of C5; the paper applies F6 at each position (section
  VII).
- Batch normalization (between a convolution and its activation) and dropout are later inventions; both are options.
"""

from __future__ import annotations

import functools

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options
from tfcnn.recipe import UsageError


@options.checked
def build(variant: str = "modern", classes: int | None = None, image_size: int = 0, output: str = "dense",
          normalization: str = "none", activation: str = "scaled_tanh", dropout: float = 0.0,
          initializer: str = "paper") -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10. With `output="radial_basis"` only 10 is possible.
      image_size: height and width of the input in pixels; 0: 32.
      variant, output, normalization, activation, dropout, initializer: see `options.OPTIONS["lenet"]`.

    Returns:
      A model from `[batch, image_size, image_size, 1]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    classes, image_size = VARIANTS[variant].sizes(classes, image_size)
    if output == "radial_basis" and classes != 10:
        raise UsageError(f"output=radial_basis has bitmaps for 10 digits, not for classes={classes}: use output=dense")

    convolve = functools.partial(_convolve, variant=variant, normalization=normalization, activation=activation,
                                 initializer=initializer)
    subsample = functools.partial(_subsample, variant=variant, activation=activation)

    images = keras.Input((image_size, image_size, 1), name="images")  # 32x32x1
    x = convolve(images, 6, "C1")  # 28x28x6
    x = subsample(x, "S2")  # 14x14x6
    x = convolve(x, 16, "C3")  # 10x10x16
    x = subsample(x, "S4")  # 5x5x16
    x = convolve(x, 120, "C5")  # 1x1x120
    x = keras.layers.Flatten(name="flatten")(x)  # 120
    x = layers.drop(x, dropout, "C5_dropout")
    x = layers.Dense(84, kernel_initializer=_weights(initializer), name="F6")(x)  # 84
    x = _activate(x, activation, "F6")
    x = layers.drop(x, dropout, "F6_dropout")
    if output == "radial_basis":
        logits = layers.RadialBasis(digit_codes(), dtype="float32", name="logits")(x)  # 10
    else:
        logits = layers.Dense(classes, kernel_initializer=_weights(initializer), dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"lenet_{variant}")


def _convolve(x: KerasTensor, filters: int, name: str, *, variant: str, normalization: str, activation: str,
              initializer: str) -> KerasTensor:
    """A 5x5 convolution and its activation, with batch normalization between them if it is chosen."""
    use_bias = normalization == "none"
    if variant == "original" and name == "C3":
        x = layers.SparseConnectionConv2D(C3_SEES, 5, use_bias, _weights(initializer), name=name)(x)
    else:
        x = layers.Conv2D(filters, 5, use_bias=use_bias, kernel_initializer=_weights(initializer), name=name)(x)
    if normalization == "batch":
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    return _activate(x, activation, name)


def _subsample(x: KerasTensor, name: str, *, variant: str, activation: str) -> KerasTensor:
    """Halves height and width: the trained sub-sampling of 1998, or average pooling."""
    if variant == "original":
        return _activate(layers.AverageSubsampling2D(name=name)(x), activation, name)
    return keras.layers.AveragePooling2D(2, name=name)(x)


def _activate(x: KerasTensor, activation: str, name: str) -> KerasTensor:
    if activation == "scaled_tanh":
        return keras.layers.Activation(layers.scaled_tanh, name=f"{name}_activation")(x)
    return layers.activate(x, activation, f"{name}_activation")


def _weights(initializer: str) -> str | keras.Initializer:
    return layers.initializer(initializer, layers.FanInUniform(2.4))  # appendix A


def digit_codes() -> list[list[float]]:
    """Returns the 84 values of F6 that stand for each digit: its bitmap row by row, 1 for ink and -1 for none."""
    bitmaps = zip(*(row.split() for row in BITMAPS))
    return [[1.0 if pixel == "#" else -1.0 for row in bitmap for pixel in row] for bitmap in bitmaps]


# Table I: for each map of C3 the maps of S2 that it sees. All contiguous subsets of three maps, all of four, some
# discontinuous ones of four, and all six. Different inputs force the maps to extract different features.
C3_SEES = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)

# 12 rows of 7 pixels for each digit, after figure 3.
BITMAPS = (
    "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
    "..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.",
    ".##.##. ..###.. ##...## ##...## ...###. ##..... .##.... .....## ##...## ##...##",
    "##...## .####.. .....## .....## ..####. ##..... ##..... .....## ##...## ##...##",
    "##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##",
    "##...## ...##.. ....##. ..####. ##..##. ######. ######. ....##. .#####. ##...##",
    "##...## ...##.. ...##.. .....## ####### .....## ##...## ...##.. ##...## .######",
    "##...## ...##.. ..##... .....## ....##. .....## ##...## ...##.. ##...## .....##",
    "##...## ...##.. .##.... .....## ....##. .....## ##...## ..##... ##...## .....##",
    ".##.##. ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ....##.",
    "..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..",
    "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
)

VARIANTS = {
    "modern": Variant(
        input_shape=(32, 32, 1), parameters=61_706, options={"variant": "modern", "classes": 10},
        source="LeCun et al. 1998, section II.B, as mostly built today; every map of C3 is connected to all of S2, "
               "mean pooling, 10 linear units", year=1998, smallest=32),  # leaves one position in C5
    "original": Variant(
        input_shape=(32, 32, 1), parameters=60_850, options={"variant": "original", "classes": 10},
        source="LeCun et al. 1998, section II.B: 60,000, and 850 of 10 linear units", year=1998, smallest=32),
    "original_radial_basis": Variant(
        input_shape=(32, 32, 1), parameters=60_000,
        options={"variant": "original", "classes": 10, "output": "radial_basis"},
        source="LeCun et al. 1998, section II.B: 340,908 connections, 60,000 trained parameters", year=1998,
        smallest=32),
}
