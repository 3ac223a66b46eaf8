"""Averages of the weights, which are evaluated and kept instead of the weights of the last step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf


class Averages:
    """A second value of each of a model's weights.

    Weights of frozen layers do not change and have none.

    Attributes:
      variables: the averages, in the order of `model.weights`, without those of frozen layers; part of a
        checkpoint.
    """

    def __init__(self, strategy: tf.distribute.Strategy, model: keras.Model, averaged: bool = True) -> None:
        """Args:
          strategy: the devices.
          model: the network.
          averaged: whether there are any averages.
        """
        frozen = {id(weight) for layer in model.layers if not layer.trainable for weight in layer.weights}
        self._weights = [weight for weight in model.weights if id(weight) not in frozen] if averaged else []
        # Each replica averages its own copy of the weights. All copies are equal, so nothing needs to be exchanged.
        with strategy.scope():
            self.variables = [
                tf.Variable(tf.zeros(weight.shape, weight.dtype), trainable=False,
                            synchronization=tf.VariableSynchronization.ON_READ,
                            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA) for weight in self._weights]

    def update(self, step: tf.Tensor) -> None:
        """Averages the present weights. Call it in a replica's context after each step; `step` counts from 1."""
        raise NotImplementedError

    def assign(self) -> None:
        """Gives the model its averaged weights, if there are any."""
        for average, weight in zip(self.variables, self._weights):
            weight.assign(average.numpy())

    @contextmanager
    def assigned(self) -> Iterator[None]:
        """Within the context, the model's weights are their averages, if there are any."""
        latest = [weight.numpy() for weight in self._weights]
        self.assign()
        try:
            yield
        finally:
            for weight, value in zip(self._weights, latest):
                weight.assign(value)


class MovingAverages(Averages):
    """Exponential moving averages of a model's weights; none if the decay is 0.

    After step n the average of a weight w is

        a <- a + (1 - d) (w - a),  where d = min(decay, n / (n + 9)), and d = 0 in the first step

    A constant decay would leave the first weights a share of decay^n in the average, which is most of it for the first
    1 / (1 - decay) steps. The decay that grows is that of `tf.train.ExponentialMovingAverage(decay, num_updates)`, with
    which TensorFlow's CIFAR-10 tutorial and Inception's first release averaged their weights: until n / (n + 9) reaches
    the decay, the average is over about the last tenth of the steps. Adam's correction, a division by 1 - decay^n,
    would give the weights of all these steps equal shares, so that the first, bad ones count as much as the latest.

    The moving statistics of batch normalization are averaged likewise, as in Inception's release: the latest ones are
    of other weights.

    A step that float16's loss scaling skips leaves the weights, which then count once more.
    """

    def __init__(self, decay: float, strategy: tf.distribute.Strategy, model: keras.Model) -> None:
        super().__init__(strategy, model, averaged=decay > 0)
        self._decay = decay

    def update(self, step: tf.Tensor) -> None:
        """Adds the present weights. Call it in a replica's context after each step; `step` counts from 1."""
        if not self.variables:
            return
        number = tf.cast(step, tf.float32)
        decay = tf.where(number > 1, tf.minimum(self._decay, number / (number + 9)), 0.0)
        for average, weight in zip(self.variables, self._weights):
            average.assign_add((1 - decay) * (weight.value - average))
