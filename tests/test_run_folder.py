"""A run's folder: its files are written whole, read back, locked, and never taken for another run's."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import environment
from tests.toy_run import RECIPE, ROWS, complete_run, contents, result_of
from tfcnn import runs
from tfcnn.recipe import Option, UsageError


def test_written_files_are_read_back(tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    assert folder.read_recipe() == RECIPE and folder.read_command() == ["--epochs=3"]
    assert folder.read_metrics() == ROWS
    assert type(folder.read_metrics()[0]["epoch"]) is int
    assert folder.read_result() == json.loads(json.dumps(result_of()))
    assert folder.complete and not list(folder.path.glob("*.tmp"))


def test_metrics_keep_numpy_and_infinite_numbers_and_refuse_rows_with_other_columns(tmp_path: Path) -> None:
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


def test_prepare_returns_the_state_of_the_folder(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "a" / "run")
    assert folder.prepare(RECIPE, []) is runs.State.NEW
    assert folder.prepare(RECIPE, []) is runs.State.UNFINISHED
    folder.write_result(result_of())
    before = contents(folder.path)
    assert folder.prepare(RECIPE, ["--changed=1"]) is runs.State.COMPLETE
    assert contents(folder.path) == before


def test_an_unfinished_run_keeps_its_files_unless_it_is_overwritten(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, ["--epochs=3"])
    folder.write_metrics(ROWS)
    before = contents(folder.path)
    assert folder.prepare(RECIPE, ["--changed=1"]) is runs.State.UNFINISHED
    assert contents(folder.path) == before
    assert folder.prepare(RECIPE, ["--changed=1"], overwrite=True) is runs.State.NEW
    assert not (folder.path / runs.METRICS).exists() and folder.read_command() == ["--changed=1"]


@pytest.mark.parametrize("place", ["file/run", "x" * 300])
def test_a_folder_that_cannot_be_created_is_a_usage_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot use"):
        runs.RunFolder(tmp_path / place).prepare(RECIPE, [])


def test_a_flag_with_a_line_break_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line break"):
        runs.RunFolder(tmp_path / "run").prepare(RECIPE, ["--data_dir=a\n--epochs=9"])
    assert not (tmp_path / "run").exists()


def test_the_run_of_another_recipe_is_refused_with_the_differences(tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    before = contents(folder.path)
    with pytest.raises(UsageError) as caught:
        folder.prepare(RECIPE.replace(epochs=4, mirror=False, variant="large"), [])
    for words in ("epochs: 3 there, 4 here", "mirror: true there, false here", "variant: small there, large here"):
        assert words in str(caught.value)
    assert "batch_size" not in str(caught.value) and "\n" not in str(caught.value)
    assert contents(folder.path) == before


def test_overwrite_removes_only_the_files_of_a_run(tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    (folder.path / "notes.txt").write_text("mine")
    (folder.path / "checkpoints").mkdir()
    (folder.path / "checkpoints" / "ckpt-1.index").write_text("old")
    for name in (runs.OBSERVED, runs.SILENT_UNITS, runs.DIVERGED, *runs.EXPORTED):
        (folder.path / name).write_text("of a study, or exported")
    assert folder.prepare(RECIPE.replace(epochs=4), ["--epochs=4"], overwrite=True) is runs.State.NEW
    assert set(contents(folder.path)) == {"notes.txt", runs.RECIPE, runs.COMMAND}
    assert folder.read_recipe().epochs == 4


@pytest.mark.parametrize("injury", ["a file", "no run", "broken recipe", "another kind of recipe"])
def test_a_path_that_is_no_run_is_refused_and_left_untouched(injury: str, tmp_path: Path) -> None:
    path = tmp_path / "place"
    if injury == "a file":
        path.write_text("mine")
    else:
        path.mkdir()
        name = "notes.txt" if injury == "no run" else runs.RECIPE
        (path / name).write_text("{" if injury == "broken recipe" else '{"a": 1}')
    before = contents(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="place"):
            runs.RunFolder(path).prepare(RECIPE, [], overwrite=overwrite)
        assert contents(tmp_path) == before


def _lock_and_release(folder: runs.RunFolder) -> None:
    with folder.locked(wait=True):
        pass


def test_a_locked_folder_is_refused_or_waited_for_until_its_process_has_ended(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    program = ("import sys\nfrom tfcnn import runs\nwith runs.RunFolder(sys.argv[1]).locked():\n"
               "    print('locked', flush=True)\n    sys.stdin.read()")
    holder = subprocess.Popen([sys.executable, "-c", program, str(folder.path)], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=environment(tmp_path))
    assert holder.stdout and holder.stdout.readline() == "locked\n"
    before = contents(folder.path)
    with pytest.raises(UsageError, match=f"run is in use by process {holder.pid} on "), folder.locked():
        pass
    assert contents(folder.path) == before
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_lock_and_release, folder)
        assert not concurrent.futures.wait([waiting], timeout=0.3).done
        holder.kill()
        assert waiting.result() is None
    holder.communicate()
    with folder.locked():
        assert folder.prepare(RECIPE, []) is runs.State.NEW  # the lock's file does not make it another's folder
        with pytest.raises(UsageError, match="in use"), runs.RunFolder(folder.path).locked():
            pass
    with folder.locked():
        assert folder.prepare(RECIPE, []) is runs.State.UNFINISHED
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError


@pytest.mark.parametrize("call, written", [
    ("write_metrics([{'epoch': 1}])", runs.METRICS),
    ("write_result(folder.read_result() | {'epochs': 99})", runs.RESULT),
    ("prepare(folder.read_recipe().replace(epochs=9), [], overwrite=True)", runs.RECIPE)])
def test_a_process_killed_while_writing_leaves_the_old_file_intact(call: str, written: str, tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    before = contents(folder.path)
    _killed_before_replacing(folder, call)
    after = contents(folder.path)
    assert after[written] == before[written] != after[f"{written}.tmp"]
    assert folder.read_recipe() == RECIPE


def test_a_process_killed_in_its_first_write_does_not_block_the_folder(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    _killed_before_replacing(folder, f"prepare(Recipe.from_json({RECIPE.to_json()!r}), [])")
    assert set(contents(folder.path)) == {f"{runs.RECIPE}.tmp"}
    assert folder.prepare(RECIPE, []) is runs.State.NEW
    assert set(contents(folder.path)) == {runs.RECIPE, runs.COMMAND}


def _killed_before_replacing(folder: runs.RunFolder, call: str) -> None:
    """Calls a method of the folder in a process that ends when the new file is written but not yet in place."""
    program = ("import os, sys\nfrom tfcnn import runs\nfrom tfcnn.recipe import Recipe\n"
               f"os.replace = lambda *names: os._exit(9)\nfolder = runs.RunFolder(sys.argv[1])\nfolder.{call}")
    done = subprocess.run([sys.executable, "-c", program, str(folder.path)], env=environment(folder.path.parent))
    assert done.returncode == 9


@pytest.mark.parametrize("name, text", [
    (runs.RESULT, "{"), (runs.RESULT, "[]"), (runs.RESULT, '{"experiment": "toy"}'), (runs.METRICS, "a,b\n1\n"),
    (runs.METRICS, "a\nx\n"), (runs.RECIPE, ""), (runs.RECIPE, None), (runs.METRICS, None), (runs.COMMAND, None)])
def test_the_error_names_a_damaged_or_missing_file(name: str, text: str | None, tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    (folder.path / name).unlink()
    if text is not None:
        (folder.path / name).write_text(text)
    read = {runs.RESULT: folder.read_result, runs.METRICS: folder.read_metrics, runs.RECIPE: folder.read_recipe,
            runs.COMMAND: folder.read_command}[name]
    with pytest.raises(UsageError, match=name.replace(".", r"\.")):
        read()


def test_a_result_that_lacks_a_required_field_is_not_written(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    for field in ("experiment", "recipe", "network", "parameters", "dataset.name", "dataset.source",
                  "dataset.train_images", "dataset.validation_images", "dataset.test_images", "test.accuracy",
                  "test.loss", "test.images", "epochs", "steps", "train_seconds", "train_images_per_second", "strategy",
                  "replicas", "precision", "execution", "seed", "versions", "commit", "started", "finished"):
        result = json.loads(json.dumps(result_of()))
        outer, _, inner = field.partition(".")
        del (result[outer] if inner else result)[inner or outer]
        with pytest.raises(ValueError, match=field):
            folder.write_result(result)
    with pytest.raises(ValueError):
        folder.write_result(result_of(accuracy=math.nan))
    assert not folder.complete
    with pytest.raises(UsageError, match="not a complete run"):
        folder.read_result()


def test_an_option_that_an_earlier_version_did_not_have_has_its_default(tmp_path: Path) -> None:
    folder = complete_run(tmp_path / "run")
    newer = dataclasses.replace(RECIPE, options={
        **RECIPE.options, "placement": Option("after", ("after", "before"), default="after")})
    assert folder.state(newer) is runs.State.COMPLETE
    with pytest.raises(UsageError, match="placement: after there, before here"):
        folder.state(newer.replace(placement="before"))
    with pytest.raises(UsageError, match="placement: none there"):  # its default is not known
        folder.state(dataclasses.replace(RECIPE, options={**RECIPE.options, "placement": Option("after")}))
