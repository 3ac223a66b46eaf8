"""Trained networks, to be used: `trained.load(SOURCE)` gives one object that has all that its use needs.

    from tfcnn import trained
    net = trained.load("runs/my-run")
    probabilities = net.predict(images)        # uint8 [batch, height, width, channels], of any size
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tfcnn.trained.network import TrainedNetwork


def load(source: str | Path) -> TrainedNetwork:
    """Loads a trained network.

    Args:
      source: the folder of a complete run, or of a recorded or converted network with weights, or the name of a network
        whose weights ship with the package, such as `lenet5-mnist`.

    Raises:
      UsageError: there is no such network, or its folder lacks a file or has a damaged one.
    """
    from tfcnn.trained import network  # imports TensorFlow, which listing the networks that ship does without

    return network.load(source)
