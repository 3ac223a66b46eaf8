"""The learning-rate schedule of a recipe."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from tfcnn.recipe import Recipe


def schedule(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate as a function of the step, counted from 0, without steps that float16 has skipped.

    During warm-up the rate rises linearly from 0. `step` counts epochs from the start of training; `exponential`,
    `inverse_time` and `cosine` begin at the end of the warm-up. `one_cycle` and `triangle` have a rise of their own,
    which takes the place of the warm-up. `cosine` and `one_cycle` reach zero at the end of the last epoch, `triangle`
    0.07 of the peak. With `plateau_epochs` the result is a `Plateau`, whose factor the training loop sets.
    """
    peak = recipe.learning_rate
    warmup = 0.0 if recipe.schedule in ("one_cycle", "triangle") else recipe.warmup_epochs * steps_per_epoch
    total = recipe.epochs * steps_per_epoch
    points = [point * steps_per_epoch for point in recipe.decay_points()]
    schedules = keras.optimizers.schedules
    if recipe.schedule == "step":
        # Keras still returns the old rate at the boundary itself; ours changes at that step.
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
        after = OneCycle(peak, 0.0, total)
    elif recipe.schedule == "triangle":
        after = Triangle(peak, 0.0, total)
    else:
        after = schedules.PiecewiseConstantDecay([total], [peak, peak])
    begins_after = recipe.schedule in ("exponential", "inverse_time")
    planned = Warmup(after, warmup, begins_after) if warmup else after
    return Plateau(planned) if recipe.plateau_epochs else planned


@keras.saving.register_keras_serializable(package="tfcnn")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule multiplied by (step + 1) / steps during the first `steps` steps (Goyal et al. 2017, section 2.2).

    With `begins_after` the schedule stays at its first value until then, and counts its steps from there.
    """

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: float,
                 begins_after: bool = False) -> None:
        self.schedule = schedule
        self.steps = steps
        self.begins_after = begins_after

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        rate = self.schedule(tf.maximum(tf.cast(step, tf.float32) - self.steps, 0.0) if self.begins_after else step)
        # Counted from one: with a rate of zero, the first step would change nothing.
        return rate * tf.minimum((tf.cast(step, rate.dtype) + 1.0) / self.steps, 1.0)

    def get_config(self) -> dict:
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "steps": self.steps,
                "begins_after": self.begins_after}

    @classmethod
    def from_config(cls, config: dict) -> Warmup:
        return cls(keras.saving.deserialize_keras_object(config["schedule"]), config["steps"],
                   config.get("begins_after", False))


@keras.saving.register_keras_serializable(package="tfcnn")
class Plateau(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule multiplied by a factor that the training loop changes.

    Attributes:
      factor: a variable, so that compiled steps read its current value; initially 1.
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
    """`peak` times a function of the fraction of steps done from `start` to `end`."""

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
    """Half a cosine from the peak to zero (Loshchilov and Hutter 2017, equation 5, without restarts).

    Not Keras's `CosineDecay`: compiled, it rounds differently at up to a fifth of the steps, and has a branch per step.
    """

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        return 0.5 * (1.0 + tf.cos(math.pi * done))


@keras.saving.register_keras_serializable(package="tfcnn")
class OneCycle(_Span):
    """Linear from 1/25 of the peak to the peak over the first 30% of the steps, then half a cosine to zero.

    Smith and Topin 2018, "Super-convergence", with the constants that are now usual (PyTorch's `OneCycleLR`).
    """

    rise = 0.3
    division = 25.0

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        up = 1.0 / self.division + (1.0 - 1.0 / self.division) * done / self.rise
        down = 0.5 * (1.0 + tf.cos(math.pi * (done - self.rise) / (1.0 - self.rise)))
        return tf.where(done < self.rise, up, down)


@keras.saving.register_keras_serializable(package="tfcnn")
class Triangle(_Span):
    """Linear from 0.2 of the peak to the peak over the first 23% of the steps, then linear to 0.07 of the peak.

    Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU": the constants of the released airbench94.py.
    """

    rise = 0.23
    first = 0.2
    last = 0.07

    def _factor(self, done: tf.Tensor) -> tf.Tensor:
        up = self.first + (1.0 - self.first) * done / self.rise
        down = 1.0 - (1.0 - self.last) * (done - self.rise) / (1.0 - self.rise)
        return tf.minimum(up, down)
