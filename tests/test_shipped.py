"""The networks that ship: each loads, has the bytes of its card, and answers as it did when it was shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tfcnn import trained
from tfcnn.data import datasets
from tfcnn.recipe import UsageError
from tfcnn.runs import RESULT, RunFolder
from tfcnn.trained import evaluation, shipped

ANSWERS = Path(__file__).parent / "shipped_answers"
MNIST = Path(__file__).parents[2] / "shared" / "datasets" / "mnist"


def test_several_networks_ship_and_are_small() -> None:
    assert {"lenet5-mnist", "mlp-fashion_mnist"} <= set(shipped.names())
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*") if path.is_file()) <= 12e6


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_network_gives_its_stored_answers(name: str) -> None:
    network, card = trained.load(name), shipped.card(name)
    assert shipped.sha256(name) == card["sha256"]
    assert (card["network"], card["dataset"]) == (network.recipe.network, network.recipe.dataset)
    with np.load(ANSWERS / f"{name}.npz") as stored:
        images, labels, expected = stored["images"], stored["labels"], stored["probabilities"]
    assert images.shape[0] == 50 and images.dtype == np.uint8
    probabilities = network.predict(images)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert (probabilities.argmax(axis=1) == labels).mean() >= card["accuracy"] - 0.15
    if network.recipe.precision == "float32":  # negated images are not what it has learnt
        assert np.abs(network.predict(255 - images) - expected).max() > 0.1


@pytest.mark.parametrize("name", shipped.names())
def test_the_card_has_the_accuracy_of_the_recorded_run_of_seed_0(name: str) -> None:
    card, result = shipped.card(name), RunFolder(shipped.FOLDER / name).read_result()
    assert card["seed"] == result["seed"] == 0 and card["commit"] == result["commit"]
    # What ships computes in float32, which after a run in bfloat16 may decide a few of the 10,000 images otherwise.
    allowed = 0 if result["precision"] == "float32" else 0.003
    assert abs(card["accuracy"] - result["test"]["accuracy"]) <= allowed
    low, high = card["accuracy_interval"]
    assert low < card["accuracy"] < high and card["images"] == result["test"]["images"] == 10_000
    recorded = [RunFolder(path.parent).read_result()
                for path in Path(__file__).parents[1].glob(f"experiments/{result['experiment']}/*/{RESULT}")]
    assert result in recorded


@pytest.mark.parametrize("name", shipped.names())
def test_evaluation_gives_the_accuracy_of_the_card(name: str) -> None:
    network = trained.load(name)
    data_dir = str(MNIST) if network.recipe.dataset == "mnist" and MNIST.is_dir() else None
    try:
        record = evaluation.evaluate([network], data_dir=data_dir).record
    except datasets.Unavailable:
        pytest.skip(f"{network.recipe.dataset} is not on this machine")
    assert record["accuracy"] == shipped.card(name)["accuracy"]


def test_ship_refuses_a_bad_name_one_that_is_taken_and_what_is_no_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(shipped.FOLDER / "lenet5-mnist", run)
    for name, words in (("lenet5", "NETWORK-DATASET"), ("lenet5-mnist", "exists already")):
        with pytest.raises(UsageError, match=words):
            shipped.ship(run, name)
    (run / RESULT).unlink()
    with pytest.raises(UsageError):
        shipped.ship(run, "lenet5-new")
    assert not (shipped.FOLDER / "lenet5-new").exists()
