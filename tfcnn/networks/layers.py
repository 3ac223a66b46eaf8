"""Layers that the papers need and Keras lacks, or runs slowly, and what the networks' shared options stand for."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from tfcnn import processor, winograd

# By these the machines know what belongs together. tf.distribute counts its groups from 1. All machines build the same.
_GATHERING, _gatherings = 2**30, itertools.count(1)


def activate(x: KerasTensor, activation: str, name: str) -> KerasTensor:
    """The activation, one of `options.ACTIVATIONS`, as a layer of its own."""
    if activation == "prelu":
        # One slope a channel, at first 0.25: He et al. 2015, "Delving deep into rectifiers", section 2.1.
        return keras.layers.PReLU(keras.initializers.Constant(0.25), name=name,
                                  shared_axes=list(range(1, len(x.shape) - 1)))(x)
    if activation == "rrelu":
        return RandomizedReLU(name=name)(x)
    return keras.layers.Activation(activation, name=name)(x)


def drop(x: KerasTensor, rate: float, name: str) -> KerasTensor:
    """Dropout with the rate, in [0, 1); no layer at all for 0."""
    return Dropout(rate, name=name)(x) if rate else x


def initializer(choice: str, paper: str | keras.Initializer) -> str | keras.Initializer:
    """What a layer takes for the choice, one of `options.INITIALIZERS`: for `paper`, what the paper has.

    An initializer gives the same values whenever it is called, so `paper` is to be made anew for each layer.
    """
    return paper if choice == "paper" else choice


@keras.saving.register_keras_serializable(package="tfcnn")
class Dropout(keras.layers.Dropout):
    """`keras.layers.Dropout` with the same arguments, from half as many random numbers.

    Each number has two halves of 16 bits, and an activation takes one: the rate is rounded to a multiple of 2^-16, and
    what is kept is scaled by that rate. Keras's takes a number each, in bfloat16 one of 128 values, so that of 0.1 it
    makes 0.102.

    Input and output: any shape.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        dropped = round(self.rate * 2 ** 16)
        if not training or not dropped or dropped == 2 ** 16 or self.noise_shape is not None:
            return super().call(inputs, training=training)
        # A state of Keras's is int64, a seed of TensorFlow's int32.
        seed = tf.cast(tf.math.floormod(self.seed_generator.next(), tf.int32.max), tf.int32)
        count = tf.size(inputs)
        numbers = tf.random.stateless_uniform([(count + 1) // 2], seed, None, None, tf.uint32)
        halves = tf.reshape(tf.bitcast(numbers, tf.uint16), [-1])[:count]
        kept = tf.reshape(halves, tf.shape(inputs)) >= tf.constant(dropped, tf.uint16)
        return tf.where(kept, inputs * tf.cast(1 / (1 - dropped / 2 ** 16), inputs.dtype), tf.zeros([], inputs.dtype))


@keras.saving.register_keras_serializable(package="tfcnn")
class RandomizedReLU(keras.layers.Layer):
    """`x` where it is positive, elsewhere `x / a` with `a` drawn for each activation from 3 to 8, evenly.

    At inference `a` is its mean, 5.5. Input and output: any shape.

    Source: Xu, Wang, Chen and Li 2015, "Empirical evaluation of rectified activations in convolutional network",
    section 2.4.
    """

    _LOWEST, _HIGHEST = 3.0, 8.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        divisor: Any = (self._LOWEST + self._HIGHEST) / 2
        if training:
            divisor = keras.random.uniform(tf.shape(inputs), self._LOWEST, self._HIGHEST, dtype=inputs.dtype,
                                           seed=self.seed_generator)
        return tf.where(inputs > 0, inputs, inputs / divisor)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape


@keras.saving.register_keras_serializable(package="tfcnn")
class BatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis, with TensorFlow's fused operation where it can be used.

    The same arguments, weights and results as Keras's, which takes the mean, the variance and the output in passes of
    their own. But it is synchronized unless told otherwise: over several replicas, which must have equally many images,
    the statistics are those of the global batch, and are exchanged once. For inputs without height and width it is
    Keras's own on one replica.

    Input and output: `[batch, height, width, channels]` or `[batch, channels]`.

    Source: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal
    covariate shift", algorithms 1 and 2.
    """

    def __init__(self, *, synchronized: bool = True, **kwargs: Any) -> None:
        super().__init__(synchronized=synchronized, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        if self.axis not in (-1, len(inputs.shape) - 1) or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        training = bool(training and self.trainable)
        channels = inputs.shape[-1]
        scale = tf.ones([channels]) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        offset = tf.zeros([channels]) if self.beta is None else tf.convert_to_tensor(self.beta)
        context = tf.distribute.get_replica_context()
        if training and self.synchronized and context and context.num_replicas_in_sync > 1:
            images = inputs if len(inputs.shape) == 4 else inputs[:, tf.newaxis, tf.newaxis]
            outputs, mean, variance = _normalize_over_replicas(images, scale, offset, self.epsilon, context)
            self._move(mean, variance)
            return outputs if len(inputs.shape) == 4 else outputs[:, 0, 0]
        if len(inputs.shape) != 4:
            return super().call(inputs, training=training)
        statistics = [tf.zeros([0])] * 2 if training else [
            tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs, scale=scale, offset=offset, mean=statistics[0], variance=statistics[1], epsilon=self.epsilon,
            is_training=training)
        if training:
            # The operation gives the variance for a sample, divided by n - 1; Keras, and so what a saved network
            # expects, divides by n.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            variance = variance * ((count - 1) / count)
            self._move(mean, variance)
        return outputs

    def _move(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))


def _normalize_over_replicas(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float,
                             context: tf.distribute.ReplicaContext) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Normalizes by the images of all replicas; returns the mean and the variance of each channel, too.

    What is exchanged is two numbers for each channel, once for the outputs and once for the gradient.
    """
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float32)

    @tf.custom_gradient
    def normalize(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> Any:
        settings = {"x": x, "scale": scale, "offset": offset, "epsilon": epsilon}
        _, own_mean, own_variance, *_ = tf.raw_ops.FusedBatchNormV3(
            mean=tf.zeros([0]), variance=tf.zeros([0]), is_training=True, **settings)
        # From all means and variances the variance over all replicas follows without the difference of two large
        # numbers that sums of squares would need.
        means, variances = tf.unstack(
            _rows_of_replicas(tf.stack([own_mean, own_variance * ((count - 1) / count)]), context), axis=1)
        mean = tf.reduce_mean(means, axis=0)
        variance = tf.reduce_mean(variances + tf.math.squared_difference(means, mean), axis=0)
        outputs, *_ = tf.raw_ops.FusedBatchNormV3(mean=mean, variance=variance, is_training=False, **settings)

        def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            # What mean and variance contribute is linear in the inputs.
            dx, d_scale, d_offset = _gradients_of_constants(dy, x, scale, mean, variance, epsilon)
            means = _sum_over_replicas(tf.stack([d_scale, d_offset]), context) / (
                context.num_replicas_in_sync * count)
            return _pass(_whole_gradient, x)(dx, x, mean, variance, scale, means, epsilon), d_scale, d_offset

        return (outputs, mean, variance), gradient

    return normalize(x, scale, offset)


def _gradients_of_constants(dy: tf.Tensor, x: tf.Tensor, scale: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor,
                            epsilon: float) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The gradients of inputs, scale and offset as if mean and variance were constants."""
    if not tf.config.list_physical_devices("GPU"):
        dx, d_scale, d_offset, *_ = tf.raw_ops.FusedBatchNormGradV3(
            y_backprop=dy, x=x, scale=scale, reserve_space_1=mean, reserve_space_2=variance,
            reserve_space_3=tf.zeros([0]), epsilon=epsilon, is_training=False)
        return dx, d_scale, d_offset
    # Of this the fused operation has no version for GPUs that gives the same bits every time.
    wide, root = tf.cast(dy, tf.float32), tf.math.rsqrt(variance + epsilon)
    normalized = (tf.cast(x, tf.float32) - mean) * root
    return (tf.cast(wide * (scale * root), x.dtype), tf.reduce_sum(wide * normalized, axis=[0, 1, 2]),
            tf.reduce_sum(wide, axis=[0, 1, 2]))


def _whole_gradient(dx: tf.Tensor, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor, scale: tf.Tensor,
                    means: tf.Tensor, epsilon: float) -> tf.Tensor:
    """The gradient of the inputs from that with constant statistics, and the means of scale's and offset's gradient."""
    root = tf.math.rsqrt(variance + epsilon)
    slope = -scale * tf.square(root) * means[0]
    shift = -scale * root * means[1] - slope * mean
    return tf.cast(tf.cast(dx, tf.float32) + (tf.cast(x, tf.float32) * slope + shift), x.dtype)


def _pass(function: Callable[..., Any], x: tf.Tensor) -> Callable[..., Any]:
    """The function as one loop over memory: on a CPU TensorFlow would make one for each operation."""
    return function if tf.config.list_physical_devices("GPU") else _compiled(function, x.device, x.shape, x.dtype)


@functools.cache
def _compiled(function: Callable[..., Any], *_: Any) -> Callable[..., Any]:
    # One for each kind of input, because TensorFlow warns of a function that is traced for many.
    return tf.function(function, jit_compile=True)


def _rows_of_replicas(x: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """What each replica has, [replicas, ...], the same on all of them."""
    if _one_cpu_a_machine(context):
        return _gathered(x, context)
    row = tf.one_hot(context.replica_id_in_sync_group, context.num_replicas_in_sync)
    return _sum_over_replicas(tf.reshape(row, [-1] + [1] * len(x.shape)) * x, context)


def _sum_over_replicas(x: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    if _one_cpu_a_machine(context):
        return tf.reduce_sum(_gathered(x, context), axis=0)
    # To find out whether variables are involved the context walks, at each call, through all of the graph before it on
    # the other replicas, two minutes for Inception. It stops at stop_gradient.
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(x))


def _one_cpu_a_machine(context: tf.distribute.ReplicaContext) -> bool:
    return (isinstance(context.strategy, tf.distribute.MultiWorkerMirroredStrategy)
            and not tf.config.list_physical_devices("GPU"))


def _gathered(x: tf.Tensor, context: tf.distribute.ReplicaContext) -> tf.Tensor:
    """What the one CPU of each machine has, [machines, ...], in one message to the next machine for each of the others.

    tf.distribute's sum takes twice as many. Each message takes half a millisecond of the CPU's time, whatever its size.
    """
    machines = context.num_replicas_in_sync
    rows = tf.raw_ops.CollectiveGatherV2(
        input=x[tf.newaxis], group_size=machines, group_key=_GATHERING, instance_key=next(_gatherings),
        ordering_token=[])
    return tf.ensure_shape(rows, [machines, *x.shape])


@keras.saving.register_keras_serializable(package="tfcnn")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each activation by a power of the sum of squares over the neighbouring channels at its position.

    `y[c] = x[c] / (bias + alpha * sum(x[j] ** 2 for j from c - depth_radius to c + depth_radius)) ** beta`, where `j`
    stays within the channels. The layer has no parameters. It computes in float32 under every dtype policy.

    Input and output: `[batch, height, width, channels]`, where only the channels must be known beforehand.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.3, whose constants are the defaults.

    Args:
      depth_radius: neighbours on each side that count, `n // 2` in the paper.
      bias: the constant that keeps the divisor from zero, `k` in the paper.
      alpha: the factor of the sum (of the sum, not of the mean as in Caffe, cuDNN and PyTorch).
      beta: the power.

    Raises:
      ValueError: the radius is not a whole number from 0, or the bias is not positive.
    """

    def __init__(self, depth_radius: int = 2, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75,
                 **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(depth_radius, int) or depth_radius < 0:
            raise ValueError(f"depth_radius={depth_radius} must be a whole number from 0")
        if not bias > 0:
            raise ValueError(f"bias={bias} must be positive")
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channel = np.arange(input_shape[-1])
        window = np.abs(channel[:, np.newaxis] - channel) <= self.depth_radius
        self._window = window[np.newaxis, np.newaxis].astype(np.float32)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._normalize(tf.cast(inputs, tf.float32)), inputs.dtype)

    def _normalize(self, inputs: tf.Tensor) -> tf.Tensor:
        # On a CPU, forward and backward together, tf.nn.local_response_normalization takes two to four times as long,
        # and these lines with the gradient that TensorFlow derives of them 10 to 35% longer: see BUILD_NOTES.md.
        # The window's zeros and ones are exact in TensorFloat-32 too; alpha would not be, so it stays outside.
        @tf.custom_gradient
        def normalize(x: tf.Tensor) -> Any:
            norm = self.bias + self.alpha * self._window_sum(x * x)
            if self.beta == 0.75:  # two square roots cost far less than a power
                root = tf.math.rsqrt(norm)
                scale = root * tf.sqrt(root)
            else:
                scale = norm ** -self.beta
            y = x * scale

            def gradient(dy: tf.Tensor) -> tf.Tensor:
                return dy * scale - 2 * self.alpha * self.beta * x * self._window_sum(dy * y / norm)

            return y, gradient

        return normalize(inputs)

    def _window_sum(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(x, self._window, strides=1, padding="VALID")

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"depth_radius": self.depth_radius, "bias": self.bias, "alpha": self.alpha,
                                       "beta": self.beta}


@keras.saving.register_keras_serializable(package="tfcnn")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` with the same arguments, weights and result, which trains faster on a CPU.

    In training a convolution of 3x3 with stride 1 is, where it pays, computed by Winograd's filtering, in float32 under
    whatever dtype policy: see `tfcnn.winograd`. Others are TensorFlow's own; on a processor without instructions for
    bfloat16 or float16, numbers of that type are multiplied as float32, ten times as fast, and the sums rounded.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not (training and self._can_be_filtered(inputs)):
            return super().call(inputs)
        outputs = winograd.convolve(tf.cast(inputs, tf.float32), tf.cast(self.kernel, tf.float32))
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.cast(self.bias, tf.float32))
        outputs = tf.cast(outputs, inputs.dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        return _in_fast_type(super().convolution_op, inputs, kernel)

    def _can_be_filtered(self, inputs: tf.Tensor) -> bool:
        return (self.kernel_size == (3, 3) and self.strides == self.dilation_rate == (1, 1) and self.padding == "same"
                and self.groups == 1 and self.data_format == "channels_last"
                and winograd.pays(inputs.shape, self.filters, _direct_type(inputs.dtype))
                and not tf.config.list_physical_devices("GPU"))


def _in_fast_type(convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
    """The convolution in the inputs' own type, or in float32 where that is faster, and then rounded."""
    direct = _direct_type(inputs.dtype)
    if inputs.dtype == direct:
        return convolve(inputs, kernel)
    return tf.cast(convolve(tf.cast(inputs, direct), tf.cast(kernel, direct)), inputs.dtype)


def _direct_type(dtype: tf.DType) -> tf.DType:
    """The type in which to convolve numbers of a type: on a processor without instructions for a narrow one, float32.

    oneDNN makes do for bfloat16 with any AVX-512. For other processors than x86 nothing is known, and all stays.
    """
    instructions = processor.instructions()
    needed = {tf.bfloat16: "avx512bw", tf.float16: "avx512_fp16"}.get(dtype)
    if needed is None or needed in instructions or not instructions or tf.config.list_physical_devices("GPU"):
        return dtype
    return tf.float32


@keras.saving.register_keras_serializable(package="tfcnn")
class GroupedConv2D(Conv2D):
    """`keras.layers.Conv2D(groups=...)` with the same arguments, weights and result, one convolution a group.

    TensorFlow's CPU kernels have no gradient of a grouped convolution (in float32 oneDNN lends one, in bfloat16 and
    float16 nothing does), so Keras compiles it with XLA, which takes six times as long.

    Source: Krizhevsky, Sutskever and Hinton 2012, section 3.5, where a group is what one GPU holds.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: Any) -> tf.Tensor:
        convolve = super().convolution_op
        pairs = zip(tf.split(inputs, self.groups, axis=-1), tf.split(kernel, self.groups, axis=-1))
        return tf.concat([convolve(*pair) for pair in pairs], axis=-1)


@keras.saving.register_keras_serializable(package="tfcnn")
class PadChannels(keras.layers.Layer):
    """Appends channels of zeros until there are `filters`.

    Input: `[batch, height, width, channels]`, at most `filters` of them; output: `[batch, height, width, filters]`.

    Source: He, Zhang, Ren and Sun 2016, "Deep residual learning for image recognition", section 3.3, option A.
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [0, self.filters - inputs.shape[-1]]])

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"filters": self.filters}


@keras.saving.register_keras_serializable(package="tfcnn")
def scaled_tanh(x: tf.Tensor) -> tf.Tensor:
    """`1.7159 * tanh(2 / 3 * x)`, which is 1 at 1 and -1 at -1: LeCun et al. 1998, section II.B and appendix A."""
    return 1.7159 * tf.tanh(2 / 3 * x)


@keras.saving.register_keras_serializable(package="tfcnn")
class FanInUniform(keras.initializers.Initializer):
    """Values spread evenly from `-limit / n` to `limit / n`, where `n` is how many inputs a unit has, its fan-in.

    Source: LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition", appendix
    A, whose limit is the default.

    Args:
      limit: the range of a unit that has one input.
    """

    def __init__(self, limit: float = 2.4) -> None:
        self.limit = limit

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        bound = self.limit / math.prod(shape[:-1])
        return keras.initializers.RandomUniform(-bound, bound)(shape, dtype)

    def get_config(self) -> dict[str, Any]:
        return {"limit": self.limit}


@keras.saving.register_keras_serializable(package="tfcnn")
class AverageSubsampling2D(keras.layers.Layer):
    """The sum over each 2x2 window, times a coefficient, plus a bias: one of each a channel, and trained.

    Windows do not overlap; a last odd row or column is left out. The coefficients are at first spread evenly from -0.6
    to 0.6, as appendix A of the source has it for units with four inputs.

    Input: `[batch, height, width, channels]`; output: `[batch, height // 2, width // 2, channels]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B, layers S2 and S4, before the squashing function.
    """

    pool_size = strides = (2, 2)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        channels = input_shape[-1:]
        uniform = keras.initializers.RandomUniform(-2.4 / 4, 2.4 / 4)
        self.coefficient = self.add_weight(name="coefficient", shape=channels, initializer=uniform)
        self.bias = self.add_weight(name="bias", shape=channels, initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return 4 * tf.nn.avg_pool2d(inputs, 2, 2, "VALID") * self.coefficient + self.bias

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, height, width, channels = input_shape
        return batch, height and height // 2, width and width // 2, channels


@keras.saving.register_keras_serializable(package="tfcnn")
class PartialConv2D(keras.layers.Layer):
    """A convolution whose filters each see only some of the input's channels. Without padding, with a stride of one.

    A weight exists only where there is a connection: the kernel is `[kernel_size, kernel_size, connections]`, the
    first filter's channels before the second's and so on. Into a convolution's usual kernel, zero elsewhere, they are
    put by a product with a matrix of zeros and ones, which costs less than one convolution a filter.

    Input: `[batch, height, width, channels]`; output: `[batch, height - kernel_size + 1, width - kernel_size + 1,
    filters]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B, layer C3, table I.

    Args:
      channels_seen: for each filter the channels that it sees, from 0.
      kernel_size: height and width of the kernels.
      use_bias: whether to add a bias to each filter's output.
      kernel_initializer: draws each filter by itself, so that it has the filter's own number of inputs.
    """

    def __init__(self, channels_seen: Sequence[Sequence[int]], kernel_size: int, use_bias: bool = True,
                 kernel_initializer: str | keras.Initializer = "glorot_uniform", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels_seen = [list(seen) for seen in channels_seen]
        self.filters = len(self.channels_seen)
        self.kernel_size = kernel_size
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.input_spec = keras.layers.InputSpec(ndim=4)

    def build(self, input_shape: tuple[Any, ...]) -> None:
        connections = [(channel, number) for number, seen in enumerate(self.channels_seen) for channel in seen]
        self._places = np.zeros((len(connections), input_shape[-1], self.filters), np.float32)
        for connection, (channel, number) in enumerate(connections):
            self._places[connection, channel, number] = 1.0
        size = self.kernel_size
        self.kernel = self.add_weight(name="kernel", shape=(size, size, len(connections)), initializer=self._first)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(self.filters,), initializer="zeros")

    def _first(self, shape: tuple[int, ...], dtype: Any = None) -> tf.Tensor:
        # A copy for each filter, because an initializer gives the same values whenever it is called.
        return tf.concat([tf.squeeze(self.kernel_initializer.clone()((*shape[:2], len(seen), 1), dtype), -1)
                          for seen in self.channels_seen], axis=-1)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = tf.tensordot(self.kernel, tf.cast(self._places, inputs.dtype), 1)
        outputs = _in_fast_type(functools.partial(tf.nn.conv2d, strides=1, padding="VALID"), inputs, kernel)
        return tf.nn.bias_add(outputs, self.bias) if self.use_bias else outputs

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        batch, *sizes, _ = input_shape
        return (batch, *(size and size - self.kernel_size + 1 for size in sizes), self.filters)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {
            "channels_seen": self.channels_seen, "kernel_size": self.kernel_size, "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer)}


@keras.saving.register_keras_serializable(package="tfcnn")
class RadialBasis(keras.layers.Layer):
    """Minus the squared Euclidean distance from each of some points, which are fixed.

    Input: `[batch, features]`; output: `[batch, points]`.

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.B, equation 7, of which this is the negative.

    Args:
      points: `[points, features]`.
    """

    def __init__(self, points: Sequence[Sequence[float]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.points = [list(point) for point in points]
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: len(self.points[0])})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        points = tf.constant(self.points, inputs.dtype)
        return -tf.reduce_sum(tf.math.squared_difference(inputs[:, tf.newaxis], points), axis=-1)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return input_shape[0], len(self.points)

    def multiply_accumulates(self, input_shape: tuple[Any, ...], output_shape: tuple[Any, ...]) -> int:
        """A square for each feature of each point."""
        return input_shape[-1] * output_shape[-1]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"points": self.points}
