"""The compiled computations of a run: training steps, many per call, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfcnn.recipe import Recipe
from tfcnn.trained import prediction
from tfcnn.training import devices, optimizers
from tfcnn.training.averages import MovingAverages
from tfcnn.training.lookahead import Lookahead


_SHIFT = "beta"  # Keras's name of batch normalization's shifts

# AutoGraph is only needed for the loops over steps. Converting everything that they call takes half a second.
_unconverted = tf.autograph.experimental.do_not_convert


class Steps:
    """Training and evaluation of one model under a distribution strategy.

    Of a model with several outputs, the first are the logits and the others are auxiliary heads. Their losses, weighted
    by the recipe's `auxiliary_weight`, are part of the objective, but of no reported number.

    Attributes:
      run: (iterator of batches, number of steps) -> [steps, 3 + variables], float32. For each step: the mean loss of
        the global batch without penalties and auxiliary heads; the accuracy; the norm of the gradient before clipping;
        and the norm of the gradient of each variable. The norms are 0 in steps that float16's loss scaling skips.
      evaluate: (iterator of weighted batches, number of batches) -> [3], float32: sums of the weighted losses (without
        label smoothing), of the weights of the correctly classified images, and of all weights.
      averages: the moving averages of the weights, or Lookahead's slow ones, if the recipe has them.
    """

    def __init__(self, recipe: Recipe, strategy: tf.distribute.Strategy, model: keras.Model,
                 optimizer: keras.optimizers.Optimizer, total_steps: int = 0) -> None:
        """Args:
          recipe: determines the computations.
          strategy: the devices.
          model: the network.
          optimizer: built for its weights.
          total_steps: the steps of the whole training; only Lookahead needs them.
        """
        self._recipe = recipe
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._variables = model.trainable_variables
        self._kernels = optimizers.kernels(self._variables)
        self.averages = (Lookahead(recipe.lookahead, total_steps, strategy, model) if recipe.lookahead
                         else MovingAverages(recipe.ema, strategy, model))
        # Moving averages that each replica updates from its own images, if batch normalization is not synchronized.
        self._moving = [] if recipe.synchronize else [
            average for layer in devices.batch_normalizations(model) if layer.trainable
            for average in (layer.moving_mean, layer.moving_variance)]
        # XLA cannot compile the exchange between devices, so it compiles only what precedes it: nearly all of the work.
        self._gradients = tf.function(self._compute_gradients, jit_compile=True) if recipe.execution == "xla" else (
            self._compute_gradients)
        compiled: Callable[[Callable], Any] = tf.function if recipe.execution != "eager" else lambda function: function
        self.run = compiled(self._run)
        self.evaluate = compiled(self._evaluate)

    def _run(self, batches: Iterator, count: tf.Tensor) -> tf.Tensor:
        values = tf.TensorArray(tf.float32, size=count, element_shape=[3 + len(self._variables)])
        for step in tf.range(count):
            per_replica = self._strategy.run(self._step, args=next(batches))
            values = values.write(step, self._strategy.experimental_local_results(per_replica)[0])
        return values.stack()

    @_unconverted
    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Computes one replica's part of a training step; returns a row of `run`, equal on all replicas."""
        loss, logits, gradients = self._accumulate(images, labels)
        correct = tf.reduce_sum(_correct(logits, labels)) / self._recipe.batch_size
        if self._strategy.num_replicas_in_sync > 1:
            # One exchange for everything, because each one has a latency. An all-reduce is differentiable: without
            # stop_gradient, TensorFlow would search the graphs of all other replicas for variables that it depends on,
            # in a time quadratic in their size.
            moved = [average.value / self._strategy.num_replicas_in_sync for average in self._moving]
            sums = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, [tf.stop_gradient(part) for part in (*moved, loss, correct, *gradients)])
            loss, correct, *gradients = sums[len(moved):]
            for average, mean in zip(self._moving, sums):
                average.assign(mean)
        norms = tf.sqrt(tf.stack([2.0 * tf.nn.l2_loss(gradient) for gradient in self._unscaled(gradients)]))
        if self._recipe.clip_norm:
            # A norm that is not finite makes the whole gradient not finite, so float16's loss scaling skips the step.
            factor = self._recipe.clip_norm / tf.maximum(tf.norm(norms), self._recipe.clip_norm)
            gradients = [gradient * factor for gradient in gradients]
        if self._recipe.precision == "float16":
            norms = tf.where(tf.math.is_finite(tf.norm(norms)), norms, 0.0)
        if self._recipe.shift_rate != 1:  # with momentum, too, the steps of a weight are proportional to its gradients
            gradients = [gradient * self._recipe.shift_rate if variable.name == _SHIFT else gradient
                         for gradient, variable in zip(gradients, self._variables)]
        self._optimizer.apply(gradients, self._variables)
        self.averages.update(optimizers.inner(self._optimizer).iterations.value)
        return tf.concat([[loss, correct, tf.norm(norms)], norms], axis=0)

    def _accumulate(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Returns loss, logits and gradients of a replica's images, computed in the recipe's number of parts."""
        parts = zip(tf.split(images, self._recipe.accumulate), tf.split(labels, self._recipe.accumulate))
        loss, logits, gradients = self._gradients(*next(parts))
        for part_images, part_labels in parts:
            # Otherwise the parts would be computed at the same time, which saves no memory.
            with tf.control_dependencies(gradients):
                part_images = tf.identity(part_images)
            part_loss, part_logits, part_gradients = self._gradients(part_images, part_labels)
            loss += part_loss
            logits = tf.concat([logits, part_logits], axis=0)
            gradients = [total + part for total, part in zip(gradients, part_gradients)]
        return loss, logits, gradients

    def _compute_gradients(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Returns loss, logits and gradients of one part; the gradients are those of the scaled objective."""
        recipe = self._recipe
        with tf.GradientTape() as tape:
            logits, *auxiliary = tf.nest.flatten(self._model(images, training=True))
            targets = labels if labels.shape.rank == 2 else tf.one_hot(labels, logits.shape[-1])
            targets = targets * (1.0 - recipe.label_smoothing) + recipe.label_smoothing / logits.shape[-1]
            # Divided by the size of the global batch: the sum over the replicas is the mean over its images.
            loss, *auxiliary_losses = [
                tf.reduce_sum(tf.nn.softmax_cross_entropy_with_logits(targets, head)) / recipe.batch_size
                for head in (logits, *auxiliary)]
            objective = loss + self._penalty() / (self._strategy.num_replicas_in_sync * recipe.accumulate)
            for auxiliary_loss in auxiliary_losses:
                objective += recipe.auxiliary_weight * auxiliary_loss
            scaled = objective * self._loss_scale()
        return loss, logits, tape.gradient(scaled, self._variables)

    def _penalty(self) -> tf.Tensor:
        """l2 / 2 * sum(w^2) + l1 * sum(|w|) over the kernels, and shift_l2 / 2 * sum(b^2) over the shifts."""
        penalty = tf.constant(0.0)
        if self._recipe.l2:
            penalty += self._recipe.l2 * tf.add_n([tf.nn.l2_loss(kernel.value) for kernel in self._kernels])
        if self._recipe.l1:
            penalty += self._recipe.l1 * tf.add_n([tf.reduce_sum(tf.abs(kernel.value)) for kernel in self._kernels])
        if self._recipe.shift_l2:
            penalty += self._recipe.shift_l2 * sum(tf.nn.l2_loss(shift.value) for shift in self._variables
                                                   if shift.name == _SHIFT)
        return penalty

    def _loss_scale(self) -> tf.Tensor | float:
        """The factor by which float16's loss scaling multiplies the loss; 1 in other precisions."""
        return self._optimizer.scale_loss(1.0)

    def _unscaled(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """The gradients without float16's loss scaling, whose factor grows until their squares overflow."""
        scale = self._loss_scale()
        return [gradient / scale for gradient in gradients] if self._recipe.precision == "float16" else gradients

    def _evaluate(self, batches: Iterator, count: tf.Tensor) -> tf.Tensor:
        totals = tf.zeros([3])
        for _ in tf.range(count):
            per_replica = self._strategy.run(self._evaluate_batch, args=next(batches))
            totals += self._strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
        return totals

    @_unconverted
    def _evaluate_batch(self, images: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        logits = prediction.logits(self._model, images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        return tf.stack([tf.reduce_sum(weights * losses), tf.reduce_sum(weights * _correct(logits, labels)),
                         tf.reduce_sum(weights)])


def _correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """1.0 where the largest logit is at the label, or at the class with the largest share in it; 0.0 elsewhere."""
    if labels.shape.rank == 2:
        labels = tf.argmax(labels, axis=-1)
    # As int64: TensorFlow compares int32 in the host's memory, so that a GPU would wait for it in each step.
    return tf.cast(tf.equal(tf.argmax(logits, axis=-1), tf.cast(labels, tf.int64)), tf.float32)
