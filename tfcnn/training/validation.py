"""Decisions based on the validation loss: when to stop, the learning rate on plateaus, which weights to keep.

All are functions of the recorded metrics and hold no state, so a resumed run decides exactly as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfcnn.recipe import Recipe

# The rows of metrics.csv so far, one per epoch.
Metrics = Sequence[Mapping[str, Any]]


def best_epoch(metrics: Metrics) -> int:
    """The epoch with the lowest validation loss, counted from 1; the first one of several."""
    losses = [row["validation_loss"] for row in metrics]
    return 1 + losses.index(min(losses))


def stops_early(recipe: Recipe, metrics: Metrics) -> bool:
    """Whether early stopping ends training after the last recorded epoch."""
    return bool(recipe.early_stopping) and len(metrics) - best_epoch(metrics) >= recipe.early_stopping


def rate_factor(recipe: Recipe, metrics: Metrics) -> float:
    """The factor of the learning rate in the next epoch, after the plateaus so far.

    A plateau is `plateau_epochs` epochs without a new lowest loss. Each multiplies the factor by `plateau_factor`;
    counting then starts again from zero.
    """
    lowest, waited, reductions = math.inf, 0, 0
    for row in metrics:
        if row["validation_loss"] < lowest:
            lowest, waited = row["validation_loss"], 0
        else:
            waited += 1
        if waited == recipe.plateau_epochs:
            waited, reductions = 0, reductions + 1
    return recipe.plateau_factor ** reductions
