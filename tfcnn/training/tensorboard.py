"""What TensorBoard shows of a run besides Keras's own callback: norms, sparsity, example images, hyper-parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from tfcnn.recipe import Recipe, flat
from tfcnn.runs import TRAIN_EVENTS, VALIDATION_EVENTS


class Details(keras.callbacks.Callback):
    """Writes the scalars that Keras's callback does not know, the augmented images and the HParams summary.

    The hyper-parameters stand beside the validation metrics, so that TensorBoard's HParams page compares runs by them.
    """

    def __init__(self, workdir: Path, recipe: Recipe, examples: np.ndarray) -> None:
        """Args:
          workdir: the run's folder.
          recipe: its values become the hyper-parameters.
          examples: [n, height, width, channels], uint8: training images after augmentation.
        """
        super().__init__()
        self._workdir = workdir
        self._recipe = recipe
        self._examples = examples

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self._train = tf.summary.create_file_writer(str(self._workdir / TRAIN_EVENTS))
        self._validation = tf.summary.create_file_writer(str(self._workdir / VALIDATION_EVENTS))
        with self._train.as_default():
            tf.summary.image("augmented_training_images", self._examples, step=0, max_outputs=len(self._examples))
        with self._validation.as_default():
            hparams.hparams(flat(self._recipe.to_dict()))

    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        self._train.close()
        self._validation.close()

    def write(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Writes scalars of an epoch of training, counted from 0 as Keras's callback does."""
        with self._train.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=epoch)

    def write_test(self, epoch: int, scalars: Mapping[str, float]) -> None:
        """Writes what the test set gave at the end, beside the hyper-parameters."""
        with self._validation.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(f"test_{name}", value, step=epoch)


class Sparsity:
    """The share of zero activations in each layer that has an activation function, on a fixed batch."""

    def __init__(self, model: keras.Model, images: tf.Tensor) -> None:
        layers = [layer for layer in model.layers if _activates(layer)]
        self._images = images
        self._names = [layer.name.removesuffix("_activation") for layer in layers]
        # With the logits among them there is always one, and always a list.
        self._outputs = keras.Model(model.inputs, [model.outputs[0], *(layer.output for layer in layers)])
        self._shares = tf.function(self._compute)

    def _compute(self) -> list[tf.Tensor]:
        _, *activations = self._outputs(self._images, training=False)
        return [tf.reduce_mean(tf.cast(tf.equal(activation, 0), tf.float32)) for activation in activations]

    def shares(self) -> dict[str, float]:
        """Layer name -> share of zeros, in [0, 1]."""
        return dict(zip(self._names, map(float, self._shares())))


def _activates(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    return activation not in (None, keras.activations.linear)
