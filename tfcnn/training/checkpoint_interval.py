"""How often the state is saved within an epoch: every so many steps or minutes."""

from __future__ import annotations

import math
import re
import time

from tfcnn.recipe import UsageError


class CheckpointInterval:
    """Tells when a checkpoint within an epoch is due.

    Attributes:
      steps: the interval in steps; 0 if it is in minutes, or if there is none.
    """

    def __init__(self, text: str) -> None:
        """Reads an interval.

        Args:
          text: "200" for steps, "5m" for minutes; "" for no checkpoint within an epoch.

        Raises:
          UsageError: the text is something else.
        """
        match = re.fullmatch(r"(\d+)|(\d+|\d*\.\d+)m", text)
        self.steps = int(match[1]) if match and match[1] else 0
        self._seconds = 60 * float(match[2]) if match and match[2] else math.inf
        if text and not self.steps and not 0 < self._seconds < math.inf:
            raise UsageError(f"--checkpoint_every={text} must be a number of steps, such as 200, or of minutes, such "
                             "as 5m")
        self.restart()

    def restart(self) -> None:
        """Restarts the clock; call it after each checkpoint."""
        self._begin = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether a checkpoint is due after a step, counted from 1 over all epochs."""
        return step % self.steps == 0 if self.steps else time.monotonic() - self._begin >= self._seconds
