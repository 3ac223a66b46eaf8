"""Activation sparsity: how many of a layer's activations are zero. Dead ReLUs show as a share that approaches 1."""

from __future__ import annotations

import keras
import tensorflow as tf


class Sparsity:
    """Measures the share of zero activations in each layer that has an activation function, on a fixed batch.

    A network may have no such layer. PReLU and randomized ReLU, which are layers without an activation function and
    rarely output zero, are not measured.
    """

    def __init__(self, model: keras.Model, images: tf.Tensor) -> None:
        """Prepares the measurement.

        Args:
          model: a functional model.
          images: [batch, height, width, channels], the model's input.
        """
        layers = [layer for layer in model.layers if _has_activation(layer)]
        self._images = images
        self._names = [layer.name.removesuffix("_activation") for layer in layers]
        # A model needs an output, so the logits come first even if no layer is measured.
        self._outputs = keras.Model(model.inputs, [model.outputs[0], *(layer.output for layer in layers)])
        self._shares = tf.function(self._compute, autograph=False)

    def _compute(self) -> list[tf.Tensor]:
        # Keras returns a list of one output as that output alone.
        _, *activations = tf.nest.flatten(self._outputs(self._images, training=False))
        return [tf.reduce_mean(tf.cast(tf.equal(activation, 0), tf.float32)) for activation in activations]

    def shares(self) -> dict[str, float]:
        """Returns the share of zeros, in [0, 1], by the layer's name."""
        return dict(zip(self._names, map(float, self._shares()), strict=True))


def _has_activation(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    return activation not in (None, keras.activations.linear)
