"""What is measured of an epoch, and how metrics.csv, Keras callbacks and TensorBoard name it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfcnn import runs
from tfcnn.training.tensorboard import Board


@dataclasses.dataclass(frozen=True)
class EpochMetrics:
    """The measurements of one epoch.

    Attributes:
      training: `loss` and `accuracy`, means over the steps of the epoch.
      validation: `accuracy` and `loss` on the validation images; empty without them.
      learning_rate: of the epoch's last step.
      images_per_second: of training.
      gradient_norm: mean over the steps of the gradient's norm.
      weight_norm: the norm of all trainable weights after the epoch.
      gradient_norms: the same per variable, by path.
      weight_norms: the same per variable, by path.
      sparsity: fraction of zero activations by layer.
    """

    training: Mapping[str, float]
    validation: Mapping[str, float]
    learning_rate: float
    images_per_second: float
    gradient_norm: float
    weight_norm: float
    gradient_norms: Mapping[str, float]
    weight_norms: Mapping[str, float]
    sparsity: Mapping[str, float]

    def row(self) -> dict[str, float]:
        """The columns of metrics.csv."""
        return {**self.training, **_prefixed("validation_", self.validation), "learning_rate": self.learning_rate,
                "gradient_norm": self.gradient_norm, "weight_norm": self.weight_norm}

    def logs(self) -> dict[str, float]:
        """The logs of a Keras callback."""
        return {**self.training, **_prefixed("val_", self.validation), "learning_rate": self.learning_rate,
                "images_per_second": self.images_per_second}

    def write(self, board: Board, epoch: int) -> None:
        """Writes the measurements of an epoch, counted from 0, for TensorBoard."""
        board.scalars(epoch, _prefixed("epoch/", self.training))
        board.scalars(epoch, _prefixed("epoch/", self.validation), runs.VALIDATION_EVENTS)
        board.scalars(epoch, _prefixed("global/", {
            "learning_rate": self.learning_rate, "images_per_second": self.images_per_second,
            "gradient_norm": self.gradient_norm, "weight_norm": self.weight_norm}))
        board.scalars(epoch, _prefixed("gradient_norm/", self.gradient_norms))
        board.scalars(epoch, _prefixed("weight_norm/", self.weight_norms))
        board.scalars(epoch, _prefixed("sparsity/", self.sparsity))


def _prefixed(prefix: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}{name}": value for name, value in values.items()}
