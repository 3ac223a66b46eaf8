"""What a run tells while it trains: a progress bar on a terminal, elsewhere a line an epoch."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TextIO

from tfcnn.training.checkpoints import Progress

_BAR = 10


class Report:
    """Loss, accuracy, speed and the time that is left, of the run's steps in this process."""

    def __init__(self, progress: Progress, epochs: int, steps_per_epoch: int, batch_size: int,
                 stream: TextIO | None) -> None:
        """Tells the stream, or nobody."""
        self._progress = progress
        self._epochs = epochs
        self._size = steps_per_epoch
        self._batch_size = batch_size
        self._stream = stream
        self._terminal = stream is not None and stream.isatty()
        # The first call is compiled, which says nothing of those to come: the clock starts when it is done.
        self._first: tuple[int, float] | None = None

    def steps(self) -> None:
        """Tells of steps that were done: on a terminal the bar moves."""
        now = time.monotonic()
        self._first = self._first or (self._progress.step, now)
        if not self._terminal:
            return
        epoch, done = divmod(self._progress.step - 1, self._size)
        done += 1
        filled = _BAR * done // self._size
        sums = self._progress.sums
        # What a narrow terminal has no room for comes last.
        self._line(f"Epoch {epoch + 1}/{self._epochs} [{'=' * filled}{'.' * (_BAR - filled)}] "
                   f"{self._speed(done * self._batch_size / self._progress.epoch_seconds, now)}; "
                   f"loss {sums[0] / done:.4f}, accuracy {sums[1] / done:.4f}")

    def epoch(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Tells of an epoch, counted from 0, that is complete."""
        validation = ""
        if "val_loss" in logs:
            validation = f" validation loss {logs['val_loss']:.4f}, accuracy {logs['val_accuracy']:.4f};"
        self._line(f"Epoch {epoch + 1}/{self._epochs}: loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.4f};"
                   f"{validation} {self._speed(logs['images_per_second'], time.monotonic())}", end="\n")

    def _speed(self, images_per_second: float, now: float) -> str:
        speed = f"{images_per_second:,.0f} images/s"
        left = self._epochs * self._size - self._progress.step
        if not left or not self._first or self._progress.step == self._first[0]:
            return speed
        step, begin = self._first
        seconds = round(left * (now - begin) / (self._progress.step - step))
        end = datetime.now() + timedelta(seconds=seconds)
        day = "" if end.date() == datetime.now().date() else f"{end:%Y-%m-%d} "
        return f"{speed}, {timedelta(seconds=seconds)} left, until {day}{end:%H:%M}"

    def _line(self, text: str, end: str = "") -> None:
        if self._stream is None:
            return
        if self._terminal:  # over the line that is there, which must not be wrapped
            width = shutil.get_terminal_size().columns
            text = f"\r{text if end else text[:width - 1]:<{width - 1}}"
        print(text, end=end, file=self._stream, flush=True)
