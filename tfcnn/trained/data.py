"""The data set that a trained network is evaluated on: each part as batches of what the network sees in its test.

A data set in memory is fitted to the network's input. The images of a run with `--stream` are read, decoded and cropped
batch by batch, as in that run's own test, so they need not fit into memory.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfcnn.data import datasets, official, sources, streamed_evaluation
from tfcnn.data.parts import Part, bounded
from tfcnn.recipe import UsageError
from tfcnn.trained.network import TrainedNetwork

# Images, uint8 [batch, height, width, channels], or their crops, [batch, crops, height, width, channels]; and labels.
Batch = tuple[np.ndarray, np.ndarray]

_BATCH = 128


class Images(abc.ABC):
    """A part of a data set as a network is given it, with the network's labels."""

    # Whether AlexNet's ten crops can be cut from images larger than the network's input.
    larger: bool

    @abc.abstractmethod
    def __len__(self) -> int:
        """The number of images."""

    @abc.abstractmethod
    def batches(self, size: int, crops: int = 1) -> Iterator[Batch]:
        """All images in the data set's order, in batches; the last one may be smaller.

        Args:
          size: images per batch.
          crops: 10 for AlexNet's ten crops, of larger images only.

        Raises:
          UsageError: an image cannot be decoded.
        """

    @abc.abstractmethod
    def at(self, indices: Sequence[int]) -> np.ndarray:
        """Some images by their number: uint8 [indices, height, width, channels]."""

    def stored(self, path: Path) -> Batch:
        """All images, in a file of which no more is in memory than is used, and their labels.

        Args:
          path: the file to write.
        """
        shape: tuple[int, ...] = ()
        labels = []
        with open(path, "wb") as file:
            for images, some in self.batches(_BATCH):
                file.write(images.tobytes())
                shape = images.shape[1:]
                labels.append(some)
        return np.memmap(path, np.uint8, "r", shape=(len(self), *shape)), np.concatenate(labels)


class _InMemory(Images):
    larger = False

    def __init__(self, network: TrainedNetwork, split: datasets.Split) -> None:
        self._network, self._split = network, split

    def __len__(self) -> int:
        return len(self._split)

    def batches(self, size: int, crops: int = 1) -> Iterator[Batch]:
        assert crops == 1
        for start in range(0, len(self), size):
            yield (self._network.fit(self._split.images[start:start + size]), self._split.labels[start:start + size])

    def at(self, indices: Sequence[int]) -> np.ndarray:
        return self._network.fit(self._split.images[np.asarray(indices, int)])


class _Streamed(Images):
    larger = True

    def __init__(self, network: TrainedNetwork, part: Part, order: np.ndarray) -> None:
        self._part, self._order = part, order
        self._size, _, self._channels = network.input_shape

    def __len__(self) -> int:
        return len(self._part)

    def batches(self, size: int, crops: int = 1) -> Iterator[Batch]:
        found = streamed_evaluation.batches(self._part, self._size, self._channels, size, crops)
        for images, labels in self._read(found.prefetch(2)):
            yield images.numpy(), self._order[labels.numpy()]

    def at(self, indices: Sequence[int]) -> np.ndarray:
        chosen = np.zeros(len(self), bool)
        chosen[list(indices)] = True
        table = tf.constant(chosen)
        found = streamed_evaluation.batches(self._part, self._size, self._channels, _BATCH,
                                            wanted=lambda position: table[position])
        images = np.concatenate([images.numpy() for images, _ in self._read(found)])
        return images[np.searchsorted(np.flatnonzero(chosen), indices)]

    def _read(self, found: tf.data.Dataset) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        try:
            yield from bounded(found)
        except tf.errors.OpError:
            streamed_evaluation.check(self._part)
            raise


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set as a network is given it.

    Attributes:
      source: one line on where the pixels come from.
      class_names: the names of the classes, in the order of the network's logits; those of the data set if the network
        only numbers its classes.
      train: the training set without the validation part.
      validation: what was held out.
      test: the test set.
      own: whether this is the data set as the network's run had it, so that `validation` is what the run held out.
    """

    source: str
    class_names: tuple[str, ...]
    train: Images
    validation: Images
    test: Images
    own: bool


class Loader:
    """Loads a data set for several networks, and holds no part of it twice in memory."""

    def __init__(self, name: str, data_dir: str | None, first: TrainedNetwork) -> None:
        """Loads nothing yet.

        Args:
          name: name of the data set.
          data_dir: its folder.
          first: a network that was trained on some classes of its own data set, or on all. If that is this data set,
            the network's recipe also says which images were held out for validation, which it trained on, and with
            which labels; of another one it uses the classes of the same names, and nothing is held out. Images from
            elsewhere, or of another number, are another data set.
        """
        self._name, self._data_dir, self._first = name, data_dir, first
        self._own = name == first.recipe.dataset
        self._loaded: dict[tuple[int, ...], datasets.Dataset] = {}

    def load(self, network: TrainedNetwork) -> Data:
        """The data set for a network.

        Raises:
          UsageError: the data set is unavailable or has other classes.
        """
        found = self._find(network)
        if self._own and not _is_of_the_run(found, self._first):
            self._own = False
            self._loaded.clear()
            found = self._find(network)
        order = label_order(network, self._name, found.class_names)
        if isinstance(found, sources.Source):
            parts: list[Images] = [_Streamed(network, part, order)
                                   for part in (found.train, found.validation, found.test)]
        else:
            parts = [_InMemory(network, datasets.Split(part.images, order[part.labels]))
                     for part in (found.train, found.validation, found.test)]
        train, validation, test = parts
        return Data(found.source, found.class_names if network.numbered else network.class_names, train, validation,
                    test, own=self._own and _is_of_the_run(found, network))

    @property
    def _split(self) -> dict[str, Any]:
        recipe = self._first.recipe
        if self._own:
            return {field: getattr(recipe, field)
                    for field in ("validation", "seed", "classes", "train_images", "random_labels")}
        return {"validation": 0.0, "seed": recipe.seed,
                "classes": self._first.class_names if recipe.classes else ""}

    def _find(self, network: TrainedNetwork) -> datasets.Dataset | sources.Source:
        # What fits into memory as official files do cannot be streamed; it is only cropped as streamed images are.
        streamed = network.recipe.stream and (
            self._name == network.recipe.dataset or self._name not in official.KNOWN)
        return self._source() if streamed else self._dataset(network)

    def _source(self) -> sources.Source:
        return sources.load(self._name, self._data_dir, **self._split)

    def _dataset(self, network: TrainedNetwork) -> datasets.Dataset:
        size = network.image_size or network.input_shape[:2]
        if size not in self._loaded:
            self._loaded[size] = datasets.load(self._name, self._data_dir, image_size=size, **self._split)
        return self._loaded[size]


def _is_of_the_run(found: datasets.Dataset | sources.Source, network: TrainedNetwork) -> bool:
    """Whether a data set is from where the network's run had it, and as large."""
    known = network.result["dataset"]
    return (found.source, len(found.train), len(found.validation)) == (
        known["source"], known["train_images"], known["validation_images"])


def load(network: TrainedNetwork, name: str = "", data_dir: str | None = None) -> Data:
    """Loads a data set for a network, split as in its training.

    Args:
      network: the network.
      name: name of the data set; empty for the one that the network was trained on.
      data_dir: its folder.

    Raises:
      UsageError: the data set is unavailable or not known, or has other classes.
    """
    return Loader(name_of(network, name), data_dir, network).load(network)


def name_of(network: TrainedNetwork, name: str) -> str:
    """The name of the data set that is meant: by default the one that the network was trained on.

    Raises:
      UsageError: that is not known.
    """
    if name or network.recipe.dataset:
        return name or network.recipe.dataset
    raise UsageError(f"{network.name} does not say which data set it was trained on: give --dataset, here or in its "
                     "conversion")


def label_order(network: TrainedNetwork, dataset: str, names: Sequence[str]) -> np.ndarray:
    """The network's label for each label of the data set, int32.

    Raises:
      UsageError: the classes differ.
    """
    if network.numbered and len(names) == len(network.class_names):
        return np.arange(len(names), dtype=np.int32)
    if sorted(names) != sorted(network.class_names):
        raise UsageError(f"{dataset} has other classes than {network.name}: {listed(names)}; the network has "
                         f"{listed(network.class_names)}")
    return np.array([network.class_names.index(name) for name in names], np.int32)


def listed(names: Sequence[str]) -> str:
    """The first of some names in a message."""
    return ", ".join(names[:5]) + (f", ... ({len(names)})" if len(names) > 5 else "")
