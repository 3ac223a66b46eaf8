"""Images and labels in memory, and how the validation part is split off the training images."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from tfcnn.recipe import UsageError


@dataclasses.dataclass(frozen=True)
class Split:
    """One part of a data set.

    Attributes:
      images: uint8 `[images, height, width, channels]`, with 1 (grey) or 3 (red, green, blue) channels.
      labels: int32 `[images]`, the index of the class.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def where(self, chosen: np.ndarray) -> Split:
        """The images where `chosen`, bool `[images]`, is true, in the same order."""
        return Split(self.images[chosen], self.labels[chosen])


@dataclasses.dataclass(frozen=True)
class Contents:
    """A data set as it was read, before the validation part is split off.

    Attributes:
      source: one line on where the pixels come from, without a path of this machine.
      class_names: the names of the classes, in the order of the labels.
      train: the training set.
      test: the test set.
    """

    source: str
    class_names: tuple[str, ...]
    train: Split
    test: Split


def split_validation(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """Splits the same share, rounded, off every class: a pure function of the labels, the share and the seed.

    Args:
      split: the images to split; each part keeps their order.
      share: share of the images to split off, in [0, 1).
      seed: seed of the choice.

    Returns:
      The remaining images, and those split off.

    Raises:
      UsageError: the share is all images of a class, or no image at all although it is more than zero.
    """
    if not 0 <= share < 1:
        raise UsageError(f"--validation={share:g} must be at least 0 and less than 1")
    generator = np.random.default_rng(seed)
    chosen = np.zeros(len(split.labels), bool)
    for label in np.unique(split.labels):
        members = np.flatnonzero(split.labels == label)
        count = math.floor(share * len(members) + 0.5)
        if count == len(members):
            raise UsageError(f"--validation={share:g} leaves no training image of class {label}, which has "
                             f"{len(members)}: choose a smaller share")
        chosen[generator.permutation(members)[:count]] = True
    if share > 0 and not chosen.any():
        raise UsageError(f"--validation={share:g} of {len(split.labels)} training images, rounded in every class, is "
                         "no image at all: choose a larger share, or 0")
    return split.where(~chosen), split.where(chosen)
