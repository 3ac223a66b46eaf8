"""The flags of an experiment: derived from its recipe, parsed, and recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfcnn import flags
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import UsageError, settings

RUN_FLAGS = {"workdir", "data_dir", "devices", "overwrite", "histograms", "checkpoint_every", "cluster", "wait"}


def _parse(*arguments: str):
    return flags.parse(RECIPE, ["alexnet", *arguments])


def test_every_field_and_option_is_a_flag_whose_default_is_the_experiments_value() -> None:
    values = flags.of_recipe(RECIPE)
    names = {field.name for field in settings()} | set(RECIPE.options) | RUN_FLAGS
    assert names | {"flagfile", "undefok"} >= set(values) >= names
    for field in settings():
        assert values[field.name].default == getattr(RECIPE, field.name)
        assert values[field.name].help.endswith(field.metadata["help"])
    assert values["variant"].parser.enum_values == ["cifar", "paper", "one_tower", "cifar_four_layers"]
    assert _parse()[0] == RECIPE


def test_flags_change_the_recipe() -> None:
    recipe, values = _parse("--epochs=3", "--noaugment", "--learning_rate=1", "--normalization=none", "--nomirror",
                            "--overwrite", "--decay_epochs=3,4", "--schedule=step", "--workdir=w")
    assert recipe == RECIPE.replace(epochs=3, augment="none", learning_rate=1.0, normalization="none", mirror=False,
                                    decay_epochs="3,4", schedule="step")
    assert values["overwrite"].value and values["workdir"].value == "w"


@pytest.mark.parametrize("argument, augment", [
    ("--noaugment", "none"), ("--augment", "standard"), ("--augment=true", "standard"), ("--augment=false", "none"),
    ("--augment=mirror,crop:4,rotate:15,elastic:8:4", "mirror,crop:4,rotate:15,elastic:8:4")])
def test_the_flag_of_augmentation_is_a_list_or_a_switch(argument: str, augment: str) -> None:
    assert _parse("--augment=strong", argument)[0] == RECIPE.replace(augment=augment)


def test_preset_changes_the_recipe_and_flags_change_the_preset(tmp_path: Path) -> None:
    presets = {"fast": {"epochs": 3, "dropout": 0.5}, "slow": {"epochs": 300}}

    def parse(*arguments: str):
        return flags.parse(RECIPE, ["alexnet", *arguments], presets)

    assert parse()[0] == RECIPE
    recipe, values = parse("--preset=fast")
    assert recipe == RECIPE.replace(epochs=3, dropout=0.5)
    assert parse("--epochs=5", "--preset=fast")[0] == RECIPE.replace(epochs=5, dropout=0.5)
    # What is recorded does not depend on what the preset will be then.
    file = tmp_path / "command.flags"
    file.write_text("".join(f"{flag}\n" for flag in flags.to_repeat(recipe, values)))
    assert parse(f"--flagfile={file}")[0] == parse(f"--flagfile={file}", "--preset=slow")[0] == recipe
    with pytest.raises(UsageError, match="preset.*fast.*slow"):
        parse("--preset=other")
    assert flags.of_recipe(RECIPE, presets)["preset"].help.splitlines()[1:] == [
        "fast: --epochs=3 --dropout=0.5", "slow: --epochs=300"]


def test_recorded_flags_reproduce_the_recipe(tmp_path: Path) -> None:
    recipe, values = _parse("--epochs=3", "--noaugment", "--learning_rate=0.1", "--activation=tanh", "--data_dir=d d")
    file = tmp_path / "command.flags"
    file.write_text("".join(f"{flag}\n" for flag in flags.to_repeat(recipe, values)))
    again, values = _parse(f"--flagfile={file}")
    assert again == recipe and again != RECIPE
    assert values["data_dir"].value == "d d"
    assert _parse(f"--flagfile={file}", "--epochs=5")[0] == recipe.replace(epochs=5)


def test_run_flags_that_a_resumed_run_needs_are_recorded() -> None:
    recipe, values = _parse("--devices=2", "--checkpoint_every=5m", "--histograms", "--workdir=w", "--overwrite")
    assert set(flags.to_repeat(recipe, values)) - set(flags.to_repeat(*_parse())) == {
        "--devices=2", "--checkpoint_every=5m", "--histograms=true"}


def test_usage_errors_are_raised_in_python() -> None:
    with pytest.raises(UsageError, match="Did you mean: augment"):
        _parse("--no_augment")
