"""Transfer learning: what a network starts with, what is frozen, and that a run of it resumes exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfcnn import networks
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import UsageError
from tfcnn.trained.converting import conversion
from tfcnn.training import initial_weights
from tfcnn.training.trainer import prepare, train

FIRST = RECIPE.replace(dataset="folder", epochs=1, batch_size=24, validation=0.0, warmup_epochs=0.0,
                       normalization="batch", learning_rate=0.003)


@pytest.fixture(scope="module")
def first(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that others start from."""
    folder = tmp_path_factory.mktemp("first") / "run"
    train(FIRST, folder, data_dir=str(class_folders))
    return folder


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with other classes than those of `first`, and darker images."""
    root = tmp_path_factory.mktemp("two")
    random = np.random.default_rng(1)
    for part in ("train", "test"):
        for name, level in (("dark", 40), ("black", 10)):
            (root / part / name).mkdir(parents=True)
            for number in range(24):
                pixels = random.integers(0, level, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number:02}.png")
    return root


def _weights(run: Path) -> dict[str, list[np.ndarray]]:
    model = keras.saving.load_model(run / "model.keras")
    return {layer.name: layer.get_weights() for layer in model.layers if layer.weights}


def _equal(one: list[np.ndarray], two: list[np.ndarray]) -> bool:
    return all(np.array_equal(first, second) for first, second in zip(one, two, strict=True))


def test_other_classes_get_a_new_last_layer_and_frozen_layers_stay(first: Path, two_classes: Path, tmp_path: Path
                                                                   ) -> None:
    recipe = FIRST.replace(initial_weights=str(first), freeze="all", epochs=2, batch_size=16)
    result = train(recipe, tmp_path / "run", data_dir=str(two_classes))
    before, after = _weights(first), _weights(tmp_path / "run")
    assert after["logits"][0].shape[-1] == 2
    # Of batch normalization too, whose moving statistics would follow the dark images.
    assert all(_equal(before[name], after[name]) for name in before if name != "logits")
    # The input normalization is that of the weights.
    for file in (first, tmp_path / "run"):
        with np.load(file / "normalization.npz") as stored:
            means = stored["mean"]
        assert means.mean() > 60
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    sums = keras.saving.load_model(first / "model.keras")
    assert record["initial_weights"] == {"source": str(first), "sha256": initial_weights.digest(sums)}
    assert record["parameters"] == sum(np.prod(weight.shape) for weight in result.model.trainable_weights)
    assert len(result.model.trainable_weights) == len(sums.trainable_weights)


def test_stage_up_to_which_it_is_frozen(first: Path, class_folders: Path, tmp_path: Path) -> None:
    train(FIRST.replace(initial_weights=str(first), freeze="conv1"), tmp_path / "run", data_dir=str(class_folders))
    before, after = _weights(first), _weights(tmp_path / "run")
    changed = [name for name in before if not _equal(before[name], after[name])]
    assert changed == [name for name in before if not name.startswith("conv1")] and "conv2" in changed


def test_all_weights_are_taken_where_the_classes_are_the_same(first: Path, class_folders: Path) -> None:
    setup = prepare(FIRST.replace(initial_weights=str(first)), str(class_folders))
    start = {layer.name: layer.get_weights() for layer in setup.model.layers if layer.weights}
    assert all(_equal(values, start[name]) for name, values in _weights(first).items())


@pytest.mark.parametrize("dataset, kept", [("folder", True), ("", False)])
def test_a_converted_network_keeps_its_last_layer_for_its_own_data_set(dataset: str, kept: bool, first: Path,
                                                                       class_folders: Path, tmp_path: Path) -> None:
    file = tmp_path / "published"
    file.write_bytes(b"the weights")
    model = keras.saving.load_model(first / "model.keras")
    made = conversion.Converted(model, FIRST.network, FIRST.network_options())
    conversion.write(made, tmp_path / "out", file, conversion.normalization((), ()), (), dataset)
    setup = prepare(FIRST.replace(initial_weights=str(tmp_path / "out")), str(class_folders))
    assert _equal(_weights(first)["logits"], setup.model.get_layer("logits").get_weights()) == kept


def test_run_with_frozen_layers_resumes_exactly(first: Path, class_folders: Path, tmp_path: Path) -> None:
    source = shutil.copytree(first, tmp_path / "source")
    recipe = FIRST.replace(initial_weights=str(source), freeze="conv1", epochs=2, dropout=0.2)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            if epoch == 1:
                raise RuntimeError("stopped here")

    train(recipe, tmp_path / "whole", data_dir=str(class_folders))
    with pytest.raises(RuntimeError, match="stopped here"):
        train(recipe, tmp_path / "parts", data_dir=str(class_folders), callbacks=[Stop()])
    other = keras.saving.load_model(source / "model.keras")
    other.get_layer("logits").bias.assign_add([1.0, 0.0, 0.0])
    other.save(source / "model.keras")
    with pytest.raises(UsageError, match=f"parts started from other weights than {source} holds now"):
        train(recipe, tmp_path / "parts", data_dir=str(class_folders))
    shutil.copy(first / "model.keras", source)
    train(recipe, tmp_path / "parts", data_dir=str(class_folders))
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert all(_equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("changes, message", [
    ({"initial_weights": "no-such-run"}, "neither the folder of a run"),
    ({"freeze": "conv9"}, "must be none, all, or a layer or stage"),
    ({"freeze": "logits"}, "nothing to train"),
    ({"initial_weights": "{first}", "normalization": "none"}, "conv1_normalization.* in one only"),
    ({"initial_weights": "{first}", "variant": "one_tower"}, "layers differ"),
    ({"initial_weights": "{first}", "activation": "tanh"}, "was trained with --activation=relu: give that here"),
], ids=lambda value: str(value)[:30])
def test_what_cannot_be_started_is_one_line(changes: dict, message: str, first: Path, class_folders: Path) -> None:
    changes = {name: value.format(first=first) for name, value in changes.items()}
    with pytest.raises(UsageError, match=message) as caught:
        prepare(FIRST.replace(**changes), str(class_folders))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", networks.names())
def test_last_layers_are_those_that_depend_on_the_number_of_classes(name: str, narrow: None) -> None:
    with tf.Graph().as_default():  # variables get no memory in a graph, and no values
        three, four = (networks.find(name).build(classes=classes) for classes in (3, 4))
    shapes = [{layer.name: [weight.shape for weight in layer.weights] for layer in model.layers if layer.weights}
              for model in (three, four)]
    assert initial_weights._last_layers(three) == {layer for layer in shapes[0] if shapes[0][layer] != shapes[1][layer]}
