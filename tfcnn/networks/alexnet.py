"""AlexNet, which won ImageNet in 2012, and its small relatives for CIFAR-10.

*Source*: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS
2012; section numbers below refer to it. `cifar` is the network of TensorFlow's CIFAR-10 tutorial (`cifar10.py`), which
resembles the network for CIFAR-10 on which section 3.3 tries response normalization. `cifar_four_layers` is that of
`layers-18pct.cfg` in Krizhevsky's cuda-convnet, which reaches 18% test error without augmentation: three convolutions
and one dense layer. Figure 1 is drawn with "a four-layer convolutional network" that the paper does not describe.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero (section 2) and, as the suite feeds
them, unit variance; class logits `[batch, classes]` in float32, without softmax.

*Differs from the paper in*:
- `paper` and `one_tower` take 227x227 pixels instead of 224x224: 55x55 positions of an 11x11 kernel, 4 pixels apart
  and inside the image, span 54 * 4 + 11 = 227 pixels. The paper's pixels range from 0 to 255, less their mean. Those of
  unit variance are about 60 times smaller, and so are the first responses of conv1, on which response normalization
  then has little effect. Dropout scales up the kept activations in training, instead of scaling all of them down at
  test. The sum of response normalization runs over all channels of a layer, also across the border of the two groups,
  as in the formula, where N is "the total number of kernels in the layer".
- `one_tower`: every convolution sees all channels of the layer before. In the paper conv2, conv4 and conv5 see only the
  channels on their own GPU.
- `cifar`: Glorot's initialization and zero biases for every activation. The tutorial draws convolutions with a standard
  deviation of 0.05, hidden dense layers with 0.04 and the last layer with 1/192, and starts the biases of the three
  layers in between at 0.1.
- `cifar_four_layers`: pixels have unit variance instead of a deviation of about 64. For the same responses the initial
  weights of conv1 have 64 times the source's deviation of 0.0001. Response normalization is that of the source's
  `layers-conv-local-11pct.cfg`, over channels; this network's own `rnorm` sums over 3x3 positions of one channel.
- `normalization=local_response_pixels`: alpha is 64 squared times as large, so that responses to pixels of unit
  variance count as those to the papers' pixels. With the published constants the divisor is hardly above its bias.
- `bias` and `dropout_placement` are for comparisons: the paper's are 0 and `after`. With ReLU `before` computes the
  same as `after`, since it commutes with a factor of 0 or more. With `convolutions` and batch normalization, dropout
  changes the variance of what is normalized after it, but only in training (Li et al. 2018, "Understanding the
  disharmony between dropout and batch normalization by variance shift").
- Batch normalization, an option that was invented three years later, stands between a convolution and its activation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options


@options.checked
def build(variant: str = "cifar", classes: int | None = None, image_size: int = 0,
          normalization: str = "local_response", activation: str = "relu", dropout: float | None = None,
          initializer: str = "paper", dropout_placement: str = "after", bias: float = 0.0) -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10 for CIFAR-10's networks, 1,000 for the others.
      image_size: height and width of the input in pixels; 0: the variant's own, 32 or 227.
      variant, normalization, activation, dropout, initializer, dropout_placement, bias: see
        `options.OPTIONS["alexnet"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    classes, image_size = VARIANTS[variant].sizes(classes, image_size)
    dropout = (0.0 if variant.startswith("cifar") else 0.5) if dropout is None else dropout

    images = keras.Input((image_size, image_size, 3), name="images")
    drop = _Dropout(dropout, dropout_placement)
    if variant == "cifar":
        x = _cifar(images, normalization, activation, drop, initializer)
    elif variant == "cifar_four_layers":
        x = _four_layers(images, normalization, activation, drop, initializer)
    else:
        x = _imagenet(images, normalization, activation, drop, initializer, groups=2 if variant == "paper" else 1)
    logits = layers.Dense(classes, kernel_initializer=_weights(initializer, variant), dtype="float32",
                          name="logits")(x)
    model = keras.Model(images, logits, name=f"alexnet_{variant}")
    for layer in model.layers[:-1] if bias else ():
        for weight in layer.trainable_weights:
            if weight.name == "bias":
                weight.assign_add(keras.ops.full_like(weight, bias))
    return model


@dataclasses.dataclass(frozen=True)
class _Dropout:
    """How much is dropped, and where: options of `build`."""

    rate: float
    placement: str

    def after_pooling(self, x: KerasTensor, name: str) -> KerasTensor:
        return layers.drop(x, self.rate if self.placement == "convolutions" else 0.0, f"{name}_dropout")

    def activate(self, x: KerasTensor, activation: str, name: str) -> KerasTensor:
        """The activation of a hidden dense layer, and dropout before or after it."""
        before = self.placement == "before"
        x = layers.drop(x, self.rate if before else 0.0, f"{name}_dropout")
        x = layers.activate(x, activation, f"{name}_activation")
        return layers.drop(x, 0.0 if before else self.rate, f"{name}_dropout")


def _cifar(x: KerasTensor, normalization: str, activation: str, drop: _Dropout, initializer: str) -> KerasTensor:
    """The layers before the logits, `[batch, 192]`; the shapes in the comments are for 32x32 images."""

    def convolution(x: KerasTensor, name: str) -> KerasTensor:
        x = layers.Conv2D(64, 5, padding="same", kernel_initializer=_weights(initializer, "cifar"), name=name)(x)
        return _activate(x, normalization, activation, name)

    def normalize(x: KerasTensor, name: str) -> KerasTensor:
        return _normalize_responses(x, normalization, name, *_CONVNET_RESPONSES)

    def pool(x: KerasTensor, name: str) -> KerasTensor:
        return drop.after_pooling(keras.layers.MaxPooling2D(3, 2, padding="same", name=name)(x), name)

    x = convolution(x, "conv1")  # 32x32x64
    x = pool(x, "pool1")  # 16x16x64
    x = normalize(x, "norm1")
    x = convolution(x, "conv2")  # 16x16x64
    x = normalize(x, "norm2")
    x = pool(x, "pool2")  # 8x8x64
    x = keras.layers.Flatten(name="flatten")(x)  # 4096
    # Dense layers: the tutorial calls them local, after the locally connected layers that they replaced.
    for units, name in ((384, "local3"), (192, "local4")):
        x = layers.Dense(units, kernel_initializer=_weights(initializer, "cifar"), name=name)(x)
        x = drop.activate(x, activation, name)
    return x  # 192


def _four_layers(x: KerasTensor, normalization: str, activation: str, drop: _Dropout, initializer: str) -> KerasTensor:
    """The layers before the logits, `[batch, 1024]`; the shapes in the comments are for 32x32 images."""

    def convolution(x: KerasTensor, filters: int, name: str) -> KerasTensor:
        deviation = 64 * 0.0001 if name == "conv1" else 0.01
        x = layers.Conv2D(filters, 5, padding="same", name=name, kernel_initializer=layers.initializer(
            initializer, keras.initializers.RandomNormal(stddev=deviation)))(x)
        return _normalize_batch(x, normalization, name)

    def pool(layer: Callable, x: KerasTensor, name: str) -> KerasTensor:
        return layer(3, 2, padding="same", name=name)(x)

    def normalize(x: KerasTensor, name: str) -> KerasTensor:
        return _normalize_responses(x, normalization, name, *_CONVNET_RESPONSES)

    x = convolution(x, 32, "conv1")  # 32x32x32
    x = pool(keras.layers.MaxPooling2D, x, "pool1")  # 16x16x32
    x = layers.activate(x, activation, "conv1_activation")
    x = normalize(drop.after_pooling(x, "pool1"), "norm1")
    x = convolution(x, 32, "conv2")  # 16x16x32
    x = layers.activate(x, activation, "conv2_activation")
    x = pool(keras.layers.AveragePooling2D, x, "pool2")  # 8x8x32
    x = normalize(drop.after_pooling(x, "pool2"), "norm2")
    x = convolution(x, 64, "conv3")  # 8x8x64
    if drop.placement == "before":
        x = layers.drop(x, drop.rate, "conv3_dropout")
    x = layers.activate(x, activation, "conv3_activation")
    x = pool(keras.layers.AveragePooling2D, x, "pool3")  # 4x4x64
    x = keras.layers.Flatten(name="flatten")(x)  # 1024
    return x if drop.placement == "before" else layers.drop(x, drop.rate, "flatten_dropout")  # 1024


def _imagenet(x: KerasTensor, normalization: str, activation: str, drop: _Dropout, initializer: str,
              groups: int) -> KerasTensor:
    """The layers before the logits, `[batch, 4096]`; the shapes in the comments are for 227x227 images."""

    def convolution(x: KerasTensor, filters: int, size: int, name: str, groups: int = 1, strides: int = 1,
                    padding: str = "same", bias: str = "zeros") -> KerasTensor:
        layer: Callable = layers.GroupedConv2D if groups > 1 else layers.Conv2D
        x = layer(filters, size, strides=strides, padding=padding, groups=groups,
                  kernel_initializer=_weights(initializer, "paper"), bias_initializer=bias, name=name)(x)
        return _activate(x, normalization, activation, name)

    def normalize(x: KerasTensor, name: str) -> KerasTensor:
        return _normalize_responses(x, normalization, name, 2, 2.0, 1e-4)  # section 3.3

    def pool(x: KerasTensor, name: str) -> KerasTensor:
        return drop.after_pooling(keras.layers.MaxPooling2D(3, 2, name=name)(x), name)  # overlapping: section 3.4

    # Sizes, groups and order: section 3.5 and figure 2. Biases of one start the ReLUs with positive inputs, so that
    # they have a gradient from the first step on: section 5.
    x = convolution(x, 96, 11, "conv1", strides=4, padding="valid")  # 55x55x96
    x = normalize(x, "norm1")
    x = pool(x, "pool1")  # 27x27x96
    x = convolution(x, 256, 5, "conv2", groups, bias="ones")  # 27x27x256
    x = normalize(x, "norm2")
    x = pool(x, "pool2")  # 13x13x256
    x = convolution(x, 384, 3, "conv3")  # 13x13x384
    x = convolution(x, 384, 3, "conv4", groups, bias="ones")  # 13x13x384
    x = convolution(x, 256, 3, "conv5", groups, bias="ones")  # 13x13x256
    x = pool(x, "pool5")  # 6x6x256
    x = keras.layers.Flatten(name="flatten")(x)  # 9216
    for name in ("fc6", "fc7"):
        x = layers.Dense(4096, kernel_initializer=_weights(initializer, "paper"), bias_initializer="ones",
                         name=name)(x)
        x = drop.activate(x, activation, name)
    return x  # 4096


# Radius, bias and alpha in cuda-convnet's `layers-conv-local-11pct.cfg` and in TensorFlow's tutorial: nine channels
# instead of the paper's five.
_CONVNET_RESPONSES = (4, 1.0, 0.001 / 9)


def _normalize_responses(x: KerasTensor, normalization: str, name: str, radius: int, bias: float, alpha: float
                         ) -> KerasTensor:
    """Local response normalization, if it is chosen."""
    if not normalization.startswith("local_response"):
        return x
    alpha *= 64**2 if normalization == "local_response_pixels" else 1
    return layers.LocalResponseNormalization(radius, bias=bias, alpha=alpha, beta=0.75, name=name)(x)


def _activate(x: KerasTensor, normalization: str, activation: str, name: str) -> KerasTensor:
    """What follows a convolution: batch normalization if it is chosen, and the activation."""
    return layers.activate(_normalize_batch(x, normalization, name), activation, f"{name}_activation")


def _normalize_batch(x: KerasTensor, normalization: str, name: str) -> KerasTensor:
    if normalization != "batch":
        return x
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)


def _weights(initializer: str, variant: str) -> str | keras.Initializer:
    # Section 5; cuda-convnet's logits, too.
    paper = "glorot_uniform" if variant == "cifar" else keras.initializers.RandomNormal(stddev=0.01)
    return layers.initializer(initializer, paper)


VARIANTS = {
    "cifar": Variant(
        input_shape=(32, 32, 3), parameters=1_756_426, options={"variant": "cifar", "classes": 10},
        source="TensorFlow tutorial cifar10.py on whole images; its 24x24 crops give 1,068,298", year=2012, smallest=1),
    "cifar_four_layers": Variant(
        input_shape=(32, 32, 3), parameters=89_578, options={"variant": "cifar_four_layers", "classes": 10},
        source="cuda-convnet, layers-18pct.cfg: 2,432 + 25,632 + 51,264 + 10,250", year=2012, smallest=1),
    "paper": Variant(
        input_shape=(227, 227, 3), parameters=60_965_224, options={"variant": "paper", "classes": 1000},
        source="Krizhevsky et al. 2012, section 3.5 and figure 2; the abstract says 60 million", year=2012,
        smallest=67),  # leaves one position after the last pooling
    "one_tower": Variant(
        input_shape=(227, 227, 3), parameters=62_378_344, options={"variant": "one_tower", "classes": 1000},
        source="Krizhevsky et al. 2012, figure 2, without its groups", year=2012, smallest=67),
}
