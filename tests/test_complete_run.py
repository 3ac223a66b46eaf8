"""A complete run that is started again reports its result, whatever else of it is left, and names what is not."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, start
from tests.data_files import write_folder
from tfcnn import experiments, runs
from tfcnn.recipe import UsageError
from tfcnn.training.trainer import Result, train

FLAGS = ("--dataset=folder", "--epochs=1", "--batch_size=4", "--validation=0")
RECIPE = experiments.recipes()["lenet5"].replace(dataset="folder", epochs=1, batch_size=4, validation=0.0)
NOWHERE = "/no/folder"  # a complete run does not look at the data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run."""
    place = tmp_path_factory.mktemp("complete")
    write_folder(place / "data", size=(28, 28), mode="L")
    done = start(place, *FLAGS, "--data_dir=data", "--workdir=whole", experiment="lenet5").completed()
    assert done.returncode == 0, done.stderr
    return place / "whole"


def _restarted(whole: Path, folder: Path, damage: Callable[[Path], object]) -> Result:
    """The result of the same call after damage to a copy of the run, which it leaves as it is."""
    shutil.copytree(whole, folder)
    damage(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = train(RECIPE, folder, data_dir=NOWHERE)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not result.trained and result.record == json.loads((whole / runs.RESULT).read_text())
    return result


def test_an_undamaged_run_lacks_nothing(whole: Path, tmp_path: Path) -> None:
    result = _restarted(whole, tmp_path / "copy", lambda folder: None)
    assert not result.unusable and result.model is not None
    with np.load(whole / runs.NORMALIZATION) as stored:
        assert set(stored) >= {"kind"}


def _cut(path: Path) -> None:
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half - (content[half - 1:half] == b"\n")])  # within a line


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xff
    path.write_bytes(content)


def _become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink, "empty": lambda path: path.write_bytes(b""), "cut": _cut, "a folder": _become_folder}
FILES = (runs.MODEL, runs.RECIPE, runs.COMMAND, runs.METRICS, runs.NORMALIZATION, runs.CURVES)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("names", [FILES[1:], FILES[:1]], ids=["all but the network", "the network"])
def test_files_can_be_missing_or_damaged(names: tuple[str, ...], damage: str, whole: Path, tmp_path: Path) -> None:
    result = _restarted(whole, tmp_path / "copy", lambda folder: [DAMAGES[damage](folder / name) for name in names])
    assert set(result.unusable) == set(names)
    assert (set(result.unusable.values()) == {runs.MISSING}) == (damage == "missing")
    assert (result.model is None) == (runs.MODEL in names)


def test_flipped_bits_are_noticed(whole: Path, tmp_path: Path) -> None:
    names = {runs.MODEL, runs.NORMALIZATION}
    assert set(_restarted(whole, tmp_path / "copy", lambda folder: [_flip(folder / name) for name in names]
                          ).unusable) == names


def test_folders_can_be_missing(whole: Path, tmp_path: Path) -> None:
    names = (runs.CHECKPOINTS, runs.TRAIN_EVENTS, runs.VALIDATION_EVENTS)
    result = _restarted(whole, tmp_path / "copy", lambda folder: [shutil.rmtree(folder / name) for name in names])
    assert result.unusable == {f"{name}/": runs.MISSING for name in names} and result.model is not None


@pytest.mark.parametrize("damage", ["empty", "cut"])
def test_a_damaged_result_is_one_line_that_says_how_to_go_on(damage: str, whole: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"result\.json is damaged: .*remove it") as caught:
        _restarted(whole, tmp_path / "copy", lambda folder: DAMAGES[damage](folder / runs.RESULT))
    assert "\n" not in str(caught.value)


def test_a_recorded_run_is_reported_by_the_command(tmp_path: Path) -> None:
    """A recorded run has no weights; its flags and recipe may be those of an earlier version."""
    recorded = ROOT / "experiments" / "alexnet" / "sample"
    shutil.copytree(recorded, tmp_path / "run")
    accuracy = json.loads((recorded / runs.RESULT).read_text())["test"]["accuracy"]
    done = start(tmp_path, "--flagfile=run/command.flags", "--workdir=run").completed()
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert "complete already" in done.stdout and f"test accuracy: {accuracy:.4f}" in done.stdout
    for name in (runs.MODEL, runs.NORMALIZATION, "checkpoints/", "train/", "validation/"):
        assert f"not usable:    {name} is missing\n" in done.stdout
    for name in runs.COMMAND, runs.METRICS, runs.CURVES:
        assert f"not usable:    {name}" not in done.stdout
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in recorded.iterdir()}


def test_without_its_flags_the_printed_command_has_them_all(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / runs.COMMAND).unlink()
    done = start(tmp_path, *FLAGS, "--data_dir=my data", "--workdir=copy", experiment="lenet5").completed()
    assert done.returncode == 0 and "not usable:    command.flags is missing" in done.stdout
    repeat = next(line for line in done.stdout.splitlines() if line.startswith("repeat:"))
    assert {*FLAGS[:3], "--validation=0.0", "--data_dir=my data"} <= set(shlex.split(repeat))
    assert "--flagfile" not in repeat


def test_a_run_that_has_lost_its_checkpoints_says_that_it_starts_again(
        whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    (tmp_path / "copy" / runs.RESULT).unlink()
    shutil.rmtree(tmp_path / "copy" / runs.CHECKPOINTS)
    result = train(RECIPE, tmp_path / "copy", data_dir=str(whole.parent / "data"))
    assert result.trained and not result.unusable
    assert "no checkpoint in" in capsys.readouterr().err
    assert (tmp_path / "copy" / runs.METRICS).read_bytes() == (whole / runs.METRICS).read_bytes()
