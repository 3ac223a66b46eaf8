"""Recorded runs: provenance, recording, tables, rendered pages, and the command."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, environment
from tests.toy_run import ENVIRONMENT, RECIPE, complete_run, contents, result_of
from tfcnn import experiments, runs
from tfcnn.recipe import Recipe, UsageError, flag_text, settings
from tfcnn.runs.__main__ import main
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.pages import BEGIN, END, stale_pages
from tfcnn.runs.record import record, recorded_runs
from tfcnn.runs.tables import render_table


def test_timings_are_recorded_if_a_run_has_them(tmp_path: Path) -> None:
    for name in ("with", "without"):
        folder = complete_run(tmp_path / name)
        if name == "with":
            folder.write_timings([{"epoch": 1, "seconds": 2.5}])
            assert (folder.path / runs.TIMINGS).read_text() == "epoch,seconds\n1,2.5\n"
        copy = record(folder, tmp_path)
        assert (copy.path / runs.TIMINGS).exists() == (name == "with")


def test_normalization_is_recorded_if_it_is_small_or_weights_are(tmp_path: Path) -> None:
    small, large = complete_run(tmp_path / "small"), complete_run(tmp_path / "large")
    (small.path / runs.NORMALIZATION).write_bytes(b"statistics")
    (large.path / runs.NORMALIZATION).write_bytes(bytes(2_000_000))
    assert (record(small, tmp_path).path / runs.NORMALIZATION).read_bytes() == b"statistics"
    assert runs.NORMALIZATION not in contents(record(large, tmp_path).path)
    found = contents(record(large, tmp_path, "with-weights", {"weights.npz": b"weights"}).path)
    assert found["weights.npz"] == b"weights" and len(found[runs.NORMALIZATION]) == 2_000_000


def test_an_evaluation_on_the_test_set_is_recorded_under_the_name_of_the_run(tmp_path: Path) -> None:
    own = {"dataset": "folder", "source": "photographs, class folders", "split": "test"}
    for name, changes in {"own": {}, "validation": {"split": "validation"}, "another": {"dataset": "cifar10"},
                          "others": {"source": "other photographs, class folders"}}.items():
        images = {"train_images": 10, "validation_images": 0, "test_images": 4}
        folder = complete_run(tmp_path / name, dataset={"name": own["dataset"], "source": own["source"], **images})
        (folder.path / "evaluation").mkdir()
        found = {"sources": [str(folder.path)], "tta": "shift", "accuracy": 0.9,
                 "members": [{"source": f"{folder.path}, one view", "accuracy": 0.8}]} | own | changes
        (folder.path / "evaluation" / "evaluation.json").write_text(json.dumps(found))
        files = contents(record(folder, tmp_path, name).path)
        assert ("evaluation/evaluation.json" in files) == (not changes)
        if not changes:
            assert json.loads(files["evaluation/evaluation.json"]) == found | {
                "sources": ["own"], "members": [{"source": "own, one view", "accuracy": 0.8}]}


def test_a_damaged_evaluation_is_a_usage_error(tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    (folder.path / "evaluation").mkdir()
    (folder.path / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(UsageError, match="evaluation.json is damaged: .* evaluate the run again"):
        record(folder, tmp_path)
    assert not contents(tmp_path / "experiments")


def test_a_run_is_recorded_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = complete_run(tmp_path / "run")
    (tmp_path / "experiments" / "toy-run.tmp").mkdir(parents=True)  # left by a killed process
    (tmp_path / "experiments" / "toy-run.tmp" / runs.RESULT).touch()
    assert not recorded_runs(tmp_path)

    def full(path: Path, content: bytes) -> None:
        raise UsageError("no space")

    with monkeypatch.context() as patch, pytest.raises(UsageError, match="no space"):
        patch.setattr("tfcnn.files.write", full)
        record(folder, tmp_path, weights={"weights.npz": b"weights"})
    assert not contents(tmp_path / "experiments")
    assert set(contents(record(folder, tmp_path).path)) == {runs.RECIPE, runs.COMMAND, runs.METRICS, runs.RESULT,
                                                            runs.CURVES}
    assert [path.name for path in (tmp_path / "experiments").iterdir()] == ["toy"]


def test_environment_has_the_versions_and_the_commit_of_the_checkout(tmp_path: Path) -> None:
    assert set(ENVIRONMENT["versions"]) == {"python", "tensorflow", "keras", "numpy", "tensorflow-datasets"}
    assert ENVIRONMENT["versions"]["numpy"] == np.__version__

    def run(*words: str) -> str:
        clean = {name: value for name, value in environment(tmp_path).items() if not name.startswith("GIT_")}
        done = subprocess.run(words, cwd=root, env=clean | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit() -> str:
        return run(sys.executable, "-c", "from tfcnn.runs.record import environment; print(environment()['commit'])")

    root = tmp_path / "checkout"
    root.mkdir()
    shutil.copytree(ROOT / "tfcnn", root / "tfcnn", ignore=shutil.ignore_patterns("__pycache__"))
    assert commit() == "unknown"
    run("git", "init", "--quiet")
    run("git", "add", "tfcnn")
    run("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--no-verify", "-m", "first")
    head = run("git", "rev-parse", "HEAD")
    (root / "untracked.txt").touch()
    assert commit() == head
    (root / "tfcnn" / "recipe.py").open("a").write("# changed")
    assert commit() == f"{head}-dirty"
    # Inside another project's checkout, as in the virtual environment of one, the commit is not the package's.
    (root / "installed").mkdir()
    root = (root / "tfcnn").rename(root / "installed" / "tfcnn").parent
    assert commit() == "unknown"


def test_a_table_row_has_the_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    accuracies = [0.9012, 0.9134, 0.8975]
    folders = [complete_run(tmp_path / f"seed{seed}", RECIPE.replace(seed=seed), accuracy=accuracy)
               for seed, accuracy in enumerate(accuracies)]
    folders.append(complete_run(tmp_path / "plain", RECIPE.replace(augment="none"), accuracy=0.85))
    lines = render_table(folders, tmp_path).splitlines()
    assert len(lines) == 4
    plain, = (line for line in lines if "plain" in line)
    seeds, = (line for line in lines if "seed1" in line)
    percent = [100 * value for value in accuracies]
    assert f"| {statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f} | 3 |" in seeds
    assert "| 85.00 | 1 |" in plain
    assert "`augment=none`" in plain and "`augment=standard`" in seeds
    assert "sample (images of the sample)" in plain and "12,345" in plain and "1 min 01 s" in plain
    assert "[seed0](seed0), [1](seed1), [2](seed2)" in seeds


def test_table_rows_show_the_settings_in_which_runs_differ(tmp_path: Path) -> None:
    other = Recipe(experiment="another", network="toy", options={"variant": "small", "depth": 20})
    sample = result_of()["dataset"]
    folders = [
        complete_run(tmp_path / "first"),
        complete_run(tmp_path / "repeated"),
        complete_run(tmp_path / "parallel", replicas=2),
        complete_run(tmp_path / "elsewhere", dataset=sample | {"source": "a|b"}),
        complete_run(tmp_path / "other", other, train_seconds=7384.0, accuracy=1 / 3),
    ]
    rows = render_table(folders, tmp_path).splitlines()[2:]
    assert len(rows) == 5  # a seed that is run twice is no second sample
    assert rows[0].startswith("| another | `network=toy` `variant=small` `depth=20` |")
    assert "| 33.33 | 1 |" in rows[0] and "2 h 03 min" in rows[0]
    assert all(row.startswith("| toy | `variant=small` `replicas=") for row in rows[1:])
    assert "`replicas=2`" in next(row for row in rows if "[parallel]" in row)
    assert "sample (a\\|b)" in next(row for row in rows if "[elsewhere]" in row)


def test_table_uses_the_default_of_a_field_that_an_older_recipe_lacks(tmp_path: Path) -> None:
    older = complete_run(tmp_path / "older")
    result = older.read_result()
    del result["recipe"]["ema"]
    older.write_result(result)
    row, = render_table([older, complete_run(tmp_path / "newer", RECIPE.replace(seed=1))], tmp_path).splitlines()[2:]
    assert "| 90.00 ± 0.00 | 2 |" in row and "ema" not in row


def test_a_table_without_runs() -> None:
    assert render_table([]) == "No run has been recorded yet.\n"


def _repository(path: Path) -> Path:
    (path / "tfcnn").mkdir(parents=True)
    (path / "setup.cfg").touch()
    (path / "tfcnn" / "__init__.py").touch()
    (path / "README.md").write_text(f"# Title\n\n{BEGIN}\n{END}\n\nThe rest.\n")
    return path


def test_record_and_render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    root = _repository(tmp_path / "repository")
    folder = complete_run(tmp_path / "run")
    (folder.path / "model.keras").write_text("large")
    monkeypatch.chdir(root)
    assert main(["record", str(folder.path), "--name=first"]) == 0
    recorded = root / "experiments" / "toy" / "first"
    assert set(contents(recorded)) == {runs.RECIPE, runs.COMMAND, runs.METRICS, runs.RESULT, runs.CURVES}
    assert main(["record", str(folder.path), "--name=first"]) == 2  # nothing is overwritten

    assert main(["render", "--check"]) == 1
    assert main(["render"]) == 0
    assert main(["render", "--check"]) == 0
    readme = (root / "README.md").read_text()
    assert readme.startswith("# Title\n") and readme.endswith("\nThe rest.\n") and "| not yet run |" in readme
    index = (root / "experiments" / "README.md").read_text()
    assert "| 90.00 |" in index and "toy/first/curves.png" in index
    assert "python -m tfcnn.experiments.toy --epochs=3" in index

    (recorded / runs.RESULT).write_text(json.dumps(result_of(accuracy=0.91)))
    capsys.readouterr()
    assert main(["render", "--check"]) == 1
    assert "experiments/README.md" in capsys.readouterr().err
    assert "| 90.00 |" in (root / "experiments" / "README.md").read_text()


def test_record_refuses_an_incomplete_run_and_a_bad_name(tmp_path: Path) -> None:
    unfinished = runs.RunFolder(tmp_path / "unfinished")
    unfinished.prepare(RECIPE, [])
    with pytest.raises(UsageError, match="not a complete run"):
        record(unfinished, tmp_path)
    folder = complete_run(tmp_path / "run")
    for name in ("../escaped", ".hidden", "a b"):
        with pytest.raises(UsageError, match="--name="):
            record(folder, tmp_path, name)
    (folder.path / runs.CURVES).unlink()
    with pytest.raises(UsageError, match=f"lacks {runs.CURVES}"):
        record(folder, tmp_path)
    assert not (tmp_path / "experiments").exists()


def test_render_needs_both_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    root = _repository(tmp_path)
    monkeypatch.chdir(root)
    for text in ("# Title\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n"):
        (root / "README.md").write_text(text)
        assert main(["render"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and BEGIN in error and error.count("\n") == 1
        assert (root / "README.md").read_text() == text and not (root / "experiments").exists()


def test_show_prints_the_table(tmp_path: Path) -> None:
    complete_run(tmp_path / "run")
    done = subprocess.run([sys.executable, "-m", "tfcnn.runs", "show", "run"], cwd=tmp_path, env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == render_table([runs.RunFolder(tmp_path / "run")], tmp_path)


@pytest.mark.parametrize("words", [["record", "nowhere"], ["show", "nowhere"], ["render", "--chek"], [], ["draw"]])
def test_a_usage_error_is_one_line_and_status_2(words: list[str], capsys) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_the_rendered_pages_of_the_repository_are_up_to_date() -> None:
    stale = stale_pages(ROOT)
    assert not stale, f"run: python -m tfcnn.runs render ({', '.join(map(str, stale))})"


def test_recorded_runs_are_small_and_complete() -> None:
    folders = recorded_runs(ROOT)
    assert {"alexnet", "lenet5", "resnet"} <= {folder.path.parent.name for folder in folders}
    for folder in folders:
        assert sum(len(data) for name, data in contents(folder.path).items() if name != "weights.npz") < 1_000_000
        result = folder.read_result()
        assert result["recipe"] == json.loads((folder.path / runs.RECIPE).read_text())
        assert len(folder.read_metrics()) == result["epochs"]


@pytest.mark.parametrize("folder", recorded_runs(ROOT), ids=lambda folder: str(folder.path.relative_to(ROOT)))
def test_a_recorded_command_still_names_what_its_experiment_sets(folder: RunFolder) -> None:
    """A setting that an experiment got after the run must be in the run's command, with the value that the run had."""
    given = dict(line.removeprefix("--").split("=", 1) for line in folder.read_command())
    recorded, recipe = folder.read_result()["recipe"], experiments.recipes()[folder.path.parent.name]
    for field in settings():
        if getattr(recipe, field.name) != field.default:
            assert given[field.name] == flag_text(recorded.get(field.name, field.default))
