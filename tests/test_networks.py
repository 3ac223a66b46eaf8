"""Tests that apply to every network. Networks are discovered, so a new one is tested without changes here."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests.numpy_layers import shake
from tfcnn import networks
from tfcnn.networks import layers
from tfcnn.networks.layers import winograd
from tfcnn.networks.options import ACTIVATIONS, OPTIONS, check, choose
from tfcnn.recipe import UsageError

NAMES = networks.names()
VARIANTS = [(name, variant) for name in NAMES for variant in networks.find(name).VARIANTS]
# Those that only have more of another's blocks, or wider layers, are checked against their tables, but not run.
LIKE_OTHERS = {"resnet32", "resnet44", "resnet56", "resnet110", "resnet34", "resnet101", "resnet152", "plain34",
               "A", "B", "D", "E", "cifar19_one_dense", "one_5x5_wide", "one_7x7_narrow", "bottleneck_short",
               "three_layers", "plain_small"}
# Those that are run, but not saved: they have no layer that a saved one has not.
SAVED_LIKE_OTHERS = {"resnet18", "resnet18_cifar", "plain20", "cifar16", "cifar16_one_dense", "one_7x7", "one_5x5",
                     "two_3x3", "three_3x3", "googlenet", "small", "one_tower", "cifar_four_layers", "plain",
                     "one_layer", "bottleneck_small", "fashion"}
SAVED = [pair for pair in VARIANTS if pair[1] not in LIKE_OTHERS | SAVED_LIKE_OTHERS]
# In this order pytest counts the saved ones as in SAVED, runs all tests of a network in succession and builds it once.
RUN = SAVED + [pair for pair in VARIANTS if pair[1] in SAVED_LIKE_OTHERS]
# Layers whose outputs may differ between training and inference.
DIFFERENT_IN_TRAINING = (keras.layers.Dropout, keras.layers.BatchNormalization, layers.RandomizedReLU)


def build(network: str, variant: str, **changes: Any) -> keras.Model:
    """Builds a variant as published, with some options changed."""
    module = networks.find(network)
    return module.build(**{**module.VARIANTS[variant].options, **changes})


def build_small(network: str, variant: str, **changes: Any) -> keras.Model:
    """Builds a variant for ten classes and the smallest images (at least 32x32), with random values in all weights."""
    size = max(networks.find(network).VARIANTS[variant].smallest, 32)
    model = build(network, variant, **{"classes": 10, "image_size": size, **changes})
    shake(model)
    return model


def images(model: keras.Model, count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *model.input.shape[1:])).astype(np.float32)


def options(network: str) -> dict[str, Any]:
    """Returns the names and defaults of the network's options."""
    return {name: parameter.default for name, parameter in inspect.signature(networks.find(network).build)
            .parameters.items()}


@pytest.mark.parametrize("network, variant", VARIANTS)
def test_variant_matches_its_table_entry(network: str, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = networks.find(network).VARIANTS[variant]
    monkeypatch.setattr(layers, "initializer", lambda choice, paper: "zeros")  # initial values do not matter here
    with tf.Graph().as_default():  # variables get no memory in a graph: some networks have 140 million parameters
        model = build(network, variant)
    assert isinstance(model, keras.Model)
    assert sum(math.prod(variable.shape) for variable in model.trainable_variables) == table.parameters
    assert model.input.name == "images" and model.input.shape == (None, *table.input_shape)
    assert networks.input_shape(network, table.options) == table.input_shape
    for output in model.outputs:
        assert output.shape == (None, table.options["classes"]) and output.dtype == "float32"
        assert getattr(output._keras_history.operation, "activation", None) in (None, keras.activations.linear)
    assert model.outputs[0] is model.get_layer("logits").output
    assert table.source and 1980 < table.year < 2030
    with pytest.raises(UsageError, match=f"at least {table.smallest}"):
        build(network, variant, image_size=table.smallest - 1 or -1)


@pytest.mark.parametrize("network", NAMES)
def test_first_variant_is_the_default(network: str) -> None:
    table = next(iter(networks.find(network).VARIANTS.values()))
    assert {name: options(network)[name] for name in table.options} | {"classes": table.options["classes"]} == \
        table.options
    assert networks.input_shape(network, {}) == table.input_shape


@pytest.mark.parametrize("network", NAMES)
def test_declared_options_are_the_arguments_of_build(network: str) -> None:
    arguments = options(network)
    assert arguments.pop("classes") is None and arguments.pop("image_size") == 0
    assert list(OPTIONS[network].items()) == [  # including their order
        (name, dataclasses.replace(OPTIONS[network][name], default=default)) for name, default in arguments.items()]
    for name, declared in OPTIONS[network].items():
        assert not declared.choices or declared.default is None or declared.default in declared.choices
        assert declared.help and (declared.default is None) == bool(declared.none), name
    for table in networks.find(network).VARIANTS.values():
        check(network, **{name: value for name, value in table.options.items() if name != "classes"})


def test_every_network_declares_its_options() -> None:
    assert list(OPTIONS) == NAMES


def test_chosen_options_have_the_experiments_values_in_the_declared_order() -> None:
    chosen = choose("resnet", stem="7x7", depth=50)
    assert [(name, option.value) for name, option in chosen.items()] == [("depth", 50), ("stem", "7x7")]
    assert chosen["stem"].choices == ("3x3", "7x7") and "7x7" in chosen["stem"].help
    with pytest.raises(UsageError, match="option of resnet='dropout' must be one of depth, stem, "):
        choose("resnet", dropout=0.5)
    with pytest.raises(UsageError, match="stem='5x5' must be one of 3x3, 7x7"):
        choose("resnet", stem="5x5")


def test_names_are_listed_without_keras_and_an_unknown_name_is_a_usage_error() -> None:
    program = ("import sys; from tfcnn import networks, recipe\n"
               "print(networks.names())\n"
               "try: networks.find('layers')\n"
               "except recipe.UsageError as error: print(error)\n"
               "sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, message = done.stdout.splitlines()
    assert "'alexnet'" in found and "layers" not in found and "options" not in found
    assert "'layers'" in message and "alexnet" in message
    with pytest.raises(UsageError, match="variant='tower' must be one of cifar, paper, one_tower"):
        networks.input_shape("alexnet", {"variant": "tower"})


@pytest.fixture(scope="module", params=RUN, ids="-".join)
def small(request: pytest.FixtureRequest) -> keras.Model:
    """Returns each variant of another kind in turn, built small, once for all tests that use it."""
    return build_small(*request.param)


def test_every_parameter_has_a_gradient(small: keras.Model) -> None:
    with tf.GradientTape() as tape:
        losses = [keras.losses.sparse_categorical_crossentropy(np.arange(4), logits, from_logits=True)
                  for logits in tf.nest.flatten(small(images(small), training=True))]
    gradients = tape.gradient(losses, [variable.value for variable in small.trainable_variables])
    for variable, gradient in zip(small.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.all(np.isfinite(gradient)) and np.any(gradient), variable.path


@pytest.fixture(autouse=True)
def direct_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables Winograd convolution, so that training and inference agree bit for bit. It has its own tests."""
    monkeypatch.setattr(winograd, "is_faster", lambda shape, filters, direct: False)


def test_training_differs_from_inference_only_where_it_should(small: keras.Model, monkeypatch: pytest.MonkeyPatch
                                                              ) -> None:
    different = [layer for layer in small.layers if isinstance(layer, DIFFERENT_IN_TRAINING)]
    for layer in different:
        if isinstance(layer, keras.layers.Dropout):
            monkeypatch.setattr(layer, "rate", 0.0)
        else:
            assert isinstance(layer, keras.layers.BatchNormalization)
            # Inference then uses the statistics of this batch instead of a moving average.
            monkeypatch.setattr(layer, "momentum", 0.0)
    # The variance of fewer than 64 values, where feature maps have few positions, has few significant digits.
    positions = min((math.prod(layer.output.shape[1:-1]) for layer in different
                     if isinstance(layer, keras.layers.BatchNormalization)), default=64)
    x = images(small, max(4, 64 // positions))
    training, inference = (tf.nest.flatten(small(x, training=training)) for training in (True, False))
    for trained, inferred in zip(training, inference, strict=True):
        np.testing.assert_allclose(trained, inferred, rtol=1e-3, atol=1e-3 * np.abs(trained).max())
        if all(isinstance(layer, keras.layers.Dropout) for layer in different):
            np.testing.assert_array_equal(trained, inferred)


@pytest.fixture(scope="module")
def other_process() -> Iterator[subprocess.Popen]:
    """Starts a process that reads folders, one per line, and saves the outputs of each folder's network and images."""
    program = ("import sys, numpy as np, tfcnn.networks.layers, keras\n"
               "for line in sys.stdin:\n"
               "    folder = line.strip()\n"
               "    model = keras.saving.load_model(folder + '/model.keras', safe_mode=True)\n"
               "    outputs = model(np.load(folder + '/images.npy'))\n"
               "    np.savez(folder + '/again.npz', *(outputs if isinstance(outputs, list) else [outputs]))\n"
               "    print('done', flush=True)\n")
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    yield process
    process.communicate()


@pytest.mark.parametrize("small", SAVED, ids="-".join, indirect=True)
def test_saved_network_has_the_same_outputs_in_another_process(small: keras.Model, tmp_path: Path,
                                                               other_process: subprocess.Popen) -> None:
    _compare_with_saved(small, tmp_path, other_process)


@pytest.mark.parametrize("changes", [
    {"activation": "prelu"}, {"activation": "rrelu", "initializer": "orthogonal", "normalization": "batch"}], ids=str)
def test_saved_network_with_other_options_has_the_same_outputs(changes: dict[str, Any], tmp_path: Path,
                                                               other_process: subprocess.Popen) -> None:
    _compare_with_saved(build_small("alexnet", "cifar", **changes), tmp_path, other_process)


def _compare_with_saved(model: keras.Model, folder: Path, other_process: subprocess.Popen) -> None:
    x = images(model)
    model.save(folder / "model.keras")
    np.save(folder / "images.npy", x)
    assert other_process.stdin and other_process.stdout
    other_process.stdin.write(f"{folder}\n")
    other_process.stdin.flush()
    assert other_process.stdout.readline() == "done\n"
    again = np.load(folder / "again.npz")
    outputs = tf.nest.flatten(model(x))
    assert len(again.files) == len(outputs) and np.ptp(outputs[0]) > 0
    for name, output in zip(again.files, outputs):
        np.testing.assert_array_equal(again[name], output)
    (folder / "model.keras").unlink()  # up to 240 MB each


@pytest.mark.parametrize("network", [name for name in NAMES if "activation" in options(name)])
def test_activation_option_sets_every_activation_layer(network: str, narrow: None) -> None:
    variant, table = next(iter(networks.find(network).VARIANTS.items()))  # the variant for small images
    size = max(table.smallest, 8)
    kinds = {"prelu": keras.layers.PReLU, "rrelu": layers.RandomizedReLU}
    outputs, positions = [], set()
    for activation in ACTIVATIONS:
        keras.utils.set_random_seed(0)  # the same weights each time
        model = build(network, variant, activation=activation, image_size=size)
        found = {layer.name: layer for layer in model.layers if layer.name.endswith("_activation")}
        assert found and all(isinstance(layer, kinds.get(activation, keras.layers.Activation))
                             for layer in found.values())
        if activation not in kinds:
            assert {layer.activation for layer in found.values()} == {keras.activations.get(activation)}
        positions.add(tuple(found))
        outputs.append(np.asarray(tf.nest.flatten(model(images(model)))[0]))
    assert len(positions) == 1  # every choice of activation has the same positions
    for one in range(len(outputs)):
        assert np.all(np.isfinite(outputs[one]))
        assert not any(np.allclose(outputs[one], outputs[other]) for other in range(one))


@pytest.mark.parametrize("network", [name for name in NAMES if "initializer" in options(name)])
def test_initializer_option_applies_to_every_kernel(network: str) -> None:
    model = build(network, next(iter(networks.find(network).VARIANTS)), initializer="he_normal")
    kernels = [np.asarray(variable) for variable in model.trainable_variables if variable.name == "kernel"]
    assert kernels
    for kernel in kernels:
        assert kernel.std() == pytest.approx(math.sqrt(2 / np.prod(kernel.shape[:-1])), rel=0.3 if kernel.size < 1000
                                             else 0.1)


class _BuildingStarted(Exception):
    """A network's first tensor was about to be made."""


@pytest.fixture
def nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever makes the input of a network, which comes before all layers, raises _BuildingStarted."""
    def start(*_: Any, **__: Any) -> None:
        raise _BuildingStarted
    monkeypatch.setattr(keras, "Input", start)


def wrong_values(network: str, option: str) -> list[Any]:
    """Values of all types, those aside that the option's default or choices allow."""
    default = options(network)[option]
    choices = OPTIONS[network][option].choices if option in OPTIONS[network] else ()
    samples = [sample for sample in (*choices, default) if sample is not None]
    # Only the options `dropout` and `classes` have neither choices nor, in every network, a default.
    kind = type(samples[0]) if samples else int if option == "classes" else float
    wrong: list[Any] = ["?", "", "1", "True", -1, -0.5, math.nan, math.inf, 2.5, True, [3], {}, b"A", 1j]
    wrong += [str(choice).upper() for choice in choices if str(choice).upper() not in choices]
    wrong += [float(choice) for choice in choices if kind is int] + ([] if default is None else [None])
    return [value for value in wrong if not (kind is bool and value is True)]


@pytest.mark.parametrize("network, option", [(network, option) for network in NAMES for option in options(network)])
def test_wrong_value_of_any_type_is_a_usage_error_before_anything_is_built(network: str, option: str,
                                                                           nothing_is_built: None) -> None:
    for value in wrong_values(network, option):
        with pytest.raises(UsageError) as error:
            networks.find(network).build(**{option: value})
        message = str(error.value)
        assert message.startswith(f"{option}=") and len(message.splitlines()) == 1, value
        assert str(value) in message or repr(value) in message
        for choice in OPTIONS[network][option].choices if option in OPTIONS[network] else ():
            assert str(choice) in message


@pytest.mark.parametrize("network", NAMES)
def test_unknown_option_is_a_usage_error_that_lists_the_options(network: str, nothing_is_built: None) -> None:
    for known in ({}, {"classes": 3}):
        with pytest.raises(UsageError, match=f"option of {network}='depht' must be one of .*, classes, image_size"):
            networks.find(network).build(depht=20, **known)
    with pytest.raises(UsageError, match="depht"):
        networks.input_shape(network, {"depht": 20})


@pytest.mark.parametrize("network", NAMES)
def test_any_two_values_are_refused_in_one_line_or_built(network: str, nothing_is_built: None) -> None:
    values = [(name, choice) for name, declared in OPTIONS[network].items() for choice in declared.choices or (
        (False, True) if isinstance(declared.default, bool) else (0, 0.5, np.float32(0.25)))]
    values += [("classes", 1), ("classes", np.int64(7)), ("image_size", 0), ("image_size", 1), ("image_size", 500)]
    started = 0
    for one, other in itertools.combinations(values, 2):
        try:
            networks.find(network).build(**dict([one, other]))
        except UsageError as error:
            assert len(str(error).splitlines()) == 1
            # Every reason names one of the two; the defaults of the others go together with either.
            assert one[0] in str(error) or other[0] in str(error)
        except _BuildingStarted:
            started += 1
    assert started


def test_randomized_relu_draws_a_divisor_per_element_and_uses_the_mean_divisor_in_inference() -> None:
    layer = layers.RandomizedReLU()
    x = -np.ones((40, 50, 10), np.float32)
    divisors = 1 / -np.asarray(layer(x, training=True), np.float64).ravel()
    assert 3 <= divisors.min() < 3.01 and 7.99 < divisors.max() <= 8
    quantiles = np.quantile(divisors, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quantiles, [4.25, 5.5, 6.75], atol=0.1)  # three standard errors: 0.06
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))
    np.testing.assert_allclose(layer(x, training=False), x / 5.5, rtol=1e-6)
    np.testing.assert_array_equal(layer(-x, training=True), -x)


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-6), ("bfloat16", 2.0 ** -8)])
def test_gelu_and_its_gradient_follow_the_normal_distribution(dtype: str, tolerance: float) -> None:
    layer = layers.GELU(dtype=dtype)
    x = tf.cast(tf.linspace(-8.0, 8.0, 1001), dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True)
        doubled = 2 * outputs
    points = np.asarray(tf.cast(x, tf.float64))

    def exact(points: np.ndarray) -> np.ndarray:
        return np.array([point * math.erfc(-point / math.sqrt(2)) / 2 for point in points])

    slopes = (exact(points + 1e-5) - exact(points - 1e-5)) / 2e-5
    assert outputs.dtype == dtype
    np.testing.assert_allclose(tf.cast(outputs, tf.float64), exact(points), rtol=tolerance, atol=1e-6)
    np.testing.assert_allclose(tf.cast(tape.gradient(doubled, x), tf.float64), 2 * slopes, rtol=tolerance, atol=2e-6)
    np.testing.assert_allclose(tf.cast(layer(x), tf.float64), exact(points), rtol=8 * tolerance, atol=2e-4)


def test_prelu_has_one_slope_per_channel_initially_a_quarter() -> None:
    x = -np.ones((2, 4, 4, 3), np.float32)
    model = keras.Model(inputs := keras.Input((4, 4, 3)), layers.activate(inputs, "prelu", "slopes"))
    assert [tuple(variable.shape) for variable in model.trainable_variables] == [(1, 1, 3)]
    np.testing.assert_array_equal(model(x), x / 4)
