"""VGG against table 1 of its paper and against NumPy; against keras.applications in test_imagenet_weights."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tests.numpy_layers import max_pool, relu, shake
from tfcnn.networks import layers, vgg
from tfcnn.recipe import UsageError

# Table 1 without its input and softmax rows. Each line is one stage: its convolutions, then "maxpool".
TABLE_1 = {
    "A": """conv3-64 maxpool
            conv3-128 maxpool
            conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool
            conv3-512 conv3-512 maxpool""",
    "A-LRN": """conv3-64 LRN maxpool
            conv3-128 maxpool
            conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool
            conv3-512 conv3-512 maxpool""",
    "B": """conv3-64 conv3-64 maxpool
            conv3-128 conv3-128 maxpool
            conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 maxpool
            conv3-512 conv3-512 maxpool""",
    "C": """conv3-64 conv3-64 maxpool
            conv3-128 conv3-128 maxpool
            conv3-256 conv3-256 conv1-256 maxpool
            conv3-512 conv3-512 conv1-512 maxpool
            conv3-512 conv3-512 conv1-512 maxpool""",
    "D": """conv3-64 conv3-64 maxpool
            conv3-128 conv3-128 maxpool
            conv3-256 conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 conv3-512 maxpool
            conv3-512 conv3-512 conv3-512 maxpool""",
    "E": """conv3-64 conv3-64 maxpool
            conv3-128 conv3-128 maxpool
            conv3-256 conv3-256 conv3-256 conv3-256 maxpool
            conv3-512 conv3-512 conv3-512 conv3-512 maxpool
            conv3-512 conv3-512 conv3-512 conv3-512 maxpool""",
}
LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}  # second row of table 1
MILLIONS = {"A": 133, "A-LRN": 133, "B": 133, "C": 134, "D": 138, "E": 144}  # table 2
CIFAR = {"cifar16": "D", "cifar16_one_dense": "D", "cifar19_one_dense": "E"}
# The smallest images that the paper's networks accept. Only fc6 and the logits are smaller than in the paper.
SMALL: dict[str, Any] = {"classes": 10, "image_size": 32}


@functools.cache
def built(variant: str, **options: Any) -> keras.Model:
    """Returns a cached network for small images. Tests must not modify it: building dominates their time."""
    return vgg.build(variant, **SMALL, **options)


def convolutions(model: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]


def kinds(model: keras.Model) -> list[str]:
    return [type(layer).__name__ for layer in model.layers]


def in_notation_of_table_1(model: keras.Model) -> list[str]:
    """Returns the layers before the dense ones in the notation of table 1, without activations and batch norm."""
    words = {keras.layers.MaxPooling2D: lambda layer: "maxpool" * (layer.pool_size == layer.strides == (2, 2)),
             layers.Conv2D: lambda layer: f"conv{layer.kernel_size[0]}-{layer.filters}"}
    for before, layer in zip(model.layers, model.layers[1:]):
        assert layer.input is before.output  # there are no branches
    found = [words.get(type(layer), lambda layer: "LRN" if layer.name.startswith("norm") else "")(layer)
             for layer in model.layers]
    return [word for word in found if word]


@pytest.mark.parametrize("variant", [*TABLE_1, *CIFAR])
def test_convolutions_match_table_1(variant: str) -> None:
    model = built(variant)
    table = TABLE_1[CIFAR.get(variant, variant)]
    assert in_notation_of_table_1(model) == table.split()
    assert [layer.name for layer in convolutions(model)] == [
        f"conv{stage}_{number}" for stage, row in enumerate(table.splitlines(), 1)
        for number in range(1, row.count("conv") + 1)]
    for layer in convolutions(model):
        assert layer.strides == (1, 1) and layer.output.shape[1:3] == layer.input.shape[1:3]  # section 2.1
    # "The width of conv. layers is rather small, starting from 64 ... then increasing by a factor of 2": section 2.1.
    assert [model.get_layer(f"pool{stage}").output.shape[1:] for stage in range(1, 6)] == [
        (16, 16, 64), (8, 8, 128), (4, 4, 256), (2, 2, 512), (1, 1, 512)]


@pytest.mark.parametrize("variant", TABLE_1)
def test_dense_layers_and_depth_match_the_paper(variant: str) -> None:
    model = built(variant)
    dense = {layer.name: layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)}
    assert dense == {"fc6": 4096, "fc7": 4096, "logits": 10}
    assert len(convolutions(model)) + len(dense) == LAYERS[variant]
    assert round(vgg.VARIANTS[variant].parameters / 1e6) == MILLIONS[variant]


def test_stage_shapes_of_images_of_224_pixels() -> None:
    model = vgg.build("cifar16", image_size=224)  # the stages of D, with small dense layers
    assert [model.get_layer(f"pool{stage}").output.shape[1:] for stage in range(1, 6)] == [
        (112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512), (7, 7, 512)]
    assert model.get_layer("fc6").kernel.shape == (25088, 512)


@pytest.mark.parametrize("variant, hidden", [("cifar16", {"fc6": 512, "fc7": 512}), ("cifar16_one_dense", {}),
                                             ("cifar19_one_dense", {})])
def test_dense_layers_of_the_cifar_variants(variant: str, hidden: dict[str, int]) -> None:
    model = built(variant)
    dense = {layer.name: layer.units for layer in model.layers if isinstance(layer, keras.layers.Dense)}
    assert dense == hidden | {"logits": 10}


def in_numpy(model: keras.Model, x: np.ndarray, table: str) -> np.ndarray:
    """Computes the logits in NumPy, from the weights of `model` and the convolutions of `table` (see `TABLE_1`)."""
    weights, names = numpy_layers.weights(model), {layer.name for layer in model.layers}
    for stage, row in enumerate(table.splitlines(), 1):
        for number, word in enumerate(row.split(), 1):
            name = f"conv{stage}_{number}"
            if word.startswith("conv"):
                x = numpy_layers.convolution(x, *weights(name), padding="same")
                if f"{name}_normalization" in names:
                    x = numpy_layers.batch_normalization(x, *weights(f"{name}_normalization"), epsilon=1e-5)
                x = relu(x)
            elif word == "LRN":
                x = numpy_layers.response_normalization(x, 2, 2.0, 1e-4, 0.75)  # Krizhevsky et al., section 3.3
            else:
                x = max_pool(x, 2, 2)
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        if name in names:
            x = relu(x @ weights(name)[0] + weights(name)[1])
    return x @ weights("logits")[0] + weights("logits")[1]


@pytest.mark.parametrize("variant, scale", [("cifar16", 1), ("cifar16_one_dense", 1), ("A-LRN", 300), ("C", 1)])
def test_logits_match_numpy(variant: str, scale: int) -> None:
    model = vgg.build(variant, **SMALL)
    shake(model)
    x = scale * numpy_layers.random(2, 32, 32, 3)
    expected = in_numpy(model, x, TABLE_1[CIFAR.get(variant, variant)])
    np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_convolutions_have_a_bias_unless_batch_normalization_follows() -> None:
    biases = {}
    for variant, normalization in (("cifar16", "paper"), ("cifar16", "none"), ("cifar16", "local_response"),
                                   ("cifar16_one_dense", "paper"), ("D", "paper"), ("D", "batch")):
        found = {layer.use_bias for layer in convolutions(built(variant, normalization=normalization))}
        biases[variant, normalization], = found
    assert biases == {("cifar16", "paper"): False, ("cifar16", "none"): True, ("cifar16", "local_response"): True,
                      ("cifar16_one_dense", "paper"): True,  # as published, although batch normalization cancels it
                      ("D", "paper"): True, ("D", "batch"): False}


@pytest.mark.parametrize("variant", ["cifar16", "D"])
def test_normalization_can_be_chosen(variant: str) -> None:
    model = built(variant, normalization="batch")
    indices = [index for index, kind in enumerate(kinds(model)) if kind == "BatchNormalization"]
    assert len(indices) == 13
    assert all(kinds(model)[index - 1] == "Conv2D" and kinds(model)[index + 1] == "Activation" for index in indices)
    assert not {"BatchNormalization", "LocalResponseNormalization"} & set(
        kinds(built(variant, normalization="none")))
    model = built(variant, normalization="local_response")
    assert kinds(model).count("LocalResponseNormalization") == 1 and "BatchNormalization" not in kinds(model)
    assert model.get_layer("norm1").input is model.get_layer("conv1_1_activation").output
    with pytest.raises(UsageError, match="normalization='layer' must be one of paper, batch, none, local_response"):
        vgg.build(variant, normalization="layer")


def dropouts(model: keras.Model) -> dict[str, float]:
    """Maps the name of the layer before each dropout to the dropout rate."""
    return {before.name: layer.rate for before, layer in zip(model.layers, model.layers[1:])
            if isinstance(layer, keras.layers.Dropout)}


def test_dropout_matches_the_paper_and_cifar_torch() -> None:
    assert dropouts(built("D")) == {"fc6_activation": 0.5, "fc7_activation": 0.5}  # section 3.1
    # As in vgg_bn_drop.lua, plus fc7, which that network lacks.
    between = {f"conv{name}_activation": 0.4 for name in ("2_1", "3_1", "3_2", "4_1", "4_2", "5_1", "5_2")}
    cifar_torch = {"conv1_1_activation": 0.3, **between, "flatten": 0.5, "fc6_activation": 0.5, "fc7_activation": 0.5}
    assert dropouts(built("cifar16")) == pytest.approx(cifar_torch)
    assert dropouts(built("cifar16", dropout=0.25)) == pytest.approx(
        {name: rate / 2 for name, rate in cifar_torch.items()})
    for variant in ("cifar16_one_dense", "cifar19_one_dense"):
        assert dropouts(built(variant)) == {}
    assert dropouts(built("cifar16_one_dense", dropout=0.5)) == pytest.approx(
        {name: rate for name, rate in cifar_torch.items() if not name.startswith("fc")})


@pytest.mark.parametrize("variant", ["cifar16", "D"])
def test_initial_weights_have_the_published_distribution(variant: str) -> None:
    keras.utils.set_random_seed(0)
    model = built(variant)
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
    assert len(kernels) == 16
    for kernel in kernels:
        values, inputs = np.asarray(kernel), math.prod(kernel.shape[:-1])
        outputs = math.prod(kernel.shape) // kernel.shape[-2]
        if variant == "D":  # Glorot and Bengio 2010, equation 16: uniform within this limit
            uniform, limit = True, math.sqrt(6 / (inputs + outputs))
        else:  # convolutions: MSRinit of vgg_bn_drop.lua (normal); dense layers: Torch's default (uniform)
            uniform, limit = kernel.ndim == 2, math.sqrt(1 / inputs)
        deviation = limit / math.sqrt(3) if uniform else math.sqrt(2 / outputs)
        assert values.std() == pytest.approx(deviation, rel=0.05), kernel.path
        kurtosis = np.mean(values ** 4) / np.mean(values ** 2) ** 2
        assert kurtosis == pytest.approx(1.8 if uniform else 3.0, abs=0.4), kernel.path
    assert all(not np.any(variable) for variable in model.trainable_variables if variable.name == "bias")


def test_bfloat16_is_close_to_float32_and_logits_are_float32(policy: Any) -> None:
    exact = vgg.build()
    shake(exact)
    policy("mixed_bfloat16")
    model = vgg.build()
    model.set_weights(exact.get_weights())
    x = numpy_layers.random(1, 32, 32, 3)
    assert model.get_layer("conv5_3").compute_dtype == "bfloat16" and model(x).dtype == tf.float32
    np.testing.assert_allclose(model(x), exact(x), atol=0.1 * np.abs(exact(x)).max())


@pytest.mark.parametrize("stack, single, equal, size", [
    ("two_3x3", "one_5x5", "one_5x5_wide", 5), ("three_3x3", "one_7x7", "one_7x7_narrow", 7)])
def test_stacks_and_single_convolutions_have_equal_fields_and_equal_parameters(stack: str, single: str, equal: str,
                                                                               size: int) -> None:
    models = [vgg.build(variant) for variant in (stack, single, equal)]
    stacked, _, adapted = (sum(math.prod(variable.shape) for variable in model.trainable_variables) for model in models)
    assert adapted == pytest.approx(stacked, rel=0.001)
    for model in models:
        filters = [layer.output.shape[-1] for layer in model.layers if layer.name.startswith("pool")]
        assert [layer.output.shape[1:3] for layer in model.layers if layer.name.startswith("pool")] == [
            (16, 16), (8, 8), (4, 4)]
        assert model is models[2] or filters == [32, 64, 128]
        for stage in (1, 2, 3):
            sizes = [layer.kernel_size[0] for layer in convolutions(model) if layer.name.startswith(f"conv{stage}_")]
            assert 1 + sum(kernel - 1 for kernel in sizes) == size
            assert sizes == [3] * len(sizes) if model is models[0] else sizes == [size]
