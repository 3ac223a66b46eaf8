"""Tests each function of `tfcnn._compat`: it works, and the private part still exists and is still needed."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from pathlib import Path

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked
from tfcnn import _compat


def _gather_in_a_worker(index: int) -> None:
    """Gathers twice under one name and once with the public function, after one worker has traced once more."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()

    def replica() -> list[tf.Tensor]:
        context = tf.distribute.get_replica_context()
        x = tf.constant([1.0, 10.0]) * (1.0 + tf.cast(context.replica_id_in_sync_group, tf.float32))
        return [_compat.gather_from_workers(x, 2, "exchange"), _compat.gather_from_workers(-x, 2, "exchange"),
                context.all_gather(x[tf.newaxis], axis=0)]

    @tf.function
    def step(trace: str) -> list[tf.Tensor]:
        return strategy.run(replica)

    if index == 1:
        step.get_concrete_function("by this worker alone")
    for trace in ("first", "second"):
        first, second, public = step(trace)
        np.testing.assert_array_equal(public, [[1, 10], [2, 20]])
        np.testing.assert_array_equal(first, public)
        np.testing.assert_array_equal(second, -public)
    # A worker that ended now could fail the last collective of the other, to which it may still owe a message.
    Path(f"done-{index}").touch()
    while not all(Path(f"done-{other}").exists() for other in range(2)):
        time.sleep(0.05)


def test_gather_from_workers_matches_all_gather_when_only_one_worker_retraces(tmp_path: Path) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    workers = []
    for index in range(2):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(Forked(_gather_in_a_worker, index, cwd=tmp_path,
                              env=environment(tmp_path) | {"TF_CONFIG": json.dumps(cluster)}))
    for worker in workers:
        done = worker.completed()
        assert done.returncode == 0, done.stderr


def test_read_records_matches_reading_one_at_a_time(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    class Numbers(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"number": np.int64}))

        def _split_generators(self, manager):
            return {"train": ((number, {"number": number}) for number in range(40))}

        def _generate_examples(self):
            raise NotImplementedError

    builder = Numbers(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=3))
    records = builder.as_data_source("train").data_source
    indices = [7, 39, 0, 7, 21]
    one_by_one = [records[index] for index in indices]
    assert _compat.read_records(records, indices) == one_by_one
    assert hasattr(records, "__getitems__")  # the private method; without it, `read_records` is not needed
    assert _compat.read_records([b"a", b"b", b"c"], [2, 0]) == [b"c", b"a"]  # a source without that method


def test_device_datasets_are_not_autotuned_within_the_context_but_are_outside() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    untuned = tf.data.Options()
    untuned.autotune.enabled = False
    batches = tf.data.Dataset.range(8).batch(2).with_options(untuned)
    for patched in (False, True, False):
        with _compat.untuned_device_datasets() if patched else contextlib.nullcontext():
            iterator = iter(strategy.experimental_distribute_dataset(batches))
        per_device, = iterator._iterators[0]._iterator._device_iterators
        assert (per_device._dataset.options().autotune.enabled is False) == patched
        np.testing.assert_array_equal([value.numpy() for value in iterator], [[0, 1], [2, 3], [4, 5], [6, 7]])


def test_batches_are_distributed_without_the_private_function(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.data.ops import multi_device_iterator_ops
    distributed = tf.distribute.MirroredStrategy(["CPU:0"]).experimental_distribute_dataset(
        tf.data.Dataset.range(8).batch(2))
    with monkeypatch.context() as patch:
        patch.delattr(multi_device_iterator_ops, "_create_device_dataset")
        with _compat.untuned_device_datasets():
            pass
    with _compat.untuned_device_datasets():
        assert next(iter(distributed)).numpy().tolist() == [0, 1]


def _apply_on_two_devices() -> None:
    """Applies gradients on two replicas: 1 and 2 with Keras's reduction, then 1 and 1 without it."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"],
                                              cross_device_ops=tf.distribute.ReductionToOneDevice())
    for changed, moved in ((False, 3.0), (True, 1.0)):
        with strategy.scope():
            variable = keras.Variable(0.0)
            optimizer = keras.optimizers.SGD(1.0)
            optimizer.build([variable])
        if changed:
            assert _compat.apply_without_reduction(optimizer)

        @tf.function
        def step() -> None:
            def replica() -> None:
                number = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)
                # Without the reduction, replicas stay equal only if their gradients are equal.
                optimizer.apply([tf.constant(1.0) if changed else 1.0 + number], [variable])

            strategy.run(replica)

        step()
        for copy in strategy.experimental_local_results(variable.value):
            assert float(copy) == -moved


def test_apply_without_reduction_takes_summed_gradients(tmp_path: Path) -> None:
    done = Forked(_apply_on_two_devices, cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.returncode == 0, done.stderr
    assert not _compat.apply_without_reduction(object())


def test_joining_calls_the_c_interface_within_the_context_and_the_binding_outside() -> None:
    from tensorflow.python.eager import context
    binding, owner = context.pywrap_tfe, context.Context
    before = binding.TFE_EnableCollectiveOps, owner.configure_coordination_service
    context.ensure_initialized()
    with _compat.joining_in_background(1):
        assert binding.TFE_EnableCollectiveOps is not before[0]  # the private parts are there
        with pytest.raises(tf.errors.InvalidArgumentError, match="ServerDef"):  # the library's answer to nonsense
            binding.TFE_EnableCollectiveOps(context.context()._handle, b"\xff\0")
        settings = type("Settings", (owner,), {"__init__": lambda self: None, "_context_handle": None})()
        settings.configure_coordination_service("standalone")
        assert settings.coordination_service.cluster_register_timeout_in_ms == 1000
    assert before == (binding.TFE_EnableCollectiveOps, owner.configure_coordination_service)


def test_joining_is_unchanged_without_the_private_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorflow.python.eager import context
    before = context.pywrap_tfe.TFE_EnableCollectiveOps
    monkeypatch.delattr(context.Context, "configure_coordination_service")
    with _compat.joining_in_background(1):
        assert context.pywrap_tfe.TFE_EnableCollectiveOps is before


def test_producer_is_the_call_that_created_the_tensor() -> None:
    """The layer is called twice, which the public `layer.output` does not distinguish."""
    layer = keras.layers.Dense(3)
    images = keras.Input((3,))
    first = layer(images)
    second = layer(first)
    for tensor, before in ((first, images), (second, first)):
        call = _compat.producer(tensor)
        assert call.operation is layer and call.input_tensors[0] is before and call.output_tensors[0] is tensor
    assert layer.output is first  # if this distinguished the calls, the private part would no longer be needed


def test_calls_come_after_those_that_they_depend_on_branch_by_branch() -> None:
    images = keras.Input((3,))
    first, second = keras.layers.Dense(3, name="first")(images), keras.layers.Dense(3, name="second")(images)
    model = keras.Model(images, keras.layers.Add(name="sum")([keras.layers.Dense(3, name="third")(second), first]))
    assert [call.operation.name for call in _compat.calls(model)] == ["second", "third", "first", "sum"]


def test_keras_looks_for_downloaded_weights_in_the_given_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "file").write_text("weights")

    def found() -> str:
        return keras.utils.get_file("file", (tmp_path / "none").as_uri(), cache_subdir="models")

    with _compat.keras_folder(tmp_path):
        assert found() == str(tmp_path / "models" / "file")
    from keras.src.backend import config
    assert config.keras_home() != str(tmp_path)
    monkeypatch.delattr(config, "_KERAS_DIR")
    with _compat.keras_folder(tmp_path):
        assert not hasattr(config, "_KERAS_DIR")


def test_producer_of_an_object_without_a_call_history_is_a_clear_error() -> None:
    with pytest.raises(RuntimeError, match="networks cannot be described"):
        _compat.producer(object())
