"""Units that are silent on all training images, and weights that are almost zero: against NumPy."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.forked import Forked
from tfcnn import measures, silent_units
from tfcnn.data import datasets, normalization, pipeline
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.runs import RunFolder
from tfcnn.training.trainer import train

# A learning rate that kills units.
DEADLY = RECIPE.replace(dataset="folder", variant="cifar_four_layers", normalization="none", epochs=3, batch_size=36,
                        learning_rate=0.3, schedule="constant", warmup_epochs=0.0, augment="none",
                        initializer="he_normal", clip_norm=1.0)


@pytest.fixture(scope="module")
def run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run watched for three epochs."""
    folder = tmp_path_factory.mktemp("silent") / "run"
    train(DEADLY, folder, data_dir=str(class_folders), callbacks=silent_units.observe(folder, str(class_folders)))
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
        run: RunFolder, class_folders: Path, tmp_path: Path) -> None:
    sets = [set(numbers) for numbers in json.loads((run.path / "silent_units.json").read_text())]
    observed = json.loads((run.path / "observed.json").read_text())
    units = 32 + 32 + 64
    assert observed["silent"] == [len(numbers) / units for numbers in sets] and len(sets) == 3
    assert observed["resurrected"] == [0.0] + [len(a - b) / units for a, b in zip(sets, sets[1:])]
    assert measures.observed("silent", "", -1).of([run], None) == pytest.approx(100 * observed["silent"][-1])

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    observer, = silent_units.observe(copy, str(class_folders))
    observer.set_model(keras.saving.load_model(run.path / "model.keras"))
    observer.on_train_begin()
    observer.on_epoch_end(2)  # as after a resumption
    assert json.loads((copy / "observed.json").read_text()) == observed
    observer.on_epoch_end(1)
    assert len(json.loads((copy / "observed.json").read_text())["silent"]) == 2


class _Killer(keras.callbacks.Callback):
    """Kills the process at the end of the second epoch, after the units were looked at."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1:
            os._exit(9)


def _train_until_killed(folder: Path, data_dir: str) -> None:
    train(DEADLY, folder, data_dir=data_dir, callbacks=[*silent_units.observe(folder, data_dir), _Killer()])


def test_a_killed_and_resumed_run_observes_what_an_uninterrupted_one_does(
        run: RunFolder, class_folders: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    killed = Forked(_train_until_killed, folder, str(class_folders), cwd=tmp_path, env=os.environ).completed()
    assert killed.returncode == 9, killed.stderr
    assert len(json.loads((folder / "observed.json").read_text())["silent"]) == 2
    train(DEADLY, folder, data_dir=str(class_folders), callbacks=silent_units.observe(folder, str(class_folders)))
    assert json.loads((folder / "observed.json").read_text()) == json.loads((run.path / "observed.json").read_text())


def test_silent_units_that_fire_again_are_counted_among_the_silent_ones(run: RunFolder, tmp_path: Path) -> None:
    sets = [set(numbers) for numbers in json.loads((run.path / "silent_units.json").read_text())]
    before = sum(len(numbers) for numbers in sets[:-1])
    assert before and measures.come_back().of([run], None) == pytest.approx(
        100 * sum(len(a - b) for a, b in zip(sets, sets[1:])) / before)
    (tmp_path / "observed.json").write_text(json.dumps({"silent": [0.1, 0.2, 0.0], "resurrected": [0.0, 0.0, 0.2]}))
    assert measures.come_back().of([RunFolder(tmp_path)], None) == pytest.approx(100 * 2 / 3)
    (tmp_path / "observed.json").write_text(json.dumps({"silent": [0.0, 0.1], "resurrected": [0.0, 0.0]}))
    assert math.isnan(measures.come_back().of([RunFolder(tmp_path)], None))


def test_activations_that_are_zero_are_counted(run: RunFolder, class_folders: Path) -> None:
    model = keras.saving.load_model(run.path / "model.keras")
    inputs = normalization.load(run.path / "normalization.npz")
    test = datasets.load("folder", str(class_folders), validation=DEADLY.validation, seed=0).test
    pixels = inputs.apply(pipeline.fit(test, model.input_shape[1:]).images)
    zeros = total = 0
    for layer in ("conv1_activation", "conv2_activation", "conv3_activation"):
        output = keras.Model(model.inputs, model.get_layer(layer).output).predict_on_batch(pixels)
        zeros, total = zeros + (output == 0).sum(), total + output.size
    measured = measures.zero_activations().of([run], str(class_folders))
    assert measured == pytest.approx(100 * zeros / total) and 0 < measured < 100


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
