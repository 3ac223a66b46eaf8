"""The progress of training: a bar on a terminal, otherwise one line per epoch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TextIO

from tfcnn.training.checkpoints import Progress

_WIDTH = 10


class ProgressBar:
    """Shows loss, accuracy, speed and the remaining time."""

    def __init__(self, progress: Progress, epochs: int, steps_per_epoch: int, batch_size: int,
                 stream: TextIO | None) -> None:
        """Args:
          progress: the state of the run, read at every update.
          epochs: epochs of the whole run.
          steps_per_epoch: steps per epoch.
          batch_size: images per step.
          stream: where to write; None is silent.
        """
        self._progress = progress
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._stream = stream
        self._is_terminal = stream is not None and stream.isatty()
        # Step and time after the first call. That call includes compilation, so the speed is measured from its end.
        self._start: tuple[int, float] | None = None

    def update(self) -> None:
        """Moves the bar to the current step; does nothing without a terminal."""
        now = time.monotonic()
        self._start = self._start or (self._progress.step, now)
        if not self._is_terminal:
            return
        epoch, done = divmod(self._progress.step - 1, self._steps_per_epoch)
        done += 1
        filled = _WIDTH * done // self._steps_per_epoch
        sums = self._progress.sums
        # The end of the line is cut off on a narrow terminal.
        self._write(f"Epoch {epoch + 1}/{self._epochs} [{'=' * filled}{'.' * (_WIDTH - filled)}] "
                    f"{self._speed(done * self._batch_size / self._progress.epoch_seconds, now)}; "
                    f"loss {sums[0] / done:.4f}, accuracy {sums[1] / done:.4f}")

    def end_epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Writes the line of a complete epoch.

        Args:
          epoch: counted from 0.
          logs: `loss`, `accuracy`, `images_per_second`, and `val_loss` and `val_accuracy` if there was a validation.
        """
        validation = ""
        if "val_loss" in logs:
            validation = f" validation loss {logs['val_loss']:.4f}, accuracy {logs['val_accuracy']:.4f};"
        self._write(f"Epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f};"
                    f"{validation} {self._speed(logs['images_per_second'], time.monotonic())}", end="\n")

    def _speed(self, images_per_second: float, now: float) -> str:
        """The speed, and the remaining time once it can be estimated."""
        speed = f"{images_per_second:,.0f} images/s"
        left = self._epochs * self._steps_per_epoch - self._progress.step
        if not left or not self._start or self._progress.step == self._start[0]:
            return speed
        step, begin = self._start
        seconds = round(left * (now - begin) / (self._progress.step - step))
        try:
            end = datetime.now() + timedelta(seconds=seconds)
        except OverflowError:  # after the year 9999
            return speed
        day = "" if end.date() == datetime.now().date() else f"{end:%Y-%m-%d} "
        return f"{speed}, {timedelta(seconds=seconds)} left, until {day}{end:%H:%M}"

    def _write(self, text: str, end: str = "") -> None:
        if self._stream is None:
            return
        if self._is_terminal:  # overwrite the current line; it must not wrap
            width = shutil.get_terminal_size().columns
            text = f"\r{text if end else text[:width - 1]:<{width - 1}}"
        print(text, end=end, file=self._stream, flush=True)
