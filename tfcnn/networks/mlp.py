"""Networks without convolution: wide layers with linear bottlenecks between them, and plain ones for comparison.

*Source*: for `bottleneck` and `bottleneck_short` Lin, Memisevic and Konda, "How far can we go without convolution:
improving fully-connected networks", 2015, arXiv 1511.02580, and where the paper leaves something open the authors' code
(github.com/hantek/zlinnet and NeuroBricks); for `fashion` github.com/heitorrapela/fashion-mnist-mlp, which is "MLP
256-128-100" in the table of Fashion-MNIST's README; for `one_layer` and `three_layers` Zhang, Bengio, Hardt, Recht and
Vinyals, "Understanding deep learning requires rethinking generalization", ICLR 2017, table 1 and appendix A. `plain`,
`bottleneck_small` and `plain_small` are this suite's own.

*Input / output*: images `[batch, height, width, channels]`, each channel with mean zero and unit variance; class logits
`[batch, classes]` in float32, without softmax. The order of the pixels does not matter, as long as it is the same in
all images.

A bottleneck network alternates wide layers of rectifiers without biases ("Z", for zero-bias) with narrow linear layers
("Lin"), through which gradients reach all units: there is no rectifier to block them. Between the layers each image's
activations are normalized to mean zero and unit variance, and 10% of them are dropped before each layer, pixels
included.

*Differs from the paper in*:
- There is no unsupervised pre-training. The paper trains each layer as an autoencoder, the wide ones with thresholds of
  1 where the final training has 0, and finds that this accounts for a large part of the accuracy.
- Images are the suite's, 3,072 values for 32x32 pixels. The paper normalizes each image's contrast and whitens by
  principal components, 800 of which the authors' code keeps. That makes the first layer a quarter as large, and all
  layers easier to train.
- Weights are drawn uniformly with Glorot's variance, as in the authors' code where it has no trained autoencoders.
- Dropout scales up the kept activations in training; the authors' code scales neither in training nor at test.
- `fashion` has a softmax output, where the source trains sigmoids with softmax's loss, and pixels of mean zero.
- Batch normalization, between each layer and its activation, is an option of this suite.
"""

from __future__ import annotations

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options


@options.checked
def build(variant: str = "bottleneck", classes: int | None = None, image_size: int = 0,
          normalization: str = "paper", activation: str | None = None, dropout: float | None = None,
          initializer: str = "paper") -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10.
      image_size: height and width of the input in pixels; 0: the variant's own, 32 or 28.
      variant, normalization, activation, dropout, initializer: see `options.OPTIONS["mlp"]`.

    Returns:
      A model from `[batch, image_size, image_size, channels]`, one channel for `fashion` and else three, to float32
      logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    table, bottleneck = VARIANTS[variant], variant.startswith("bottleneck")
    classes, image_size = table.sizes(classes, image_size)
    activation = ("tanh" if variant == "fashion" else "relu") if activation is None else activation
    dropout = (0.1 if bottleneck else {"fashion": 0.4}.get(variant, 0.0)) if dropout is None else dropout
    if normalization == "paper":
        normalization = "layer" if bottleneck else "none"
    weights = layers.initializer(initializer, "glorot_uniform" if bottleneck else "he_normal")

    images = keras.Input((image_size, image_size, table.input_shape[-1]), name="images")
    x = keras.layers.Flatten(name="flatten")(images)
    if bottleneck:
        x = layers.drop(x, dropout, "images_dropout")
    for name, units in HIDDEN[variant].items():
        x = layers.Dense(units, use_bias=not bottleneck and normalization != "batch", kernel_initializer=weights,
                         name=name)(x)
        if normalization == "batch":
            x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
        if not name.startswith("linear"):
            x = layers.activate(x, activation, f"{name}_activation")
        if normalization == "layer" and name != list(HIDDEN[variant])[-1]:
            x = _normalize(x, f"{name}_normalization")
        x = layers.drop(x, dropout, f"{name}_dropout")
    logits = layers.Dense(classes, kernel_initializer=weights, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"mlp_{variant}")


def _normalize(x: KerasTensor, name: str) -> KerasTensor:
    """Normalizes each image's activations to mean zero and unit variance."""
    return keras.layers.LayerNormalization(epsilon=1e-5, center=False, scale=False, name=name)(x)


# The hidden layers and their units. The linear ones are the bottlenecks.
HIDDEN = {
    "bottleneck": {
        "zero_bias1": 4000, "linear1": 1000, "zero_bias2": 4000, "linear2": 1000, "zero_bias3": 4000, "linear3": 1000,
        "zero_bias4": 4000},
    "bottleneck_short": {"zero_bias1": 4000, "linear1": 1000, "zero_bias2": 4000},
    # As many layers of rectifiers as `bottleneck`, each as wide as its bottlenecks.
    "plain": {"dense1": 1000, "dense2": 1000, "dense3": 1000, "dense4": 1000},
    "fashion": {"dense1": 256, "dense2": 128, "dense3": 100},
    # An eighth of `bottleneck`, and the plain network with as many layers of rectifiers and as many parameters.
    "bottleneck_small": {
        "zero_bias1": 500, "linear1": 125, "zero_bias2": 500, "linear2": 125, "zero_bias3": 500, "linear3": 125,
        "zero_bias4": 500},
    "plain_small": {"dense1": 436, "dense2": 436, "dense3": 436, "dense4": 436},
    "one_layer": {"dense1": 512},
    "three_layers": {"dense1": 512, "dense2": 512, "dense3": 512},
}

VARIANTS = {
    "bottleneck": Variant(
        input_shape=(32, 32, 3), parameters=36_328_010, options={"variant": "bottleneck", "classes": 10},
        source="Lin et al. 2015, 4000-1000-4000-1000-4000-1000-4000; counted on 3,072 pixels, as the paper gives no "
               "number", year=2015, smallest=1),
    "bottleneck_short": Variant(
        input_shape=(32, 32, 3), parameters=20_328_010, options={"variant": "bottleneck_short", "classes": 10},
        source="Lin et al. 2015, 4000-1000-4000; counted on 3,072 pixels, as the paper gives no number", year=2015,
        smallest=1),
    "plain": Variant(
        input_shape=(32, 32, 3), parameters=6_086_010, options={"variant": "plain", "classes": 10},
        source="this suite's own, 1000-1000-1000-1000; counted on 3,072 pixels", year=2015, smallest=1),
    "fashion": Variant(
        input_shape=(28, 28, 1), parameters=247_766, options={"variant": "fashion", "classes": 10},
        source="heitorrapela/fashion-mnist-mlp, README: 200,960 + 32,896 + 12,900 + 1,010", year=2017, smallest=1),
    "bottleneck_small": Variant(
        input_shape=(32, 32, 3), parameters=1_916_010, options={"variant": "bottleneck_small", "classes": 10},
        source="this suite's own, an eighth of bottleneck's units", year=2015, smallest=1),
    "plain_small": Variant(
        input_shape=(32, 32, 3), parameters=1_915_794, options={"variant": "plain_small", "classes": 10},
        source="this suite's own, with the layers of rectifiers and the parameters of bottleneck_small", year=2015,
        smallest=1),
    "one_layer": Variant(
        input_shape=(28, 28, 3), parameters=1_209_866, options={"variant": "one_layer", "classes": 10},
        source="Zhang et al. 2017, table 1, MLP 1x512", year=2017, smallest=1),
    "three_layers": Variant(
        input_shape=(28, 28, 3), parameters=1_735_178, options={"variant": "three_layers", "classes": 10},
        source="Zhang et al. 2017, table 1, MLP 3x512", year=2017, smallest=1),
}
