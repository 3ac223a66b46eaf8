"""Parts of a data set for experiments: some of its classes, fewer training images, and random labels.

Everything is drawn by the seed from the labels alone, so that images in memory and streamed class folders agree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from tfcnn.data.split import Contents, Split
from tfcnn.recipe import UsageError


def parse_classes(text: str, names: Sequence[str]) -> list[int]:
    """The labels that `--classes` names, in its order.

    Args:
      text: names, numbers and ranges of numbers such as `5-9`, separated by commas; empty for all classes. What is a
        name is not taken for a number.
      names: the names of all classes.

    Raises:
      UsageError: there is no such class, one is named twice, or only one is named.
    """
    if not text:
        return list(range(len(names)))
    labels: list[int] = []
    for word in (word.strip() for word in text.split(",")):
        found = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", word)
        if word in names:
            chosen = [list(names).index(word)]
        elif found and int(found[1]) <= int(found[2] or found[1]) < len(names):
            chosen = list(range(int(found[1]), int(found[2] or found[1]) + 1))
        else:
            raise UsageError(f"--classes={text}: {word!r} is none of the classes, which are 0 to {len(names) - 1}: "
                             f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}")
        labels += chosen
    if len(set(labels)) < len(labels):
        raise UsageError(f"--classes={text} names a class twice: leave it out once")
    if len(labels) < 2:
        raise UsageError(f"--classes={text} names only one class: give at least two")
    return labels


def of_classes(contents: Contents, wanted: str | Sequence[str]) -> Contents:
    """The images of some classes, which are numbered anew in the order of `wanted`.

    Args:
      contents: the data set.
      wanted: as in `parse_classes`; or names, and if the data set lacks one of them, all its classes are kept.
    """
    names = contents.class_names
    if not wanted or not isinstance(wanted, str) and not set(wanted) <= set(names):
        return contents
    labels = parse_classes(wanted, names) if isinstance(wanted, str) else [names.index(name) for name in wanted]
    return Contents(contents.source, tuple(contents.class_names[label] for label in labels),
                    _renumbered(contents.train, labels), _renumbered(contents.test, labels))


def _renumbered(split: Split, labels: list[int]) -> Split:
    kept = split.where(np.isin(split.labels, labels))
    new = np.zeros(max(labels) + 1, np.int32)
    new[labels] = np.arange(len(labels))
    return Split(kept.images, new[kept.labels])


def reduced(split: Split, count: int, seed: int) -> Split:
    """Some of the training images, equally many of each class as far as possible, in their order.

    With the same seed, the images of a smaller number are among those of a larger one.

    Args:
      split: the training images.
      count: how many to draw; 0 for all.
      seed: seed of the draw.

    Raises:
      UsageError: there are not that many.
    """
    if not count:
        return split
    check_count(count, len(split))
    generator = np.random.default_rng([seed, 1])
    shuffled = generator.permutation(len(split))
    classes, members = np.unique(split.labels[shuffled], return_inverse=True)
    ranks = np.zeros(len(split), int)  # the position of each image among those of its class
    for label in range(len(classes)):
        ranks[members == label] = np.arange(np.count_nonzero(members == label))
    # The first image of every class, then the second of every class, ...; the classes in a random order.
    drawn = shuffled[np.lexsort((generator.permutation(len(classes))[members], ranks))][:count]
    chosen = np.zeros(len(split), bool)
    chosen[drawn] = True
    return split.where(chosen)


def check_count(count: int, available: int) -> None:
    """Raises UsageError unless `count` training images can be drawn."""
    if count > available:
        raise UsageError(f"--train_images={count} is more than the {available} training images there are: choose at "
                         "most as many, or 0 for all")


def randomized(labels: np.ndarray, probability: float, classes: int, seed: int) -> np.ndarray:
    """Labels of which some are replaced by uniformly drawn ones.

    Zhang et al. 2017, "Understanding deep learning requires rethinking generalization", section 2.2: "independently
    with probability p, the label of each image is corrupted as a uniform random class". The new class can be the old
    one. With the same seed, what a smaller probability replaces, a larger one replaces by the same.

    Args:
      labels: int32 [images].
      probability: in [0, 1].
      classes: the number of classes.
      seed: seed of the draws.
    """
    generator = np.random.default_rng([seed, 2])
    replaced = generator.random(len(labels)) < probability
    return np.where(replaced, generator.integers(classes, size=len(labels)), labels).astype(np.int32)
