"""A run's folder: nothing lost, nothing half-written, and tables that say what was recorded."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, environment
from tfcnn import runs
from tfcnn.recipe import Recipe, UsageError

RECIPE = Recipe(experiment="toy", network="toy", options={"variant": "small"}, epochs=3)
ROWS = [{"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "accuracy": 1 - 0.3 / epoch,
         "validation_loss": 1.2 / epoch, "validation_accuracy": 1 - 0.4 / epoch, "learning_rate": 0.1 / epoch, "images_per_second": 1234.5,
         "gradient_norm": 0.1 + 0.2, "weight_norm": 3.0, "seconds": 1.5} for epoch in (1, 2, 3)]


def _result(recipe: Recipe = RECIPE, accuracy: float = 0.9, **changes) -> dict:
    return {
        "experiment": recipe.experiment, "recipe": recipe.to_dict(), "network": recipe.network, "parameters": 12345,
        "dataset": {"name": "sample", "source": "images of the sample", "train_images": 10, "validation_images": 2,
                    "test_images": 4},
        "test": {"accuracy": accuracy, "loss": 0.5, "images": 4}, "epochs": 3, "steps": 30, "train_seconds": 61.0,
        "train_images_per_second": 20.0, "strategy": "MirroredStrategy", "replicas": 1, "precision": "float32",
        "execution": "graph", "seed": recipe.seed, **runs.environment(), "started": "then", "finished": "now"} | changes


def _complete(path: Path, recipe: Recipe = RECIPE, **changes) -> runs.RunFolder:
    folder = runs.RunFolder(path)
    assert folder.prepare(recipe, [f"--epochs={recipe.epochs}"]) is runs.State.NEW
    folder.write_metrics(ROWS)
    result = _result(recipe, **changes)
    runs.draw_curves(folder, result)
    folder.write_result(result)
    return folder


def _contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    assert folder.read_recipe() == RECIPE and folder.read_command() == ["--epochs=3"]
    assert folder.read_metrics() == ROWS
    assert type(folder.read_metrics()[0]["epoch"]) is int
    assert folder.read_result() == json.loads(json.dumps(_result()))
    assert folder.complete and not list(folder.path.glob("*.tmp"))


def test_what_prepare_finds(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "a" / "run")
    assert folder.prepare(RECIPE, []) is runs.State.NEW
    assert folder.prepare(RECIPE, []) is runs.State.UNFINISHED
    folder.write_result(_result())
    before = _contents(folder.path)
    assert folder.prepare(RECIPE, ["--changed=1"]) is runs.State.COMPLETE
    assert _contents(folder.path) == before


def test_another_recipes_run_is_refused_with_the_differences(tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    before = _contents(folder.path)
    with pytest.raises(UsageError) as caught:
        folder.prepare(RECIPE.replace(epochs=4, mirror=False, variant="large"), [])
    for words in ("epochs: 3 there, 4 here", "mirror: true there, false here", "variant: small there, large here"):
        assert words in str(caught.value)
    assert "batch_size" not in str(caught.value) and "\n" not in str(caught.value)
    assert _contents(folder.path) == before


def test_overwrite_removes_a_runs_own_files_and_no_others(tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "ckpt-1.index").write_text("old")
    assert folder.prepare(RECIPE.replace(epochs=4), ["--epochs=4"], overwrite=True) is runs.State.NEW
    assert set(_contents(folder.path)) == {"notes.txt", runs.RECIPE, runs.COMMAND}
    assert folder.read_recipe().epochs == 4


@pytest.mark.parametrize("injury", ["a file", "no run", "broken recipe", "another kind of recipe"])
def test_what_is_no_run_is_refused_and_left_alone(injury: str, tmp_path: Path) -> None:
    path = tmp_path / "place"
    if injury == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        name = "notes.txt" if injury == "no run" else runs.RECIPE
        (path / name).write_text("{" if injury == "broken recipe" else '{"a": 1}')
    before = _contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="place"):
            runs.RunFolder(path).prepare(RECIPE, [], overwrite=overwrite)
        assert _contents(tmp_path) == before


def test_a_process_killed_while_writing_leaves_the_old_file_whole(tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    before = {name: text for name, text in _contents(folder.path).items() if not name.endswith(".tmp")}
    program = ("import os, sys\nfrom tfcnn import runs\nos.replace = lambda *names: os._exit(9)\n"
               "runs.RunFolder(sys.argv[1]).write_metrics([{'epoch': 1}])")
    done = subprocess.run([sys.executable, "-c", program, str(folder.path)], env=environment(tmp_path))
    assert done.returncode == 9
    after = _contents(folder.path)
    assert {name: text for name, text in after.items() if not name.endswith(".tmp")} == before
    assert f"{runs.METRICS}.tmp" in after


@pytest.mark.parametrize("name, text", [
    (runs.RESULT, "{"), (runs.RESULT, "[]"), (runs.RESULT, '{"experiment": "toy"}'), (runs.METRICS, "a,b\n1\n"),
    (runs.METRICS, "a\nx\n"), (runs.RECIPE, "")])
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    (folder.path / name).write_text(text)
    read = {runs.RESULT: folder.read_result, runs.METRICS: folder.read_metrics, runs.RECIPE: folder.read_recipe}[name]
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        read()


def test_a_result_without_a_field_of_the_contract_is_not_written(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    for field in ("experiment", "seed", "commit", "test", "dataset"):
        with pytest.raises(ValueError, match=field):
            folder.write_result({name: value for name, value in _result().items() if name != field})
    with pytest.raises(ValueError):
        folder.write_result(_result(accuracy=math.nan))
    assert not folder.complete
    with pytest.raises(UsageError, match="not a complete run"):
        folder.read_result()


def test_curves_are_a_picture_for_one_epoch_and_for_many(tmp_path: Path) -> None:
    for count in (1, 200):
        folder = runs.RunFolder(tmp_path / str(count))
        folder.prepare(RECIPE, [])
        folder.write_metrics([ROWS[0] | {"epoch": epoch + 1, "loss": 1 / (epoch + 1)} for epoch in range(count)])
        picture = Image.open(runs.draw_curves(folder))
        assert picture.size[0] >= 1200 and picture.size[1] >= 400
        assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
        assert (folder.path / runs.CURVES).stat().st_size < 150_000
    with pytest.raises(UsageError):
        runs.draw_curves(runs.RunFolder(tmp_path / "none"))


def test_table_has_a_row_a_setting_with_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    accuracies = [0.9012, 0.9134, 0.8975]
    folders = [_complete(tmp_path / f"seed{seed}", RECIPE.replace(seed=seed), accuracy=accuracy)
               for seed, accuracy in enumerate(accuracies)]
    folders.append(_complete(tmp_path / "plain", RECIPE.replace(augment=False), accuracy=0.85))
    lines = runs.render_table(folders, tmp_path).splitlines()
    assert len(lines) == 4
    plain, = (line for line in lines if "plain" in line)
    seeds, = (line for line in lines if "seed1" in line)
    percent = [100 * value for value in accuracies]
    assert f"| {statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f} | 3 |" in seeds
    assert "| 85.00 | 1 |" in plain
    assert "`augment=false`" in plain and "`augment=true`" in seeds
    assert "sample (images of the sample)" in plain and "12,345" in plain and "1 min 01 s" in plain
    assert "[seed0](seed0), [seed1](seed1), [seed2](seed2)" in seeds


def _repository(path: Path) -> Path:
    (path / "tfcnn").mkdir(parents=True)
    (path / "setup.cfg").touch()
    (path / "tfcnn" / "runs.py").touch()
    (path / "README.md").write_text(f"# Title\n\n{runs.BEGIN}\n{runs.END}\n\nThe rest.\n")
    return path


def test_record_and_render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    root = _repository(tmp_path / "repository")
    folder = _complete(tmp_path / "run")
    (folder.path / "model.keras").write_text("large")
    monkeypatch.chdir(root)
    assert runs.main(["record", str(folder.path), "--name=first"]) == 0
    recorded = root / "experiments" / "toy" / "first"
    assert set(_contents(recorded)) == {runs.RECIPE, runs.COMMAND, runs.METRICS, runs.RESULT, runs.CURVES}
    assert runs.main(["record", str(folder.path), "--name=first"]) == 2  # nothing is overwritten

    assert runs.main(["render", "--check"]) == 1
    assert runs.main(["render"]) == 0
    assert runs.main(["render", "--check"]) == 0
    readme = (root / "README.md").read_text()
    assert readme.startswith("# Title\n") and readme.endswith("\nThe rest.\n") and "| 90.00 |" in readme
    index = (root / "experiments" / "README.md").read_text()
    assert "toy/first/curves.png" in index and "python -m tfcnn.experiments.toy --epochs=3" in index

    (recorded / runs.RESULT).write_text(json.dumps(_result(accuracy=0.91)))
    capsys.readouterr()
    assert runs.main(["render", "--check"]) == 1
    assert "README.md" in capsys.readouterr().err and "| 90.00 |" in (root / "README.md").read_text()


@pytest.mark.parametrize("words", [["record", "nowhere"], ["show", "nowhere"], ["render", "--chek"], [], ["draw"]])
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(words: list[str], capsys) -> None:
    assert runs.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_the_repositorys_own_pages_are_up_to_date() -> None:
    stale = runs.stale_pages(ROOT)
    assert not stale, f"run: python -m tfcnn.runs render ({', '.join(map(str, stale))})"


def test_recorded_runs_are_small_and_whole() -> None:
    for folder in runs.recorded_runs(ROOT):
        assert sum(map(len, _contents(folder.path).values())) < 1_000_000
        result = folder.read_result()
        assert result["recipe"] == json.loads((folder.path / runs.RECIPE).read_text())
        assert len(folder.read_metrics()) == result["epochs"]
