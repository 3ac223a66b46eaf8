"""The one training loop of the suite.

`train` reads from top to bottom: the network and its optimizer under a distribution strategy, the data, the run's
folder, then epochs of compiled calls that run many steps each, an evaluation after every epoch, and the test set once,
at the end.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfcnn import files, networks, runs
from tfcnn.data import datasets, normalization, sources
from tfcnn.data.pipeline import Pipeline
from tfcnn.data.streaming import Streaming
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import curves
from tfcnn.runs.record import environment
from tfcnn.training import devices as devices_module
from tfcnn.training import machines, optimizers, tensorboard, validation
from tfcnn.training.checkpoints import Checkpoints, Progress
from tfcnn.training.interruption import Abandonable, Abandoned, Interrupted, signals
from tfcnn.training.report import Report
from tfcnn.training.steps import Steps, averaged_weights

# A compiled call is made about this long, in seconds: long enough for Python not to matter, short enough for the
# progress bar to move and for an interruption to be heeded.
_CALL_SECONDS = 1.0
_INSPECTED_IMAGES = 128
_SHOWN_IMAGES = 25

_Value = TypeVar("_Value")


class NotFiniteError(Exception):
    """The loss became infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run gives.

    Attributes:
      workdir: the run's folder.
      record: the contents of its result.json.
      model: the trained network, with the moving averages as its weights if the recipe keeps them, of the last epoch or
        of the best one, as the recipe says.
      trained: False if the folder already held the complete run.
    """

    workdir: Path
    record: dict[str, Any]
    model: keras.Model
    trained: bool

    @property
    def test_accuracy(self) -> float:
        """Share of the test images classified right, in [0, 1]."""
        return self.record["test"]["accuracy"]


@machines.lost_workers_reported()
def train(recipe: Recipe, workdir: str | Path, *, data_dir: str | None = None, devices: int = 0, cluster: str = "",
          overwrite: bool = False, histograms: bool = False, checkpoint_every: str = "",
          command_flags: Sequence[str] = (), callbacks: Sequence[keras.callbacks.Callback] = (),
          on_start: Callable[[], None] | None = None) -> Result:
    """Trains the recipe's network, or goes on with a run that was interrupted, and leaves a run's folder.

    Args:
      recipe: all that determines the result.
      workdir: the run's folder, made if need be. If it holds an unfinished run of the same recipe, that run goes on; if
        it holds a finished one, its result is returned and nothing is done.
      data_dir: where the data set is, see `tfcnn.data.datasets`.
      devices: how many GPUs, or logical CPU devices, share each global batch; 0 for all GPUs, or one CPU device.
      cluster: where the other machines of the run are described, see `tfcnn.training.machines.cluster`. Each of them
        makes the same call, with the same folder, which the first one writes.
      overwrite: whether to remove the run that is in `workdir` and to start anew.
      histograms: whether TensorBoard gets a histogram of every weight after each epoch.
      checkpoint_every: save the state within epochs too, every so many steps ("200") or minutes ("5m"); by default
        only at the end of each epoch.
      command_flags: the flags that repeat this run, kept in its folder.
      callbacks: further Keras callbacks; `model.stop_training` is heeded after each epoch. They are told of an epoch
        before it is saved, so after a kill in between they are told of it again.
      on_start: called once when all is found to be well and the run's folder is there, before the first step.

    Raises:
      UsageError: a value, the data or the folder is not as it must be, and nothing has been written; or the disk is
        full, and what was saved before is as it was.
      NotFiniteError: the loss is not finite; the last saved state is in the folder.
      MachineLost: another machine of the run has stopped.
      Interrupted: SIGINT or SIGTERM came; what was done is saved. An evaluation, or a first step, that was not waited
        for goes on in a thread until it is done.
    """
    started = _now()
    interval = _Interval(checkpoint_every)
    setup = prepare(recipe, data_dir, devices, cluster)

    def opened(folder: runs.RunFolder) -> AbstractContextManager[runs.State]:
        return folder.opened(recipe, list(command_flags), overwrite)

    with machines.run_folder(setup.strategy, workdir, opened) as (folder, state):
        if state is runs.State.COMPLETE:
            model = keras.saving.load_model(folder.path / runs.MODEL)
            return Result(Path(workdir), folder.read_result(), model, trained=False)
        if on_start:
            on_start()
        _keep_normalization(setup, folder.path / runs.NORMALIZATION)
        loop = _Loop(setup, folder, interval, histograms, callbacks)
        loop.train(started)
        loop.take_final_weights()
        test = loop.test()
        _save_model(setup.model, folder.path / runs.MODEL)
        record = _record(setup, loop.progress, test) | {"finished": _now()}
        curves.draw(folder, record)
        folder.write_result(record)
    return Result(Path(workdir), record, setup.model, trained=True)


def _save_model(model: keras.Model, path: Path) -> None:
    """Saves the network whole or not at all: without optimizer, for what training needs is in checkpoints/."""
    model.optimizer = None
    temporary = path.with_name(f"unfinished-{path.name}")  # Keras insists on the ending
    try:
        model.save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())  # before result.json says that the run is complete
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"cannot write {path}: {error.strerror}; make room and start again") from error


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that a recipe makes before the first step.

    Attributes:
      recipe: the recipe.
      strategy: the devices, and how they work together.
      dataset: the data set as it was found.
      pipeline: its batches.
      model: the network, with its first weights.
      schedule: the optimizer's learning rate.
      optimizer: built for the network's weights.
    """

    recipe: Recipe
    strategy: tf.distribute.Strategy
    dataset: datasets.Dataset | sources.Source
    pipeline: Pipeline | Streaming
    model: keras.Model
    schedule: keras.optimizers.schedules.LearningRateSchedule
    optimizer: keras.optimizers.Optimizer

    def training_batches(self, first_step: int) -> Iterable[Any]:
        """The training batches from a step on, each machine making those of its own replicas."""
        def on_machine(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            batches = self.pipeline.training(first_step, context.num_replicas_in_sync,
                                             context.input_pipeline_id * local, local)
            # Otherwise several machines would agree before each step on whether there is another batch.
            return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return devices_module.distribute_from(self.strategy, on_machine)

    def evaluation_batches(self, part: str) -> tuple[Iterator, int]:
        """The batches of every image of a part, "validation" or "test", over and over, and how many they are."""
        batches = self.pipeline.evaluation(part)
        return iter(devices_module.distribute(self.strategy, batches.repeat())), len(batches)


def prepare(recipe: Recipe, data_dir: str | None = None, devices: int = 0, cluster: str = "") -> Setup:
    """Sets up devices, data, network and optimizer; writes nothing.

    Args:
      recipe: what to set up.
      data_dir: where the data set is.
      devices: how many devices share a batch, as in `train`.
      cluster: where the other machines are described, as in `train`.

    Raises:
      UsageError: a value or the data is not as it must be.
    """
    devices_module.set_up(recipe)
    strategy = devices_module.strategy(recipe, devices, cluster)
    machines.check_equal(strategy, "the recipe", recipe.to_json())
    height, width, channels = networks.input_shape(recipe.network, recipe.network_options())
    input_shape = (recipe.image_size or height, recipe.image_size or width, channels)
    dataset, pipeline = _data(recipe, data_dir, input_shape)
    machines.check_equal(strategy, f"the data set {dataset.name}", [
        len(part) for part in (dataset.train, dataset.validation, dataset.test)])
    with strategy.scope(), devices_module.precision(recipe):
        model = networks.find(recipe.network).build(
            classes=len(dataset.class_names), image_size=input_shape[0], **recipe.network_options())
        schedule = optimizers.schedule(recipe, pipeline.steps_per_epoch)
        optimizer = optimizers.optimizer(recipe, schedule, model.trainable_variables)
    devices_module.set_synchronization(recipe, strategy, model)
    return Setup(recipe, strategy, dataset, pipeline, model, schedule, optimizer)


def _data(recipe: Recipe, data_dir: str | None, input_shape: tuple[int, int, int]
          ) -> tuple[datasets.Dataset | sources.Source, Pipeline | Streaming]:
    """The data set and its batches, from memory or streamed."""
    if recipe.stream:
        source = sources.load(recipe.dataset, data_dir, validation=recipe.validation, seed=recipe.seed)
        return source, Streaming(source, recipe, input_shape)
    dataset = datasets.load(recipe.dataset, data_dir, validation=recipe.validation, seed=recipe.seed,
                            image_size=input_shape[:2])
    return dataset, Pipeline(dataset, recipe, input_shape)


def _keep_normalization(setup: Setup, file: Path) -> None:
    """The run's statistics are those with which it began, whatever a machine makes of the last bit."""
    if file.exists():
        setup.pipeline.normalization = normalization.load(file)
    else:
        files.write(file, setup.pipeline.normalization.to_bytes())


def _record(setup: Setup, progress: Progress, test: dict[str, float]) -> dict[str, Any]:
    """The contents of result.json, but for when the run finished."""
    recipe, dataset, strategy = setup.recipe, setup.dataset, setup.strategy
    return {
        "experiment": recipe.experiment,
        "recipe": recipe.to_dict(),
        "network": recipe.network,
        "parameters": sum(math.prod(variable.shape) for variable in setup.model.trainable_variables),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "train_images": len(dataset.train),
            "validation_images": len(dataset.validation),
            "test_images": len(dataset.test),
            "class_names": list(dataset.class_names),
            "input_shape": list(setup.model.input_shape[1:]),
            "normalization": setup.pipeline.normalization.statistics(),
        },
        "test": test | {"images": len(dataset.test)},
        "epochs": len(progress.metrics),
        "tested_epoch": validation.best_epoch(progress.metrics) if recipe.best_weights else len(progress.metrics),
        "steps": progress.step,
        "train_seconds": progress.train_seconds,
        "train_images_per_second": progress.step * recipe.batch_size / progress.train_seconds,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "device": strategy.extended.worker_devices[0].split("device:")[-1],
        "precision": recipe.precision,
        "execution": recipe.execution,
        "seed": recipe.seed,
        "started": progress.started,
        **environment(),
    }


class _Interval:
    """When to save the state within an epoch."""

    def __init__(self, text: str) -> None:
        """Reads "200" as steps and "5m" as minutes; with "" the state is never saved within an epoch.

        Raises:
          UsageError: the text is something else.
        """
        match = re.fullmatch(r"(\d+)|(\d+|\d*\.\d+)m", text)
        self.steps = int(match[1]) if match and match[1] else 0
        self._seconds = 60 * float(match[2]) if match and match[2] else math.inf
        if text and not self.steps and not 0 < self._seconds < math.inf:
            raise UsageError(f"--checkpoint_every={text} must be a number of steps, such as 200, or of minutes, such "
                             "as 5m")
        self.saved()

    def saved(self) -> None:
        """Starts the minutes anew."""
        self._begin = time.monotonic()

    def over(self, step: int) -> bool:
        """Whether the state is to be saved after so many steps."""
        return step % self.steps == 0 if self.steps else time.monotonic() - self._begin >= self._seconds


class _Loop:
    """A run's epochs, from wherever its checkpoints say it is to the end.

    What a run has recorded is in its checkpoints. The other files of its folder are written from them, after each
    checkpoint and when the run goes on, so that it does not matter when the process was killed.
    """

    def __init__(self, setup: Setup, folder: runs.RunFolder, interval: _Interval, histograms: bool,
                 callbacks: Sequence[keras.callbacks.Callback]) -> None:
        self._setup = setup
        self._recipe = setup.recipe
        self._model = setup.model
        self._optimizer = setup.optimizer
        self._pipeline = setup.pipeline
        self._folder = folder
        self._interval = interval
        self._received: Sequence[int] = []
        self._abandonable = Abandonable()
        self._histograms = histograms
        self._steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer)
        self._sparsity = tensorboard.Sparsity(setup.model, setup.pipeline.inspected(_INSPECTED_IMAGES))
        self._steps_in_call = 1
        # Once a part: TensorFlow does not give back all of the memory of data sets and iterators made anew each epoch.
        self._evaluated = functools.cache(setup.evaluation_batches)
        self._best = [tf.Variable(weight.value) for weight in setup.model.weights] if setup.recipe.best_weights else []
        self.progress = Progress()
        self._checkpoints = Checkpoints(folder.path / runs.CHECKPOINTS, setup.model, setup.optimizer, self.progress,
                                        self._best)
        self._checkpoints.restore()
        self._saved_step = self.progress.step
        devices_module.separate_seeds(setup.strategy, setup.model)
        self._set_rate_factor()
        self._write_tables()
        self._board = tensorboard.Board(folder.path, self.progress.step, self.progress.events)
        self._report = Report(self.progress, setup.recipe.epochs, setup.pipeline.steps_per_epoch,
                              setup.recipe.batch_size, sys.stdout if machines.is_chief(setup.strategy) else None)
        self._model.optimizer = self._optimizer  # where callbacks look for it
        self._model.stop_training = False
        self._callbacks = keras.callbacks.CallbackList(
            list(callbacks), model=setup.model, epochs=setup.recipe.epochs, steps=setup.pipeline.steps_per_epoch)

    def train(self, started: str) -> None:
        """Trains until the last epoch, or until the recipe or a callback asks to stop; saves after each epoch."""
        progress = self.progress
        progress.started = progress.started or started
        with devices_module.giving_way():
            batches = iter(self._setup.training_batches(progress.step))
        graph = self._graph(batches)
        if not progress.events:
            self._board.begin(self._recipe, self._pipeline.examples(_SHOWN_IMAGES), self._model, graph)
        self._callbacks.on_train_begin()
        with signals() as self._received:
            try:
                self._train_epochs(batches)
            except Abandoned:
                if progress.step > self._saved_step:
                    self._save()
        self._heed()
        self._callbacks.on_train_end()

    def _train_epochs(self, batches: Iterator) -> None:
        """Trains to the end, unless a signal comes: then it saves and raises Interrupted."""
        progress, size = self.progress, self._pipeline.steps_per_epoch
        while not progress.finished:
            epoch = len(progress.metrics)
            self._callbacks.on_epoch_begin(epoch)
            while progress.step < (epoch + 1) * size:
                self._train_call(batches, epoch)
                within = progress.step < (epoch + 1) * size
                number, due = machines.agree(
                    self._setup.strategy, self._received, self._interval.over(progress.step))
                if number or (within and due):
                    self._save()
                if number:
                    raise Interrupted(number, progress.step)
            self._end_epoch(epoch)
            self._heed()

    def _heed(self) -> None:
        """Ends the run, whose state is saved, if any machine has received a signal."""
        number, _ = machines.agree(self._setup.strategy, self._received)
        if number:
            raise Interrupted(number, self.progress.step)

    def take_final_weights(self) -> None:
        """Gives the network the weights that are to be tested and kept: averages if there are any, or the best."""
        optimizers.inner(self._optimizer).finalize_variable_values(self._model.trainable_variables)
        for variable, best in zip(self._model.weights, self._best):
            variable.assign(best)

    def test(self) -> dict[str, float]:
        """Loss and accuracy over the test set, for TensorBoard too."""
        figures: dict[str, float] = {}
        with signals() as self._received, suppress(Abandoned):
            figures = self._evaluate("test")
        self._heed()
        self._board.scalars(len(self.progress.metrics) - 1, {f"test_{name}": value for name, value in figures.items()},
                            runs.VALIDATION_EVENTS)
        self._board.flush()
        return figures

    def _graph(self, batches: Iterator) -> tf.Graph | None:
        """The compiled call, traced before the first call of it: an interruption need not wait for that."""
        if self._recipe.execution == "eager":
            return None
        return self._steps.run.get_concrete_function(batches, tf.constant(1)).graph

    def _evaluate(self, part: str) -> dict[str, float]:
        """Loss and accuracy over every image of a part, "validation" or "test"."""
        batches, count = self._evaluated(part)
        with _naming_damage(lambda: self._pipeline.check_evaluation(part)):
            totals = self._unless_signalled(lambda: self._steps.evaluate(batches, tf.constant(count)).numpy())
        loss, right, images = totals.astype(np.float64)
        if not np.isfinite(loss):
            raise NotFiniteError(f"the {part} loss is not finite after step {self.progress.step}{self._saved_state()}")
        return {"accuracy": float(right / images), "loss": float(loss / images)}

    def _train_call(self, batches: Iterator, epoch: int) -> None:
        """Runs some of an epoch's steps in one call."""
        progress, size = self.progress, self._pipeline.steps_per_epoch
        count = min(self._steps_in_call, (epoch + 1) * size - progress.step)
        if self._interval.steps:
            count = min(count, self._interval.steps - progress.step % self._interval.steps)
        self._callbacks.on_train_batch_begin(progress.step - epoch * size)

        def run() -> np.ndarray:
            return self._steps.run(batches, tf.constant(count)).numpy()

        begin = time.perf_counter()
        with _naming_damage(lambda: self._pipeline.check_training(progress.step, count)):
            values = run() if progress.step > self._saved_step else self._unless_signalled(run)
        values = values.astype(np.float64)
        # The same on all machines, because the steps of the next call follow from it.
        seconds, = machines.mean(self._setup.strategy, [time.perf_counter() - begin])
        finite = np.isfinite(values[:, 0])
        if not finite.all():
            step = progress.step + int(np.argmin(finite))
            raise NotFiniteError(f"the loss is not finite at step {step} (epoch {epoch + 1}){self._saved_state()}")
        # One step after the other, so that the sums do not depend on how steps were grouped into calls.
        for row in values:
            progress.sums = list(row + (progress.sums or np.zeros_like(row)))
        progress.step += count
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds
        done = progress.step - epoch * size
        self._steps_in_call = max(1, round(_CALL_SECONDS * done / progress.epoch_seconds))
        self._report.steps()
        self._callbacks.on_train_batch_end(done - 1, {"loss": progress.sums[0] / done,
                                                      "accuracy": progress.sums[1] / done})

    def _unless_signalled(self, call: Callable[[], _Value]) -> _Value:
        """The value of a call that takes long and of which nothing needs to be saved.

        Raises:
          Abandoned: a signal came, and this is the only machine: others would wait for the call's end.
        """
        if machines.is_multi_worker(self._setup.strategy):
            return call()
        return self._abandonable.call(call, self._received)

    def _saved_state(self) -> str:
        saved = self._checkpoints.newest
        return f"; the last saved state is {saved}" if saved else "; no epoch was complete: lower --learning_rate"

    def _end_epoch(self, epoch: int) -> None:
        """Evaluates, records and saves a complete epoch, and decides whether it was the last."""
        progress, recipe, size = self.progress, self._recipe, self._pipeline.steps_per_epoch
        loss, accuracy, gradient_norm, *gradient_norms = np.array(progress.sums) / size
        trained = {"loss": float(loss), "accuracy": float(accuracy)}
        validated: dict[str, float] = {}
        with averaged_weights(self._model, self._optimizer):
            if recipe.validation:
                validated = self._evaluate("validation")
            shares = self._unless_signalled(self._sparsity.shares)
            if self._best and all(validated["loss"] < row["validation_loss"] for row in progress.metrics):
                for best, variable in zip(self._best, self._model.weights):
                    best.assign(variable.value)
        rate = {"learning_rate": float(self._setup.schedule(progress.step - 1))}
        speed = {"images_per_second": size * recipe.batch_size / progress.epoch_seconds}
        variables = self._model.trainable_variables
        weight_norms = [float(tf.norm(variable.value)) for variable in variables]
        norms = {"gradient_norm": float(gradient_norm), "weight_norm": math.hypot(*weight_norms)}

        board = self._board
        board.scalars(epoch, {f"epoch_{name}": value for name, value in (trained | rate | speed).items()})
        board.scalars(epoch, {f"epoch_{name}": value for name, value in validated.items()}, runs.VALIDATION_EVENTS)
        for name, values in (("gradient_norm", gradient_norms), ("weight_norm", weight_norms)):
            board.scalars(epoch, {f"{name}/{variable.path}": float(value)
                                  for variable, value in zip(variables, values)})
        board.scalars(epoch, norms | {f"sparsity/{layer}": share for layer, share in shares.items()})
        if self._histograms:
            board.histograms(epoch, self._model.weights)

        progress.metrics.append({"epoch": epoch + 1, "step": progress.step} | trained
                                | {f"validation_{name}": value for name, value in validated.items()} | rate | norms)
        progress.timings.append({"epoch": epoch + 1, "seconds": progress.epoch_seconds} | speed)
        progress.sums, progress.epoch_seconds = [], 0.0
        logs = trained | {f"val_{name}": value for name, value in validated.items()} | rate | speed
        self._report.epoch(epoch, logs)
        self._callbacks.on_epoch_end(epoch, logs)
        progress.finished = (epoch + 1 == recipe.epochs or validation.stops_early(recipe, progress.metrics)
                             or self._model.stop_training)
        self._set_rate_factor()
        self._save()
        self._write_tables()

    def _set_rate_factor(self) -> None:
        if isinstance(self._setup.schedule, optimizers.Plateau):
            self._setup.schedule.factor.assign(validation.rate_factor(self._recipe, self.progress.metrics))

    def _save(self) -> None:
        """Saves the state, TensorBoard's events before it."""
        self.progress.events = self._board.flush()
        self._checkpoints.save()
        self._saved_step = self.progress.step
        self._interval.saved()

    def _write_tables(self) -> None:
        if self.progress.metrics:
            self._folder.write_metrics(self.progress.metrics)
            self._folder.write_timings(self.progress.timings)


@contextmanager
def _naming_damage(check: Callable[[], None]) -> Iterator[None]:
    """Has the damaged image named, by `check`, if that is why TensorFlow stopped."""
    try:
        yield
    except tf.errors.OpError:
        check()
        raise


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
