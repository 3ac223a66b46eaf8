"""In which dtype layers compute: in float32 where a CPU is slower in a narrow one.

There are three cases. A network that is built for training is built in float32 altogether, since the conversions
between layers take time, too: see `computed_in`. A network that was trained in a narrow dtype on another machine keeps
it, so that its predictions are the same everywhere; only its convolutions are computed in float32 and rounded: see
`in_faster_dtype`. On every CPU batch normalization of some numbers of channels is, too: see `normalized_in`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from tfcnn import processor

# Instructions with which training is fast in a narrow dtype; None: there are none, since even with AVX512_FP16 oneDNN's
# gradient of a kernel in float16 takes 400 times as long as in float32.
_TRAINED_BY = {"bfloat16": "avx512_bf16", "float16": None}
# Instructions that oneDNN has fast convolutions for.
_CONVOLVED_BY = {"bfloat16": "avx512bw", "float16": "avx512_fp16"}


def computed_in(precision: str) -> str:
    """The precision in which networks train faster: `precision`, or "float32" where a CPU is slower in it.

    On a GPU, and on processors other than x86, whose instructions are unknown, it is `precision`.
    """
    return "float32" if _lacks(_TRAINED_BY, precision) else precision


def in_faster_dtype(convolve: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], inputs: tf.Tensor, kernel: Any
                    ) -> tf.Tensor:
    """Convolves in the dtype of the inputs, or in float32 where that is faster, and then rounds the result."""
    dtype = faster_dtype(inputs.dtype)
    if inputs.dtype == dtype:
        return convolve(inputs, kernel)
    return tf.cast(convolve(tf.cast(inputs, dtype), tf.cast(kernel, dtype)), inputs.dtype)


def faster_dtype(dtype: tf.DType) -> tf.DType:
    """The dtype in which to convolve: float32 instead of a narrow one that oneDNN has no fast convolutions for."""
    return tf.float32 if _lacks(_CONVOLVED_BY, dtype.name) else dtype


def normalized_in(dtype: tf.DType, channels: int) -> tf.DType:
    """The dtype in which to normalize over the batch: float32 where a CPU is slower in bfloat16.

    On a CPU oneDNN has fast batch normalization in bfloat16 only for multiples of 16 channels. For others it took 5
    times as long as in float32 (128 images of 16x16x24, with the gradient), or 40 times (128 vectors of 1,000).
    """
    slow = dtype == tf.bfloat16 and channels % 16 and not tf.config.list_physical_devices("GPU")
    return tf.float32 if slow else dtype


def _lacks(needed: Mapping[str, str | None], dtype: str) -> bool:
    instructions = processor.instructions()
    return (dtype in needed and bool(instructions) and needed[dtype] not in instructions
            and not tf.config.list_physical_devices("GPU"))
