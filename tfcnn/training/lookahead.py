"""Lookahead: every few steps the optimizer goes back a part of its way and starts again from there.

Source: Zhang, Lucas, Hinton and Ba 2019, "Lookahead optimizer: k steps forward, 1 step back". The part grows during
training, and moving statistics go back, too, as in Jordan 2024 (the code of airbench94).
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfcnn.training.averages import Averages

_DECAY = 0.95


class Lookahead(Averages):
    """Slow weights that follow the optimizer's; they are evaluated and kept.

    After every `interval` steps, at step t of T, slow weights s and the optimizer's fast ones w become

        s, w <- w + d (s - w),  where d = 0.95^interval * (t / T)^3

    so that a training goes on nearly undisturbed at its beginning and is averaged at its end. Until the first move the
    slow weights are the first ones. The optimizer's momentum stays as it is. A step that float16's loss scaling skips
    is not counted; right after a move, it may move the statistics of batch normalization once more.
    """

    def __init__(self, interval: int, total_steps: int, strategy: tf.distribute.Strategy, model: keras.Model) -> None:
        """Args:
          interval: the number of steps, at least 1.
          total_steps: T, the steps of the whole training, at least 1. A benchmark may go on: later, t / T stays 1.
          strategy: the devices.
          model: the network, whose present weights are the first slow ones.

        Raises:
          ValueError: `total_steps` is less than 1.
        """
        if total_steps < 1:
            raise ValueError(f"Lookahead needs the steps of the whole training, which are not {total_steps}")
        super().__init__(strategy, model)
        self._interval = interval
        self._total_steps = total_steps
        for slow, weight in zip(self.variables, self._weights):
            slow.assign(weight.value)

    def update(self, step: tf.Tensor) -> None:
        """Moves both where it is time. Call it in a replica's context after each step; `step` counts from 1."""
        tf.cond(step % self._interval == 0, lambda: self._move(step), lambda: None)

    def _move(self, step: tf.Tensor) -> None:
        done = tf.minimum(tf.cast(step, tf.float32) / self._total_steps, 1.0)
        decay = _DECAY ** self._interval * done ** 3
        for slow, weight in zip(self.variables, self._weights):
            slow.assign_add((1 - decay) * (weight.value - slow))
            # To this replica's copy: `weight.assign` would want to know how copies that differ are to be merged.
            tf.raw_ops.AssignVariableOp(resource=weight.value.handle, value=slow)
