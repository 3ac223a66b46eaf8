"""Exported networks: run by other programs, equal to the network itself, and refused if they are not."""

from __future__ import annotations

import dataclasses
import functools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
from PIL import ExifTags, Image

from tests import pages
from tfcnn import experiments, export, networks
from tfcnn.data import normalization
from tfcnn.networks import layers
from tfcnn.recipe import UsageError
from tfcnn.runs import EXPORTED
from tfcnn.trained.exporting import check, formats
from tfcnn.trained.exporting.standard_layers import keras_application
from tfcnn.trained.network import TrainedNetwork

# Of each network of the suite, the first experiment; further layers of ours by options.
NETWORKS = {recipe.network: recipe for recipe in reversed(experiments.recipes().values())}
VARIED = {"lenet": {"output": "radial_basis"}, "resnet": {"shortcut": "B"}, "alexnet": {"activation": "rrelu"}}
# The smallest and the largest difference of a probability: of a quantized export it is not 0.
DIFFERENCES = {"none": (0, 1e-4), "float16": (1e-5, 1e-3), "int8": (1e-3, 0.05)}


def _trained(network: str, kind: str = "channel", seed: int = 0, **options) -> TrainedNetwork:
    """A network with random weights, statistics of batch normalization included."""
    keras.utils.set_random_seed(seed)
    random = np.random.default_rng(seed)
    recipe = NETWORKS[network].replace(batch_size=8, **options)
    smallest = next(iter(networks.find(network).VARIANTS.values())).smallest
    size = max(smallest, 16)
    model = networks.find(network).build(classes=10, image_size=size, **recipe.network_options())
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(random.uniform(0.5, 2, weight.shape))
        elif "mean" in weight.path or "beta" in weight.path or "bias" in weight.path:
            weight.assign(random.normal(0, 0.1, weight.shape))
    for layer in model.layers:
        if isinstance(layer, layers.LocalResponseNormalization):
            layer.alpha = 0.1  # its own one hardly changes activations as small as these
    shape = model.input_shape[1:]
    return TrainedNetwork(network, Path(), model, normalization.fit(kind, _images(shape, 64)),
                          tuple(f"class {number}" for number in range(10)), recipe,
                          {"dataset": {"image_shape": list(shape)}})


# Networks that no test changes.
_shared = functools.cache(_trained)


@functools.cache
def _spread() -> tuple[TrainedNetwork, np.ndarray]:
    """An AlexNet, and images of which it gives each class logits with mean 0 and standard deviation 0.5."""
    net = _trained("alexnet")
    images = net.fit(_images((20, 24, 3), 20))
    logits = net.logits_of_fitted(images)
    kernel, bias = net.model.get_layer("logits").get_weights()
    factor = 0.5 / logits.std(axis=0)
    net.model.get_layer("logits").set_weights([kernel * factor, (bias - logits.mean(axis=0)) * factor])
    return net, images


def _images(shape: tuple[int, ...], count: int = 8) -> np.ndarray:
    """Images of patches, four in a row, with a little noise: the same again for the same arguments."""
    random = np.random.default_rng(1)
    height, width, channels = shape
    patches = random.integers(0, 224, (count, 4, 4, channels), np.uint8)
    patches = patches.repeat(-(-height // 4), 1).repeat(-(-width // 4), 2)
    return patches[:, :height, :width] + random.integers(0, 32, (count, *shape), np.uint8)


def _assert_computes_the_same(net: TrainedNetwork, tolerance: float) -> None:
    """Keras's own layers give the network's logits, however little these differ between images, and probabilities."""
    images = _images(net.input_shape)
    application = keras_application(net)
    assert not [layer for layer in application._flatten_layers() if type(layer).__module__.startswith("tfcnn.")]
    outputs = keras.Model(application.input, [application.get_layer("probabilities").input, application.output])
    logits, probabilities = outputs.predict(images, verbose=0)
    expected = net.logits_of_fitted(images, batch_size=8)
    spread = expected.std(axis=0).min()
    assert spread > 1e-3 * np.abs(expected).max()
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-3 * spread)
    np.testing.assert_allclose(probabilities, net.predict(images, batch_size=8), atol=tolerance)


@pytest.mark.parametrize("network, options", [*((name, {}) for name in NETWORKS), *VARIED.items()],
                         ids=lambda value: str(value))
def test_keras_own_layers_compute_the_same(network: str, options: dict) -> None:
    _assert_computes_the_same(_shared(network, **options), tolerance=2e-5)


@pytest.mark.parametrize("kind", normalization.KINDS)
def test_keras_own_operations_normalize_the_same(kind: str) -> None:
    _assert_computes_the_same(_trained("lenet", kind), tolerance=1e-4)


@pytest.mark.parametrize("kind, quantize", [("saved_model", "none"), ("keras", "none"), ("onnx", "none"),
                                            ("onnx", "int8"), ("litert", "none"), ("litert", "float16"),
                                            ("litert", "int8")])
def test_exported_files_answer_the_same_in_other_programs(kind: str, quantize: str, tmp_path: Path) -> None:
    net, images = _spread()
    logits = net.logits_of_fitted(images)
    labels = logits.argmax(axis=1)
    assert len(set(labels)) >= 4 and logits.std(axis=0).min() > 0.45
    path = tmp_path / f"net{formats.SUFFIXES[kind]}"
    found = check.export(net, kind, path, images, labels, quantize, images, largest_loss=0.5)
    assert found.images == 20 and found.before == 1 and found.bytes > 1000
    least, largest = DIFFERENCES[quantize]
    assert least <= found.largest_difference < largest and found.after >= 0.5
    if kind in ("litert", "keras"):
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().splitlines() == list(net.class_names)


def test_export_that_differs_is_refused_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, other = _shared("lenet"), _trained("lenet", seed=1)
    images = _images(net.input_shape)
    labels = net.predict(images).argmax(axis=1)
    write = formats.write
    monkeypatch.setattr(formats, "write", lambda network, *arguments: write(other, *arguments))
    for quantize in ("none", "int8"):
        with pytest.raises(UsageError, match="refused"):
            check.export(net, "onnx", tmp_path / "net.onnx", images, labels, quantize, images, 0.01)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("height, width, turned", [(28, 28, False), (70, 45, True)],
                         ids=["of the training images' size", "larger, not square, and turned"])
def test_the_pages_ten_lines_run_an_onnx_file(height: int, width: int, turned: bool, tmp_path: Path) -> None:
    names = "zero one two three four five six seven eight nine"
    net = dataclasses.replace(_shared("lenet"), class_names=tuple(names.split()),
                              result={"dataset": {"image_shape": [28, 28, 1]}})
    assert net.input_shape == (32, 32, 1)
    formats.write(net, "onnx", tmp_path / "net.onnx")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6 if turned else 1
    Image.fromarray(_images((height, width, 1), 1)[0, ..., 0]).save(tmp_path / "photo.png", exif=exif)
    shown = net.read(tmp_path / "photo.png")
    assert shown.shape[:2] == ((width, height) if turned else (height, width))
    _, lines = pages.blocks("docs/trained.md", "python")
    assert len([line for line in lines.splitlines() if line and "import" not in line]) <= 10
    done = subprocess.run([sys.executable, "-I", "-c", f"{lines}\nimport sys\nassert not {{'tfcnn', 'tensorflow'}} & "
                           "set(sys.modules)"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    name, probability = done.stdout.split()
    expected = net.predict(shown[None], batch_size=1)[0]
    assert name == net.class_names[expected.argmax()] and float(probability) == pytest.approx(expected.max(), abs=1e-4)


def test_formats_name_what_they_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--format=keras can be quantized as none only"):
        formats.write(_shared("lenet"), "keras", tmp_path / "net.keras", "int8")
    (tmp_path / "there.onnx").write_text("")
    with pytest.raises(UsageError, match="exists already"):
        check.export(_shared("lenet"), "onnx", tmp_path / "there.onnx", _images((28, 28, 1)), np.zeros(8, int))


@pytest.mark.parametrize("count", [1, 499, 500, 501, 950, 1400, 45_000])
def test_images_that_calibrate_are_spread_over_all_classes(count: int) -> None:
    chosen = export.spaced(count)
    assert min(count, 250) <= len(chosen) <= 500
    assert count - chosen[-1] <= chosen.step <= count / 250 + 1


def test_a_run_that_is_replaced_takes_its_exports_with_it() -> None:
    names = {export.default_name(kind, quantize) for kind, values in formats.QUANTIZED.items() for quantize in values}
    assert names == set(EXPORTED)


def test_class_names_are_in_the_onnx_file(tmp_path: Path) -> None:
    import onnx
    formats.write(_shared("lenet"), "onnx", tmp_path / "net.onnx")
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(properties["class_names"])[:2] == ["class 0", "class 1"]
