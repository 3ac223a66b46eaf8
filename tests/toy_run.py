"""A run that never took place, with every file that a complete run has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcnn import runs
from tfcnn.recipe import Recipe
from tfcnn.runs.record import environment

RECIPE = Recipe(experiment="toy", network="toy", options={"variant": "small"}, epochs=3)
ROWS = [{"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "accuracy": 1 - 0.3 / epoch,
         "validation_loss": 1.2 / epoch, "validation_accuracy": 1 - 0.4 / epoch, "learning_rate": 0.1 / epoch,
         "images_per_second": 1234.5, "gradient_norm": 0.1 + 0.2, "weight_norm": 3.0, "seconds": 1.5}
        for epoch in (1, 2, 3)]
ENVIRONMENT = environment()


def result_of(recipe: Recipe = RECIPE, accuracy: float = 0.9, **changes: Any) -> dict[str, Any]:
    """A result with all fields of the contract."""
    return {
        "experiment": recipe.experiment, "recipe": recipe.to_dict(), "network": recipe.network, "parameters": 12345,
        "dataset": {"name": "sample", "source": "images of the sample", "train_images": 10, "validation_images": 2,
                    "test_images": 4},
        "test": {"accuracy": accuracy, "loss": 0.5, "images": 4}, "epochs": 3, "steps": 30, "train_seconds": 61.0,
        "train_images_per_second": 20.0, "strategy": "MirroredStrategy", "replicas": 1, "precision": "float32",
        "execution": "graph", "seed": recipe.seed, **ENVIRONMENT, "started": "then", "finished": "now"} | changes


def complete_run(path: Path, recipe: Recipe = RECIPE, **changes: Any) -> runs.RunFolder:
    """Writes a complete run."""
    folder = runs.RunFolder(path)
    assert folder.prepare(recipe, [f"--epochs={recipe.epochs}"]) is runs.State.NEW
    folder.write_metrics(ROWS)
    (folder.path / runs.CURVES).write_bytes(b"a picture")
    folder.write_result(result_of(recipe, **changes))
    return folder


def contents(path: Path) -> dict[str, bytes]:
    """The files in a folder, by their path relative to it."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}
