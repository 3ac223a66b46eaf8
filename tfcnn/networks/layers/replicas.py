"""Communication between the replicas of one training step: the values of all of them, and their sum.

Each replica must call these functions in the same order, and with tensors of the same shape.
"""

from __future__ import annotations

import tensorflow as tf

from tfcnn import _compat


def gather(x: tf.Tensor, context: tf.distribute.ReplicaContext, name: str) -> tf.Tensor:
    """Collects a tensor from all replicas.

    Args:
      x: the tensor of this replica, of a known shape.
      context: the replica context.
      name: names the exchange; the same on all replicas.

    Returns:
      `[replicas, *x.shape]`, the same on all replicas.
    """
    if _has_one_cpu_per_worker(context):
        return _compat.gather_from_workers(x, context.num_replicas_in_sync, name)
    row = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync)
    return sum_over_replicas(tf.reshape(row, [-1] + [1] * len(x.shape)) * x, context, name)


def sum_over_replicas(x: tf.Tensor, context: tf.distribute.ReplicaContext, name: str) -> tf.Tensor:
    """Adds up a tensor over all replicas; the arguments are those of `gather`.

    Returns:
      The sum, of the shape of `x`, the same on all replicas.
    """
    if _has_one_cpu_per_worker(context):
        return tf.reduce_sum(_compat.gather_from_workers(x, context.num_replicas_in_sync, name), axis=0)
    # all_reduce searches the graph for variables that `x` depends on, at each call through the graphs of all replicas:
    # two minutes for Inception. The search stops at stop_gradient.
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(x))


def _has_one_cpu_per_worker(context: tf.distribute.ReplicaContext) -> bool:
    return (isinstance(context.strategy, tf.distribute.MultiWorkerMirroredStrategy)
            and not tf.config.list_physical_devices("GPU"))
