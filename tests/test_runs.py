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
         "validation_loss": 1.2 / epoch, "validation_accuracy": 1 - 0.4 / epoch, "learning_rate": 0.1 / epoch,
         "images_per_second": 1234.5, "gradient_norm": 0.1 + 0.2, "weight_norm": 3.0, "seconds": 1.5}
        for epoch in (1, 2, 3)]
ENVIRONMENT = runs.environment()


def _result(recipe: Recipe = RECIPE, accuracy: float = 0.9, **changes) -> dict:
    return {
        "experiment": recipe.experiment, "recipe": recipe.to_dict(), "network": recipe.network, "parameters": 12345,
        "dataset": {"name": "sample", "source": "images of the sample", "train_images": 10, "validation_images": 2,
                    "test_images": 4},
        "test": {"accuracy": accuracy, "loss": 0.5, "images": 4}, "epochs": 3, "steps": 30, "train_seconds": 61.0,
        "train_images_per_second": 20.0, "strategy": "MirroredStrategy", "replicas": 1, "precision": "float32",
        "execution": "graph", "seed": recipe.seed, **ENVIRONMENT, "started": "then", "finished": "now"} | changes


def _complete(path: Path, recipe: Recipe = RECIPE, **changes) -> runs.RunFolder:
    folder = runs.RunFolder(path)
    assert folder.prepare(recipe, [f"--epochs={recipe.epochs}"]) is runs.State.NEW
    folder.write_metrics(ROWS)
    (folder.path / runs.CURVES).write_bytes(b"a picture")
    folder.write_result(_result(recipe, **changes))
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


def test_metrics_keep_odd_numbers_and_refuse_odd_rows(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path)
    rows = [{"epoch": np.int64(1), "loss": np.float32(0.1)}, {"epoch": 2, "loss": math.inf}]
    folder.write_metrics(rows)
    assert folder.read_metrics() == rows and type(folder.read_metrics()[0]["epoch"]) is int
    for odd in ({"epoch": 3}, {"epoch": 3, "loss": 0.1, "more": 1}):
        with pytest.raises(ValueError, match="columns"):
            folder.write_metrics([*rows, odd])
    assert folder.read_metrics() == rows
    folder.write_metrics([])
    assert folder.read_metrics() == []


def test_what_prepare_finds(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "a" / "run")
    assert folder.prepare(RECIPE, []) is runs.State.NEW
    assert folder.prepare(RECIPE, []) is runs.State.UNFINISHED
    folder.write_result(_result())
    before = _contents(folder.path)
    assert folder.prepare(RECIPE, ["--changed=1"]) is runs.State.COMPLETE
    assert _contents(folder.path) == before


def test_an_unfinished_run_keeps_its_files_and_overwriting_it_starts_anew(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, ["--epochs=3"])
    folder.write_metrics(ROWS)
    before = _contents(folder.path)
    assert folder.prepare(RECIPE, ["--changed=1"]) is runs.State.UNFINISHED
    assert _contents(folder.path) == before
    assert folder.prepare(RECIPE, ["--changed=1"], overwrite=True) is runs.State.NEW
    assert not (folder.path / runs.METRICS).exists() and folder.read_command() == ["--changed=1"]


@pytest.mark.parametrize("place", ["file/run", "x" * 300])
def test_a_folder_that_cannot_be_made_is_a_usage_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot use"):
        runs.RunFolder(tmp_path / place).prepare(RECIPE, [])


def test_a_flag_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line break"):
        runs.RunFolder(tmp_path / "run").prepare(RECIPE, ["--data_dir=a\n--epochs=9"])
    assert not (tmp_path / "run").exists()


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


def test_a_folder_in_use_is_refused_until_its_process_is_dead(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    program = ("import sys, time\nfrom tfcnn import runs\nwith runs.RunFolder(sys.argv[1]).locked():\n"
               "    print('locked', flush=True)\n    time.sleep(600)")
    holder = subprocess.Popen([sys.executable, "-c", program, str(folder.path)], stdout=subprocess.PIPE, text=True,
                              env=environment(tmp_path))
    assert holder.stdout and holder.stdout.readline() == "locked\n"
    before = _contents(folder.path)
    with pytest.raises(UsageError, match=f"run is in use by process {holder.pid} on "), folder.locked():
        pass
    assert _contents(folder.path) == before
    holder.kill()
    holder.communicate()
    with folder.locked():
        assert folder.prepare(RECIPE, []) is runs.State.NEW  # the lock's file does not make it another's folder
        with pytest.raises(UsageError, match="in use"), runs.RunFolder(folder.path).locked():
            pass
    with folder.locked():
        assert folder.prepare(RECIPE, []) is runs.State.UNFINISHED
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError


def test_timings_are_recorded_where_a_run_has_them(tmp_path: Path) -> None:
    for name in ("with", "without"):
        folder = _complete(tmp_path / name)
        if name == "with":
            folder.write_timings([{"epoch": 1, "seconds": 2.5}])
            assert (folder.path / runs.TIMINGS).read_text() == "epoch,seconds\n1,2.5\n"
        recorded = runs.record(folder, tmp_path)
        assert (recorded.path / runs.TIMINGS).exists() == (name == "with")


@pytest.mark.parametrize("call, written", [
    ("write_metrics([{'epoch': 1}])", runs.METRICS),
    ("write_result(folder.read_result() | {'epochs': 99})", runs.RESULT),
    ("prepare(folder.read_recipe().replace(epochs=9), [], overwrite=True)", runs.RECIPE)])
def test_a_process_killed_while_writing_leaves_the_old_file_whole(call: str, written: str, tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    before = _contents(folder.path)
    _killed_before_replacing(folder, call)
    after = _contents(folder.path)
    assert after[written] == before[written] != after[f"{written}.tmp"]
    assert folder.read_recipe() == RECIPE


def test_a_process_killed_in_its_first_write_does_not_block_the_folder(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    _killed_before_replacing(folder, f"prepare(Recipe.from_json({RECIPE.to_json()!r}), [])")
    assert set(_contents(folder.path)) == {f"{runs.RECIPE}.tmp"}
    assert folder.prepare(RECIPE, []) is runs.State.NEW
    assert set(_contents(folder.path)) == {runs.RECIPE, runs.COMMAND}


def _killed_before_replacing(folder: runs.RunFolder, call: str) -> None:
    """Calls a method of the folder in a process that ends when the new file is written but not yet in place."""
    program = ("import os, sys\nfrom tfcnn import runs\nfrom tfcnn.recipe import Recipe\n"
               f"os.replace = lambda *names: os._exit(9)\nfolder = runs.RunFolder(sys.argv[1])\nfolder.{call}")
    done = subprocess.run([sys.executable, "-c", program, str(folder.path)], env=environment(folder.path.parent))
    assert done.returncode == 9


@pytest.mark.parametrize("name, text", [
    (runs.RESULT, "{"), (runs.RESULT, "[]"), (runs.RESULT, '{"experiment": "toy"}'), (runs.METRICS, "a,b\n1\n"),
    (runs.METRICS, "a\nx\n"), (runs.RECIPE, ""), (runs.RECIPE, None), (runs.METRICS, None), (runs.COMMAND, None)])
def test_a_damaged_or_missing_file_is_named(name: str, text: str | None, tmp_path: Path) -> None:
    folder = _complete(tmp_path / "run")
    (folder.path / name).unlink()
    if text is not None:
        (folder.path / name).write_text(text)
    read = {runs.RESULT: folder.read_result, runs.METRICS: folder.read_metrics, runs.RECIPE: folder.read_recipe,
            runs.COMMAND: folder.read_command}[name]
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        read()


def test_a_result_without_a_field_of_the_contract_is_not_written(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    for field in ("experiment", "recipe", "network", "parameters", "dataset.name", "dataset.source",
                  "dataset.train_images", "dataset.validation_images", "dataset.test_images", "test.accuracy",
                  "test.loss", "test.images", "epochs", "steps", "train_seconds", "train_images_per_second", "strategy",
                  "replicas", "precision", "execution", "seed", "versions", "commit", "started", "finished"):
        result = json.loads(json.dumps(_result()))
        outer, _, inner = field.partition(".")
        del (result[outer] if inner else result)[inner or outer]
        with pytest.raises(ValueError, match=field):
            folder.write_result(result)
    with pytest.raises(ValueError):
        folder.write_result(_result(accuracy=math.nan))
    assert not folder.complete
    with pytest.raises(UsageError, match="not a complete run"):
        folder.read_result()


def test_versions_and_commit_of_the_checkout_are_known(tmp_path: Path) -> None:
    assert set(ENVIRONMENT["versions"]) == {"python", "tensorflow", "keras", "numpy", "tensorflow-datasets"}
    assert ENVIRONMENT["versions"]["numpy"] == np.__version__

    def run(*words: str) -> str:
        clean = {name: value for name, value in environment(tmp_path).items() if not name.startswith("GIT_")}
        done = subprocess.run(words, cwd=root, env=clean | {"PYTHONPATH": str(root)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit() -> str:
        return run(sys.executable, "-c", "from tfcnn import runs; print(runs.environment()['commit'])")

    root = tmp_path / "checkout"
    (root / "tfcnn").mkdir(parents=True)
    for name in ("__init__.py", "recipe.py", "runs.py"):
        (root / "tfcnn" / name).write_bytes((ROOT / "tfcnn" / name).read_bytes())
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


def test_looking_at_runs_loads_neither_tensorflow_nor_pyplot(tmp_path: Path) -> None:
    program = ("import sys\nfrom tfcnn import runs\n"
               "assert not {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)\n"
               "runs.draw_curves(runs.RunFolder(sys.argv[1]))\n"
               "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)")
    folder = _complete(tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", program, str(folder.path)], env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [1, 200])
def test_curves_are_a_picture_for_one_epoch_and_for_many(count: int, tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    folder.write_metrics([ROWS[0] | {"epoch": epoch + 1, "loss": 1 / (epoch + 1)} for epoch in range(count)])
    picture = Image.open(runs.draw_curves(folder))
    assert picture.size[0] >= 1200 and picture.size[1] >= 400
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert (folder.path / runs.CURVES).stat().st_size < 150_000


def test_curves_mark_the_test_accuracy_when_it_is_known(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    with pytest.raises(UsageError, match=runs.METRICS):
        runs.draw_curves(folder)
    folder.write_metrics([])
    with pytest.raises(UsageError, match="no epoch"):
        runs.draw_curves(folder)

    def black_pixels(result: dict | None) -> int:
        pixels = np.asarray(Image.open(runs.draw_curves(folder, result)).convert("L"))
        accuracy_panel = pixels[pixels.shape[0] // 5:pixels.shape[0] * 4 // 5, int(pixels.shape[1] * 0.45):]
        return int((accuracy_panel < 10).sum())

    folder.write_metrics([{name: row[name] for name in row if not name.startswith("validation")} for row in ROWS])
    without, given = black_pixels(None), black_pixels(_result())
    assert given > without + 100
    folder.write_result(_result())
    assert black_pixels(None) == given


def test_table_has_a_row_a_setting_with_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    accuracies = [0.9012, 0.9134, 0.8975]
    folders = [_complete(tmp_path / f"seed{seed}", RECIPE.replace(seed=seed), accuracy=accuracy)
               for seed, accuracy in enumerate(accuracies)]
    folders.append(_complete(tmp_path / "plain", RECIPE.replace(augment="none"), accuracy=0.85))
    lines = runs.render_table(folders, tmp_path).splitlines()
    assert len(lines) == 4
    plain, = (line for line in lines if "plain" in line)
    seeds, = (line for line in lines if "seed1" in line)
    percent = [100 * value for value in accuracies]
    assert f"| {statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f} | 3 |" in seeds
    assert "| 85.00 | 1 |" in plain
    assert "`augment=none`" in plain and "`augment=standard`" in seeds
    assert "sample (images of the sample)" in plain and "12,345" in plain and "1 min 01 s" in plain
    assert "[seed0](seed0), [seed1](seed1), [seed2](seed2)" in seeds


def test_table_rows_are_told_apart(tmp_path: Path) -> None:
    other = Recipe(experiment="another", network="toy", options={"variant": "small", "depth": 20})
    sample = _result()["dataset"]
    folders = [
        _complete(tmp_path / "first"),
        _complete(tmp_path / "repeated"),
        _complete(tmp_path / "parallel", replicas=2),
        _complete(tmp_path / "elsewhere", dataset=sample | {"source": "a|b"}),
        _complete(tmp_path / "other", other, train_seconds=7384.0, accuracy=1 / 3),
    ]
    rows = runs.render_table(folders, tmp_path).splitlines()[2:]
    assert len(rows) == 5  # a seed that is run twice is no second sample
    assert rows[0].startswith("| another | `network=toy` `variant=small` `depth=20` |")
    assert "| 33.33 | 1 |" in rows[0] and "2 h 03 min" in rows[0]
    assert all(row.startswith("| toy | `variant=small` `replicas=") for row in rows[1:])
    assert "`replicas=2`" in next(row for row in rows if "[parallel]" in row)
    assert "sample (a\\|b)" in next(row for row in rows if "[elsewhere]" in row)


def test_table_fills_in_settings_that_an_older_recipe_lacked(tmp_path: Path) -> None:
    older = _complete(tmp_path / "older")
    result = older.read_result()
    del result["recipe"]["ema"]
    older.write_result(result)
    row, = runs.render_table([older, _complete(tmp_path / "newer", RECIPE.replace(seed=1))], tmp_path).splitlines()[2:]
    assert "| 90.00 ± 0.00 | 2 |" in row and "ema" not in row


def test_table_without_runs_says_so() -> None:
    assert runs.render_table([]) == "No run has been recorded yet.\n"


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


def test_record_refuses_what_is_not_whole(tmp_path: Path) -> None:
    unfinished = runs.RunFolder(tmp_path / "unfinished")
    unfinished.prepare(RECIPE, [])
    with pytest.raises(UsageError, match="not a complete run"):
        runs.record(unfinished, tmp_path)
    folder = _complete(tmp_path / "run")
    for name in ("../escaped", ".hidden", "a b"):
        with pytest.raises(UsageError, match="--name="):
            runs.record(folder, tmp_path, name)
    (folder.path / runs.CURVES).unlink()
    with pytest.raises(UsageError, match=f"lacks {runs.CURVES}"):
        runs.record(folder, tmp_path)
    assert not (tmp_path / "experiments").exists()


def test_render_needs_both_markers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    root = _repository(tmp_path)
    monkeypatch.chdir(root)
    for text in ("# Title\n", f"{runs.BEGIN}\n", f"{runs.END}\n{runs.BEGIN}\n"):
        (root / "README.md").write_text(text)
        assert runs.main(["render"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and runs.BEGIN in error and error.count("\n") == 1
        assert (root / "README.md").read_text() == text and not (root / "experiments").exists()


def test_show_prints_the_table(tmp_path: Path) -> None:
    _complete(tmp_path / "run")
    done = subprocess.run([sys.executable, "-m", "tfcnn.runs", "show", "run"], cwd=tmp_path, env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == runs.render_table([runs.RunFolder(tmp_path / "run")], tmp_path)


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
