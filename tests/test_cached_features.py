"""Cached features: training on them is training without them, with the same images in the same order."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest

from tfcnn import _compat, networks
from tfcnn.experiments import lenet5, network_in_network
from tfcnn.recipe import Recipe
from tfcnn.trained import prediction
from tfcnn.training import initial_weights
from tfcnn.training.cached_features import CachedFeatures, split
from tfcnn.training.setup import prepare
from tfcnn.training.trainer import train

# The frozen layers have batch normalization and, between the features and the last layer, dropout.
RECIPE = lenet5.RECIPE.replace(
    dataset="folder", epochs=2, batch_size=24, validation=0.1, warmup_epochs=0.0, normalization="batch", dropout=0.3,
    learning_rate=0.05, augment="none", mirror=True, freeze="all", ema=0.9, l1=0.001, l2=0.01)


class _Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == 1:
            raise RuntimeError("stopped here")


def _weights(run: Path) -> dict[str, np.ndarray]:
    model = keras.saving.load_model(run / "model.keras")
    return {weight.path: weight.numpy() for weight in model.weights}


def _metrics(run: Path) -> np.ndarray:
    with open(run / "metrics.csv") as file:
        return np.array([[float(value) for value in row.values()] for row in csv.DictReader(file)])


def test_weights_and_all_that_is_measured_are_those_without_the_cache(
        class_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = str(class_folders)
    start = {weight.path: weight.numpy() for weight in prepare(RECIPE, data).model.weights}
    records = {}
    for name, cached in (("cached", True), ("plain", False)):
        records[name] = train(RECIPE, tmp_path / name, data_dir=data, cache_features=cached).record
        assert ("features:    the output of flatten, 120 numbers for each of 150 images" in capsys.readouterr().out
                ) == cached
    with pytest.raises(RuntimeError, match="stopped here"):
        train(RECIPE, tmp_path / "parts", data_dir=data, callbacks=[_Stop()])
    train(RECIPE, tmp_path / "parts", data_dir=data)

    cached, plain, parts = (_weights(tmp_path / name) for name in ("cached", "plain", "parts"))
    assert [*cached] == [*plain] == [*start]  # the whole network
    changed = [path for path in start if not np.array_equal(start[path], cached[path])]
    assert changed == [path for path in start if path.startswith("logits")]
    for path in changed:
        np.testing.assert_allclose(cached[path], plain[path], atol=1e-6)
        assert np.abs(cached[path] - start[path]).max() > 1e-3
        assert np.array_equal(cached[path], parts[path])
    np.testing.assert_allclose(_metrics(tmp_path / "cached"), _metrics(tmp_path / "plain"), rtol=1e-4, atol=1e-6)
    assert np.array_equal(_metrics(tmp_path / "cached"), _metrics(tmp_path / "parts"))
    assert records["cached"]["test"] == pytest.approx(records["plain"]["test"], rel=1e-4)
    assert records["cached"]["parameters"] == records["plain"]["parameters"]


def test_batches_are_the_features_of_the_same_images(class_folders: Path) -> None:
    setup = prepare(RECIPE, str(class_folders), cache_features=True)
    images = prepare(RECIPE, str(class_folders)).pipeline
    batches: Any = setup.pipeline
    assert isinstance(batches, CachedFeatures) and batches.normalization is not images.normalization
    batches.normalization = images.normalization
    batches.compute()
    halves = split(RECIPE, setup.model, 150)
    for arguments in ((3,), (3, 3, 1, 2)):  # across epochs of five steps; the batches of two of three replicas
        for (features, labels), (pictures, classes) in zip(batches.training(*arguments).take(4),
                                                           images.training(*arguments).take(4)):
            assert np.array_equal(labels, classes)
            np.testing.assert_allclose(features, prediction.logits(halves.features, pictures), atol=1e-5)
    for part in ("validation", "test"):
        for (features, *rest), (pictures, *others) in zip(batches.evaluation(part), images.evaluation(part)):
            assert all(np.array_equal(one, other) for one, other in zip(rest, others, strict=True))
            np.testing.assert_allclose(features, prediction.logits(halves.features, pictures), atol=1e-5)


@pytest.mark.parametrize("recipe, changes, images, layer", [
    (RECIPE, {}, 150, "flatten"),  # dropout follows
    (RECIPE, {"dropout": 0.0}, 150, "F6_activation"),
    (RECIPE, {"freeze": "none"}, 150, None),
    (RECIPE, {"freeze": "C5"}, 150, None),
    (RECIPE, {"augment": "mirror"}, 150, None),
    (RECIPE, {"augment": "mirror", "mirror": False}, 150, "flatten"),  # which is no augmentation
    (RECIPE, {"stream": True}, 150, None),
    (RECIPE, {"activation": "rrelu"}, 150, None),  # random in the first layer
    (RECIPE, {}, 10 ** 7, None),  # 4.8 GB
    (network_in_network.RECIPE, {}, 150, None),  # dropout after three of nine convolutions
    (network_in_network.RECIPE, {"dropout": 0.0}, 150, "cccp5_activation"),
], ids=lambda value: "-".join(f"{name}={one}" for name, one in value.items()) if isinstance(value, dict) else "")
def test_features_are_what_depends_on_the_image_alone(recipe: Recipe, changes: dict, images: int, layer: str | None
                                                      ) -> None:
    recipe = recipe.replace(**{"freeze": "all", "augment": "none"} | changes)
    model = networks.find(recipe.network).build(classes=3, image_size=recipe.image_size, **recipe.network_options())
    initial_weights.freeze(recipe, model)
    halves = split(recipe, model, images)
    assert (halves and _compat.producer(halves.features.outputs[0]).operation.name) == layer


def test_two_heads_on_two_features_are_trained_without() -> None:
    images = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(2, 3)(images)
    outputs = [keras.layers.Dense(3)(keras.layers.Flatten()(one)) for one in (keras.layers.Conv2D(2, 1)(x), x)]
    for chosen, expected in ((outputs, False), (outputs[:1], True)):
        model = keras.Model(images, chosen)
        initial_weights.freeze(RECIPE, model)
        assert (split(RECIPE, model, 150) is not None) == expected
