"""GoogLeNet and Inception-v3 against their papers and against NumPy; see also test_imagenet_weights."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tests.numpy_layers import average_pool, max_pool, relu, shake
from tfcnn.networks import inception
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare

# Szegedy et al. 2015, table 1: output size; #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj; params / 1,024.
TABLE_1 = {
    "3a": ((28, 28, 256), (64, 96, 128, 16, 32, 32), 159),
    "3b": ((28, 28, 480), (128, 128, 192, 32, 96, 64), 380),
    "4a": ((14, 14, 512), (192, 96, 208, 16, 48, 64), 364),
    "4b": ((14, 14, 512), (160, 112, 224, 24, 64, 64), 437),
    "4c": ((14, 14, 512), (128, 128, 256, 24, 64, 64), 463),
    "4d": ((14, 14, 528), (112, 144, 288, 32, 64, 64), 580),
    "4e": ((14, 14, 832), (256, 160, 320, 32, 128, 128), 840),
    "5a": ((7, 7, 832), (256, 160, 320, 32, 128, 128), 1072),
    "5b": ((7, 7, 1024), (384, 192, 384, 48, 128, 128), 1388),
}

# Few classes, and the smallest images for which the auxiliary heads still have one position.
WITH_HEADS: dict[str, dict[str, Any]] = {
    "googlenet": {"variant": "googlenet", "image_size": 65, "classes": 5, "auxiliary": True},
    "cifar": {"variant": "cifar", "image_size": 9, "classes": 5, "auxiliary": True},
}


@functools.cache
def published() -> keras.Model:
    """Returns GoogLeNet with both auxiliary heads, for images of 224x224 pixels."""
    return inception.build(**inception.VARIANTS["googlenet_auxiliary"].options)


@functools.cache
def small(variant: str) -> keras.Model:
    """Returns a network for the smallest images, without dropout and with random values in all its weights."""
    model = inception.build(**WITH_HEADS[variant], dropout=0.0)
    fill(model)
    return model


def fill(model: keras.Model) -> None:
    """Assigns random values to all weights, large enough that images still differ after all the ReLUs."""
    shake(model)
    for variable in model.trainable_variables:
        if variable.name == "kernel":
            variable.assign(1.5 * variable)


def assert_images_differ(outputs: np.ndarray) -> None:
    """Checks that outputs differ between images by far more than the tolerance.

    Otherwise biases could dominate, and different networks would pass as equal.
    """
    assert np.ptp(outputs, axis=0).max() > 0.02 * np.abs(outputs).max()


def images(model: keras.Model, count: int = 4, scale: float = 1.0) -> np.ndarray:
    """Returns noise plus patches of colour. Averaged over the image, noise alone hardly differs between images."""
    random = np.random.default_rng(0)
    size = model.input.shape[1]
    patches = random.normal(size=(count, 3, 3, 3)).repeat(-(-size // 3), axis=1).repeat(-(-size // 3), axis=2)
    return scale * (2 * patches[:, :size, :size] + random.normal(size=(count, size, size, 3))).astype(np.float32)


def shape(model: keras.Model, name: str) -> tuple[int, ...]:
    return model.get_layer(name).output.shape[1:]


def trainable(model: keras.Model) -> int:
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def gradients(model: keras.Model, heads: list[int]) -> dict[str, np.ndarray | None]:
    """Maps each variable's path to the gradient of the summed cross-entropies of `heads` (indices of outputs)."""
    with tf.GradientTape() as tape:
        outputs = model(images(model), training=True)
        loss = tf.add_n([tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(np.arange(4), outputs[head]))
                         for head in heads])
    found = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    return {variable.path: gradient if gradient is None else gradient.numpy()
            for variable, gradient in zip(model.trainable_variables, found, strict=True)}


# GoogLeNet

def test_output_sizes_match_every_row_of_table_1() -> None:
    model = published()
    rows = {"conv1": (112, 112, 64), "pool1": (56, 56, 64), "conv2": (56, 56, 192), "pool2": (28, 28, 192),
            "inception_3b": (28, 28, 480), "pool3": (14, 14, 480), "inception_4e": (14, 14, 832), "pool4": (7, 7, 832),
            "average_pool": (1024,), "dropout": (1024,), "logits": (1000,)}
    rows |= {f"inception_{name}": size for name, (size, _, _) in TABLE_1.items()}
    assert {name: shape(model, name) for name in rows} == rows
    # Section 5 and figure 3.
    heads = {"auxiliary1_pool": (4, 4, 512), "auxiliary2_pool": (4, 4, 528), "auxiliary1_conv": (4, 4, 128),
             "auxiliary2_conv": (4, 4, 128), "auxiliary1_fc": (1024,), "auxiliary2_fc": (1024,),
             "auxiliary1_logits": (1000,), "auxiliary2_logits": (1000,)}
    assert {name: shape(model, name) for name in heads} == heads


def test_kernels_and_parameters_match_every_row_of_table_1() -> None:
    model = published()
    counts = {name: sum(math.prod(weight.shape) for layer in model.layers if layer.name.startswith(f"inception_{name}_")
                        for weight in layer.weights) for name in TABLE_1}
    inputs = 192
    for name, (size, widths, thousands) in TABLE_1.items():
        one, three_reduce, three, five_reduce, five, projection = widths
        kernels = {"1x1": (1, 1, inputs, one), "3x3_reduce": (1, 1, inputs, three_reduce),
                   "3x3": (3, 3, three_reduce, three), "5x5_reduce": (1, 1, inputs, five_reduce),
                   "5x5": (5, 5, five_reduce, five), "pool_projection": (1, 1, inputs, projection)}
        assert {kind: model.get_layer(f"inception_{name}_{kind}").kernel.shape for kind in kernels} == kernels
        assert counts[name] == sum(math.prod(kernel) + kernel[-1] for kernel in kernels.values())
        # The printed counts deviate from the printed widths by up to 8%, most in (4c).
        assert counts[name] / 1024 == pytest.approx(thousands, rel=0.08)
        inputs = size[-1]
    # These rows of the paper are exact, in units of 1,024 and without biases.
    assert sum(math.prod(model.get_layer(name).kernel.shape) for name in ("conv2_reduce", "conv2")) == 112 * 1024
    assert math.prod(model.get_layer("logits").kernel.shape) == 1000 * 1024


@pytest.mark.parametrize("variant, normalization", [
    ("googlenet", "local_response"), ("googlenet", "none"), ("cifar", "batch"), ("cifar", "local_response")])
def test_logits_of_the_network_and_its_heads_match_numpy(variant: str, normalization: str) -> None:
    """Covers the stem, the four branches of every module, both heads, and their order."""
    model = inception.build(**WITH_HEADS[variant], dropout=0.0, normalization=normalization)
    fill(model)
    weights = {layer.name: layer.get_weights() for layer in model.layers}
    # Local response normalization has an effect only on large activations.
    x = inputs = images(model, count=2, scale=300 if normalization == "local_response" else 1)

    def convolve(x: np.ndarray, name: str, strides: int = 1) -> np.ndarray:
        x = numpy_layers.convolution(x, *weights[name], strides=strides, padding="same")
        if normalization == "batch":
            x = numpy_layers.batch_normalization(x, *weights[f"{name}_normalization"], epsilon=0.001)
        return relu(x)

    def normalize(x: np.ndarray) -> np.ndarray:
        return numpy_layers.response_normalization(x, 2, 2.0, 1e-4, 0.75) if normalization == "local_response" else x

    def head(x: np.ndarray, name: str) -> np.ndarray:
        x = convolve(average_pool(x, 5, 3), f"{name}_conv").reshape(len(x), -1)
        return dense(relu(dense(x, f"{name}_fc")), f"{name}_logits")

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = weights[name]
        return x @ kernel + bias

    if variant == "googlenet":
        x = normalize(max_pool(convolve(x, "conv1", strides=2), 3, 2, "same"))
        x = max_pool(normalize(convolve(convolve(x, "conv2_reduce"), "conv2")), 3, 2, "same")
    else:
        x = normalize(convolve(x, "conv1"))
    outputs = []
    for name in TABLE_1:
        branches = f"inception_{name}"
        x = np.concatenate([
            convolve(x, f"{branches}_1x1"),
            convolve(convolve(x, f"{branches}_3x3_reduce"), f"{branches}_3x3"),
            convolve(convolve(x, f"{branches}_5x5_reduce"), f"{branches}_5x5"),
            convolve(max_pool(x, 3, 1, "same"), f"{branches}_pool_projection")], axis=-1)
        if name in ("4a", "4d"):
            outputs.append(head(x, f"auxiliary{len(outputs) + 1}"))
        if name in ("3b", "4e"):
            x = max_pool(x, 3, 2, "same")
    outputs.insert(0, dense(x.mean(axis=(1, 2)), "logits"))
    for found, expected in zip(model(inputs), outputs, strict=True):
        assert_images_differ(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_the_loss_of_each_head_trains_the_layers_before_it() -> None:
    """The purpose of the heads is to "increase the gradient signal that gets propagated back" (section 5)."""
    model, modules = small("googlenet"), list(TABLE_1)
    for head, last in ((1, "4a"), (2, "4d")):
        cut_off = [f"inception_{name}_" for name in modules[modules.index(last) + 1:]]
        cut_off += [f"auxiliary{3 - head}_", "logits/"]
        reached = gradients(model, [head])
        assert np.any(reached["conv1/kernel"]) and np.any(reached["conv1/bias"])
        for path, gradient in reached.items():
            if path.startswith(tuple(cut_off)):
                assert gradient is None, path
            else:
                assert gradient is not None and np.all(np.isfinite(gradient)) and np.any(gradient), path
    without = {path for path, gradient in gradients(model, [0]).items() if gradient is None}
    assert without == {path for path in reached if path.startswith("auxiliary")}


def test_heads_do_not_change_the_logits_of_the_network() -> None:
    headed = small("googlenet")
    plain = inception.build(**WITH_HEADS["googlenet"] | {"auxiliary": False})
    for layer in plain.layers:
        if layer.weights:
            layer.set_weights(headed.get_layer(layer.name).get_weights())
    x = images(headed)
    assert len(headed(x)) == 3 and tf.is_tensor(plain(x))
    np.testing.assert_array_equal(plain(x), headed(x)[0])
    heads = {weight.path for weight in headed.weights} - {weight.path for weight in plain.weights}
    assert {path.split("_")[0] for path in heads} == {"auxiliary1", "auxiliary2"}


def test_the_recipes_auxiliary_weight_scales_the_loss_of_the_heads(class_folders: Path) -> None:
    recipe = Recipe("heads", "inception", {"auxiliary": True, "dropout": 0.0}, dataset="folder", image_size=9,
                    batch_size=12, augment="none", optimizer="sgd", execution="eager")
    setup = prepare(recipe, str(class_folders))
    variables = setup.model.trainable_variables
    of_heads = np.array([variable.path.startswith("auxiliary") for variable in variables])
    before = setup.model.get_weights()
    norms, losses = {}, {}
    for weight in (0.0, 0.3):
        setup.model.set_weights(before)
        first = [variable.numpy() for variable in variables]
        steps = Steps(recipe.replace(auxiliary_weight=weight), setup.strategy, setup.model, setup.optimizer)
        row, = steps.run(iter(setup.training_batches(0)), tf.constant(1)).numpy()
        losses[weight] = row[0]
        norms[weight] = row[3:]  # the norm of each variable's gradient
        changed = np.array([not np.array_equal(*pair) for pair in zip(first, variables, strict=True)])
        np.testing.assert_array_equal(changed, ~of_heads | (weight > 0))
    assert losses[0.3] == pytest.approx(losses[0.0], rel=1e-6)  # what is reported is without the heads
    assert np.all(norms[0.0][of_heads] == 0) and np.all(norms[0.3] > 0)
    # The heads change the gradients of layers before (4a), but not those of layers after the last head.
    for variable, without, with_heads in zip(variables, norms[0.0], norms[0.3]):
        if variable.path.startswith(("conv1/", "inception_4a_1x1/")):
            assert abs(with_heads / without - 1) > 0.01, variable.path
        if variable.path.startswith(("inception_5b", "logits")):
            assert with_heads == pytest.approx(without, rel=1e-3), variable.path


# GoogLeNet for 32x32 images

def test_stages_and_parameters_of_the_cifar_variant() -> None:
    model = inception.build()
    rows = {"conv1": (32, 32, 192), "inception_3b": (32, 32, 480), "pool3": (16, 16, 480),
            "inception_4a": (16, 16, 512), "inception_4e": (16, 16, 832), "pool4": (8, 8, 832),
            "inception_5b": (8, 8, 1024), "average_pool": (1024,), "logits": (10,)}
    assert {name: shape(model, name) for name in rows} == rows
    # The README of huyvnphan's implementation states 5.491 million, with 3x3 kernels instead of 5x5.
    surplus = sum((25 - 9) * widths[3] * widths[4] for _, widths, _ in TABLE_1.values())
    assert round((trainable(model) - surplus) / 1e6, 3) == 5.491


# Inception-v3

def test_inception_v3_has_the_shapes_of_table_1() -> None:
    model = inception.build("v3", classes=10)
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in model.layers)
    # Szegedy et al. 2016, table 1. It lists the input of each row, which is the output of the row before.
    rows = {"conv1": (149, 149, 32), "conv2": (147, 147, 32), "conv3": (147, 147, 64), "pool1": (73, 73, 64),
            "mixed2": (35, 35, 288), "mixed7": (17, 17, 768), "mixed8": (8, 8, 1280), "mixed10": (8, 8, 2048)}
    assert {name: shape(model, name) for name in rows} == rows


# Options

@pytest.mark.parametrize("options, expected", [
    ({}, {"dropout": 0.2}),
    ({"auxiliary": True}, {"dropout": 0.2, "auxiliary1_dropout": 0.7, "auxiliary2_dropout": 0.7}),
    ({"variant": "googlenet", "auxiliary": True, "image_size": 65},
     {"dropout": 0.4, "auxiliary1_dropout": 0.7, "auxiliary2_dropout": 0.7}),  # table 1, section 5
    ({"auxiliary": True, "dropout": 0.1}, {"dropout": 0.1, "auxiliary1_dropout": 0.7, "auxiliary2_dropout": 0.7}),
    ({"auxiliary": True, "dropout": 0.0}, {}),
    ({"variant": "v3", "image_size": 75, "dropout": 0.3}, {"dropout": 0.3})], ids=str)
def test_dropout_is_between_the_features_and_the_logits(options: dict[str, Any], expected: dict[str, float]) -> None:
    model = inception.build(**options)
    found = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert {name: layer.rate for name, layer in found.items()} == expected
    for name, layer in found.items():
        before = "average_pool" if name == "dropout" else name.replace("dropout", "fc_activation")
        assert layer.input is model.get_layer(before).output
        assert model.get_layer(name.replace("dropout", "logits")).input is layer.output


@pytest.mark.parametrize("variant, normalization, kind, inputs", [
    ("googlenet", "paper", "local_response", {"norm1": "pool1", "norm2": "conv2_activation"}),  # figure 3
    ("googlenet", "none", "none", {}), ("googlenet", "batch", "batch", {}),
    ("cifar", "paper", "batch", {}), ("cifar", "none", "none", {}),
    ("cifar", "local_response", "local_response", {"norm1": "conv1_activation"})], ids=str)
def test_layers_that_are_normalized(variant: str, normalization: str, kind: str, inputs: dict[str, str]) -> None:
    model = inception.build(variant, normalization=normalization)
    found = {layer.name: layer.input for layer in model.layers if type(layer).__name__ == "LocalResponseNormalization"}
    assert {name: tensor._keras_history.operation.name for name, tensor in found.items()} == inputs
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            before = layer
            if kind == "batch":
                before = model.get_layer(f"{layer.name}_normalization")
                assert before.input is layer.output and isinstance(before, keras.layers.BatchNormalization)
            assert layer.use_bias == (kind != "batch")
            assert model.get_layer(f"{layer.name}_activation").input is before.output
    assert kind == "batch" or not any(isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers)


@pytest.mark.parametrize("precision, variant", [("mixed_bfloat16", "googlenet"), ("mixed_float16", "cifar")])
def test_low_precision_gives_float32_logits_in_every_head(precision: str, variant: str, policy: Any) -> None:
    policy(precision)
    model = inception.build(**WITH_HEADS[variant], dropout=0.0)
    model.set_weights(small(variant).get_weights())
    x = images(model)
    assert model.get_layer("inception_3a_5x5").compute_dtype == precision.removeprefix("mixed_")
    for found, exact in zip(model(x), small(variant)(x), strict=True):
        assert found.dtype == tf.float32
        np.testing.assert_allclose(found, exact, atol=0.05 * np.abs(exact).max())
    for gradient in gradients(model, [0, 1, 2]).values():
        assert gradient is not None and gradient.dtype == np.float32 and np.all(np.isfinite(gradient))


@pytest.mark.parametrize("options, message", [
    ({"variant": "googlenet_auxiliary"}, "variant='googlenet_auxiliary' must be one of cifar, googlenet, v3, small"),
    ({"variant": "v3", "auxiliary": True},
     "auxiliary=True needs variant=cifar or variant=googlenet: v3 has no auxiliary heads"),
    ({"normalization": "layer"}, "normalization='layer' must be one of paper, batch, local_response, none"),
    ({"variant": "v3", "normalization": "none"}, "normalization='none' must be one of paper, batch"),
    ({"auxiliary": True, "image_size": 8}, "image_size=8 must be at least 9 for this network"),
    ({"variant": "googlenet", "auxiliary": True, "image_size": 64},
     "image_size=64 must be at least 65 for this network"),
    ({"variant": "v3", "image_size": 74}, "image_size=74 must be at least 75 for this network"),
    ({"dropout": 1.0}, "dropout=1.0 must be at least 0 and less than 1")])
def test_an_invalid_option_is_a_usage_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        inception.build(**options)
    assert str(error.value) == message
