"""Exports of networks in other arithmetic than ONNX Runtime's and LiteRT's, and how pictures are fitted to exports."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tests.streamed_images import photograph
from tfcnn import experiments, export, networks
from tfcnn.data import normalization
from tfcnn.recipe import UsageError
from tfcnn.trained.exporting import check, fitting, formats, in_float32, run_exported
from tfcnn.trained.network import TrainedNetwork

RECIPES = {recipe.network: recipe for recipe in reversed(experiments.recipes().values())}
TENSOR_FLOAT_32 = tf.config.experimental


@contextmanager
def _policy(name: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@functools.cache
def _network(name: str, kind: str = "channel", policy: str = "float32", image_shape: tuple[int, ...] | None = None,
             **recipe: Any) -> TrainedNetwork:
    """An untrained network, built with a policy."""
    keras.utils.set_random_seed(0)
    chosen = RECIPES[name].replace(batch_size=8, **recipe)
    smallest = next(iter(networks.find(name).VARIANTS.values())).smallest
    with _policy(policy):
        model = networks.find(name).build(classes=10, image_size=max(smallest, 16), **chosen.network_options())
    shape = list(model.input_shape[1:])
    images = np.stack([photograph(*shape, seed=seed) for seed in range(32)])
    return TrainedNetwork(name, Path(), model, normalization.fit(kind, images),
                          tuple(f"class {number}" for number in range(10)), chosen,
                          {"dataset": {"image_shape": list(image_shape or shape)}})


def _exported(net: TrainedNetwork, kind: str, folder: Path) -> check.Checked:
    images = np.stack([photograph(*net.input_shape, seed=seed) for seed in range(12)])
    return check.export(net, kind, folder / f"net{formats.SUFFIXES[kind]}", images, np.zeros(12, int))


# Arithmetic

@pytest.mark.parametrize("name", RECIPES)
def test_networks_are_rebuilt_in_float32(name: str) -> None:
    trained, expected = _network(name, policy="mixed_bfloat16"), _network(name)
    rebuilt = in_float32.rebuilt(trained).model
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    assert "bfloat16" in {layer.compute_dtype for layer in trained.model.layers}
    for found, layer in zip(rebuilt.layers, expected.model.layers, strict=True):
        assert {**found.get_config(), "name": ""} == {**layer.get_config(), "name": ""}
    for value, weight in zip(rebuilt.get_weights(), trained.model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, weight)
    assert in_float32.rebuilt(expected) is expected


@pytest.mark.parametrize("name, kind", [("alexnet", "onnx"), ("alexnet", "litert"), ("airbench", "onnx")])
def test_networks_trained_in_bfloat16_are_exported_in_float32(name: str, kind: str, tmp_path: Path) -> None:
    assert _exported(_network(name, policy="mixed_bfloat16"), kind, tmp_path).largest_difference < 1e-5


@pytest.mark.parametrize("kind", ["onnx", "litert"])
@pytest.mark.parametrize("normalized", ["image", "zca"])
def test_normalizations_by_image_are_exported(normalized: str, kind: str, tmp_path: Path) -> None:
    assert _exported(_network("alexnet", normalized), kind, tmp_path).largest_difference < 1e-5


def test_answers_are_compared_without_tensor_float_32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On GPUs that have it, TensorFloat-32 differs by more than the tolerance from what other programs compute."""
    enabled = []

    def answers(images: tf.Tensor) -> tf.Tensor:
        enabled.append(TENSOR_FLOAT_32.tensor_float_32_execution_enabled())
        return tf.zeros((len(images), 10))

    monkeypatch.setattr(TrainedNetwork, "_compiled", property(lambda _: answers))
    monkeypatch.setattr(formats, "write", lambda *_: pytest.fail("stop"))
    net = _network("lenet")
    with pytest.raises(pytest.fail.Exception):
        _exported(net, "onnx", Path("nowhere"))
    assert enabled and not any(enabled) and TENSOR_FLOAT_32.tensor_float_32_execution_enabled()
    for allowed in (True, False):
        enabled.clear()
        one = dataclasses.replace(net, recipe=net.recipe.replace(tensor_float_32=allowed))
        one.predict(np.zeros((1, 28, 28, 1), np.uint8))
        assert enabled == [allowed] and TENSOR_FLOAT_32.tensor_float_32_execution_enabled()


def test_saved_models_answer_without_tensor_float_32_and_are_timed_with_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enabled = []

    def run(images: np.ndarray) -> np.ndarray:
        enabled.append(TENSOR_FLOAT_32.tensor_float_32_execution_enabled())
        return np.zeros((len(images), 10), np.float32)

    np.save(tmp_path / "images.npy", np.zeros((200, 2, 2, 1), np.uint8))
    monkeypatch.setitem(run_exported._RUNNERS, "saved_model", lambda _: run)
    monkeypatch.setattr(sys, "argv", ["", "saved_model", "", *(str(tmp_path / name) for name in (
        "images.npy", "result.npz"))])
    monkeypatch.delitem(sys.modules, "tfcnn")
    run_exported.main()
    assert enabled[:2] == [False, False] and len(enabled) > 4 and all(enabled[2:])


# Pictures

@pytest.mark.parametrize("name, image_shape, stream", [
    ("lenet", (28, 28, 1), False), ("lenet", (29, 26, 1), False), ("lenet", (20, 14, 1), False),
    ("alexnet", (48, 64, 3), False), ("alexnet", None, True)],
    ids=["padded", "padded unequally", "enlarged", "reduced", "streamed"])
def test_pillow_fits_pictures_as_the_network_does(name: str, image_shape: tuple[int, ...], stream: bool) -> None:
    net = _network(name, image_shape=image_shape, stream=stream)
    fit = json.loads(json.dumps(fitting.of(net)))
    height, width, channels = net.input_shape
    for shape in ((200, 131), (40, 90), (13, 11), tuple(image_shape or (16, 16))[:2]):
        pixels = photograph(*shape, channels)
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        picture = ImageOps.fit(picture, fit["size"], Image.Resampling.BILINEAR, fit["bleed"])
        picture = picture.crop(fit["box"]).resize((width, height), Image.Resampling.BILINEAR)
        difference = np.asarray(picture).reshape(net.input_shape).astype(int) - net.fit(pixels[None])[0]
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("kind", formats.SUFFIXES)
def test_files_say_what_fits_a_picture(kind: str, tmp_path: Path) -> None:
    net = _network("lenet", image_shape=(27, 28, 1))
    path = tmp_path / f"net{formats.SUFFIXES[kind]}"
    formats.write(net, kind, path)
    if kind == "saved_model":
        found = {name: value.numpy().tolist() for name, value in
                 tf.saved_model.load(str(path)).signatures["fit"]().items()}
    elif kind == "onnx":
        import onnx
        found = json.loads({entry.key: entry.value for entry in onnx.load(path).metadata_props}["fit"])
    else:
        with zipfile.ZipFile(path) as archive:
            found = json.loads(archive.read("fit.json"))
    assert found == {"size": [28, 27], "bleed": 0, "box": [-2, -2, 30, 30]}


# Refusals

@pytest.mark.parametrize("kind, package", [("onnx", "onnx"), ("onnx", "tf2onnx"), ("onnx", "onnxruntime"),
                                           ("litert", "ai_edge_litert")])
def test_missing_packages_are_named_before_any_work(kind: str, package: str, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *arguments: (
        None if name == package else find(name, *arguments)))
    monkeypatch.setattr(export, "import_tensorflow", lambda: pytest.fail("not first"))
    assert export.main(["lenet5-mnist", f"--format={kind}", f"--out={tmp_path / 'net'}"]) == 2
    line = f"exporting needs {package}: pip install -e '.[export]'"
    assert capsys.readouterr().err == f"error: {line}\n"
    monkeypatch.setattr(TrainedNetwork, "logits_of_fitted", lambda *_: pytest.fail("not first"))
    net = _network("lenet")
    with pytest.raises(UsageError) as caught:
        _exported(net, kind, tmp_path)
    assert str(caught.value) == line and not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", formats.SUFFIXES)
def test_what_a_converter_raises_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capfd: pytest.CaptureFixture) -> None:
    def converter(*_: Any) -> None:
        os.write(2, b"advice\n")
        raise RuntimeError("cannot translate\n  a layer")

    monkeypatch.setitem(formats._WRITERS, kind, converter)
    net = _network("lenet")
    capfd.readouterr()
    with pytest.raises(UsageError) as caught:
        formats.write(net, kind, tmp_path / "net")
    assert str(caught.value) == (f"--format={kind} cannot hold this network (RuntimeError: cannot translate a layer): "
                                 "choose another --format")
    assert capfd.readouterr().err == "" and not list(tmp_path.iterdir())
