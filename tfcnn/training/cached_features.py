"""Cached features: where all layers but the last are frozen, what they compute is computed once.

If nothing changes the images, and the frozen layers draw no random numbers, then each epoch would compute the same
features again. Instead the features of all images are kept in memory, and the steps train what comes after them, the
head, on batches of features, with the same images in the same order. The head has the network's own layers, so that the
whole network has the trained weights at any time, and all that a run records of it is the same.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TextIO

import keras
import numpy as np
import tensorflow as tf

from tfcnn import _compat
from tfcnn.data.normalization import Normalization
from tfcnn.data.pipeline import Pipeline, each_once, in_parallel
from tfcnn.recipe import Recipe
from tfcnn.trained import prediction
from tfcnn.training import devices
from tfcnn.training.initial_weights import ALL

# Of the features of all images. A constant and not what is free, so that a resumed run decides as before.
_LARGEST_BYTES = 2 ** 31
_BATCH = 128
_PARTS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class Halves:
    """A network in two halves, which share its layers.

    Attributes:
      features: from images to features, `[batch, ...]`. It has no random layer, and none that is trained.
      head: from features to the network's outputs.
    """

    features: keras.Model
    head: keras.Model


def split(recipe: Recipe, model: keras.Model, images: int) -> Halves | None:
    """Divides a network whose features can be cached.

    The features are the last tensor that is a function of the image alone, which may be some layers before the last
    one: dropout, for example, is different in each step.

    Args:
      recipe: what is trained.
      model: the network, whose layers are frozen as the recipe says.
      images: the number of all images.

    Returns:
      The two halves; None if the features change from epoch to epoch, are more than one tensor, are before the middle
      of the network, by the number of layers with weights, or would take too much memory.
    """
    if recipe.freeze != ALL or recipe.augmentations() or recipe.stream:
        return None
    calls = list(_compat.calls(model))
    fixed = {id(tensor) for tensor in model.inputs}
    features: dict[int, keras.KerasTensor] = {}
    for call in calls:
        if _is_fixed(call.operation) and all(id(tensor) in fixed for tensor in call.input_tensors):
            fixed |= {id(tensor) for tensor in call.output_tensors}
        else:
            features |= {id(tensor): tensor for tensor in call.input_tensors if id(tensor) in fixed}
    with_weights = [call for call in calls if getattr(call.operation, "weights", ())]
    before = [call for call in with_weights if id(call.output_tensors[0]) in fixed]
    if len(features) != 1 or 2 * len(before) < len(with_weights):
        return None
    tensor, = features.values()
    if images * math.prod(tensor.shape[1:]) * tf.as_dtype(tensor.dtype).size > _LARGEST_BYTES:
        return None
    return Halves(keras.Model(model.inputs, tensor, name="features"), keras.Model(tensor, model.outputs, name="head"))


def _is_fixed(operation: keras.Operation) -> bool:
    """Whether a layer, or another operation, computes the same in each step."""
    return not isinstance(operation, keras.Layer) or (
        not operation.trainable and not devices.seed_generators(operation))


class CachedFeatures:
    """The batches of a run whose images are replaced by their features.

    It is otherwise the pipeline of the images, which it uses.

    Attributes:
      steps_per_epoch: as of the pipeline.
    """

    def __init__(self, pipeline: Pipeline, batch_size: int, features: keras.Model, stream: TextIO | None) -> None:
        """Computes nothing yet: the weights of a run that is resumed are not yet there.

        Args:
          pipeline: the batches of images.
          batch_size: the recipe's.
          features: from images to features.
          stream: where to write what is cached; None is silent.
        """
        self._pipeline = pipeline
        self._batch_size = batch_size
        self._model = features
        self._stream = stream
        self._cached: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
        self.steps_per_epoch = pipeline.steps_per_epoch
        self.examples = pipeline.examples
        self.inspected = pipeline.inspected
        self.check_training = pipeline.check_training
        self.check_evaluation = pipeline.check_evaluation

    @property
    def normalization(self) -> Normalization:
        """That of the images."""
        return self._pipeline.normalization

    @normalization.setter
    def normalization(self, value: Normalization) -> None:
        self._pipeline.normalization = value

    def compute(self) -> None:
        """Computes the features of all images, by the network's present weights.

        Each process does so for all images, on its first device.
        """
        @tf.function(autograph=False)
        def compute(images: tf.Tensor) -> tf.Tensor:
            return prediction.logits(self._model, images)

        for part in _PARTS:
            rows: Any = []
            labels: Any = []
            for images, classes, weights in self._pipeline.evaluation(part, _BATCH):
                real = int(tf.reduce_sum(weights))
                rows.append(compute(images).numpy()[:real])
                labels.append(classes.numpy()[:real])
            if not rows:
                continue  # without validation
            with tf.device("CPU"):
                self._cached[part] = tf.constant(np.concatenate(rows)), tf.constant(np.concatenate(labels))
        if self._stream:
            print(self._description(), file=self._stream, flush=True)

    def training(self, first_step: int, replicas: int = 1, first_replica: int = 0,
                 local_replicas: int | None = None) -> tf.data.Dataset:
        """Endless batches of (features, labels), with the images of `Pipeline.training` in the same order."""
        return in_parallel(self._pipeline.order(first_step, replicas, first_replica, local_replicas),
                           lambda indices: self._gathered("train", indices))

    def evaluation(self, part: str, batch_size: int | None = None) -> tf.data.Dataset:
        """Batches of (features, labels, weights), as of `Pipeline.evaluation`."""
        return each_once(len(self._cached[part][1]), batch_size or self._batch_size,
                         lambda indices: self._gathered(part, indices))

    def _gathered(self, part: str, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, labels = self._cached[part]
        return tf.gather(features, indices), tf.gather(labels, indices)

    def _description(self) -> str:
        images = sum(len(labels) for _, labels in self._cached.values())
        numbers = math.prod(self._model.output_shape[1:])
        size = images * numbers * tf.as_dtype(self._model.outputs[0].dtype).size
        layer = _compat.producer(self._model.outputs[0]).operation.name
        return (f"features:    the output of {layer}, {numbers:,} numbers for each of {images:,} images, is computed "
                f"once and kept in memory ({size / 2 ** 20:,.1f} MB): the layers up to it are frozen, and nothing "
                "changes the images")
