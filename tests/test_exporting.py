"""Exported networks: run by other programs, equal to the network itself, and refused if they are not."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import numpy as np
import pytest
from PIL import Image

from tests import pages
from tfcnn import experiments, networks
from tfcnn.data import normalization
from tfcnn.recipe import UsageError
from tfcnn.trained.exporting import check, formats
from tfcnn.trained.exporting.standard_layers import keras_application
from tfcnn.trained.network import TrainedNetwork

RANDOM = np.random.default_rng(0)
# Of each network of the suite, the first experiment; further layers of ours by options.
NETWORKS = {recipe.network: recipe for recipe in reversed(experiments.recipes().values())}
VARIED = {"lenet": {"output": "radial_basis"}, "resnet": {"shortcut": "B"}, "alexnet": {"activation": "rrelu"}}


def _trained(network: str, kind: str = "channel", **options) -> TrainedNetwork:
    """A network with random weights, statistics of batch normalization included."""
    recipe = NETWORKS[network].replace(batch_size=8, **options)
    smallest = next(iter(networks.find(network).VARIANTS.values())).smallest
    size = max(smallest, 16)
    model = networks.find(network).build(classes=10, image_size=size, **recipe.network_options())
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(RANDOM.uniform(0.5, 2, weight.shape))
        elif "mean" in weight.path or "beta" in weight.path or "bias" in weight.path:
            weight.assign(RANDOM.normal(0, 0.1, weight.shape))
    shape = model.input_shape[1:]
    return TrainedNetwork(network, Path(), model, normalization.fit(kind, _images(shape, 64)),
                          tuple(f"class {number}" for number in range(10)), recipe,
                          {"dataset": {"image_shape": list(shape)}})


def _images(shape: tuple[int, ...], count: int = 8) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("network, options", [*((name, {}) for name in NETWORKS), *VARIED.items()],
                         ids=lambda value: str(value))
def test_keras_own_layers_compute_the_same(network: str, options: dict) -> None:
    net = _trained(network, **options)
    images = _images(net.input_shape)
    application = keras_application(net)
    assert not [layer for layer in application._flatten_layers() if type(layer).__module__.startswith("tfcnn.")]
    np.testing.assert_allclose(application.predict(images, verbose=0), net.predict(images, batch_size=8), atol=2e-5)


@pytest.mark.parametrize("kind", normalization.KINDS)
def test_keras_own_operations_normalize_the_same(kind: str) -> None:
    net = _trained("lenet", kind)
    images = _images(net.input_shape)
    np.testing.assert_allclose(keras_application(net).predict(images, verbose=0), net.predict(images, batch_size=8),
                               atol=1e-4)


@pytest.mark.parametrize("kind, quantize", [("saved_model", "none"), ("keras", "none"), ("onnx", "none"),
                                            ("onnx", "int8"), ("litert", "none"), ("litert", "float16"),
                                            ("litert", "int8")])
def test_exported_files_answer_the_same_in_other_programs(kind: str, quantize: str, tmp_path: Path) -> None:
    net = _trained("alexnet")
    images = net.fit(_images((20, 24, 3), 20))
    labels = net.predict(images).argmax(axis=1)
    path = tmp_path / f"net{formats.SUFFIXES[kind]}"
    found = check.export(net, kind, path, images, labels, quantize, images, largest_loss=0.5)
    assert found.images == 20 and found.before == 1 and found.bytes > 1000
    assert found.largest_difference < 1e-4 if quantize == "none" else found.after >= 0.5
    if kind in ("litert", "keras"):
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().splitlines() == list(net.class_names)


def test_export_that_differs_is_refused_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, other = _trained("lenet"), _trained("lenet")
    images = _images(net.input_shape)
    labels = net.predict(images).argmax(axis=1)
    write = formats.write
    monkeypatch.setattr(formats, "write", lambda network, *arguments: write(other, *arguments))
    for quantize in ("none", "int8"):
        with pytest.raises(UsageError, match="refused"):
            check.export(net, "onnx", tmp_path / "net.onnx", images, labels, quantize, images, 0.01)
    assert not list(tmp_path.iterdir())


def test_the_pages_ten_lines_run_an_onnx_file(tmp_path: Path) -> None:
    net = dataclasses.replace(_trained("lenet"), class_names=tuple("zero one two three four five six seven eight nine"
                                                                   .split()))
    formats.write(net, "onnx", tmp_path / "net.onnx")
    pixels = _images((16, 16, 1), 1)[0]
    picture = Image.fromarray(pixels[..., 0]).resize(net.input_shape[1::-1], Image.Resampling.NEAREST)
    picture.save(tmp_path / "photo.png")
    shown = np.asarray(Image.open(tmp_path / "photo.png"))[None, ..., None]
    _, lines = pages.blocks("docs/trained.md", "python")
    assert len([line for line in lines.splitlines() if line and "import" not in line]) <= 10
    done = subprocess.run([sys.executable, "-I", "-c", f"{lines}\nimport sys\nassert not {{'tfcnn', 'tensorflow'}} & "
                           "set(sys.modules)"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.split()
    expected = net.predict(shown, batch_size=1)[0]
    assert name == net.class_names[expected.argmax()] and float(probability) == pytest.approx(expected.max(), abs=1e-4)


def test_formats_name_what_they_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format=keras can be quantized as none only"):
        formats.write(_trained("lenet"), "keras", tmp_path / "net.keras", "int8")
    (tmp_path / "there.onnx").write_text("")
    with pytest.raises(UsageError, match="exists already"):
        check.export(_trained("lenet"), "onnx", tmp_path / "there.onnx", _images((28, 28, 1)), np.zeros(8, int))


def test_class_names_are_in_the_onnx_file(tmp_path: Path) -> None:
    import onnx
    formats.write(_trained("lenet"), "onnx", tmp_path / "net.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(properties["class_names"])[:2] == ["class 0", "class 1"]
