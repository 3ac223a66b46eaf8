"""Where a run computes: which devices, under which tf.distribute strategy, in which precision, and how repeatably."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.data.ops import multi_device_iterator_ops

from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import machines

# Between the seeds of one layer on neighbouring replicas. Any number does: two seeds have unrelated streams.
_SEED_DISTANCE = 1_000_003

_LOWEST_PRIORITY = 19

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8


def _without_tuning(make: Callable[..., tf.data.Dataset]) -> Callable[..., tf.data.Dataset]:
    """What makes the data set of one device for tf.distribute, but without autotuning.

    Autotuning has a thread that sleeps for up to a minute, and an iterator's destruction may wait until it wakes: after
    the last epoch, or at the end of the process. No public option reaches these data sets.
    """
    @functools.wraps(make)
    def made(*arguments: Any) -> tf.data.Dataset:
        options = tf.data.Options()
        options.autotune.enabled = False
        return make(*arguments).with_options(options)

    return made


if hasattr(multi_device_iterator_ops, "_create_device_dataset"):  # else there is a wait now and then
    multi_device_iterator_ops._create_device_dataset = _without_tuning(multi_device_iterator_ops._create_device_dataset)


def set_up(recipe: Recipe) -> None:
    """Sets this process's seeds, determinism and use of memory. Call it before the network is built."""
    _keep_freed_memory()
    keras.utils.set_random_seed(recipe.seed % 2**32)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def giving_way() -> Iterator[None]:
    """Threads that start within the context run where otherwise a core would be idle: those that prepare batches.

    A training step on the CPU is made of operations that use all cores, and each of them waits for the core that is
    busy with the next batch. Where a GPU does the step, the batches have all of the CPU anyway. The threads keep a
    share of the time, a 68th of another thread's, where a program beside this one leaves no core idle.
    """
    before = set(_threads())
    yield
    if not tf.config.list_physical_devices("GPU"):
        for thread in set(_threads()) - before:
            with suppress(OSError):  # it has ended
                os.setpriority(os.PRIO_PROCESS, thread, _LOWEST_PRIORITY)


def _threads() -> list[int]:
    """This process's threads; none where the system does not tell them, and has but one priority for all of them."""
    folder = Path("/proc/self/task")
    return [int(thread.name) for thread in folder.iterdir()] if folder.exists() else []


def _keep_freed_memory() -> None:
    """Has the C library keep the memory of one training step for the next one.

    By default glibc gives arrays above 32 MiB, and what is free at the end of its heap, back to the system, which then
    clears each page when it is used again: thousands of them a step, 5 to 10% of the time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # only glibc has these options
    if mallopt:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_M_ARENA_MAX, 1)


@contextmanager
def precision(recipe: Recipe) -> Iterator[None]:
    """Within the context layers are built for the recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if recipe.precision == "float32" else f"mixed_{recipe.precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy(recipe: Recipe, devices: int = 0, cluster: str = "") -> tf.distribute.Strategy:
    """A strategy over GPUs, or over logical CPU devices where there is no GPU, of this machine or of several.

    Args:
      recipe: its global batch must divide among the devices, and each device's share into the recipe's parts.
      devices: how many of a machine; 0 for every GPU, or one CPU device.
      cluster: where the other machines are described, see `tfcnn.training.machines.cluster`.

    Raises:
      UsageError: there are not so many devices, the batch does not divide, or the cluster makes no sense.
    """
    gpus = tf.config.list_physical_devices("GPU")
    together = machines.cluster(cluster)
    count = devices or len(gpus) or 1
    replicas = count * (len(together.addresses) if together else 1)
    if count < 1 or recipe.batch_size % (replicas * recipe.accumulate):
        raise UsageError(f"--batch_size={recipe.batch_size} does not divide among --devices={count}"
                         + (f" on each of {len(together.addresses)} machines" if together else "")
                         + (f" in --accumulate={recipe.accumulate} parts" if recipe.accumulate > 1 else ""))
    if gpus and count > len(gpus):
        raise UsageError(f"--devices={count} is more than the {len(gpus)} GPUs of this machine")
    if together:
        if count > 1 and not gpus:
            raise UsageError(f"--devices={count}: without a GPU a machine of a cluster has one device; "
                             "start several processes on it instead")
        return machines.join(together, count if gpus else 0)
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    if count > 1:
        _divide_cpu(count)
    # MirroredStrategy's default collective for CPU devices fails when a process trains a second model.
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)],
                                          cross_device_ops=tf.distribute.ReductionToOneDevice())


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Iterable[Any]:
    """Global batches, divided among the devices, as iterators of them are given to `Steps`."""
    return batches if _one_cpu(strategy) else strategy.experimental_distribute_dataset(batches)


def distribute_from(strategy: tf.distribute.Strategy,
                    pieces: Callable[[tf.distribute.InputContext], tf.data.Dataset]) -> Iterable[Any]:
    """Likewise of each machine's data set of its own pieces of the global batches."""
    if _one_cpu(strategy):
        return pieces(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(pieces)


def _one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether batches can be taken as they are: what tf.distribute does with each takes a core 0.2 ms and more."""
    return strategy.num_replicas_in_sync == 1 and "CPU" in strategy.extended.worker_devices[0]


def set_synchronization(recipe: Recipe, strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Has the model's batch normalization exchange its statistics between the devices, or not, as the recipe wants.

    Raises:
      UsageError: it would exchange them from within what XLA compiles.
    """
    normalizations = batch_normalizations(model)
    for layer in normalizations:
        layer.synchronized = recipe.synchronize
    if normalizations and recipe.synchronize and recipe.execution == "xla" and strategy.num_replicas_in_sync > 1:
        raise UsageError(f"--execution=xla cannot synchronize batch normalization over "
                         f"{strategy.num_replicas_in_sync} devices; use --execution=graph, or --nosynchronize")


def batch_normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The model's layers of batch normalization, ours or Keras's."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def separate_seeds(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Makes each replica draw its own random numbers, in dropout for one. Call it also after restoring a checkpoint.

    A layer's seed generator is a pair (seed, draws so far), of which each replica has a copy and counts by itself;
    Keras starts all copies alike. The first replica keeps what Keras gave it, and its copy is the one that is saved.
    """
    replicas = strategy.experimental_local_results(strategy.experimental_distribute_values_from_function(
        lambda context: context.replica_id_in_sync_group))
    for generator in seed_generators(model):
        seed, draws = generator.numpy()
        for replica, copy in zip(replicas, strategy.experimental_local_results(generator.value), strict=True):
            copy.assign([seed + replica * _SEED_DISTANCE, draws])


def seed_generators(model: keras.Model) -> list[keras.Variable]:
    """The states of the random layers, which Keras does not count among a model's weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _divide_cpu(count: int) -> None:
    """Makes the CPU at least `count` logical devices."""
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # TensorFlow has started, with the devices it then had
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UsageError(f"--devices={count}: this process has already used TensorFlow with fewer devices; "
                             "start a new one") from error
