"""Trains a recipe: `train` reads from top to bottom.

The steps are in the modules it calls: `setup` makes devices, data, network and optimizer; `loop` runs the epochs;
`result` makes what a complete run leaves.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras

from tfcnn import drawing, files, memory, runs, signals
from tfcnn.data import normalization
from tfcnn.recipe import Recipe
from tfcnn.runs import curves
from tfcnn.training import complete_run, initial_weights, machines
from tfcnn.training.checkpoint_interval import CheckpointInterval
from tfcnn.training.loop import Loop
from tfcnn.training.result import result_record, save_model
from tfcnn.training.setup import Setup, prepare


@dataclasses.dataclass(frozen=True)
class Result:
    """A complete run.

    Attributes:
      workdir: the run's folder.
      record: the contents of its result.json.
      model: the trained network. Its weights are those that were tested: of the last epoch, or of the best one, and
        averages if the recipe has them. None if the folder held a complete run without a readable network.
      trained: False if the folder already held the complete run.
      unusable: file or folder of a complete run that cannot be used -> `runs.MISSING`, or what is wrong with it.
    """

    workdir: Path
    record: dict[str, Any]
    model: keras.Model | None
    trained: bool
    unusable: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def test_accuracy(self) -> float:
        """Fraction of the test images that are classified correctly, in [0, 1]."""
        return self.record["test"]["accuracy"]


@machines.lost_workers_reported()
def train(recipe: Recipe, workdir: str | Path | None = None, *, data_dir: str | None = None, devices: int = 0,
          cluster: str = "", wait: float = 0.0, overwrite: bool = False, histograms: bool = False,
          checkpoint_every: str = "", command_flags: Sequence[str] = (),
          callbacks: Sequence[keras.callbacks.Callback] = (),
          on_start: Callable[[Path], None] | None = None, own_process: bool = False, reference: Recipe | None = None,
          cache_features: bool = True, wait_for_folder: bool = False) -> Result:
    """Trains the recipe's network, or resumes an interrupted run, and writes a run's folder.

    Args:
      recipe: everything that determines the result.
      workdir: the run's folder, created if necessary; by default a new folder under `runs/`, see `Result.workdir`. An
        unfinished run of the same recipe in it is resumed, with the same data and initial weights; of a finished one,
        the result is returned, without a look at the data.
      data_dir: folder of the data set, see `tfcnn.data.datasets.load`.
      devices: number of GPUs, or of logical CPU devices, that share each global batch; 0 for all GPUs, or one CPU
        device.
      cluster: where the workers of the run are described, see `tfcnn.training.machines.cluster`. Every worker makes the
        same call with the same folder; the chief writes it.
      wait: minutes to wait for the other workers at the start, at most; 0 for without end.
      overwrite: remove the run in `workdir` and start again.
      histograms: write a histogram of every weight for TensorBoard after each epoch.
      checkpoint_every: also save the state within epochs, every so many steps ("200") or minutes ("5m"); "" saves it at
        the end of each epoch only.
      command_flags: the flags that repeat this run, written to its folder.
      callbacks: Keras callbacks; `model.stop_training` is checked after each epoch. They are called before an epoch is
        saved. If the process is killed in between, they are called again for that epoch.
      on_start: called once with the run's folder before the first step, when everything has been checked.
      own_process: this process does nothing but train. Then its allocator and the priority of its threads are changed
        for the rest of its life, which makes training on a CPU faster, see `tfcnn.training.process`.
      reference: the experiment's own recipe, with which TensorBoard's HParams table compares this one, see
        `tfcnn.training.tensorboard.hyperparameters`.
      cache_features: compute the features of the images once if all layers but the last are frozen, and nothing changes
        the images, see `tfcnn.training.cached_features`. The weights are the same but for rounding.
      wait_for_folder: if another process is using `workdir`, wait for it and go on from there, instead of raising an
        error.

    Raises:
      UsageError: a value, the data or the folder is invalid, and nothing has been written; or the disk is full, or the
        folder is gone, and what was saved before is intact.
      NotFiniteError: the loss, the gradient or a weight is infinite or not a number; the last checkpoint before is in
        the folder.
      MachineLost: another worker of the run has stopped, or has not come within `wait` minutes.
      Interrupted: SIGINT or SIGTERM came; the state is saved. An evaluation or a first step that was interrupted keeps
        running in a thread until it ends.
    """
    started = _now()
    interval = CheckpointInterval(checkpoint_every)
    workdir = workdir and files.expanded(workdir)
    if workdir and not machines.cluster(cluster):
        given = runs.RunFolder(workdir)
        if given.state(recipe, overwrite) is runs.State.COMPLETE:
            return _of_complete_run(given, given.path)
    if own_process:
        memory.keep_freed()
    setup = prepare(recipe, data_dir, devices, cluster, wait, cache_features)
    machines.check_equal(setup.strategy, "--checkpoint_every", checkpoint_every)
    workdir = workdir or runs.new_folder(f"{recipe.experiment}-{recipe.dataset}")

    def opened(folder: runs.RunFolder) -> AbstractContextManager[runs.State]:
        return folder.opened(recipe, list(command_flags), overwrite, wait_for_folder)

    with machines.run_folder(setup.strategy, workdir, opened) as (folder, state):
        if state is runs.State.COMPLETE:
            return _of_complete_run(folder, workdir)
        if on_start:
            on_start(workdir)
        if machines.is_chief(setup.strategy):
            _report_lost_checkpoints(folder)
        _keep_normalization(setup, folder.path / runs.NORMALIZATION)
        loop = Loop(setup, folder, interval, histograms, callbacks, own_process, reference)
        loop.train(started)
        loop.take_final_weights()
        test = loop.test()
        initial_weights.unfreeze(setup.model)
        save_model(setup.model, folder.path / runs.MODEL)
        record = result_record(setup, loop.progress, test) | {"finished": _now()}
        _draw_curves(folder, record)
        folder.write_result(record)
    return Result(workdir, record, setup.model, trained=True)


def _of_complete_run(folder: runs.RunFolder, workdir: Path) -> Result:
    """The result of a complete run that a folder holds; `workdir` is what the user calls it."""
    record = folder.read_result()
    if not (folder.path / runs.CURVES).exists() and (folder.path / runs.METRICS).exists():
        _draw_curves(folder, None)  # which may have been impossible when the run ended
    model, unusable = complete_run.inspect(folder)
    return Result(workdir, record, model, trained=False, unusable=unusable)


def _report_lost_checkpoints(folder: runs.RunFolder) -> None:
    """Says that a run starts from its beginning although it had got further."""
    checkpoints = folder.path / runs.CHECKPOINTS
    if (folder.path / runs.METRICS).exists() and not any(checkpoints.glob("*.index")):
        print(f"there is no checkpoint in {checkpoints} any more: the run starts from its beginning", file=sys.stderr)


def _draw_curves(folder: runs.RunFolder, record: dict[str, Any] | None) -> None:
    """Draws curves.png or says why it cannot be drawn; without a record, that of the folder."""
    drawing.warn_if_not(lambda: curves.draw(folder, record), folder.path / runs.CURVES, (signals.Interrupted,))


def _keep_normalization(setup: Setup, file: Path) -> None:
    """Writes the normalization to the run's folder; a resumed run uses what is there.

    On another machine the statistics could differ in their last bit.
    """
    if file.exists():
        setup.pipeline.normalization = normalization.load(file)
    else:
        files.write(file, setup.pipeline.normalization.to_bytes())


def _now() -> str:
    """The time in UTC, ISO 8601, in milliseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
