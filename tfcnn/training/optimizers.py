"""The optimizer of a recipe; its learning rate is from `schedules.py`."""

from __future__ import annotations

import keras
import tensorflow as tf

from tfcnn import _compat
from tfcnn.recipe import Recipe, UsageError


def kernels(variables: list[keras.Variable]) -> list[keras.Variable]:
    """The variables subject to penalties and weight decay: no biases, scales, shifts, or slopes of PReLU."""
    return [variable for variable in variables if variable.name == "kernel"]


def optimizer(recipe: Recipe, rate: keras.optimizers.schedules.LearningRateSchedule,
              variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """Returns the recipe's optimizer, built, with its weight decay and loss scaling.

    Its `apply` takes gradients that are already summed over the replicas.

    Args:
      recipe: determines the optimizer.
      rate: its learning rate, from `schedules.schedule`.
      variables: the variables to optimize.

    Raises:
      UsageError: this version of Keras cannot take summed gradients, and there are several replicas.
    """
    name = recipe.optimizer
    momentum = recipe.momentum
    common = {
        "learning_rate": rate,
        # None saves a pass over the weights; for AdamW it means its default of 0.004.
        "weight_decay": recipe.weight_decay if recipe.weight_decay or name == "adamw" else None,
    }
    if name in ("sgd", "momentum", "nesterov"):
        chosen = SGD(momentum=0.0 if name == "sgd" else momentum, nesterov=name == "nesterov", **common)
    elif name == "rmsprop":
        chosen = keras.optimizers.RMSprop(momentum=momentum, **common)
    else:
        kinds = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW, "adagrad": keras.optimizers.Adagrad}
        chosen = kinds[name](**common)
    decayed = {id(variable) for variable in kernels(variables)}
    chosen.exclude_from_weight_decay(var_list=[variable for variable in variables if id(variable) not in decayed])
    if not _compat.apply_without_reduction(chosen) and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise UsageError(f"Keras {keras.__version__} cannot train on several devices with this version of tfcnn; use "
                         "--devices=1, or Keras 3.15")
    # On a CPU that computes in float32 instead, too, so that a run can be resumed on another machine.
    if recipe.precision == "float16":
        chosen = keras.optimizers.LossScaleOptimizer(chosen)
    chosen.build(variables)
    return chosen


@keras.saving.register_keras_serializable(package="tfcnn")
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD` that updates a weight and its velocity in one operation of TensorFlow instead of four.

    The operation is `ResourceApplyKerasMomentum`, v <- momentum * v - rate * gradient, w <- w + v; it reads and writes
    half as much memory (docs/performance.md#what-made-it-faster).
    """

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        # Under a strategy, `update_step` gets the copy of a variable on one device; its velocity is on the same device.
        local = tf.distribute.get_strategy().experimental_local_results
        velocities = {
            copy.ref(): velocity for variable, momentum in zip(variables, self.momentums)
            for copy, velocity in zip(local(variable.value), local(momentum.value), strict=True)}
        self._velocity = velocities.__getitem__  # a dictionary as an attribute would become part of checkpoints

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle, accum=self._velocity(variable.ref()).handle, lr=learning_rate, grad=gradient,
            momentum=self.momentum, use_nesterov=self.nesterov)


def inner(chosen: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer inside the loss scaling; it has the schedule and the number of steps."""
    return chosen.inner_optimizer if isinstance(chosen, keras.optimizers.LossScaleOptimizer) else chosen
