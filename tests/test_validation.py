"""Decisions based on the validation loss, against Keras's callbacks; checkpoint intervals; the progress bar."""

from __future__ import annotations

import io
from typing import Any

import keras
import numpy as np
import pytest

from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import validation
from tfcnn.training.checkpoint_interval import CheckpointInterval
from tfcnn.training.checkpoints import Progress
from tfcnn.training.progress_bar import ProgressBar

RANDOM = np.random.default_rng(0)
# Sequences of losses that rise and fall; some losses are equal.
LOSSES = [RANDOM.integers(1, 12, 25).tolist() for _ in range(20)]


def _recipe(**changes: Any) -> Recipe:
    return Recipe(experiment="toy", network="toy", **changes)


def _rows(losses: list[float]) -> list[dict[str, float]]:
    return [{"validation_loss": loss} for loss in losses]


class _Model:
    """The attributes of a model that Keras's callbacks use."""

    def __init__(self) -> None:
        self.stop_training = False
        self.optimizer = keras.optimizers.SGD(1.0)


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_early_stopping_is_that_of_keras(patience: int) -> None:
    recipe = _recipe(early_stopping=patience)
    stopped = 0
    for losses in LOSSES:
        callback, model = keras.callbacks.EarlyStopping(patience=patience), _Model()
        callback.set_model(model)
        callback.on_train_begin()
        for epoch, loss in enumerate(losses):
            callback.on_epoch_end(epoch, {"val_loss": loss})
            assert validation.stops_early(recipe, _rows(losses[:epoch + 1])) == model.stop_training
            if model.stop_training:
                assert validation.best_epoch(_rows(losses[:epoch + 1])) == callback.best_epoch + 1
                stopped += 1
                break
    assert stopped > 10
    assert not validation.stops_early(_recipe(), _rows(LOSSES[0]))


@pytest.mark.parametrize("patience", [1, 2, 4])
def test_rate_factor_on_plateaus_is_that_of_keras(patience: int) -> None:
    recipe = _recipe(plateau_epochs=patience, plateau_factor=0.5)
    for losses in LOSSES:
        callback, model = keras.callbacks.ReduceLROnPlateau(patience=patience, factor=0.5, min_delta=0), _Model()
        callback.set_model(model)
        callback.on_train_begin()
        for epoch, loss in enumerate(losses):
            callback.on_epoch_end(epoch, {"val_loss": loss})
            assert validation.rate_factor(recipe, _rows(losses[:epoch + 1])) == float(model.optimizer.learning_rate)
        assert float(model.optimizer.learning_rate) < 1


@pytest.mark.parametrize("changes", [{"early_stopping": 3}, {"plateau_epochs": 2}, {"best_weights": True}], ids=str)
def test_fields_that_use_validation_need_validation_images(changes: dict) -> None:
    with pytest.raises(UsageError, match=f"--{list(changes)[0]} needs validation images"):
        _recipe(validation=0.0, **changes)
    _recipe(**changes)


@pytest.mark.parametrize("text", ["many", "0", "-3", "5s", "m", "0m", "1.5", "5 m", "3m7"])
def test_invalid_checkpoint_interval_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--checkpoint_every="):
        CheckpointInterval(text)


def test_checkpoint_intervals_in_steps_and_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    never, steps, minutes = CheckpointInterval(""), CheckpointInterval("20"), CheckpointInterval("0.5m")
    clock[0] += 29
    assert [step for step in range(1, 61) if steps.is_due(step)] == [20, 40, 60]
    assert not any(interval.is_due(7) for interval in (never, steps, minutes))
    clock[0] += 1
    assert minutes.is_due(7)
    minutes.restart()
    assert not minutes.is_due(8)
    clock[0] += 1e9
    assert minutes.is_due(8) and not never.is_due(8)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _output(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, epochs: int = 3) -> str:
    """The output during the first two epochs; each has four steps of two seconds."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setenv("COLUMNS", "160")
    progress = Progress()
    bar = ProgressBar(progress, epochs, 4, 50, stream)
    for epoch in range(2):
        progress.sums, progress.epoch_seconds = [], 0.0
        for done in range(1, 5):
            clock[0] += 2
            progress.step, progress.epoch_seconds = epoch * 4 + done, 2.0 * done
            progress.sums = [1.5 * done, 0.5 * done]
            bar.update()
        bar.end_epoch(epoch, {"loss": 1.5, "accuracy": 0.5, "val_loss": 1.25, "val_accuracy": 0.75,
                              "images_per_second": 25.0})
    return stream.getvalue()


def test_without_a_terminal_progress_is_one_line_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _output(io.StringIO(), monkeypatch).splitlines()
    figures = "loss 1.5000, accuracy 0.5000; validation loss 1.2500, accuracy 0.7500; 25 images/s, "
    # At two seconds per step: eight steps are left, then four.
    assert first.startswith(f"Epoch 1/3: {figures}0:00:16 left, until ")
    assert second.startswith(f"Epoch 2/3: {figures}0:00:08 left, until ")


def test_an_end_that_no_calendar_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _output(io.StringIO(), monkeypatch, 10 ** 11).splitlines()[0].endswith("; 25 images/s")


def test_on_a_terminal_progress_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    output = _output(_Terminal(), monkeypatch)
    assert output.count("\n") == 2
    bars = [line.rstrip() for line in output.replace("\n", "").split("\r")[1:]]
    assert len(bars) == 2 * (4 + 1)
    assert bars[1].startswith("Epoch 1/3 [=====.....] 25 images/s, 0:00:20 left, until ")
    assert bars[1].endswith("; loss 1.5000, accuracy 0.5000")
    assert bars[8].startswith("Epoch 2/3 [==========] 25 images/s, ") and bars[9].startswith("Epoch 2/3: loss 1.5")
    assert all(len(line) < 160 for line in output.replace("\n", "").split("\r"))
