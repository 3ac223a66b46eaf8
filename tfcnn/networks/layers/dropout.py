"""Dropout that draws half as many random numbers as Keras's."""

from __future__ import annotations

import keras
import tensorflow as tf
from keras import KerasTensor


def drop(x: KerasTensor, rate: float, name: str) -> KerasTensor:
    """Applies dropout with a rate in [0, 1). A rate of 0 adds no layer at all."""
    return Dropout(rate, name=name)(x) if rate else x


@keras.saving.register_keras_serializable(package="tfcnn")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with the same arguments, from half as many random numbers.

    A random number of 32 bits decides about two activations, by 16 bits each. The rate is therefore rounded to a
    multiple of 2^-16, and the activations that are kept are multiplied by what follows from the rounded rate, with the
    precision of the inputs: at a rate of 0.1 by 1.1111, in bfloat16 by 1.1094. Keras draws one number for each
    activation, in bfloat16 one of 128 values, which turns a rate of 0.1 into 0.102.

    Input and output: any shape.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        dropped = round(self.rate * 2 ** 16)
        if not training or not dropped or dropped == 2 ** 16 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        # Keras's state is int64, TensorFlow's seed is int32.
        seed = tf.cast(tf.math.floormod(self.seed_generator.next(), tf.int32.max), tf.int32)
        count = tf.size(inputs)
        numbers = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.uint32)
        halves = tf.reshape(tf.bitcast(numbers, tf.uint16), [-1])[:count]
        kept = tf.reshape(halves, tf.shape(inputs)) >= tf.constant(dropped, tf.uint16)
        return tf.where(kept, inputs * tf.cast(1 / (1 - dropped / 2 ** 16), inputs.dtype), tf.zeros([], inputs.dtype))
