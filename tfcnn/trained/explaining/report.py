"""The record of an explanation: the contents of explanation.json."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfcnn.trained.explaining.explanation import Explanation, Pair
from tfcnn.trained.network import TrainedNetwork

TEST = ("all weights drawn anew by their initializers (Adebayo et al. 2018); mean of Spearman's rank correlation "
        "between the explanation of the trained network and that of the new one: 1 if it ignores what was learnt")


def record(network: TrainedNetwork, explanation: Explanation) -> dict[str, Any]:
    """What was explained, how, and what the randomization test found.

    Returns:
      `source`, `network`; `pictures`, for each its `name`, true `class` or null, `predicted` class and `explained`
      class with their probabilities; `randomization`, with `seed` and `test`; `explanations`, for each its `name`,
      `title`, `source`, `settings`, `rank_correlation` (null if undefined) and, but for feature maps,
      `rank_correlations`, one a picture, filter or unit; `left_out`, what was not made and why.
    """
    pictures, names = explanation.pictures, network.class_names
    return {
        "source": network.name,
        "network": network.model.name,
        "pictures": [
            {"name": name, "class": None if label is None else names[label],
             "predicted": names[int(values.argmax())], "predicted_probability": float(values.max()),
             "explained": names[int(number)], "explained_probability": float(values[number])}
            for name, label, values, number in zip(pictures.names, pictures.labels, pictures.probabilities,
                                                   pictures.classes)],
        "randomization": {"seed": explanation.seed, "test": TEST},
        "explanations": [
            {"name": pair.name, "title": pair.title, "source": pair.source, "settings": pair.settings,
             "rank_correlation": pair.similarity, **_single(pair)}
            for pair in pairs(explanation)],
        "left_out": explanation.left_out,
    }


def _single(pair: Pair) -> dict[str, Any]:
    """The correlations one by one; those of feature maps, one for each channel and picture, are too many."""
    if pair.name == "feature_maps":
        return {}
    return {"rank_correlations": [float(value) if np.isfinite(value) else None for value in pair.correlations]}


def pairs(explanation: Explanation) -> Iterator[Pair]:
    """All explanations, one after the other."""
    if explanation.filters:
        yield explanation.filters
    yield from explanation.feature_maps
    yield from explanation.attributions
    if explanation.units:
        yield explanation.units
    yield explanation.maximized
