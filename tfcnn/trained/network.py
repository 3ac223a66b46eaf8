"""A trained network as one object: the model, its input normalization, its classes, and how it was trained."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfcnn.networks.layers  # noqa: F401  Keras must know the suite's layers to load a network
from tfcnn import files, networks
from tfcnn.data import images as pictures
from tfcnn.data import normalization, official, pipeline, streamed_evaluation
from tfcnn.data.split import Split
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import MODEL, NORMALIZATION, RunFolder
from tfcnn.trained import prediction, shipped, weights

_BATCH = 128


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and all that its use needs.

    Attributes:
      name: the source that it was loaded from, for people.
      folder: the folder that holds it.
      model: from normalized images, `[batch, height, width, channels]`, to logits. Of several outputs the first are the
        logits.
      normalization: from pixel values to the model's input.
      class_names: the names of the classes, in the order of the logits.
      recipe: how it was trained.
      result: what is known of it: the contents of its result.json.
    """

    name: str
    folder: Path
    model: keras.Model
    normalization: normalization.Normalization
    class_names: tuple[str, ...]
    recipe: Recipe
    result: dict[str, Any]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        height, width, channels = self.model.input_shape[1:]
        return height, width, channels

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the training images before they were fitted to the input; None if it is not known."""
        known = official.KNOWN.get(self.recipe.dataset)
        shape = self.result["dataset"].get("image_shape") or (known.image_shape if known else None)
        return tuple(shape[:2]) if shape else None

    @property
    def numbered(self) -> bool:
        """Whether the classes have numbers for names: those of a converted network whose names are not known."""
        return not self.result.get("converted", {}).get("named_classes", True)

    @property
    def is_run(self) -> bool:
        """Whether the folder is a run's own: recorded, shipped and converted networks have no model.keras."""
        return (self.folder / MODEL).is_file()

    @property
    def is_converted(self) -> bool:
        """Whether the network was made from published weights."""
        return "converted" in self.result

    @property
    def crops(self) -> int:
        """How many crops of an image the run's own test averages: 1, or AlexNet's ten of a larger image."""
        return self.recipe.test_crops if self.recipe.stream else 1

    def fit(self, images: np.ndarray, crops: int = 1) -> np.ndarray:
        """Gives images the size and the channels of the network's input, as in training.

        Images of the training images' size are padded or resized as these were. Images of any other size are resized to
        cover that size first, and cropped around the centre. For a network of streamed images the shorter side is
        resized and the centre cropped, as in its test.

        Args:
          images: uint8 [batch, height, width, 1 or 3].
          crops: 10 for AlexNet's ten crops, for a network of streamed images only.

        Returns:
          uint8 [batch, *input_shape], or [batch, 10, *input_shape].

        Raises:
          UsageError: the images do not have this type or shape.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UsageError(f"images must be uint8 [batch, height, width, 1 or 3], not {images.dtype} "
                             f"{list(images.shape)}")
        if self.recipe.stream:
            return self._cut(tf.constant(images), crops).numpy()
        if self.image_size and images.shape[1:3] != self.image_size:
            images = np.stack([pictures.fit(image, self.image_size) for image in images])
        return pipeline.fit(Split(images, np.zeros(len(images), np.int32)), self.input_shape).images

    def read(self, file: str | Path | bytes) -> np.ndarray:
        """Decodes a JPEG or PNG file, as class folders are read: uint8 [height, width, 1 or 3].

        Args:
          file: its path, or its content.

        Raises:
          UsageError: there is no such file, or it is damaged, or not of a kind that is read.
          OSError: the system refuses to open or read it.
        """
        return pictures.decode(file)

    def logits(self, images: np.ndarray, batch_size: int = _BATCH) -> np.ndarray:
        """The logits of images of any size; after a test of ten crops, those of the mean of the crops' probabilities.

        Args:
          images: uint8 [batch, height, width, 1 or 3].
          batch_size: how many images the network sees at once.

        Returns:
          float32 [batch, classes].

        Raises:
          UsageError: as in `fit`.
        """
        if not len(images):
            return self.logits_of_fitted(self.fit(images))
        size = -(-batch_size // self.crops)
        return np.concatenate([self.logits_of_fitted(self.fit(images[start:start + size], self.crops), size)
                               for start in range(0, len(images), size)])

    def logits_of_fitted(self, images: np.ndarray, batch_size: int = _BATCH) -> np.ndarray:
        """The logits of images that `fit` returned, in the arithmetic of the recipe.

        Args:
          images: uint8 [batch, *input_shape], or [batch, crops, *input_shape], whose probabilities are averaged.
          batch_size: how many of them the network sees at once.

        Returns:
          float32 [batch, classes].
        """
        rows = [np.zeros((0, len(self.class_names)), np.float32)]
        with prediction.tensor_float_32(self.recipe.tensor_float_32):
            for start in range(0, len(images), batch_size):
                part = images[start:start + batch_size]
                filled = np.resize(part, (batch_size, *part.shape[1:]))  # repeats images: one graph does for all
                rows.append(self._compiled(tf.constant(filled)).numpy()[:len(part)])
        return np.concatenate(rows)

    def predict(self, images: np.ndarray, batch_size: int = _BATCH) -> np.ndarray:
        """The probability of each class for images of any size: float32 [batch, classes], as `logits`."""
        return prediction.softmax(self.logits(images, batch_size))

    @functools.cached_property
    def _compiled(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """From uint8 images of the input's shape, or several crops of each, to logits."""
        def logits(images: tf.Tensor) -> tf.Tensor:
            flat = self.normalization.apply(tf.reshape(images, (-1, *self.input_shape)))
            return prediction.logits(self.model, tf.reshape(flat, images.shape))

        return tf.function(logits, autograph=False)

    @functools.cached_property
    def _cut(self) -> Callable[[tf.Tensor, int], tf.Tensor]:
        """From decoded images to crops, as streamed images are cropped in a test."""
        size, _, channels = self.input_shape
        return tf.function(lambda images, crops: streamed_evaluation.cut(images, size, channels, crops),
                           autograph=False, reduce_retracing=True)


def load(source: str | Path) -> TrainedNetwork:
    """Loads a trained network: see `tfcnn.trained.load`."""
    folder = _find(source)
    run = RunFolder(folder)
    result, recipe = run.read_result(), run.read_recipe()
    known = official.KNOWN.get(recipe.dataset)
    class_names = tuple(result["dataset"].get("class_names") or (known.class_names if known else ()))
    if not class_names:
        raise UsageError(f"{folder} was recorded by an earlier version, which did not keep the names of the classes, "
                         f"and those of --dataset={recipe.dataset} are not known: train the network again")
    stored = normalization.load(folder / NORMALIZATION)
    if (folder / MODEL).is_file():
        model = _load_model(folder / MODEL)
    else:
        size, *_ = result["dataset"].get("input_shape") or [recipe.image_size]
        model = networks.find(recipe.network).build(
            classes=len(class_names), image_size=size, **recipe.network_options())
        weights.load(model, folder / weights.WEIGHTS)
    classes = model.outputs[0].shape[-1]
    if classes != len(class_names):
        raise UsageError(f"{folder} has a network of {classes} classes and {len(class_names)} names of classes: train "
                         "it again")
    return TrainedNetwork(str(source), folder, model, stored, class_names, recipe, result)


def _find(source: str | Path) -> Path:
    """The folder that a source names: of a file system, or else among the networks that ship."""
    folder = files.expanded(source)
    if folder.is_dir():
        return folder
    if str(source) in shipped.names():
        return shipped.FOLDER / str(source)
    raise UsageError(f"{source} is neither the folder of a run nor one of the networks that ship with the package: "
                     f"{', '.join(shipped.names())}")


def _load_model(file: Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, compile=False)
    except PermissionError as error:
        raise files.usage_error(f"cannot read {file}", error, file) from error
    except Exception as error:  # a damaged file fails in any way: zipfile's, h5py's, Keras's errors
        reason = " ".join(str(error).split())
        raise UsageError(f"{file} cannot be read as a network ({type(error).__name__}: {reason}): train it again"
                         ) from error
