"""Saving and restoring all of a run's state, so that a resumed run goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import keras
import tensorflow as tf

from tfcnn.recipe import UsageError

# Older ones are there for when the newest turns out to be damaged.
_KEPT = 2


@dataclasses.dataclass
class Progress(tf.train.experimental.PythonState):
    """Where a run is.

    Attributes:
      step: steps done, over all epochs.
      sums: of the metrics of the steps done in the current epoch; empty when it has been recorded.
      epoch_seconds: time spent in those steps.
      train_seconds: time spent in all steps.
    """

    step: int = 0
    sums: list[float] = dataclasses.field(default_factory=list)
    epoch_seconds: float = 0.0
    train_seconds: float = 0.0

    def serialize(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def deserialize(self, string_value: bytes) -> None:
        for name, value in json.loads(string_value).items():
            setattr(self, name, value)


class Checkpoints:
    """The checkpoints in a run's folder: weights, optimizer with moving averages, dropout's seeds, and progress."""

    def __init__(self, folder: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer,
                 progress: Progress) -> None:
        """The optimizer must have been built."""
        saved = {id(variable) for variable in model.weights}
        seeds = [variable.value for variable in model.variables if id(variable) not in saved]
        state = tf.train.Checkpoint(model=model, optimizer=optimizer, seeds=seeds, progress=progress)
        self._state = state
        self._manager = tf.train.CheckpointManager(state, str(folder), max_to_keep=_KEPT)

    def save(self, step: int) -> None:
        """Saves the state after so many steps."""
        self._manager.save(checkpoint_number=step)

    @property
    def newest(self) -> str | None:
        """The path of the newest checkpoint, or None."""
        return self._manager.latest_checkpoint

    def restore(self) -> None:
        """Restores the newest whole checkpoint, if there is one.

        Raises:
          UsageError: there are checkpoints, but all are damaged.
        """
        for path in reversed(self._manager.checkpoints):
            try:
                self._state.restore(path).assert_existing_objects_matched()
                return
            except (tf.errors.OpError, IndexError, ValueError, AssertionError) as error:
                print(f"checkpoint {path} is damaged ({type(error).__name__}): trying the one before", file=sys.stderr)
        if self._manager.checkpoints:
            raise UsageError(f"no checkpoint beside {self._manager.latest_checkpoint} can be read; "
                             "start again in another --workdir, or with --overwrite")
