"""The training loop: epochs of compiled calls of many steps each, evaluation and a checkpoint after every epoch."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfcnn import runs, signals, streams
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import devices, machines, optimizers, process, schedules, tensorboard, validation
from tfcnn.training.cached_features import CachedFeatures
from tfcnn.training.checkpoint_interval import CheckpointInterval
from tfcnn.training.checkpoints import Checkpoints, Progress
from tfcnn.training.epoch_metrics import EpochMetrics
from tfcnn.training.progress_bar import ProgressBar
from tfcnn.training.setup import Setup
from tfcnn.training.sparsity import Sparsity
from tfcnn.training.steps import Steps

# Target duration of a compiled call: long enough for the overhead of Python not to matter, short enough for the
# progress bar to move and for a signal to be noticed.
_CALL_SECONDS = 1.0
_SPARSITY_IMAGES = 128
_EXAMPLE_IMAGES = 25

_Value = TypeVar("_Value")


class NotFiniteError(Exception):
    """The loss, the gradient or a weight is infinite or not a number."""


class Loop:
    """The epochs of a run, from its newest checkpoint to the end.

    Everything a run has recorded is in its checkpoints. The other files of its folder are written from them, after each
    checkpoint and when the run is resumed, so the process may be killed at any time.

    Attributes:
      progress: the state of the run.
    """

    def __init__(self, setup: Setup, folder: runs.RunFolder, interval: CheckpointInterval, histograms: bool,
                 callbacks: Sequence[keras.callbacks.Callback], own_process: bool, reference: Recipe | None) -> None:
        """Restores the newest checkpoint.

        Args:
          setup: devices, data, network and optimizer.
          folder: the run's folder, or this worker's copy of it.
          interval: when to save the state within an epoch.
          histograms: as in `train`.
          callbacks: as in `train`.
          own_process: as in `train`.
          reference: as in `train`.
        """
        self._setup = setup
        self._recipe = setup.recipe
        self._model = setup.model
        self._folder = folder
        self._interval = interval
        self._histograms = histograms
        self._own_process = own_process
        self._reference = reference
        self._received: Sequence[int] = []
        self._interruptible = signals.InterruptibleCall()
        self._steps = Steps(setup.recipe, setup.strategy, setup.head, setup.optimizer, setup.total_steps)
        self._sparsity = Sparsity(setup.model, setup.pipeline.inspected(_SPARSITY_IMAGES))
        self._steps_per_call = 1
        # Cached: TensorFlow does not free all memory of data sets and iterators that are created in every epoch.
        self._evaluation_batches = functools.cache(setup.evaluation_batches)
        self._best = [tf.Variable(weight.value) for weight in setup.model.weights] if setup.recipe.best_weights else []
        self.progress = Progress()
        self._checkpoints = Checkpoints(folder.path / runs.CHECKPOINTS, setup.model, setup.optimizer, self.progress,
                                        self._best, self._steps.averages.variables)
        self._checkpoints.restore()
        self._saved_step = self.progress.step
        devices.separate_seeds(setup.strategy, setup.model)
        self._set_rate_factor()
        self._write_tables()
        self._board = tensorboard.Board(folder.path, self.progress.step, self.progress.events)
        self._bar = ProgressBar(self.progress, setup.recipe.epochs, setup.pipeline.steps_per_epoch,
                                setup.recipe.batch_size, sys.stdout if machines.is_chief(setup.strategy) else None)
        self._model.optimizer = setup.optimizer  # for callbacks
        self._model.stop_training = False
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=setup.model, epochs=setup.recipe.epochs, steps=setup.pipeline.steps_per_epoch)

    def train(self, started: str) -> None:
        """Trains until the last epoch, or until the recipe or a callback stops the run; saves after each epoch.

        Args:
          started: the time at which the run started, unless it is resumed.

        Raises:
          Interrupted: a signal came; the state is saved.
          NotFiniteError: the loss, the gradient or a weight is not finite; the last saved state is from before.
          UsageError: a resumed run would go on in another arithmetic, with other data, or from other weights.
        """
        progress = self.progress
        progress.started = progress.started or started
        self._keep_premises()
        if isinstance(self._setup.pipeline, CachedFeatures):
            self._setup.pipeline.compute()  # with the weights of the checkpoint
        with process.low_priority_threads() if self._own_process else nullcontext():
            batches = self._setup.training_batches(progress.step)
        graph = self._trace(batches)
        if not progress.events:
            self._board.begin(self._recipe, self._reference, self._setup.pipeline.examples(_EXAMPLE_IMAGES),
                              self._setup.dataset.class_names, self._model, graph)
        self._callbacks.on_train_begin()
        with signals.deferred() as self._received:
            try:
                self._train_epochs(batches)
            except signals.CallInterrupted:
                self._save_rest()
            except streams.OutputLost:
                if not machines.is_multi_worker(self._setup.strategy):  # there all must save together
                    self._save_rest()
                raise
        self._stop_if_signalled()
        self._callbacks.on_train_end()

    def _keep_premises(self) -> None:
        """Keeps with the run's state what is not in its recipe and must stay, or checks that it has stayed.

        Raises:
          UsageError: a resumed run would go on in another arithmetic, with other data, or from other weights.
        """
        progress, folder, initial = self.progress, self._folder.path, self._setup.initial_weights
        arithmetic = devices.arithmetic(self._recipe)
        if progress.arithmetic not in ("", arithmetic):
            raise UsageError(f"{folder} has computed in {progress.arithmetic} so far, and would go on in {arithmetic} "
                             "on this processor: resume it on one like before, or start again with --overwrite")
        data = self._setup.dataset
        images = (f"{len(data.train)} training, {len(data.validation)} validation and {len(data.test)} test images of "
                  f"{len(data.class_names)} classes")
        if progress.data not in ("", images):
            raise UsageError(f"{folder} has had {progress.data} so far, and there are {images} now: restore the data, "
                             "or start again with --overwrite")
        weights = initial.sha256 if initial else ""
        if progress.initial_weights not in ("", weights):
            raise UsageError(f"{folder} started from other weights than {self._recipe.initial_weights} holds now: put "
                             "them back, or start again with --overwrite")
        progress.arithmetic, progress.data, progress.initial_weights = arithmetic, images, weights

    def take_final_weights(self) -> None:
        """Gives the network the weights to test and keep: the averages if there are any, or the best ones."""
        self._steps.averages.assign()
        for variable, best in zip(self._model.weights, self._best):
            variable.assign(best)

    def test(self) -> dict[str, float]:
        """Evaluates the test set, and writes the figures for TensorBoard.

        Returns:
          `accuracy`, in [0, 1], and `loss`.

        Raises:
          Interrupted: a signal came; training is complete and saved.
        """
        figures: dict[str, float] = {}
        with signals.deferred() as self._received, suppress(signals.CallInterrupted):
            figures = self._evaluate("test")
        self._stop_if_signalled()
        self._board.scalars(len(self.progress.metrics) - 1, {f"test/{name}": value for name, value in figures.items()},
                            runs.VALIDATION_EVENTS)
        self._board.flush()
        return figures

    def _trace(self, batches: Iterator) -> tf.Graph | None:
        """Traces the compiled training steps before the first call, while a signal still acts at once."""
        if self._recipe.execution == "eager":
            return None
        return self._steps.run.get_concrete_function(batches, tf.constant(1)).graph

    def _train_epochs(self, batches: Iterator) -> None:
        """Trains to the end; after a signal, saves and raises Interrupted."""
        progress, steps_per_epoch = self.progress, self._setup.pipeline.steps_per_epoch
        while not progress.finished:
            epoch = len(progress.metrics)
            end = (epoch + 1) * steps_per_epoch
            self._callbacks.on_epoch_begin(epoch)
            while progress.step < end:
                self._train_call(batches, epoch)
                number, due = machines.agree(
                    self._setup.strategy, self._received, self._interval.is_due(progress.step))
                if number or (progress.step < end and due):
                    self._save()
                if number:
                    raise signals.Interrupted(number, progress.step)
            self._end_epoch(epoch)
            self._stop_if_signalled()

    def _train_call(self, batches: Iterator, epoch: int) -> None:
        """Runs some of an epoch's steps in one compiled call."""
        progress, first = self.progress, epoch * self._setup.pipeline.steps_per_epoch
        count = self._steps_in_next_call(epoch)
        self._callbacks.on_train_batch_begin(progress.step - first)

        def run() -> np.ndarray:
            return self._steps.run(batches, tf.constant(count)).numpy()

        begin = time.perf_counter()
        with _naming_damage(lambda: self._setup.pipeline.check_training(progress.step, count)):
            # While no step is unsaved, nothing is lost if the call is abandoned.
            values = run() if progress.step > self._saved_step else self._run_interruptibly(run)
        values = values.astype(np.float64)
        # Equal on all workers, because the number of steps in the next call is derived from it.
        seconds, = machines.mean(self._setup.strategy, [time.perf_counter() - begin])
        for name, column in (("loss", 0), ("gradient", 2)):
            finite = np.isfinite(values[:, column])
            if not finite.all():
                step = progress.step + int(np.argmin(finite))
                raise NotFiniteError(f"the {name} is not finite at step {step} (epoch {epoch + 1})"
                                     f"{self._saved_state()}")
        # Added step by step, so that the sums do not depend on how the steps were grouped into calls.
        for row in values:
            progress.sums = list(row + (progress.sums or np.zeros_like(row)))
        progress.step += count
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds
        done = progress.step - first
        self._steps_per_call = max(1, round(_CALL_SECONDS * done / progress.epoch_seconds))
        self._bar.update()
        self._callbacks.on_train_batch_end(done - 1, {"loss": progress.sums[0] / done,
                                                      "accuracy": progress.sums[1] / done})

    def _steps_in_next_call(self, epoch: int) -> int:
        """At most to the end of the epoch, and to the next checkpoint if its interval is in steps."""
        step = self.progress.step
        count = min(self._steps_per_call, (epoch + 1) * self._setup.pipeline.steps_per_epoch - step)
        return min(count, self._interval.steps - step % self._interval.steps) if self._interval.steps else count

    def _evaluate(self, part: str) -> dict[str, float]:
        """Returns loss and accuracy over every image of a part, "validation" or "test"."""
        batches, count = self._evaluation_batches(part)
        with _naming_damage(lambda: self._setup.pipeline.check_evaluation(part)):
            totals = self._run_interruptibly(lambda: self._steps.evaluate(batches, tf.constant(count)).numpy())
        loss, correct, images = totals.astype(np.float64)
        if not np.isfinite(loss):
            raise NotFiniteError(f"the {part} loss is not finite after step {self.progress.step}{self._saved_state()}")
        return {"accuracy": float(correct / images), "loss": float(loss / images)}

    def _run_interruptibly(self, call: Callable[[], _Value]) -> _Value:
        """Returns the value of a call that may take long and whose value is not needed after a signal.

        Raises:
          CallInterrupted: a signal came, and this is the only worker; other workers would wait for the call to end.
        """
        if machines.is_multi_worker(self._setup.strategy):
            return call()
        return self._interruptible.run(call, self._received)

    def _stop_if_signalled(self) -> None:
        """Stops the run, whose state is saved, if any worker has received a signal."""
        number, _ = machines.agree(self._setup.strategy, self._received)
        if number:
            raise signals.Interrupted(number, self.progress.step)

    def _saved_state(self) -> str:
        saved = self._checkpoints.newest
        return f"; the last saved state is {saved}" if saved else "; no epoch was complete: lower --learning_rate"

    def _end_epoch(self, epoch: int) -> None:
        """Evaluates, records and saves a complete epoch, and decides whether it was the last one."""
        progress, recipe = self.progress, self._recipe
        metrics = self._measure_epoch()
        metrics.write(self._board, epoch)
        if self._histograms:
            self._board.histograms(epoch, self._model.weights)
        progress.metrics.append({"epoch": epoch + 1, "step": progress.step} | metrics.row())
        progress.timings.append({"epoch": epoch + 1, "seconds": progress.epoch_seconds,
                                 "images_per_second": metrics.images_per_second})
        progress.sums, progress.epoch_seconds = [], 0.0
        self._callbacks.on_epoch_end(epoch, metrics.logs())
        stopped = bool(self._model.stop_training)  # of a callback it may be NumPy's
        progress.finished = epoch + 1 == recipe.epochs or validation.stops_early(recipe, progress.metrics) or stopped
        self._set_rate_factor()
        self._save()
        self._write_tables()
        self._bar.end_epoch(epoch, metrics.logs())  # last, since it fails if nobody reads standard output

    def _measure_epoch(self) -> EpochMetrics:
        """Evaluates the network after an epoch, and keeps its weights if they are the best so far."""
        progress, steps_per_epoch = self.progress, self._setup.pipeline.steps_per_epoch
        loss, accuracy, gradient_norm, *gradient_norms = (np.array(progress.sums) / steps_per_epoch).tolist()
        validated: dict[str, float] = {}
        with self._steps.averages.assigned():
            if self._recipe.validation:
                validated = self._evaluate("validation")
            sparsity = self._run_interruptibly(self._sparsity.shares)
            if self._best and all(validated["loss"] < row["validation_loss"] for row in progress.metrics):
                for best, variable in zip(self._best, self._model.weights):
                    best.assign(variable.value)
        variables = self._model.trainable_variables
        weight_norms = [float(tf.norm(variable.value)) for variable in variables]
        return EpochMetrics(
            training={"loss": loss, "accuracy": accuracy},
            validation=validated,
            learning_rate=float(self._setup.schedule(max(0, self._updates() - 1))),
            images_per_second=steps_per_epoch * self._recipe.batch_size / progress.epoch_seconds,
            gradient_norm=gradient_norm,
            weight_norm=math.hypot(*weight_norms),
            gradient_norms={variable.path: norm for variable, norm in zip(variables, gradient_norms)},
            weight_norms={variable.path: norm for variable, norm in zip(variables, weight_norms)},
            sparsity=sparsity)

    def _updates(self) -> int:
        """The number of updates of the weights: the steps, without those that float16's loss scaling has skipped."""
        return int(optimizers.inner(self._setup.optimizer).iterations.numpy())

    def _set_rate_factor(self) -> None:
        if isinstance(self._setup.schedule, schedules.Plateau):
            self._setup.schedule.factor.assign(validation.rate_factor(self._recipe, self.progress.metrics))

    def _save(self) -> None:
        """Saves the state: first TensorBoard's events, then the checkpoint that holds their lengths.

        Raises:
          NotFiniteError: a weight is not finite, so that nothing could go on from this state.
        """
        for weights in self._model.weights:
            if not tf.reduce_all(tf.math.is_finite(weights.value)):
                raise NotFiniteError(f"{weights.path} is not finite after step {self.progress.step}"
                                     f"{self._saved_state()}")
        self.progress.events = self._board.flush()
        self._checkpoints.save()
        self._saved_step = self.progress.step
        self._interval.restart()

    def _save_rest(self) -> None:
        if self.progress.step > self._saved_step:
            self._save()

    def _write_tables(self) -> None:
        if self.progress.metrics:
            self._folder.write_metrics(self.progress.metrics)
            self._folder.write_timings(self.progress.timings)


@contextmanager
def _naming_damage(check: Callable[[], None]) -> Iterator[None]:
    """If TensorFlow stops within the context, calls `check`, which raises an error that names a damaged image."""
    try:
        yield
    except tf.errors.OpError:
        check()
        raise
