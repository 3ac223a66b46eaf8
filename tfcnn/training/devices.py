"""Where a run computes: which devices, under which tf.distribute strategy, in which precision, and how repeatably."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from tfcnn.recipe import Recipe, UsageError


def set_up(recipe: Recipe) -> None:
    """Sets this process's seeds and determinism. Call it before the network is built."""
    keras.utils.set_random_seed(recipe.seed % 2**32)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def precision(recipe: Recipe) -> Iterator[None]:
    """Within the context layers are built for the recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32" if recipe.precision == "float32" else f"mixed_{recipe.precision}")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def strategy(recipe: Recipe, devices: int = 0) -> tf.distribute.MirroredStrategy:
    """A strategy over GPUs, or over logical CPU devices where there is no GPU.

    Args:
      recipe: its global batch must divide among the devices.
      devices: how many; 0 for every GPU, or one CPU device.

    Raises:
      UsageError: there are not so many devices, or the batch does not divide.
    """
    gpus = tf.config.list_physical_devices("GPU")
    count = devices or len(gpus) or 1
    if count < 1 or recipe.batch_size % count:
        raise UsageError(f"--batch_size={recipe.batch_size} does not divide among --devices={count}")
    if gpus:
        if count > len(gpus):
            raise UsageError(f"--devices={count} is more than the {len(gpus)} GPUs of this machine")
        return tf.distribute.MirroredStrategy([f"GPU:{index}" for index in range(count)])
    if count > 1:
        _divide_cpu(count)
    # MirroredStrategy's default collective for CPU devices fails when a process trains a second model.
    return tf.distribute.MirroredStrategy([f"CPU:{index}" for index in range(count)],
                                          cross_device_ops=tf.distribute.ReductionToOneDevice())


def _divide_cpu(count: int) -> None:
    """Makes the CPU at least `count` logical devices."""
    try:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:  # TensorFlow has started, with the devices it then had
        if len(tf.config.list_logical_devices("CPU")) < count:
            raise UsageError(f"--devices={count}: this process has already used TensorFlow with fewer devices; "
                             "start a new one") from error
