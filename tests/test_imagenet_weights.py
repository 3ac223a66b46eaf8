"""ImageNet weights: networks of keras.applications with random weights, put into ours, compute the same."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import tfcnn  # sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
from keras.src.utils import file_utils

from tfcnn import networks
from tfcnn.experiments import inception, lenet5, resnet, vgg
from tfcnn.recipe import Recipe, UsageError
from tfcnn.trained.converting import keras_applications
from tfcnn.training import initial_weights

RANDOM = np.random.default_rng(0)
CLASSES = tuple(f"class {number}" for number in range(5))
VGG = vgg.RECIPE.replace(variant="D", initial_weights="imagenet")
RESNET = resnet.RECIPE.replace(depth=50, stem="7x7", initial_weights="imagenet")
INCEPTION = inception.RECIPE.replace(variant="v3", initial_weights="imagenet")


def _shaken(model: keras.Model) -> keras.Model:
    """Gives a network random biases, scales, offsets and statistics, and kernels through which the signal lasts."""
    for weight in model.weights:
        if weight.name == "kernel":
            weight.assign(2 ** 0.5 * weight)
        elif weight.name in ("gamma", "moving_variance"):
            weight.assign(RANDOM.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(RANDOM.normal(0, 0.3, weight.shape))
    return model


def _built(recipe: Recipe, classes: int, size: int) -> keras.Model:
    return networks.find(recipe.network).build(classes=classes, image_size=size, **recipe.network_options())


def _imagenet() -> tuple[str, ...]:
    """The names of ImageNet's classes, as tensorflow-datasets has them."""
    import tensorflow_datasets  # takes seconds, which not every process of the tests needs

    folder = Path(tensorflow_datasets.__file__).parent / "datasets" / "imagenet2012"
    return tuple((folder / "labels.txt").read_text().split())


@pytest.mark.parametrize("recipe, module, name, size", [
    (VGG, keras.applications.vgg16, "VGG16", 64),  # several positions reach fc6, whose order would show
    (VGG.replace(variant="E"), keras.applications.vgg19, "VGG19", 32),
    (RESNET, keras.applications.resnet, "ResNet50", 64),
    (INCEPTION, keras.applications.inception_v3, "InceptionV3", 75),
], ids=["VGG-16", "VGG-19", "ResNet-50", "Inception-v3"])
def test_outputs_are_those_of_keras_applications(recipe: Recipe, module: Any, name: str, size: int,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = _shaken(getattr(module, name)(weights=None, input_shape=(size, size, 3), classifier_activation=None))
    assert keras_applications.find(recipe.network, recipe.network_options()) == name
    monkeypatch.setattr(keras_applications, "_downloaded", lambda name: theirs)
    model = _built(recipe, 1000, size)
    initial = initial_weights.start_from(recipe, model, _imagenet())
    images = RANDOM.integers(0, 256, (2, size, size, 3), np.uint8)
    expected = np.asarray(theirs(module.preprocess_input(images.astype(np.float32))))
    tolerance = 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(model(initial.normalization.apply(images)), expected, atol=tolerance)
    # The logits depend on the images, and on the order of the colours.
    assert np.ptp(expected, axis=0).max() > 100 * tolerance
    assert np.abs(model(initial.normalization.apply(images[..., ::-1])) - expected).max() > 100 * tolerance
    assert initial.sha256 == initial_weights.digest(theirs)


def test_new_classes_get_a_new_last_layer_and_another_size_is_refused_where_it_matters(
        monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3))
    monkeypatch.setattr(keras_applications, "_downloaded", lambda name: theirs)
    for names in (CLASSES, tuple(reversed(_imagenet()))):
        model = _built(VGG, len(names), 32)
        before = model.get_layer("logits").get_weights()
        initial_weights.start_from(VGG, model, names)
        assert np.array_equal(model.get_layer("logits").kernel, before[0])
        assert np.array_equal(model.get_layer("fc7").kernel, theirs.get_layer("fc2").kernel)
    with pytest.raises(UsageError, match=r"VGG16 .* for images of 32x32 pixels, .* fc6 has weights of .*512.*2048"):
        initial_weights.start_from(VGG, _built(VGG, 5, 64), CLASSES)


@pytest.mark.parametrize("recipe, message", [
    (lenet5.RECIPE, "none for lenet, but for vgg with --variant=D or E, resnet with --depth=50, 101 or 152, inception "
                    "with --variant=v3"),
    (VGG.replace(variant="cifar16"), "vgg with --variant=cifar16 has none; choose --variant=D or E"),
    (VGG.replace(normalization="batch"), "--normalization=batch has none; choose --normalization=paper or none"),
    (RESNET.replace(depth=34), "--depth=34 has none; choose --depth=50, 101 or 152"),
    (RESNET.replace(stem="3x3"), "--stem=3x3 has none; choose --stem=7x7"),
    (RESNET.replace(shortcut="C"), "--shortcut=C has none; choose --shortcut=paper or B"),
    (INCEPTION.replace(activation="elu"), "--activation=elu has none; choose --activation=relu"),
], ids=lambda value: value[:20] if isinstance(value, str) else "")
def test_networks_without_imagenet_weights_are_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        keras_applications.find(recipe.network, recipe.network_options())
    assert str(caught.value).startswith("--initial_weights=imagenet: ") and message in str(caught.value)


def test_depths_are_those_of_the_networks() -> None:
    assert [keras_applications.find("resnet", RESNET.replace(depth=depth).network_options())
            for depth in (50, 101, 152)] == ["ResNet50", "ResNet101", "ResNet152"]


def test_names_of_files_are_those_that_keras_looks_for() -> None:
    for name, module in (("VGG16", keras.applications.vgg16), ("VGG19", keras.applications.vgg19),
                         ("InceptionV3", keras.applications.inception_v3)):
        assert f'"{keras_applications.file(name)}"' in inspect.getsource(inspect.getmodule(getattr(module, name)))
    for name in ("ResNet50", "ResNet101", "ResNet152"):
        source = inspect.getsource(inspect.getmodule(getattr(keras.applications, name)))
        assert '{weights_name}_weights_tf_dim_ordering_tf_kernels.h5"' in source and f'"{name.lower()}"' in source
        assert keras_applications.file(name) == f"{name.lower()}_weights_tf_dim_ordering_tf_kernels.h5"


def test_weights_that_cannot_be_downloaded_are_one_line_and_a_file_put_in_the_folder_is_found(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras's own download, from a port on which nothing answers, instead of its network."""
    name = keras_applications.file("ResNet50")

    def network(weights: str, classifier_activation: None) -> str:
        assert weights == "imagenet" and classifier_activation is None
        return file_utils.get_file(name, f"http://127.0.0.1:9/{name}", cache_subdir="models")

    monkeypatch.setattr(keras.applications, "ResNet50", network)
    monkeypatch.setattr(tfcnn, "KERAS_FOLDER", str(tmp_path / "keras"))
    folder = tmp_path / "keras" / "models"
    with pytest.raises(UsageError) as caught:
        keras_applications._downloaded("ResNet50")
    line = str(caught.value)
    assert name in line and line.endswith(f"download it elsewhere and put it into {folder}") and "\n" not in line
    assert not list(folder.iterdir())
    (folder / name).write_bytes(b"weights")
    assert str(keras_applications._downloaded("ResNet50")) == str(folder / name)
