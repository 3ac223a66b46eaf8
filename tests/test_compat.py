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
