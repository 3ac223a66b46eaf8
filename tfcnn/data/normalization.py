"""Input normalization: from pixel values, 0 to 255, to the input of the network.

`fit(kind, images)` computes the statistics of the training part; `apply` is then a pure function of each image, whose
bits do not depend on the rest of the batch or on the number of threads.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import io
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from tfcnn import files
from tfcnn.recipe import UsageError

# Regularization of ZCA whitening, for images of variance 1: the value that Goodfellow et al. 2013 used for CIFAR-10.
# Directions of much smaller variance, mostly noise, are not amplified to variance 1.
_ZCA_EPSILON = 0.1
# The time of the decomposition grows with the cube of the number of values: with 4096, it is 15 s on two cores.
_ZCA_VALUES = 4096
_CHUNK = 1024  # images
# Pixels are multiples of 1/256, and whitening weights multiples of 2^-23 of their range: see `Zca`.
_STEPS = 256.0
_WEIGHT_BITS = 23


class Normalization(abc.ABC):
    """A normalization of images, with its statistics.

    Attributes:
      kind: its name, one of `KINDS`.
      elementwise: whether each value of the result depends on one value of the image only.
    """

    kind: ClassVar[str]
    elementwise: ClassVar[bool] = True

    @abc.abstractmethod
    def apply(self, images: tf.Tensor) -> tf.Tensor:
        """Normalizes images.

        Args:
          images: [batch, height, width, channels], uint8, or float32 from 0 to 255.

        Returns:
          Images of the same shape, float32.
        """

    def statistics(self) -> dict[str, Any]:
        """The kind and the statistics, in a form short enough for a result.json."""
        return {"kind": self.kind}

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether the statistics are for images of this (height, width, channels)."""
        mean = getattr(self, "mean", None)
        return mean is None or np.shape(mean) in (tuple(shape), tuple(shape[-1:]))

    def to_bytes(self) -> bytes:
        """All statistics, as the contents of a NumPy archive (npz) for `load`."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        archive = io.BytesIO()
        np.savez(archive, kind=self.kind, **fields)
        return archive.getvalue()


@dataclasses.dataclass(frozen=True)
class Unit(Normalization):
    """Pixel values / 255, in [0, 1]: there are no statistics."""

    kind = "none"

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(images, tf.float32) * (1 / 255)


@dataclasses.dataclass(frozen=True)
class PerChannel(Normalization):
    """Mean 0 and standard deviation 1 in each channel, over the training set.

    Attributes:
      mean: a number for each channel, in units of pixel values (0 to 255).
      standard_deviation: likewise; 1 where all pixels are equal.
    """

    kind = "channel"

    mean: tuple[float, ...]
    standard_deviation: tuple[float, ...]

    @classmethod
    def of(cls, images: np.ndarray | Iterable[np.ndarray]) -> PerChannel:
        """Computes the statistics of images [n, height, width, channels], uint8, or of batches of them."""
        # Counting the 256 values is exact, and needs no floating-point copy of the images.
        counts: Any = 0
        for chunk in _chunks(images):
            counts += np.stack([np.bincount(chunk[..., channel].ravel(), minlength=256)
                                for channel in range(chunk.shape[-1])])
        values = np.arange(256.0)
        means = [float(np.average(values, weights=count)) for count in counts]
        deviations = [float(np.sqrt(np.average((values - mean) ** 2, weights=count)))
                      for mean, count in zip(means, counts)]
        return cls(tuple(means), tuple(deviation or 1.0 for deviation in deviations))

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        scale = 1.0 / np.array(self.standard_deviation, np.float32)
        shift = np.array(self.mean, np.float32) * scale
        # Constants in the shape of an image: broadcasting along only three channels is several times slower.
        shape = images.shape[1:]
        return tf.cast(images, tf.float32) * np.broadcast_to(scale, shape) - np.broadcast_to(shift, shape)

    def statistics(self) -> dict[str, Any]:
        return super().statistics() | dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class PerImage(Normalization):
    """Mean 0 and standard deviation 1 over the pixels and channels of each image.

    As `tf.image.per_image_standardization`: an image with hardly any contrast is divided by 1 / sqrt(number of values).
    Pixel values are rounded to multiples of 1/256.
    """

    kind = "image"
    elementwise = False

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        mean, deviation = (tf.reshape(tf.cast(moment, tf.float32), (-1, 1, 1, 1)) for moment in
                           _moments(_rounded_rows(images)))
        return (tf.cast(images, tf.float32) - mean) / deviation


@dataclasses.dataclass(frozen=True, eq=False)
class PixelMean(Normalization):
    """Subtracts the mean image of the training set (He et al. 2016, section 4.2), then divides by one number.

    The paper does not give the units of its pixels. One standard deviation for all values keeps the relations between
    positions and channels, and the inputs have the scale that the network's initialization expects.

    Attributes:
      mean: [height, width, channels], float64, in units of pixel values (0 to 255).
      standard_deviation: of all values of the training set around the mean image; 1 if all images are equal.
    """

    kind = "pixel_mean"

    mean: np.ndarray
    standard_deviation: float

    @classmethod
    def of(cls, images: np.ndarray | Iterable[np.ndarray]) -> PixelMean:
        """Computes the statistics of images [n, height, width, channels], uint8, or of batches of them."""
        count = 0
        total: Any = 0
        counts: Any = 0
        for chunk in _chunks(images):
            count += len(chunk)
            total += chunk.sum(axis=0, dtype=np.int64)
            counts += np.bincount(chunk.ravel(), minlength=256)
        mean = total / count
        squares = counts @ np.arange(256) ** 2
        variance = (squares / count - (mean ** 2).sum()) / mean.size
        return cls(mean, math.sqrt(max(variance, 0.0)) or 1.0)

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        scale = 1 / self.standard_deviation
        return tf.cast(images, tf.float32) * np.float32(scale) - (self.mean * scale).astype(np.float32)

    def statistics(self) -> dict[str, Any]:
        return super().statistics() | {"mean": self.mean.mean(axis=(0, 1)).tolist(),
                                       "standard_deviation": self.standard_deviation}


@dataclasses.dataclass(frozen=True, eq=False)
class Zca(Normalization):
    """Global contrast normalization, then ZCA whitening (Goodfellow et al. 2013; Krizhevsky 2009, section 1.3).

    Each image is standardized as by `PerImage`. Then the mean image of the training set is subtracted, and the
    difference is multiplied by U (D + epsilon)^(-1/2) U^T, where U D U^T is the covariance over the training set.

    The bits of the product do not depend on the batch: matrix products add in an order that depends on their shapes and
    threads, but here every sum is exact. Pixels are multiples of 1/256, weights are multiples of 2^-23 of the power of
    two above the largest weight, and a sum of 4096 products of the two fits into the 53 bits of float64.

    Attributes:
      mean: [height, width, channels], float64, of the standardized images.
      matrix: [values, values], float32, symmetric; there is a value for each pixel and channel.
      epsilon: added to the variance of each direction.
    """

    kind = "zca"
    elementwise = False

    mean: np.ndarray
    matrix: np.ndarray
    epsilon: float = _ZCA_EPSILON

    @classmethod
    def of(cls, images: np.ndarray | Iterable[np.ndarray]) -> Zca:
        """Computes the statistics of images [n, height, width, channels], uint8, or of batches of them.

        Raises:
          UsageError: the images are too large.
        """
        count, shape = 0, ()
        total: Any = 0.0
        products: Any = 0.0  # updated in place: a new sum would take as much memory again
        for chunk in _chunks(images):
            shape = chunk.shape[1:]
            if math.prod(shape) > _ZCA_VALUES:
                raise UsageError(f"ZCA whitening takes at most {_ZCA_VALUES} values an image, and these have "
                                 f"{'x'.join(map(str, shape))}: choose a smaller --image_size, or another "
                                 "normalization")
            values = _standardized(chunk)
            count += len(values)
            total += values.sum(axis=0)
            products += values.T @ values
        mean = total / count
        variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
        # Rounding can make the variance slightly negative in a direction in which all images agree.
        matrix = (directions / np.sqrt(np.maximum(variances, 0) + _ZCA_EPSILON)) @ directions.T
        step = 2.0 ** (math.ceil(math.log2(np.abs(matrix).max())) - _WEIGHT_BITS)
        return cls(mean.reshape(shape), (np.rint(matrix / step) * step).astype(np.float32))

    def apply(self, images: tf.Tensor) -> tf.Tensor:
        matrix, sums, shift = self._constants
        values = _rounded_rows(images)
        mean, deviation = _moments(values)
        whitened = (tf.matmul(values, matrix) - mean * sums) / deviation - shift
        return tf.reshape(tf.cast(whitened, tf.float32), (-1, *images.shape[1:]))

    def statistics(self) -> dict[str, Any]:
        return super().statistics() | {"epsilon": self.epsilon, "image_shape": list(self.mean.shape)}

    @functools.cached_property
    def _constants(self) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The matrix, the sums of its columns, and the whitened mean: all float64, in main memory.

        As tensors, which a graph refers to; an array would be copied into the graph wherever it is used.
        """
        matrix = self.matrix.astype(np.float64)
        with tf.init_scope(), tf.device("CPU"):
            return tf.constant(matrix), tf.constant(matrix.sum(axis=0)), tf.constant(self.mean.ravel() @ matrix)


_CLASSES: dict[str, Any] = {one.kind: one for one in (PerChannel, Unit, PerImage, PixelMean, Zca)}
KINDS = tuple(_CLASSES)


def fit(kind: str, images: np.ndarray | Iterable[np.ndarray]) -> Normalization:
    """Creates a normalization, with the statistics of the training images.

    Args:
      kind: one of `KINDS`: `channel`, `none` (values / 255), `image`, `pixel_mean` or `zca`.
      images: the training part, [n, height, width, channels], uint8, or batches of it, which are iterated over once, or
        not at all by a kind without statistics.

    Raises:
      UsageError: there is no such kind, or the images are too large for it.
    """
    if kind not in KINDS:
        raise UsageError(f"there is no normalization {kind!r}: choose one of {', '.join(KINDS)}")
    return _CLASSES[kind]() if kind in (Unit.kind, PerImage.kind) else _CLASSES[kind].of(images)


def load(path: str | Path) -> Normalization:
    """Loads the normalization that `to_bytes` saved in a file.

    Raises:
      UsageError: the file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            # Arrays of less than two dimensions were saved from a number, or from a tuple of numbers.
            fields: dict[str, Any] = {
                name: value if value.ndim > 1 else tuple(value.tolist()) if value.ndim else value.item()
                for name, value in stored.items()}
        return _CLASSES[fields.pop("kind")](**fields)
    except (TypeError, *files.DAMAGED_ARRAYS) as error:
        raise UsageError(f"{path} cannot be read as a normalization ({type(error).__name__}: {error}): remove it, and "
                         "a run will write it again") from error


def _chunks(images: np.ndarray | Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The images in small batches, so that computations on them take little memory.

    Raises:
      UsageError: there are none.
    """
    none = True
    for batch in [images] if isinstance(images, np.ndarray) else images:
        for start in range(0, len(batch), _CHUNK):
            yield batch[start:start + _CHUNK]
            none = False
    if none:
        raise UsageError("there are no training images to compute the normalization from: the data set needs some")


def _standardized(images: np.ndarray) -> np.ndarray:
    """uint8 images as rows of float64, with mean 0 and, where they have contrast, standard deviation 1."""
    values = images.reshape(len(images), -1).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(values.std(axis=1, keepdims=True), values.shape[1] ** -0.5)
    return values


def _rounded_rows(images: tf.Tensor) -> tf.Tensor:
    """Images as rows of float64, with values rounded to multiples of 1/256."""
    values = tf.reshape(images, (-1, math.prod(images.shape[1:])))
    if values.dtype != tf.uint8:
        values = tf.round(values * _STEPS) * (1 / _STEPS)
    return tf.cast(values, tf.float64)


def _moments(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and standard deviation, at least 1 / sqrt(number of values), of each row of `_rounded_rows`: [batch, 1].

    The values have so few bits that the sums are exact in float64, in any order.
    """
    mean = tf.reduce_sum(values, 1, keepdims=True) / values.shape[1]
    variance = tf.reduce_sum(values * values, 1, keepdims=True) / values.shape[1] - mean * mean
    return mean, tf.sqrt(tf.maximum(variance, 1 / values.shape[1]))
