"""Units that are silent on all training images, and weights that are almost zero: against NumPy."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from tfcnn import measures, silent_units
from tfcnn.data import normalization
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.runs import RunFolder
from tfcnn.training.trainer import train


@pytest.fixture(scope="module")
def run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run whose learning rate kills units, watched for three epochs."""
    folder = tmp_path_factory.mktemp("silent") / "run"
    recipe = RECIPE.replace(dataset="folder", variant="cifar_four_layers", normalization="none", epochs=3,
                            batch_size=36, learning_rate=0.3, schedule="constant", warmup_epochs=0.0, augment="none",
                            initializer="he_normal", clip_norm=1.0)
    train(recipe, folder, data_dir=str(class_folders), callbacks=silent_units.observe(folder, str(class_folders)))
    return RunFolder(folder)


def test_silent_units_are_those_that_numpy_finds() -> None:
    inputs = keras.Input((4, 4, 1), name="images")
    x = keras.layers.Conv2D(3, 1, name="conv", bias_initializer="zeros")(inputs)
    x = keras.layers.Activation("relu", name="conv_activation")(x)
    x = keras.layers.Dense(2, name="dense")(keras.layers.Flatten()(x))
    x = keras.layers.Activation("relu", name="dense_activation")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))
    model.get_layer("conv").set_weights([np.array([[[[1.0, -1.0, 1.0]]]]), np.array([0.0, 0.0, -300.0])])
    model.get_layer("dense").set_weights([np.full((48, 2), [0.1, -0.1]), np.array([0.0, 0.05])])
    images = np.random.default_rng(0).integers(0, 256, (700, 4, 4, 1)).astype(np.uint8)
    images[650, 0, 0, 0] = 0
    found = silent_units.silent_units(silent_units.activations(model), images, normalization.fit("none", images))
    pixels = images / 255
    conv = np.maximum(pixels * [1.0, -1.0, 1.0] + [0.0, 0.0, -300.0], 0)
    dense = np.maximum(conv.reshape(700, -1) @ np.full((48, 2), [0.1, -0.1]) + [0.0, 0.05], 0)
    assert found.tolist() == [*(conv.max(axis=(0, 1, 2)) <= 0), *(dense.max(axis=0) <= 0)]
    assert found.tolist() == [False, True, True, False, True]


def test_observed_shares_follow_from_the_sets_and_an_epoch_that_comes_again_is_replaced(
        run: RunFolder, class_folders: Path) -> None:
    sets = [set(numbers) for numbers in json.loads((run.path / "silent_units.json").read_text())]
    observed = json.loads((run.path / "observed.json").read_text())
    units = 32 + 32 + 64
    assert observed["silent"] == [len(numbers) / units for numbers in sets] and len(sets) == 3
    assert observed["resurrected"] == [0.0] + [len(a - b) / units for a, b in zip(sets, sets[1:])]
    assert measures.observed("silent", "", -1).of([run], None) == pytest.approx(100 * observed["silent"][-1])

    observer, = silent_units.observe(run.path, str(class_folders))
    observer.set_model(keras.saving.load_model(run.path / "model.keras"))
    observer.on_train_begin()
    observer.on_epoch_end(2)  # as after a resumption
    assert json.loads((run.path / "observed.json").read_text()) == observed
    observer.on_epoch_end(1)
    assert len(json.loads((run.path / "observed.json").read_text())["silent"]) == 2


def test_weights_that_are_almost_zero_are_counted_and_taken_out(run: RunFolder, class_folders: Path) -> None:
    model = keras.saving.load_model(run.path / "model.keras")
    kernels = [weight for weight in model.get_weights() if weight.ndim > 1]
    for threshold in (0.0, 0.01, 1e9):
        share = sum((np.abs(kernel) < threshold).sum() for kernel in kernels) / sum(map(np.size, kernels))
        assert measures.zero_share(threshold).of([run], None) == pytest.approx(100 * share)
    assert 0 < measures.zero_share(0.01).of([run], None) < 100
    error = measures.error_with_zeros(0.0).of([run], str(class_folders))
    assert error == pytest.approx(100 * (1 - run.read_result()["test"]["accuracy"]))
    assert measures.error_with_zeros(1e9).of([run], str(class_folders)) == pytest.approx(200 / 3, abs=0.1)
