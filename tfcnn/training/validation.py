"""What follows from the validation loss of the epochs so far: when to stop, how fast to go on, which weights to keep.

These are functions of what has been recorded, and keep nothing themselves: a resumed run decides as it would have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tfcnn.recipe import Recipe

# The rows of metrics.csv so far.
Metrics = Sequence[Mapping[str, Any]]


def best_epoch(metrics: Metrics) -> int:
    """The epoch, counted from 1, with the lowest validation loss; the first of equals."""
    losses = [row["validation_loss"] for row in metrics]
    return 1 + losses.index(min(losses))


def stops_early(recipe: Recipe, metrics: Metrics) -> bool:
    """Whether the recipe's early stopping ends training here."""
    return bool(recipe.early_stopping) and len(metrics) - best_epoch(metrics) >= recipe.early_stopping


def rate_factor(recipe: Recipe, metrics: Metrics) -> float:
    """What the recipe's plateaus multiply the learning rate by in the next epoch.

    After each reduction the epochs without a lower loss are counted anew.
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
