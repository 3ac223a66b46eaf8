"""Reference implementations of the networks' layers in NumPy and float64, written for clarity, not speed.

Images are `[batch, height, width, channels]`, kernels `[height, width, input channels, output channels]`, as in Keras.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns standard normal values in float32."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def response_normalization(x: np.ndarray, depth_radius: int, bias: float, alpha: float, beta: float) -> np.ndarray:
    """Local response normalization as in Krizhevsky et al. 2012, section 3.3.

    The sum runs over channels max(0, i - n/2) to min(N - 1, i + n/2), where n/2 is `depth_radius`.
    """
    x = x.astype(np.float64)
    y = np.empty_like(x)
    channels = x.shape[-1]
    for i in range(channels):
        total = np.zeros(x.shape[:-1])
        for j in range(max(0, i - depth_radius), min(channels - 1, i + depth_radius) + 1):
            total += x[..., j] ** 2
        y[..., i] = x[..., i] / (bias + alpha * total) ** beta
    return y


def convolution(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0, strides: int = 1,
                padding: str = "valid", groups: int = 1) -> np.ndarray:
    """Convolution in the sense of deep learning: the kernel is not flipped. Groups split the channels evenly."""
    kernel = kernel.astype(np.float64)
    height, width, depth, filters = kernel.shape
    patches = _windows(x, (height, width), strides, padding, 0.0)
    parts = []
    for group in range(groups):
        ins = slice(group * depth, (group + 1) * depth)
        outs = slice(group * filters // groups, (group + 1) * filters // groups)
        parts.append(np.einsum("nrcdij,ijdf->nrcf", patches[..., ins, :, :], kernel[..., outs], optimize=True))
    return np.concatenate(parts, axis=-1) + bias


def max_pool(x: np.ndarray, size: int, strides: int, padding: str = "valid") -> np.ndarray:
    return _windows(x, (size, size), strides, padding, -np.inf).max(axis=(-2, -1))


def average_pool(x: np.ndarray, size: int, strides: int, padding: str = "valid") -> np.ndarray:
    """Mean over the part of each window that lies within the image; padding is not counted."""
    return np.nanmean(_windows(x, (size, size), strides, padding, np.nan), axis=(-2, -1))


def batch_normalization(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray,
                        epsilon: float) -> np.ndarray:
    """Normalizes each channel with the given mean and variance, then scales by gamma and shifts by beta."""
    return (x.astype(np.float64) - mean) / np.sqrt(variance + epsilon) * gamma + beta


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _windows(x: np.ndarray, size: tuple[int, int], strides: int, padding: str, outside: float) -> np.ndarray:
    """Returns all windows, as [batch, rows, columns, channels, height, width].

    Padding "same" is TensorFlow's: where it is odd, the end gets one more. Padded positions have the value `outside`.
    """
    x = x.astype(np.float64)
    if padding == "same":
        margins = [max((-(-length // strides) - 1) * strides + window - length, 0)
                   for length, window in zip(x.shape[1:3], size)]
        x = np.pad(x, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)],
                   constant_values=outside)
    return np.lib.stride_tricks.sliding_window_view(x, size, axis=(1, 2))[:, ::strides, ::strides]


def shake(model: keras.Model, seed: int = 1) -> None:
    """Assigns random values to all variables, moving statistics included, so that every layer affects the outputs.

    Kernels have the standard deviation of Glorot's initialization; gammas and moving variances stay positive.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ("gamma", "moving_variance"):
            values = generator.uniform(0.5, 1.5, shape)
        elif len(shape) > 1:
            fan_in, fan_out = np.prod(shape[:-1]), np.prod(shape[:-2]) * shape[-1]
            values = generator.standard_normal(shape, np.float32) * np.float32(np.sqrt(2.0 / (fan_in + fan_out)))
        else:
            values = generator.normal(0.0, 0.1, shape)
        variable.assign(values)


def weights(model: keras.Model) -> Callable[[str], list[np.ndarray]]:
    """Returns a function from a layer's name to its weights, in Keras's order."""
    return lambda name: model.get_layer(name).get_weights()
