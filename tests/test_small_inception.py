"""The small Inception of Zhang et al. 2017, and Inception modules of other widths and without their reductions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras

from tests.numpy_layers import average_pool, batch_normalization, convolution, max_pool, random, relu, shake, weights
from tfcnn.description.rendering import build_without_memory
from tfcnn.networks import inception
from tfcnn.recipe import UsageError

# Figure 3 of Zhang et al. 2017, from the input to the last module: the kind, its filters, the shape of its output.
FIGURE_3 = (
    ("inception", (32, 32), (28, 28, 64)), ("inception", (32, 48), (28, 28, 80)), ("downsample", (80,), (14, 14, 160)),
    ("inception", (112, 48), (14, 14, 160)), ("inception", (96, 64), (14, 14, 160)),
    ("inception", (80, 80), (14, 14, 160)), ("inception", (48, 96), (14, 14, 144)), ("downsample", (96,), (7, 7, 240)),
    ("inception", (176, 160), (7, 7, 336)), ("inception", (176, 160), (7, 7, 336)))


def parameters(model: keras.Model, prefix: str = "") -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables if variable.path.startswith(prefix))


def test_small_network_matches_figure_3_and_numpy() -> None:
    model = inception.build("small")
    shake(model)
    of = weights(model)
    total, channels, counts = 28 * 96, 96, {"inception": 0, "downsample": 0}  # 3x3x3 weights and an offset each
    y = x = random(2, 28, 28, 3)

    def convolve(y: np.ndarray, name: str, strides: int = 1) -> np.ndarray:
        beta, mean, variance = of(f"{name}_normalization")
        y = convolution(y, *of(name), strides=strides, padding="same")
        return relu(batch_normalization(y, np.float32(1), beta, mean, variance, 1e-3))

    y = convolve(y, "conv1")
    for kind, filters, shape in FIGURE_3:
        counts[kind] += 1
        name = f"{kind}{counts[kind]}"
        if kind == "inception":
            total += filters[0] * (channels + 1) + filters[1] * (9 * channels + 1)
            y = np.concatenate([convolve(y, f"{name}_1x1"), convolve(y, f"{name}_3x3")], axis=-1)
        else:
            total += filters[0] * (9 * channels + 1)
            y = np.concatenate([convolve(y, f"{name}_3x3", 2), max_pool(y, 3, 2, "same")], axis=-1)
        assert y.shape[1:] == shape == model.get_layer(name).output.shape[1:]
        channels = shape[-1]
    y = average_pool(y, 7, 1)[:, 0, 0] @ of("logits")[0] + of("logits")[1]
    np.testing.assert_allclose(model(x), y, rtol=1e-3, atol=1e-3 * np.abs(y).max())
    assert total + 3370 == parameters(model) == 1_649_402  # table 1
    # "Inception w/o BatchNorm" has as many in table 1: a bias in place of each offset.
    assert parameters(inception.build("small", normalization="none")) == 1_649_402


def test_modules_without_reductions_keep_their_channels() -> None:
    full, naive = (build_without_memory("inception", {"reductions": reductions}) for reductions in (True, False))
    names = {layer.name for layer in full.layers} - {layer.name for layer in naive.layers}
    assert names == {f"inception_{row[0]}_{size}_reduce{suffix}" for row in inception.TABLE_1 for size in ("3x3", "5x5")
                     for suffix in ("", "_normalization", "_activation")}
    channels = 192
    for row in inception.TABLE_1:
        name, *filters = row
        kept = [filters[0], filters[2], filters[4], filters[5]]
        module = f"inception_{name}"
        assert naive.get_layer(module).output.shape == full.get_layer(module).output.shape
        kernels = sum(size ** 2 * channels * count for size, count in zip((1, 3, 5, 1), kept))
        outputs = sum(kept)
        assert parameters(naive, f"{module}_") == kernels + 2 * outputs
        channels = outputs


def test_width_multiplies_the_channels_of_all_convolutions() -> None:
    full, quarter = (build_without_memory("inception", {"width": width}) for width in (1.0, 0.25))
    assert [layer.name for layer in full.layers] == [layer.name for layer in quarter.layers]
    for layer in full.layers:
        if isinstance(layer, keras.layers.Conv2D):
            assert quarter.get_layer(layer.name).filters == layer.filters / 4
    assert quarter.get_layer("logits").output.shape == (None, 10)
    assert inception.build("small", width=0.01).get_layer("inception1_1x1").filters == 1


@pytest.mark.parametrize("options, message", [
    ({"variant": "v3", "reductions": False},
     "reductions=False needs variant=cifar or variant=googlenet: not for variant=v3"),
    ({"variant": "small", "auxiliary": True},
     "auxiliary=True needs variant=cifar or variant=googlenet: small has no auxiliary heads"),
    ({"variant": "small", "normalization": "local_response"},
     "normalization='local_response' must be one of paper, batch, none"),
    ({"width": 0.0}, "width=0.0 must be at least 0.01 and less than 2")])
def test_an_invalid_option_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        inception.build(**options)
    assert str(error.value) == message
