"""Network in Network: a small perceptron slides over the image instead of a filter, and no layer is dense.

*Source*: Lin, Chen and Yan, "Network In Network", ICLR 2014; section numbers below refer to it. The paper gives no
layer sizes: these are from the network for CIFAR-10 that its authors released for Caffe (gist.github.com/mavenlin,
"NIN-CIFAR10"), and so are the names of the layers. `cccp`, "cascaded cross channel parametric pooling" (section 3.1),
is a 1x1 convolution.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero and unit variance; class logits
`[batch, classes]` in float32, without softmax.

*Differs from the paper in*:
- The last 1x1 convolution has no activation. The released network has a ReLU there, which keeps logits from being
  negative and can silence a class for good, and trains that layer at a tenth of the learning rate. Here the mean of a
  class's map is its logit, whatever the activation of the other layers.
- The second pooling takes the mean, as in the network released for Caffe. In section 4.1 and in the authors' first code
  (github.com/mavenlin/cuda-convnet) every pooling takes the maximum.
- Caffe rounds the size after a pooling up: the last window extends beyond the edge, and only pixels inside the image
  count. Padding `same` does that for the sizes that occur, 32 and 16; in images of an odd size it would start a pixel
  earlier.
- Channels are normalized over the whole training set. The paper normalizes the contrast of each image and whitens it
  (section 4.2).
- Dropout scales up the kept activations in training, instead of scaling all of them down at test.
- Batch normalization, an option that was invented a year later, stands between a convolution and its activation; the
  convolution then has no bias.
"""

from __future__ import annotations

import functools

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options


@options.checked
def build(variant: str = "cifar", classes: int | None = None, image_size: int = 0, normalization: str = "none",
          activation: str = "relu", dropout: float | None = None, initializer: str = "paper") -> keras.Model:
    """Builds an untrained network.

    Args:
      classes: number of logits; None: 10.
      image_size: height and width of the input in pixels; 0: 32.
      variant, normalization, activation, dropout, initializer: see `options.OPTIONS["network_in_network"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    classes, image_size = VARIANTS[variant].sizes(classes, image_size)
    dropout = 0.5 if dropout is None else dropout

    convolve = functools.partial(_convolve, normalization=normalization, activation=activation, initializer=initializer)

    # An mlpconv layer (section 3.1) is a convolution and the cccp layers after it: a perceptron at each position, whose
    # weights all positions share.
    images = keras.Input((image_size, image_size, 3), name="images")
    x = convolve(images, 192, 5, "conv1")  # 32x32x192
    x = convolve(x, 160, 1, "cccp1")  # 32x32x160
    x = convolve(x, 96, 1, "cccp2")  # 32x32x96
    x = keras.layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)  # 16x16x96
    x = layers.drop(x, dropout, "pool1_dropout")  # "on the outputs of all but the last mlpconv layers": section 4.1
    x = convolve(x, 192, 5, "conv2")  # 16x16x192
    x = convolve(x, 192, 1, "cccp3")  # 16x16x192
    x = convolve(x, 192, 1, "cccp4")  # 16x16x192
    x = keras.layers.AveragePooling2D(3, 2, padding="same", name="pool2")(x)  # 8x8x192
    x = layers.drop(x, dropout, "pool2_dropout")
    x = convolve(x, 192, 3, "conv3")  # 8x8x192
    x = convolve(x, 192, 1, "cccp5")  # 8x8x192
    x = layers.Conv2D(classes, 1, kernel_initializer=_weights(initializer), dtype="float32", name="cccp6")(x)  # 8x8x10
    logits = keras.layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x)  # one map a class: section 3.2
    return keras.Model(images, logits, name=f"network_in_network_{variant}")


def _convolve(x: KerasTensor, filters: int, size: int, name: str, *, normalization: str, activation: str,
              initializer: str) -> KerasTensor:
    """A convolution and its activation, with batch normalization between them if it is chosen."""
    x = layers.Conv2D(filters, size, padding="same", use_bias=normalization != "batch",
                      kernel_initializer=_weights(initializer), name=name)(x)
    if normalization == "batch":
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    return layers.activate(x, activation, f"{name}_activation")


def _weights(initializer: str) -> str | keras.Initializer:
    return layers.initializer(initializer, keras.initializers.RandomNormal(stddev=0.05))  # as released


VARIANTS = {
    "cifar": Variant(
        input_shape=(32, 32, 3), parameters=966_986, options={"variant": "cifar", "classes": 10},
        source="Lin et al. 2014, section 3.3; sizes and count of the released CIFAR-10 definition", year=2014,
        smallest=1),
}
