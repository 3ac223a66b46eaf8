"""Tests every experiment: its network learns, it accepts the sample data, and its flags reach the network.

Experiments are discovered, so a new one is tested without changes here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from absl.flags import FlagValues
from PIL import Image

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
from tfcnn import cli, experiments, flags, networks
from tfcnn.recipe import Recipe
from tfcnn.runs import RunFolder
from tfcnn.training.trainer import prepare, train

RECIPES, SAMPLES, PRESETS = experiments.recipes(), experiments.samples(), experiments.presets()
# One experiment per network: the first in alphabetical order.
OF_NETWORK = {recipe.network: recipe for recipe in reversed(RECIPES.values())}


@pytest.fixture(scope="module")
def ten_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Creates class folders of noise, five images in each of two classes: a network can only memorize them."""
    root = tmp_path_factory.mktemp("ten")
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("one", "other"):
            (root / part / name).mkdir(parents=True)
            for number in range(5):
                pixels = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{number}.png")
    return root


class StopWhenMemorized(keras.callbacks.Callback):
    """Ends the run once the images are memorized: large networks need few steps, but slow ones."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        self.model.stop_training = logs["accuracy"] == 1.0 and logs["loss"] < 0.05


def test_every_network_has_an_experiment() -> None:
    assert set(OF_NETWORK) == set(networks.names())


@pytest.mark.parametrize("network", OF_NETWORK)
def test_network_can_memorize_ten_images(network: str, ten_images: Path, tmp_path: Path, narrow: None) -> None:
    """The first check of a new network: one that cannot memorize ten images is broken."""
    recipe = OF_NETWORK[network]
    smallest = next(iter(networks.find(network).VARIANTS.values())).smallest
    recipe = recipe.replace(
        dataset="folder", image_size=max(smallest, 16), validation=0.0, batch_size=10, augment="none", epochs=60,
        learning_rate=0.01 if network == "airbench" else 0.003,  # its logits are divided by 9
        warmup_epochs=0.0, optimizer="adam", schedule="constant", l2=0.0, ema=0.0, lookahead=0, label_smoothing=0.0,
        shift_rate=1.0, shift_l2=0.0,
        **{name: value for name, value in (("dropout", 0.0), ("width", 0.25)) if name in recipe.options})
    result = train(recipe, tmp_path / "run", data_dir=str(ten_images), callbacks=[StopWhenMemorized()])
    last = RunFolder(result.workdir).read_metrics()[-1]
    assert last["accuracy"] == 1.0 and last["loss"] < 0.05
    assert "validation_loss" not in last and result.record["dataset"]["validation_images"] == 0


@pytest.mark.parametrize("name", RECIPES)
def test_experiment_accepts_the_sample_data(name: str) -> None:
    setup = prepare(RECIPES[name].replace(dataset="sample", **SAMPLES[name]))
    images, labels = next(iter(setup.pipeline.training(0)))
    assert images.shape[1:] == setup.model.input_shape[1:] and np.ptp(labels) > 0
    assert setup.model.outputs[0].shape == (None, 10)


@pytest.mark.parametrize("name, preset", [(name, preset) for name, presets in PRESETS.items() for preset in presets])
def test_preset_is_a_recipe_of_the_experiment(name: str, preset: str) -> None:
    recipe, _ = flags.parse(RECIPES[name], [name, f"--preset={preset}"], PRESETS[name])
    assert recipe == RECIPES[name].replace(**PRESETS[name][preset]) != RECIPES[name]


def test_a_preset_takes_precedence_over_what_the_sample_changes(capsys: pytest.CaptureFixture[str]) -> None:
    trained = []

    def action(recipe: Recipe, values: FlagValues) -> int:
        trained.append(recipe)
        return 0

    for flag in ("--epochs=2", "--preset=short", "--preset=smooth"):
        with pytest.raises(SystemExit):
            cli.run(RECIPES["lenet5"], ["lenet5", "--dataset=sample", flag], action, {"epochs": 60},
                    {"short": {"epochs": 3}, "smooth": {"label_smoothing": 0.1}})
    assert [(recipe.epochs, recipe.label_smoothing) for recipe in trained] == [(2, 0.0), (3, 0.0), (60, 0.1)]


def test_network_options_are_flags() -> None:
    recipe, _ = flags.parse(RECIPES["resnet"], ["resnet", "--depth=56", "--shortcut=B"])
    assert recipe.network_options()["depth"] == 56 and recipe.network_options()["shortcut"] == "B"
