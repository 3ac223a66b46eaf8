"""Where a run computes: its devices, the tf.distribute strategy over them, precision, and determinism."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfcnn import _compat, nvidia
from tfcnn.networks.layers.precision import computed_in
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import machines

# Difference between the seeds of a layer on neighbouring replicas. Any value works: different seeds have unrelated
# random streams.
_SEED_DISTANCE = 1_000_003

# Compute capability from which on NVIDIA's GPUs have TensorFloat-32.
_AMPERE = (8, 0)


def set_up(recipe: Recipe) -> None:
    """Sets the random seed of this process, and TensorFlow's arithmetic and determinism.

    Call it before the network is built.
    """
    keras.utils.set_random_seed(recipe.seed % 2**32)
    tf.config.experimental.enable_tensor_float_32_execution(recipe.tensor_float_32)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def precision(recipe: Recipe) -> Iterator[None]:
    """Within the context, layers are built with the recipe's precision, or what takes its place."""
    before = keras.config.dtype_policy()
    computed = computed_precision(recipe)
    keras.config.set_dtype_policy("float32" if computed == "float32" else f"mixed_{computed}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def computed_precision(recipe: Recipe) -> str:
    """The recipe's precision, or "float32" on a CPU that is slower in it, unless the recipe keeps it."""
    return recipe.precision if recipe.keep_precision else computed_in(recipe.precision)


def strategy(recipe: Recipe, devices: int = 0, cluster: str = "", wait: float = 0.0) -> tf.distribute.Strategy:
    """Returns a strategy over GPUs, or over logical CPU devices without a GPU, of one machine or of several.

    Args:
      recipe: its global batch must divide among the devices, and each device's share into `accumulate` parts.
      devices: devices per machine; 0 for every GPU, or one CPU device.
      cluster: where the workers are described, see `tfcnn.training.machines.cluster`.
      wait: minutes to wait for the other workers at most; 0 for without end.

    Raises:
      UsageError: there are not enough devices or less than none, the batch does not divide, or the cluster is invalid.
      MachineLost: the other workers did not come in time.
    """
    if devices < 0:
        raise UsageError(f"--devices={devices} must be at least 0")
    workers = machines.cluster(cluster, wait)
    # A card may be divided into several logical GPUs. To list them starts the runtime, which a cluster must be joined
    # before.
    gpus = tf.config.list_physical_devices("GPU")
    if gpus and not workers:
        gpus = tf.config.list_logical_devices("GPU")
    count = devices or len(gpus) or 1
    replicas = count * (len(workers.addresses) if workers else 1)
    if recipe.batch_size % (replicas * recipe.accumulate):
        raise UsageError(f"--batch_size={recipe.batch_size} does not divide among --devices={count}"
                         + (f" on each of {len(workers.addresses)} machines" if workers else "")
                         + (f" in --accumulate={recipe.accumulate} parts" if recipe.accumulate > 1 else ""))
    if gpus and count > len(gpus):
        raise UsageError(f"--devices={count} is more than the {len(gpus)} GPUs of this machine")
    if workers:
        if count > 1 and not gpus:
            raise UsageError(f"--devices={count}: without a GPU a machine of a cluster has one device; "
                             "start several processes on it instead")
        return machines.join(workers, count if gpus else 0)
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    if count > 1:
        _divide_cpu(count)
    # MirroredStrategy's default collective for CPU devices fails when a process trains a second model.
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)],
                                          cross_device_ops=tf.distribute.ReductionToOneDevice())


def gpus() -> list[dict[str, str]]:
    """The name and the compute capability of each GPU of this machine."""
    return [{name: str(value) for name, value in details.items()} for details in _details()]


def cuda() -> dict[str, str]:
    """The versions of the NVIDIA GPUs' driver, and of CUDA and cuDNN in this process; nothing without a GPU."""
    drivers = {driver for _, driver in nvidia.cards()} if _details() else set()
    return {"driver": drivers.pop()} | nvidia.libraries() if drivers else {}


def arithmetic(recipe: Recipe) -> str:
    """What layers multiply in: `computed_precision`, or "tensor_float_32" where a GPU multiplies float32 in that."""
    has_tensor_float_32 = any(details.get("compute_capability", (0, 0)) >= _AMPERE for details in _details())
    computed = computed_precision(recipe)
    replaced = computed == "float32" and recipe.tensor_float_32 and has_tensor_float_32
    return "tensor_float_32" if replaced else computed


def _details() -> list[dict[str, Any]]:
    """What TensorFlow says about each GPU."""
    return [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]


def distribute(strategy: tf.distribute.Strategy, batches: tf.data.Dataset) -> Iterator:
    """Returns an iterator of global batches, each divided among the devices."""
    if _is_one_cpu(strategy):
        return iter(batches)
    with _compat.untuned_device_datasets():
        return iter(strategy.experimental_distribute_dataset(batches))


def distribute_from(strategy: tf.distribute.Strategy,
                    worker_batches: Callable[[tf.distribute.InputContext], tf.data.Dataset]) -> Iterator:
    """Returns an iterator of global batches of which each worker makes its own part.

    Args:
      strategy: the devices.
      worker_batches: returns the batches of one worker's replicas, one after the other.
    """
    if _is_one_cpu(strategy):
        return iter(worker_batches(tf.distribute.InputContext()))
    with _compat.untuned_device_datasets():
        return iter(strategy.distribute_datasets_from_function(worker_batches))


def _is_one_cpu(strategy: tf.distribute.Strategy) -> bool:
    """Whether batches need no distribution, which costs a core at least 0.2 ms per batch."""
    return strategy.num_replicas_in_sync == 1 and "CPU" in strategy.extended.worker_devices[0]


def set_synchronization(recipe: Recipe, strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Sets whether batch normalization uses the statistics of all devices, as the recipe says.

    Raises:
      UsageError: it would have to exchange them within code that XLA compiles.
    """
    normalizations = batch_normalizations(model)
    for layer in normalizations:
        layer.synchronized = recipe.synchronize
    if normalizations and recipe.synchronize and recipe.execution == "xla" and strategy.num_replicas_in_sync > 1:
        raise UsageError(f"--execution=xla cannot synchronize batch normalization over "
                         f"{strategy.num_replicas_in_sync} devices; use --execution=graph, or --nosynchronize")


def batch_normalizations(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The model's batch normalization layers, ours and Keras's."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def separate_seeds(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Gives each replica its own random numbers, in dropout for example. Call it again after restoring a checkpoint.

    The state of a seed generator is a pair (seed, number of draws), of which each replica has a copy. Keras initializes
    all copies alike. The first replica keeps its seed; its copy is the one in a checkpoint.
    """
    replicas = strategy.experimental_local_results(strategy.experimental_distribute_values_from_function(
        lambda context: context.replica_id_in_sync_group))
    for generator in seed_generators(model):
        seed, draws = generator.numpy()
        for replica, copy in zip(replicas, strategy.experimental_local_results(generator.value), strict=True):
            copy.assign([seed + replica * _SEED_DISTANCE, draws])


def seed_generators(model: keras.Model) -> list[keras.Variable]:
    """The states of the random layers, which Keras does not list among a model's weights."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _divide_cpu(count: int) -> None:
    """Divides the CPU into at least `count` logical devices."""
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # TensorFlow is initialized already
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UsageError(f"--devices={count}: this process has already used TensorFlow with fewer devices; "
                             "start a new one") from error
