"""Every entry of `tfcnn._compat`: it does what it says, and the private part is still there and still needed."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.conftest import environment
from tests.forked import Forked
from tfcnn import _compat


def _gather_in_a_worker(index: int) -> None:
    """Gathers twice under one name, and by the public function, after a trace that only one worker does."""
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


def test_gathering_from_workers_is_all_gather_whichever_worker_traces_again(tmp_path: Path) -> None:
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


def test_reading_records_agrees_with_reading_one_at_a_time(tmp_path: Path) -> None:
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
    assert hasattr(records, "__getitems__")  # several at a time; if not, `read_records` is no longer needed
    assert _compat.read_records([b"a", b"b", b"c"], [2, 0]) == [b"c", b"a"]  # a source without it
