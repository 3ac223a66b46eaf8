"""Optimizers and learning-rate schedules, from the recipe."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfcnn.recipe import Recipe


def kernels(variables: list[keras.Variable]) -> list[keras.Variable]:
    """The variables that penalties and weight decay act on: not biases, scales and shifts, nor PReLU's slopes."""
    return [variable for variable in variables if variable.name == "kernel"]


def optimizer(recipe: Recipe, rate: keras.optimizers.schedules.LearningRateSchedule,
              variables: list[keras.Variable]) -> keras.optimizers.Optimizer:
    """Keras's optimizer of the recipe, with its weight decay, moving average and loss scaling, built.

    Under several replicas it wants gradients that have been added up already.

    Args:
      recipe: what to make.
      rate: its `schedule`.
      variables: what is to be optimized.
    """
    name = recipe.optimizer
    momentum = recipe.momentum
    common = {
        "learning_rate": rate,
        # None spares the others a pass over the weights; AdamW takes None for its own default.
        "weight_decay": recipe.weight_decay if recipe.weight_decay or name == "adamw" else None,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema,
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
    _do_not_reduce(chosen)
    if recipe.precision == "float16":
        chosen = keras.optimizers.LossScaleOptimizer(chosen)
    chosen.build(variables)
    return chosen


@keras.saving.register_keras_serializable(package="tfcnn")
class SGD(keras.optimizers.SGD):
    """`keras.optimizers.SGD`, which updates a weight and its momentum by one operation of TensorFlow's, not by four."""

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        velocity = self.momentums[self._get_variable_index(variable)].value
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle, accum=velocity.handle, lr=learning_rate, grad=gradient, momentum=self.momentum,
            use_nesterov=self.nesterov)


def _do_not_reduce(chosen: keras.optimizers.Optimizer) -> None:
    """Keeps a Keras optimizer from adding up the gradients of all replicas itself.

    It would do so where neither norms nor clipping can reach the sum, and to add them up twice is to send them twice.
    Keras has no argument for it, only this method.
    """
    if not hasattr(chosen, "_all_reduce_sum_gradients"):
        raise RuntimeError("this version of Keras adds up gradients by another method than _all_reduce_sum_gradients")
    chosen._all_reduce_sum_gradients = list


def inner(chosen: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """The optimizer that holds the schedule and the moving averages, without loss scaling around it."""
    return chosen.inner_optimizer if isinstance(chosen, keras.optimizers.LossScaleOptimizer) else chosen


def schedule(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the step.

    The rate rises linearly from 0 over the warm-up. The schedules `step`, `exponential` and `inverse_time` count their
    epochs from the start of training; `cosine` and `one_cycle` end at zero with the last step of the last epoch. With
    `plateau_epochs` it is a `Plateau`, whose factor the training loop sets.
    """
    peak = recipe.learning_rate
    warmup = recipe.warmup_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    points = [point * steps_per_epoch for point in recipe.decay_points()]
    schedules = keras.optimizers.schedules
    if recipe.schedule == "step":
        # At a boundary itself Keras still gives the old rate; the new one is wanted from that step on.
        boundaries = [math.ceil(point) - 1 for point in points]
        rates = [peak * recipe.decay_rate ** drops for drops in range(len(points) + 1)]
        after = schedules.PiecewiseConstantDecay(boundaries, rates)
    elif recipe.schedule == "exponential":
        after = schedules.ExponentialDecay(peak, points[0], recipe.decay_rate)
    elif recipe.schedule == "inverse_time":
        after = schedules.InverseTimeDecay(peak, points[0], recipe.decay_rate)
    elif recipe.schedule == "cosine":
        after = Cosine(peak, warmup, total)
    elif recipe.schedule == "one_cycle":
        after = OneCycle(peak, warmup, total)
    else:
        after = schedules.PiecewiseConstantDecay([total], [peak, peak])
    planned = Warmup(after, warmup) if warmup else after
    return Plateau(planned) if recipe.plateau_epochs else planned


@keras.saving.register_keras_serializable(package="tfcnn")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule multiplied by step / steps during the first steps (Goyal et al. 2017, section 2.2)."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: float) -> None:
        self.schedule = schedule
        self.steps = steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        rate = self.schedule(step)
        # Counting from one: a first step with a rate of zero would be a step lost.
        return rate * tf.minimum((tf.cast(step, rate.dtype) + 1.0) / self.steps, 1.0)

    def get_config(self) -> dict:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps}

    @classmethod
    def from_config(cls, config: dict) -> Warmup:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"])


@keras.saving.register_keras_serializable(package="tfcnn")
class Plateau(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule multiplied by a factor that is set from outside, and that compiled steps heed.

    Attributes:
      factor: a variable, 1 at first.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule) -> None:
        self.schedule = schedule
        self.factor = tf.Variable(1.0, trainable=False, name="plateau_factor")

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        return self.schedule(step) * self.factor

    def get_config(self) -> dict:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule)}

    @classmethod
    def from_config(cls, config: dict) -> Plateau:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]))


class _Span(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that is a function of how much of the steps from `start` to `end` is done."""

    def __init__(self, peak: float, start: float, end: float) -> None:
        self.peak = peak
        self.start = start
        self.end = end

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        done = (tf.cast(step, tf.float32) - self.start) / max(self.end - self.start, 1.0)
        return self.peak * self._factor(tf.clip_by_value(done, 0.0, 1.0))

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError

    def get_config(self) -> dict:
        return {"peak": self.peak, "start": self.start, "end": self.end}


@keras.saving.register_keras_serializable(package="tfcnn")
class Cosine(_Span):
    """Half a cosine from the peak to zero (Loshchilov and Hutter 2017, equation 5, without restarts)."""

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        return 0.5 * (1.0 + tf.cos(math.pi * done))


@keras.saving.register_keras_serializable(package="tfcnn")
class OneCycle(_Span):
    """A line up from a 25th of the peak over the first 30% of the steps, then half a cosine down to zero.

    Smith and Topin 2018, "Super-convergence", with the division and the shares that became customary.
    """

    rise = 0.3
    division = 25.0

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        up = 1.0 / self.division + (1.0 - 1.0 / self.division) * done / self.rise
        down = 0.5 * (1.0 + tf.cos(math.pi * (done - self.rise) / (1.0 - self.rise)))
        return tf.where(done < self.rise, up, down)
