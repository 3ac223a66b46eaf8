"""The one training loop of the suite.

`train` reads from top to bottom: the network and its optimizer under a distribution strategy, the data, the run's
folder, then epochs of compiled calls that run many steps each, an evaluation after every epoch, and the test set once,
at the end.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfcnn import networks, runs
from tfcnn.data import datasets
from tfcnn.data.pipeline import Pipeline
from tfcnn.recipe import Recipe
from tfcnn.training import devices as devices_module
from tfcnn.training import machines, optimizers, tensorboard
from tfcnn.training.checkpoints import Checkpoints, Progress
from tfcnn.training.steps import Steps, averaged_weights

# A compiled call is made about this long, in seconds: long enough for Python not to matter, short enough for the
# progress bar to move and for an interruption to be heeded.
_CALL_SECONDS = 1.0
_INSPECTED_IMAGES = 128
_SHOWN_IMAGES = 25


class NotFiniteError(Exception):
    """The loss became infinite or not a number."""


class Interrupted(Exception):
    """SIGINT or SIGTERM came; the state is saved.

    Attributes:
      signal_number: which of them.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        super().__init__(f"{signal.Signals(signal_number).name} after step {step}; the state is saved")
        self.signal_number = signal_number


@dataclasses.dataclass(frozen=True)
class Result:
    """What a finished run gives.

    Attributes:
      workdir: the run's folder.
      record: the contents of its result.json.
      model: the trained network, with the moving averages as its weights if the recipe keeps them.
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


@machines.watched()
def train(recipe: Recipe, workdir: str | Path, *, data_dir: str | None = None, devices: int = 0,
          cluster: str = "", overwrite: bool = False, histograms: bool = False, command_flags: Sequence[str] = (),
          callbacks: Sequence[keras.callbacks.Callback] = (), on_start: Callable[[], None] | None = None) -> Result:
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
      command_flags: the flags that repeat this run, kept in its folder.
      callbacks: further Keras callbacks; `model.stop_training` is heeded after each epoch.
      on_start: called once when all is found to be well and the run's folder is there, before the first step.

    Raises:
      UsageError: a value, the data or the folder is not as it must be; nothing has been written.
      NotFiniteError: the loss is not finite; the last good state is in the folder.
      MachineLost: another machine of the run has stopped.
      Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    started = _now()
    setup = prepare(recipe, data_dir, devices, cluster)

    def ready(folder: runs.RunFolder) -> runs.State:
        return folder.prepare(recipe, list(command_flags), overwrite=overwrite)

    with machines.run_folder(setup.strategy, workdir, ready) as (folder, state):
        if state is runs.State.COMPLETE:
            model = keras.saving.load_model(folder.path / runs.MODEL)
            return Result(Path(workdir), folder.read_result(), model, trained=False)
        if on_start:
            on_start()
        loop = _Loop(setup, folder)
        loop.set_callbacks(histograms, callbacks)
        epochs = loop.train()

        model = setup.model
        optimizers.inner(setup.optimizer).finalize_variable_values(model.trainable_variables)
        test = loop.evaluate("test")
        loop.details.write_test(epochs - 1, test)
        loop.callbacks.on_train_end()
        model.optimizer = None  # model.keras is for using the network; what training needs is in checkpoints/
        model.save(folder.path / runs.MODEL)
        record = _record(setup, epochs, loop.progress, test) | {"started": started, "finished": _now()}
        runs.draw_curves(folder, record)
        folder.write_result(record)
    return Result(Path(workdir), record, model, trained=True)


@dataclasses.dataclass(frozen=True)
class Setup:
    """All that a recipe makes before the first step.

    Attributes:
      recipe: the recipe.
      strategy: the devices, and how they work together.
      dataset: the data set as it was found.
      pipeline: its batches.
      model: the network, with its first weights.
      optimizer: built for the network's weights.
    """

    recipe: Recipe
    strategy: tf.distribute.Strategy
    dataset: datasets.Dataset
    pipeline: Pipeline
    model: keras.Model
    optimizer: keras.optimizers.Optimizer

    def training_batches(self, first_step: int) -> tf.distribute.DistributedDataset:
        """The training batches from a step on, each machine making those of its own replicas."""
        def on_machine(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            batches = self.pipeline.training(first_step, context.num_replicas_in_sync,
                                             context.input_pipeline_id * local, local)
            # Otherwise several machines would agree before each step on whether there is another batch.
            return batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return self.strategy.distribute_datasets_from_function(on_machine)


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
    machines.check_alike(strategy, "the recipe", recipe.to_json())
    height, width, channels = networks.input_shape(recipe.network, recipe.network_options())
    input_shape = (recipe.image_size or height, recipe.image_size or width, channels)
    dataset = datasets.load(recipe.dataset, data_dir, validation=recipe.validation, seed=recipe.seed,
                            image_size=input_shape[:2])
    pipeline = Pipeline(dataset, recipe, input_shape)
    machines.check_alike(strategy, f"the data set {dataset.name}", [
        len(part.labels) for part in (dataset.train, dataset.validation, dataset.test)])
    with strategy.scope(), devices_module.precision(recipe):
        model = networks.find(recipe.network).build(
            classes=len(dataset.class_names), image_size=input_shape[0], **recipe.network_options())
        optimizer = optimizers.optimizer(recipe, pipeline.steps_per_epoch, model.trainable_variables)
    devices_module.check_execution(recipe, strategy, model)
    return Setup(recipe, strategy, dataset, pipeline, model, optimizer)


def _record(setup: Setup, epochs: int, progress: Progress, test: dict[str, float]) -> dict[str, Any]:
    """The contents of result.json, but for when the run started and finished."""
    recipe, dataset, strategy = setup.recipe, setup.dataset, setup.strategy
    return {
        "experiment": recipe.experiment,
        "recipe": recipe.to_dict(),
        "network": recipe.network,
        "parameters": sum(math.prod(variable.shape) for variable in setup.model.trainable_variables),
        "dataset": {
            "name": dataset.name,
            "source": dataset.source,
            "train_images": len(dataset.train.labels),
            "validation_images": len(dataset.validation.labels),
            "test_images": len(dataset.test.labels),
            "class_names": list(dataset.class_names),
            "input_shape": list(setup.model.input_shape[1:]),
            "normalization": dataclasses.asdict(setup.pipeline.normalization),
        },
        "test": test | {"images": len(dataset.test.labels)},
        "epochs": epochs,
        "steps": progress.step,
        "train_seconds": progress.train_seconds,
        "train_images_per_second": progress.step * recipe.batch_size / progress.train_seconds,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "device": strategy.extended.worker_devices[0].split("device:")[-1],
        "precision": recipe.precision,
        "execution": recipe.execution,
        "seed": recipe.seed,
        **runs.environment(),
    }


class _Loop:
    """A run's epochs, from wherever its folder says it is to the end."""

    def __init__(self, setup: Setup, folder: runs.RunFolder) -> None:
        self._setup = setup
        self._recipe = setup.recipe
        self._model = setup.model
        self._optimizer = setup.optimizer
        self._pipeline = setup.pipeline
        self._folder = folder
        self._schedule = optimizers.schedule(setup.recipe, setup.pipeline.steps_per_epoch)
        self._steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer)
        self._sparsity = tensorboard.Sparsity(setup.model, setup.pipeline.inspected(_INSPECTED_IMAGES))
        self._steps_in_call = 1
        self.details = tensorboard.Details(folder.path, setup.recipe, setup.pipeline.examples(_SHOWN_IMAGES))
        self.progress = Progress()
        self._checkpoints = Checkpoints(folder.path / runs.CHECKPOINTS, setup.model, setup.optimizer, self.progress)
        self._checkpoints.restore()
        devices_module.separate_seeds(setup.strategy, setup.model)

    def set_callbacks(self, histograms: bool, callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Puts Keras's TensorBoard and progress bar, and the caller's callbacks, around the loop."""
        # Where Keras's TensorBoard callback looks for the learning rate and for the graph of the step.
        self._model.optimizer, self._model.train_function = self._optimizer, self._steps.run
        self._model.stop_training = False
        board = keras.callbacks.TensorBoard(self._folder.path, histogram_freq=int(histograms))
        self.callbacks = keras.callbacks.CallbackList(
            [self.details, board, *callbacks], add_progbar=machines.first(self._setup.strategy), model=self._model,
            epochs=self._recipe.epochs, steps=self._pipeline.steps_per_epoch, verbose=1 if sys.stdout.isatty() else 2)

    def train(self) -> int:
        """Trains until the last epoch, or until a callback asks to stop, and returns how many epochs were done."""
        size = self._pipeline.steps_per_epoch
        # Sums are there until an epoch has been recorded, be it that all its steps are done.
        epoch = (self.progress.step - bool(self.progress.sums)) // size
        rows = self._folder.read_metrics()[:epoch] if epoch else []
        batches = iter(self._setup.training_batches(self.progress.step))
        self.callbacks.on_train_begin()
        with _signals() as received:
            while epoch < self._recipe.epochs and not self._model.stop_training:
                self.callbacks.on_epoch_begin(epoch)
                while self.progress.step < (epoch + 1) * size:
                    self._train_call(batches, epoch)
                    number = machines.heeded_signal(self._setup.strategy, received)
                    if number:
                        self._checkpoints.save(self.progress.step)
                        raise Interrupted(number, self.progress.step)
                self.callbacks.on_epoch_end(epoch, self._end_epoch(epoch, rows))
                epoch += 1
        return epoch

    def evaluate(self, part: str) -> dict[str, float]:
        """Loss and accuracy over every image of a part, "validation" or "test"."""
        batches = self._pipeline.evaluation(part)
        totals = self._steps.evaluate(iter(self._setup.strategy.experimental_distribute_dataset(batches)),
                                      tf.constant(len(batches))).numpy().astype(np.float64)
        loss, right, images = totals
        if not np.isfinite(loss):
            raise NotFiniteError(f"the {part} loss is not finite after step {self.progress.step}{self._good_state()}")
        return {"accuracy": float(right / images), "loss": float(loss / images)}

    def _train_call(self, batches: Iterator, epoch: int) -> None:
        """Runs some of an epoch's steps in one call."""
        progress, size = self.progress, self._pipeline.steps_per_epoch
        count = min(self._steps_in_call, (epoch + 1) * size - progress.step)
        self.callbacks.on_train_batch_begin(progress.step - epoch * size)
        begin = time.perf_counter()
        values = self._steps.run(batches, tf.constant(count)).numpy().astype(np.float64)
        # The same on all machines, because the steps of the next call follow from it.
        seconds, = machines.mean(self._setup.strategy, [time.perf_counter() - begin])
        finite = np.isfinite(values[:, 0])
        if not finite.all():
            step = progress.step + int(np.argmin(finite))
            raise NotFiniteError(f"the loss is not finite at step {step} (epoch {epoch + 1}){self._good_state()}")
        # One step after the other, so that the sums do not depend on how steps were grouped into calls.
        for row in values:
            progress.sums = list(row + (progress.sums or np.zeros_like(row)))
        progress.step += count
        progress.epoch_seconds += seconds
        progress.train_seconds += seconds
        done = progress.step - epoch * size
        self._steps_in_call = max(1, round(_CALL_SECONDS * done / progress.epoch_seconds))
        self.callbacks.on_train_batch_end(done - 1, {"loss": progress.sums[0] / done,
                                                     "accuracy": progress.sums[1] / done})

    def _good_state(self) -> str:
        saved = self._checkpoints.newest
        return f"; the last good state is {saved}" if saved else "; no epoch was complete: lower --learning_rate"

    def _end_epoch(self, epoch: int, rows: list[dict[str, float]]) -> dict[str, float]:
        """Evaluates, records and saves a complete epoch; returns the figures that Keras's callbacks show."""
        progress, size = self.progress, self._pipeline.steps_per_epoch
        loss, accuracy, gradient_norm, *gradient_norms = np.array(progress.sums) / size
        logs = {"loss": float(loss), "accuracy": float(accuracy)}
        with averaged_weights(self._model, self._optimizer):
            if self._recipe.validation:
                logs |= {f"val_{name}": value for name, value in self.evaluate("validation").items()}
            shares = self._sparsity.shares()
        logs["learning_rate"] = float(self._schedule(progress.step - 1))
        logs["images_per_second"] = size * self._recipe.batch_size / progress.epoch_seconds

        variables = self._model.trainable_variables
        weight_norms = [float(tf.norm(variable.value)) for variable in variables]
        norms = {"gradient_norm": float(gradient_norm), "weight_norm": math.hypot(*weight_norms)}
        for name, values in (("gradient_norm", gradient_norms), ("weight_norm", weight_norms)):
            self.details.write(epoch, {f"{name}/{variable.path}": float(value)
                                       for variable, value in zip(variables, values)})
        self.details.write(epoch, norms | {f"sparsity/{layer}": share for layer, share in shares.items()})

        rows.append({"epoch": epoch + 1, "step": progress.step}
                    | {name.replace("val_", "validation_"): value for name, value in logs.items()}
                    | norms | {"seconds": progress.epoch_seconds})
        self._folder.write_metrics(rows)
        progress.sums, progress.epoch_seconds = [], 0.0
        self._checkpoints.save(progress.step)
        return logs


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Within the context SIGINT and SIGTERM only enter a list, for the loop to stop where its state is whole."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.signal(number, lambda number, frame: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, handlers):
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
