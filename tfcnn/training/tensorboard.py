"""What TensorBoard shows of a run: curves, norms, sparsity, histograms, example images, graphs, hyperparameters.

TensorBoard sorts cards by the names of their tags and opens the first two groups, a group being what stands before the
first slash. So accuracy and loss are in `epoch`, and what else describes the whole network is in `global`.

A run that is killed and resumed must show each epoch exactly once. So everything is on the disk before the checkpoint
that records the length of each file, and a resumed run cuts off what was written after that checkpoint. See
BUILD_NOTES.md#a-runs-state-is-its-checkpoint.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams.api import hparams_pb

from tfcnn import event_files, files
from tfcnn.recipe import Recipe, flat
from tfcnn.runs import TRAIN_EVENTS, VALIDATION_EVENTS
from tfcnn.contact_sheet import class_captions, contact_sheet
from tfcnn.training.network_graph import network_graph

# Columns that the HParams table has for every run.
_COMMON_HYPERPARAMETERS = ("experiment", "dataset", "epochs", "batch_size", "learning_rate", "seed")
_HISTOGRAM_BUCKETS = 30


class Board:
    """A run's event files: training in the folder `train`, validation and hyperparameters in `validation` beside it.

    A resumed run writes new files, because a TensorBoard that is open reads on only in the newest file of a folder.
    """

    def __init__(self, workdir: Path, step: int, lengths: Mapping[str, int]) -> None:
        """Cuts off what was written after the checkpoint from which the run is resumed.

        Args:
          workdir: the run's folder.
          step: the step of that checkpoint, 0 without one.
          lengths: what `flush` returned for that checkpoint; empty without one.
        """
        self._workdir = workdir
        self._name = f"events.out.tfevents.{step:012}"  # TensorBoard reads the files of a folder in alphabetical order
        self._lengths = dict(lengths)
        self._pending: dict[str, list[tf.compat.v1.Event]] = {}
        for part in (TRAIN_EVENTS, VALIDATION_EVENTS):
            for path in (workdir / part).glob("*tfevents*"):
                length = lengths.get(str(path.relative_to(workdir)))
                if length is None:
                    path.unlink()
                elif path.stat().st_size > length:
                    os.truncate(path, length)

    def begin(self, recipe: Recipe, reference: Recipe | None, examples: tuple[np.ndarray, np.ndarray],
              class_names: Sequence[str], model: keras.Model, graph: tf.Graph | None) -> None:
        """Writes what does not change during a run.

        Args:
          recipe: the run's recipe.
          reference: the recipe that the HParams table compares it with, see `hyperparameters`.
          examples: augmented training images, [n, height, width, channels], uint8, and their labels, [n] or
            [n, classes].
          class_names: the names of the classes.
          model: the network, which the Graphs page shows layer by layer.
          graph: the compiled training step, the second tag of that page; None if it is not compiled.
        """
        sheet = contact_sheet(examples[0], class_captions(examples[1], class_names))
        height, width, _ = sheet.shape
        picture = event_files.picture("training_images", tf.io.encode_png(sheet).numpy(), width, height)
        self._write(TRAIN_EVENTS, 0, picture)
        # The Graphs page opens on the first tag in alphabetical order.
        self._write(TRAIN_EVENTS, 0, _graph_summary("network", network_graph(model)))
        if graph is not None:
            self._write(TRAIN_EVENTS, 0, _graph_summary("training_step", graph.as_graph_def(add_shapes=True)))
        # By default a trial's name is a hash.
        trial = "/".join(self._workdir.resolve().parts[-2:])
        values = hparams_pb(hyperparameters(recipe, reference), trial_id=trial, start_time_secs=time.time())
        self._write(VALIDATION_EVENTS, 0, tf.compat.v1.Summary.FromString(values.SerializeToString()))

    def scalars(self, epoch: int, values: Mapping[str, float], part: str = TRAIN_EVENTS) -> None:
        """Writes values of an epoch, counted from 0, by their tags."""
        for tag, value in values.items():
            self._write(part, epoch, event_files.summary(tag, "scalars", np.float32(value)))

    def histograms(self, epoch: int, variables: Iterable[keras.Variable]) -> None:
        """Writes the distribution of each variable's finite values after an epoch, counted from 0."""
        for variable in variables:
            values = variable.numpy().astype(np.float64)
            counts, edges = np.histogram(values[np.isfinite(values)], _HISTOGRAM_BUCKETS)
            buckets = np.stack([edges[:-1], edges[1:], counts], axis=1)
            self._write(TRAIN_EVENTS, epoch, event_files.summary(f"histogram/{variable.path}", "histograms", buckets))

    def flush(self) -> dict[str, int]:
        """Brings everything to the disk.

        Returns:
          The length in bytes of each event file, by its path in the run's folder.

        Raises:
          UsageError: a file cannot be written.
        """
        for name, events in self._pending.items():
            path = self._workdir / name
            try:
                path.parent.mkdir(exist_ok=True)
                with open(path, "ab") as file:
                    file.write(event_files.to_bytes(events))
                    file.flush()
                    os.fsync(file.fileno())
                    self._lengths[name] = file.tell()
            except (OSError, tf.errors.OpError) as error:
                raise files.usage_error(f"cannot write {path}", error, path,
                                        after_remedy=", and start again") from error
        self._pending.clear()
        return dict(self._lengths)

    def _write(self, part: str, step: int, summary: tf.compat.v1.Summary) -> None:
        name = f"{part}/{self._name}"
        if name not in self._pending:
            self._pending[name] = [] if name in self._lengths else [event_files.version()]
        self._pending[name].append(event_files.event(step, summary))


def hyperparameters(recipe: Recipe, reference: Recipe | None) -> dict[str, Any]:
    """Returns what the HParams table shows of a run: some common values, and those that differ from a reference.

    An empty cell in the table therefore stands for the value of the reference.

    Args:
      recipe: the run's recipe.
      reference: the experiment's own recipe; by default a recipe of the same network with all values at their defaults.
    """
    values = flat(recipe.to_dict())
    reference = reference or Recipe(recipe.experiment, recipe.network)
    usual = flat(reference.to_dict())
    return {name: value for name, value in values.items()
            if name in _COMMON_HYPERPARAMETERS or name not in usual or value != usual[name]}


def _graph_summary(tag: str, graph: tf.compat.v1.GraphDef) -> tf.compat.v1.Summary:
    """A graph in the format of the Graphs page."""
    metadata = tf.compat.v1.RunMetadata()
    metadata.function_graphs.add().pre_optimization_graph.CopyFrom(graph)
    return event_files.summary(tag, "graph_run_metadata_graph", metadata.SerializeToString(), b"1")
