"""The table of published test errors: which recorded runs stand beside which, and what a line says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.toy_run import result_of
from tfcnn.experiments import alexnet, inception, mlp, network_in_network, resnet, vgg
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import Recipe
from tfcnn.runs import State
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.published import ROWS, Published, Row, render_published
from tfcnn.runs.record import recorded_runs

RECIPE = resnet.RECIPE
ROOT = Path(__file__).parents[1]

RESNET20 = Row("ResNet-20", "CIFAR-10", (Published(8.75, "He et al. 2016, table 6", 182),), "resnet", "cifar10",
               {"depth": (20,)}, augmented=True)
DATA = {"name": "cifar10", "source": "binary version", "train_images": 45_000, "validation_images": 5_000,
        "test_images": 10_000}


def _run(path: Path, recipe: Recipe = RECIPE, **changes: Any) -> RunFolder:
    folder = RunFolder(path)
    assert folder.prepare(recipe, []) is State.NEW
    folder.write_result(result_of(recipe, **{"dataset": DATA, "epochs": 182, "train_seconds": 5400.0} | changes))
    return folder


def _cells(folders: list[RunFolder], relative_to: Path) -> list[list[str]]:
    lines = render_published(folders, relative_to, [RESNET20]).splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_row_without_runs_says_so(tmp_path: Path) -> None:
    assert _cells([], tmp_path) == [["[ResNet-20](tfcnn/experiments/resnet.py)", "CIFAR-10",
                                     "8.75 (He et al. 2016, table 6)", "not yet run", "182", "", "", "", ""]]


def test_a_row_has_the_mean_error_and_the_deviation_over_seeds(tmp_path: Path) -> None:
    folders = [_run(tmp_path / f"seed{seed}", RECIPE.replace(seed=seed), accuracy=accuracy)
               for seed, accuracy in enumerate((0.91, 0.92, 0.915))]
    line, = _cells(folders, tmp_path)
    assert line[3:] == ["**8.50 ± 0.50** (n = 3)", "182", "182", "45,000 images", "1.5",
                        "[seed0](seed0), [1](seed1), [2](seed2)"]


def test_each_recipe_has_a_line_of_its_own(tmp_path: Path) -> None:
    folders = [_run(tmp_path / "paper", accuracy=0.9125),
               _run(tmp_path / "short", RECIPE.replace(epochs=30), accuracy=0.905, epochs=30)]
    assert [(line[3], line[5]) for line in _cells(folders, tmp_path)] == [
        ("**8.75** (n = 1)", "182"), ("**9.50** (n = 1)", "30")]


def _evaluated(folder: RunFolder, accuracy: float, tta: str = "shift", one_view: float = 0.0) -> None:
    (folder.path / "evaluation").mkdir()
    record = {"tta": tta, "accuracy": accuracy, "members": [{"source": "run, one view", "accuracy": one_view}]}
    (folder.path / "evaluation" / "evaluation.json").write_text(json.dumps(record))


def test_an_evaluation_with_several_views_stands_beside_the_runs_own_test(tmp_path: Path) -> None:
    folders = [_run(tmp_path / f"seed{seed}", RECIPE.replace(seed=seed), accuracy=0.91) for seed in range(2)]
    _evaluated(folders[0], 0.92)
    assert _cells(folders, tmp_path)[0][3] == "**9.00 ± 0.00** (n = 2)"  # not all runs were evaluated
    _evaluated(folders[1], 0.93)
    assert _cells(folders, tmp_path)[0][3] == "**9.00 ± 0.00** (n = 2); nine shifts **7.50 ± 0.71**"


@pytest.mark.parametrize("tta, expected", [
    ("ten_crop", "**20.00** (n = 1); one view **22.00**"), ("none", "**20.00** (n = 1)")])
def test_a_run_that_was_tested_on_ten_crops_has_the_error_of_one_view(tta: str, expected: str, tmp_path: Path) -> None:
    folder = _run(tmp_path / "run", RECIPE.replace(stream=True, test_crops=10), accuracy=0.8)
    _evaluated(folder, 0.8, tta, one_view=0.78)
    assert _cells([folder], tmp_path)[0][3] == expected


@pytest.mark.parametrize("recipe, changes", [
    (RECIPE.replace(augment="none"), {}),
    (RECIPE.replace(depth=56), {}),
    (RECIPE.replace(initial_weights="resnet20-cifar10"), {}),
    (RECIPE.replace(classes="0-4"), {}),
    (RECIPE.replace(random_labels=1.0), {}),
    (RECIPE.replace(train_images=500), {}),
    (RECIPE.replace(augment="mirror", mirror=False), {}),
    (RECIPE, {"experiment": "other"}),
    (RECIPE, {"dataset": DATA | {"name": "sample"}}),
    (RECIPE, {"dataset": DATA | {"name": "folder", "source": "CIFAR-10 (JPEG copy), class folders"}})])
def test_runs_of_another_setting_stay_out(recipe: Recipe, changes: dict[str, Any], tmp_path: Path) -> None:
    line, = _cells([_run(tmp_path / "other", recipe, **changes)], tmp_path)
    assert line[3] == "not yet run"


def test_augmentation_of_early_recipes_counts(tmp_path: Path) -> None:
    """They had true or false."""
    for augment, expected in ((True, "**10.00** (n = 1)"), (False, "not yet run")):
        folder = _run(tmp_path / str(augment))
        result = folder.read_result()
        result["recipe"]["augment"] = augment
        folder.write_result(result)
        line, = _cells([folder], tmp_path)
        assert line[3] == expected


def test_rows_name_what_exists() -> None:
    for row in ROWS:
        assert row.dataset in {"mnist", "fashion_mnist", "cifar10", "cifar100", "folder"}
        assert (ROOT / "tfcnn" / "experiments" / f"{row.experiment}.py").is_file()
        network = row.experiment.removesuffix("5")  # lenet5 trains lenet
        for option, values in row.options.items():
            allowed = OPTIONS[network][option].choices
            assert set(values) <= set(allowed), (row.network, option)


def test_no_run_belongs_in_two_rows() -> None:
    recipes = [*(resnet.RECIPE.replace(depth=depth) for depth in (18, 20, 56)), vgg.RECIPE, inception.RECIPE,
               alexnet.RECIPE, alexnet.RECIPE.replace(normalization="none"),
               network_in_network.RECIPE, network_in_network.RECIPE.replace(normalization="batch"),
               mlp.RECIPE, mlp.RECIPE.replace(variant="bottleneck_short")]
    made = [result_of(recipe.replace(augment=augment), dataset={"name": dataset, "source": "files"})
            for recipe in recipes for augment in ("none", "standard") for dataset in ("cifar10", "cifar100")]
    recorded = [folder.read_result() for folder in recorded_runs(ROOT)]
    found = [sum(row.has(result) for row in ROWS) for result in made + recorded]
    # On CIFAR-10 seven networks with augmentation and two with and without it, on CIFAR-100 one.
    assert max(found) == 1 and sum(found[:len(made)]) == 7 + 2 * 2 + 1


def test_a_plain_network_is_not_in_the_row_of_the_residual_one() -> None:
    row, = (row for row in ROWS if row.network == "ResNet-18, 3x3 stem")
    dataset = {"name": "cifar10", "source": "files"}
    for shortcut, belongs in (("paper", True), ("B", True), ("none", False)):
        assert row.has(result_of(resnet.RECIPE.replace(depth=18, shortcut=shortcut), dataset=dataset)) is belongs
