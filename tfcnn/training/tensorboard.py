"""What TensorBoard shows of a run: curves, norms, sparsity, histograms, example images, graphs, hyper-parameters.

The event files are written here and not by TensorFlow's writers, because a run that is killed and goes on must not show
an epoch twice, nor lack one: after each epoch all is on the disk before the checkpoint that says how long each file is,
and a resumed run cuts off what is behind that.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.hparams.api import hparams_pb
from tensorboard.plugins.image.metadata import create_summary_metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_tensor_proto

from tfcnn.recipe import Recipe, UsageError, flat
from tfcnn.runs import TRAIN_EVENTS, VALIDATION_EVENTS


class Board:
    """A run's event files: those of training under `train`, those of validation and of the hyper-parameters beside it.

    Every time a run goes on it gets new files, so that a TensorBoard that is looking at the old ones is not confused.
    """

    def __init__(self, workdir: Path, step: int, lengths: Mapping[str, int]) -> None:
        """Cuts off what was written after the checkpoint that the run goes on from.

        Args:
          workdir: the run's folder.
          step: how many steps that checkpoint has behind it.
          lengths: what `flush` gave when it was saved; empty if there is none.
        """
        self._workdir = workdir
        # TensorBoard reads the files of a folder in the order of their names.
        self._name = f"events.out.tfevents.{step:012}"
        self._pending: dict[str, io.BytesIO] = {}
        self._lengths = dict(lengths)
        for part in (TRAIN_EVENTS, VALIDATION_EVENTS):
            for path in (workdir / part).glob("*tfevents*"):
                length = lengths.get(str(path.relative_to(workdir)))
                if length is None:
                    path.unlink()
                elif path.stat().st_size > length:
                    os.truncate(path, length)

    def begin(self, recipe: Recipe, examples: np.ndarray, model: keras.Model, graph: tf.Graph | None) -> None:
        """Writes what does not change.

        Args:
          recipe: its values become the hyper-parameters, by which TensorBoard's HParams page compares runs.
          examples: [n, height, width, channels], uint8: training images after augmentation.
          model: is shown layer by layer.
          graph: the compiled training step, if it is compiled.
        """
        height, width = examples.shape[1:3]
        pictures = [str(width).encode(), str(height).encode(), *(tf.io.encode_png(image).numpy() for image in examples)]
        metadata = image_metadata(display_name=None, description=None)
        self._write(TRAIN_EVENTS, summary=_summary("augmented_training_images", pictures, metadata))
        metadata = SummaryMetadata(plugin_data={"plugin_name": "graph_keras_model", "content": b"1"})
        self._write(TRAIN_EVENTS, summary=_summary("keras", model.to_json().encode(), metadata))
        if graph is not None:
            self._write(TRAIN_EVENTS, graph_def=graph.as_graph_def(add_shapes=True).SerializeToString())
        self._write(VALIDATION_EVENTS, summary=hparams_pb(flat(recipe.to_dict()), start_time_secs=time.time()))

    def scalars(self, epoch: int, values: Mapping[str, float], part: str = TRAIN_EVENTS) -> None:
        """Writes figures of an epoch, counted from 0."""
        for name, value in values.items():
            self._write(part, epoch, summary=scalar_pb(name, value))

    def histograms(self, epoch: int, variables: Iterable[keras.Variable]) -> None:
        """Writes the distribution of each variable's values after an epoch."""
        for variable in variables:
            self._write(TRAIN_EVENTS, epoch, summary=histogram_pb(f"{variable.path}/histogram", variable.numpy()))

    def flush(self) -> dict[str, int]:
        """Brings all to the disk; returns each file's name in the run's folder, and its length in bytes.

        Raises:
          UsageError: it cannot be written.
        """
        for name, pending in self._pending.items():
            path = self._workdir / name
            try:
                path.parent.mkdir(exist_ok=True)
                with open(path, "ab") as file:
                    file.write(pending.getvalue())
                    file.flush()
                    os.fsync(file.fileno())
                    self._lengths[name] = file.tell()
            except OSError as error:
                raise UsageError(f"cannot write {path}: {error.strerror}; make room and start again") from error
        self._pending.clear()
        return dict(self._lengths)

    def _write(self, part: str, step: int = 0, **content: object) -> None:
        name = f"{part}/{self._name}"
        if name not in self._pending:
            self._pending[name] = io.BytesIO()
            if name not in self._lengths:
                self._record(name, Event(wall_time=time.time(), file_version="brain.Event:2"))
        self._record(name, Event(wall_time=time.time(), step=step, **content))

    def _record(self, name: str, event: Event) -> None:
        RecordWriter(self._pending[name]).write(event.SerializeToString())


def _summary(tag: str, content: object, metadata: SummaryMetadata) -> Summary:
    summary = Summary()
    summary.value.add(tag=tag, metadata=metadata, tensor=make_tensor_proto(content))
    return summary


class Sparsity:
    """The share of zero activations in each layer that has an activation function, on a fixed batch."""

    def __init__(self, model: keras.Model, images: tf.Tensor) -> None:
        layers = [layer for layer in model.layers if _activates(layer)]
        self._images = images
        self._names = [layer.name.removesuffix("_activation") for layer in layers]
        # With the logits among them there is always one, and always a list.
        self._outputs = keras.Model(model.inputs, [model.outputs[0], *(layer.output for layer in layers)])
        self._shares = tf.function(self._compute, autograph=False)

    def _compute(self) -> list[tf.Tensor]:
        _, *activations = self._outputs(self._images, training=False)
        return [tf.reduce_mean(tf.cast(tf.equal(activation, 0), tf.float32)) for activation in activations]

    def shares(self) -> dict[str, float]:
        """Layer name -> share of zeros, in [0, 1]."""
        return dict(zip(self._names, map(float, self._shares())))


def _activates(layer: keras.Layer) -> bool:
    activation = getattr(layer, "activation", None)
    return activation not in (None, keras.activations.linear)
