"""The recipe: plain data that survives JSON, and refuses what makes no sense in one line."""

from __future__ import annotations

import json

import pytest

from tfcnn.data.normalization import KINDS
from tfcnn.recipe import Option, Recipe, UsageError, settings

RECIPE = Recipe(experiment="e", network="n", options={"depth": Option(20, (20, 56), "layers"), "shortcut": "A"})


def test_json_keeps_everything() -> None:
    changed = RECIPE.replace(epochs=7, learning_rate=0.1 + 0.2, augment="rotate:5", depth=56, decay_epochs="3,4.5")
    again = Recipe.from_json(changed.to_json())
    assert again == changed and again != RECIPE
    assert again.learning_rate == 0.1 + 0.2
    assert json.loads(changed.to_json())["options"] == {"depth": 56, "shortcut": "A"}


def test_replace_reaches_options_and_keeps_their_choices() -> None:
    changed = RECIPE.replace(depth=56)
    assert changed.network_options() == {"depth": 56, "shortcut": "A"}
    assert RECIPE.network_options()["depth"] == 20
    with pytest.raises(UsageError, match="depth=21 must be one of 20, 56"):
        changed.replace(depth=21)


def test_whole_numbers_are_numbers_like_others() -> None:
    whole, same = (Recipe(experiment="", network="", momentum=value, l2=value) for value in (0, 0.0))
    assert whole.to_json() == same.to_json()
    assert isinstance(whole.momentum, float)


def test_every_setting_has_help() -> None:
    for field in settings():
        assert field.metadata["help"]
        assert not field.metadata["choices"] or field.default in field.metadata["choices"]


@pytest.mark.parametrize("change", [
    {"epochs": 0}, {"batch_size": -1}, {"learning_rate": float("nan")}, {"learning_rate": float("inf")},
    {"learning_rate": "fast"}, {"momentum": 1.0}, {"optimizer": "lion"}, {"schedule": "sometimes"},
    {"precision": "float8"}, {"execution": "jit"}, {"validation": 1.0}, {"validation": -0.1}, {"ema": 1.0},
    {"lookahead": -1}, {"label_smoothing": 1.0}, {"seed": -1}, {"epochs": 2.5}, {"epochs": True}, {"augment": 1},
    {"augment": "rotat"}, {"crop_padding": -1},
    {"decay_epochs": "3,2"}, {"decay_epochs": "0"}, {"decay_epochs": "a"}, {"schedule": "step"},
    {"schedule": "exponential"}, {"schedule": "exponential", "decay_epochs": "1,2"}, {"no_such_field": 1},
    {"depth": 21}, {"depth": "20"}], ids=str)
def test_nonsense_is_a_usage_error_of_one_line(change: dict) -> None:
    with pytest.raises(UsageError) as caught:
        RECIPE.replace(**change)
    assert "\n" not in str(caught.value)
    assert any(name in str(caught.value) for name in change)


def test_weights_are_averaged_in_one_way() -> None:
    with pytest.raises(UsageError, match="--lookahead=5 and --ema=0.9 both average the weights: leave one out"):
        RECIPE.replace(ema=0.9, lookahead=5)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"experiment": "e"}', '{"experiment": "e", "network": "n", "x": 1}'])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a recipe"):
        Recipe.from_json(text)


def test_augmentation_that_was_on_or_off_is_a_preset_now() -> None:
    """As recorded runs have it, in JSON and in flags."""
    for former, preset in ((True, "standard"), (False, "none"), ("true", "standard"), ("false", "none")):
        assert RECIPE.replace(augment=former) == RECIPE.replace(augment=preset)
    recorded = json.loads(RECIPE.to_json()) | {"augment": True, "crop_padding": 2}
    assert Recipe.from_json(json.dumps(recorded)) == RECIPE.replace(crop_padding=2)


@pytest.mark.parametrize("changes, expected", [
    ({}, "crop:4,mirror"), ({"crop_padding": 2}, "crop:2,mirror"), ({"mirror": False}, "crop:4"),
    ({"augment": "none"}, ""), ({"augment": "crop:3,rotate", "crop_padding": 2}, "crop:3,rotate:15"),
    ({"augment": "strong", "mirror": False}, "crop:4,randaugment:2:9,cutout:8"),
    ({"augment": "alternating_mirror,crop", "mirror": False}, "crop:4")], ids=str)
def test_augmentations_are_the_list_with_the_recipes_padding_and_mirroring(changes: dict, expected: str) -> None:
    assert ",".join(map(str, RECIPE.replace(**changes).augmentations())) == expected


def test_normalizations_are_those_of_the_data() -> None:
    field, = (field for field in settings() if field.name == "input_normalization")
    assert set(field.metadata["choices"]) == set(KINDS)


def test_ten_crops_need_streaming() -> None:
    with pytest.raises(UsageError, match="--stream"):
        RECIPE.replace(test_crops=10)
    assert RECIPE.replace(test_crops=10, stream=True).test_crops == 10
