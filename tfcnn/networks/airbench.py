"""The network that reaches 94% on CIFAR-10 soonest: whitened patches, six convolutions, and identities at the start.

*Source*: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv:2404.00498. All sizes are from the code
released with it (github.com/KellerJordan/cifar10-airbench, airbench94.py), and so is the name of the network.

*Input / output*: images `[batch, height, width, 3]`, each channel with mean zero and unit variance; class logits
`[batch, classes]` in float32, without softmax.

*Differs from the source in*:
- The last pooling takes the maximum over all positions that are left, so that images of other sizes have logits, too;
  in images of 32x32 pixels these are the 3x3 of the source.
- Batch normalization adds 1e-5 to the variance, instead of 1e-12, which float32 does not notice.
- The bias of the whitening layer is trained to the end; in the source it is frozen after three epochs, to save time.
"""

from __future__ import annotations

import keras
from keras import KerasTensor

from tfcnn.networks import Variant, layers, options

_WIDTHS = (64, 256, 256)  # filters of the three blocks


@options.checked
def build(variant: str = "airbench94", classes: int | None = None, image_size: int = 0, whitening: bool = True,
          activation: str = "gelu", initializer: str = "paper") -> keras.Model:
    """Builds an untrained network. `tfcnn.training` whitens by the training images, before the first step.

    Args:
      classes: number of logits; None: 10.
      image_size: height and width of the input in pixels; 0: 32.
      variant, whitening, activation, initializer: see `options.OPTIONS["airbench"]`.

    Returns:
      A model from `[batch, image_size, image_size, 3]` to float32 logits `[batch, classes]`.

    Raises:
      UsageError: a value that is not allowed.
    """
    classes, image_size = VARIANTS[variant].sizes(classes, image_size)

    images = keras.Input((image_size, image_size, 3), name="images")
    if whitening:
        x = layers.PatchWhitening(name="whitening")(images)  # 31x31x24
    else:
        random = layers.initializer(initializer, _pytorch_default())
        x = layers.Conv2D(24, 2, kernel_initializer=random, name="whitening")(images)
    x = layers.activate(x, activation, "whitening_activation")
    for number, filters in enumerate(_WIDTHS, 1):
        x = _convolve(x, filters, initializer, f"conv{number}_1")
        x = keras.layers.MaxPooling2D(2, name=f"pool{number}")(x)  # 15x15x64, 7x7x256, 3x3x256
        x = _normalize(x, activation, f"conv{number}_1")
        x = _convolve(x, filters, initializer, f"conv{number}_2")
        x = _normalize(x, activation, f"conv{number}_2")
    x = keras.layers.GlobalMaxPooling2D(name="pool4")(x)  # 256
    x = layers.Dense(classes, use_bias=False, kernel_initializer=layers.initializer(
        initializer, _pytorch_default()), dtype="float32", name="dense")(x)
    logits = keras.layers.Rescaling(1 / 9, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name=f"airbench_{variant}")


def _convolve(x: KerasTensor, filters: int, initializer: str, name: str) -> KerasTensor:
    return layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer=_weights(initializer),
                         name=name)(x)


def _normalize(x: KerasTensor, activation: str, name: str) -> KerasTensor:
    """Batch normalization without scale, whose moving averages are short, and the activation."""
    x = layers.BatchNormalization(momentum=0.6, epsilon=1e-5, scale=False, name=f"{name}_normalization")(x)
    return layers.activate(x, activation, f"{name}_activation")


def _weights(initializer: str) -> str | keras.Initializer:
    return layers.initializer(initializer, layers.Dirac(_pytorch_default()))


def _pytorch_default() -> keras.Initializer:
    """PyTorch's first values of a layer's weights: uniform, up to 1 / sqrt(n) for n inputs."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


VARIANTS = {
    "airbench94": Variant(
        input_shape=(32, 32, 3), parameters=1_971_352, options={"variant": "airbench94", "classes": 10},
        source="Jordan 2024; widths of the released airbench94.py, the 288 fixed weights of the whitening layer aside",
        year=2024, smallest=9),
}
