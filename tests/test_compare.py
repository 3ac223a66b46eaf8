"""Runs beside each other: the table, the curves of one run and of several seeds, old runs, the command."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import environment
from tests.toy_run import RECIPE, ROWS, complete_run
from tfcnn import drawing, runs
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import compare
from tfcnn.runs.__main__ import main
from tfcnn.runs.curves import STYLE

ACCURACIES = (0.9012, 0.9134, 0.8975)


def _run(path: Path, recipe: Recipe = RECIPE, factor: float = 1.0, epochs: int = 3, **changes: Any) -> runs.RunFolder:
    """A complete run whose losses and errors are the toy run's, times a factor."""
    folder = complete_run(path, recipe, epochs=epochs, **changes)
    rows = ROWS + [ROWS[-1] | {"epoch": epoch, "validation_accuracy": 1 - 0.1 / epoch}
                   for epoch in range(4, epochs + 1)]
    folder.write_metrics([row | {name: 1 - factor * (1 - row[name]) if "accuracy" in name else factor * row[name]
                                 for name in row if name.endswith(("loss", "accuracy"))} for row in rows])
    return folder


@pytest.fixture
def two_groups(tmp_path: Path) -> list[runs.RunFolder]:
    """Three seeds of one recipe, of which one run is longer, and one run of another."""
    seeds = [_run(tmp_path / f"toy-seed{seed}", RECIPE.replace(seed=seed), (1.0, 0.5, 1.5)[seed], 3 + (seed == 1),
                  accuracy=accuracy) for seed, accuracy in enumerate(ACCURACIES)]
    return [_run(tmp_path / "plain", RECIPE.replace(augment="none", l2=0.001), accuracy=0.85), *seeds]


def _cells(table: str) -> dict[str, list[str]]:
    """The rows of a Markdown table, by their first cell."""
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    return {first: others for first, *others in lines}


def test_table_has_what_differs_and_what_was_reached(two_groups: list[runs.RunFolder]) -> None:
    cells = _cells(compare.render(compare.groups_of(two_groups)))
    percent = [100 * value for value in ACCURACIES]
    assert cells[""] == ["plain", "toy (n = 3)"]
    assert cells["`augment`"] == ["none", "standard"] and cells["`l2`"] == ["0.001", "0.0"]
    assert {name for name in cells if "`" in name} == {"`augment`", "`l2`"}
    assert cells["seeds"] == ["0", "0, 1, 2"] and cells["epochs run"] == ["3", "3–4"]
    assert cells["test accuracy, %"] == [
        "85.00", f"{statistics.fmean(percent):.2f} ± {statistics.stdev(percent):.2f}"]
    validation = [100 * (1 - factor) for factor in (1.0 * 0.4 / 3, 0.5 * 0.1 / 4, 1.5 * 0.4 / 3)]
    assert cells["validation accuracy in the last epoch, %"] == [
        f"{validation[0]:.2f}", f"{statistics.fmean(validation):.2f} ± {statistics.stdev(validation):.2f}"]


def test_seeds_of_equal_accuracy_are_drawn(tmp_path: Path) -> None:
    """The mean of three such numbers is rounded to one that is greater than each of them, or less."""
    for accuracy in (0.981, 0.984):
        folders = [_run(tmp_path / f"{accuracy}-seed{seed}", RECIPE.replace(seed=seed), accuracy=accuracy)
                   for seed in range(3)]
        compare.draw(compare.groups_of(folders), tmp_path / "equal.png")


def test_several_seeds_are_a_mean_and_a_band(two_groups: list[runs.RunFolder]) -> None:
    group = compare.groups_of(two_groups)[1]
    error = [40 / epoch for epoch in (1, 2, 3)]  # of validation, in percent
    with drawing.figure(STYLE) as figure:
        panels = figure.subplots(1, 2)
        compare._draw_group(panels, group, "red")
        losses, errors = panels
        np.testing.assert_allclose(losses.lines[0].get_ydata(), [1.2, 0.6, 0.4])
        np.testing.assert_allclose(errors.lines[0].get_xydata(), list(zip((1, 2, 3), error)))
        np.testing.assert_allclose(errors.lines[1].get_ydata(), [30, 15, 10])
        outline = errors.collections[0].get_paths()[0].vertices
        for epoch, value in enumerate(error, 1):
            heights = outline[outline[:, 0] == epoch, 1]
            assert (heights.min(), heights.max()) == pytest.approx((0.5 * value, 1.5 * value))
        star = next(line for line in errors.lines if line.get_marker() == "*")
        assert star.get_xydata()[0] == pytest.approx((3, 100 * (1 - statistics.fmean(ACCURACIES))))


def test_picture_has_every_group_and_a_linear_axis_for_an_error_of_zero(two_groups: list[runs.RunFolder],
                                                                        tmp_path: Path) -> None:
    def colours(name: str) -> set[tuple[int, ...]]:
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).reshape(-1, 3)
        return set(map(tuple, np.unique(pixels, axis=0).tolist()))

    blue, vermilion = (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)
    compare.draw(compare.groups_of(two_groups), tmp_path / "two.png")
    assert {blue, vermilion} <= colours("two.png")
    scales = []
    for factor in (1.0, 0.0):
        group, = compare.groups_of([_run(tmp_path / f"times-{factor}", factor=factor)])
        with drawing.figure(STYLE) as figure:
            panels = figure.subplots(1, 2)
            compare._draw_group(panels, group, "red")
            compare._scale(panels[1])
            scales.append(panels[1].get_yscale())
    assert scales == ["log", "linear"]
    for count in (2, 9):
        assert len(set(compare._colours(count))) == count


def test_runs_of_earlier_versions_are_compared_too(tmp_path: Path) -> None:
    old, new = complete_run(tmp_path / "old"), _run(tmp_path / "new", RECIPE.replace(seed=1))
    result = old.read_result()
    result["recipe"] = {name: value for name, value in result["recipe"].items() if name not in ("ema", "synchronize")}
    old.write_result(result | {"recipe": result["recipe"] | {"augment": True}})
    old.write_metrics([{name: row[name] for name in ("epoch", "step", "loss", "accuracy", "learning_rate")}
                       for row in ROWS])
    groups = compare.groups_of([old, new])
    assert [len(group.runs) for group in groups] == [2]  # they differ in nothing but their seed
    assert _cells(compare.render(groups))["validation accuracy in the last epoch, %"] == ["–"]
    compare.draw(groups, tmp_path / "picture.png")
    Image.open(tmp_path / "picture.png").load()


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = str(_run(tmp_path / "run").path)
    unfinished = runs.RunFolder(tmp_path / "unfinished")
    unfinished.prepare(RECIPE, [])
    out = f"--out={tmp_path / 'picture.png'}"
    for words, message in [
        ([run, str(unfinished.path), out], "not a complete run"), ([run, f"{run}/.", out], "given twice"),
        ([run, f"--out={tmp_path / 'picture.svg'}"], "must end in .png"),
        ([run, f"--out={tmp_path / 'nowhere' / 'picture.png'}"], "cannot write"),
    ]:
        assert main(["compare", *words]) == 2
        captured = capsys.readouterr()
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1 and message in captured.err
        assert not captured.out and not list(tmp_path.glob("picture*"))
    runs.RunFolder(run).write_metrics([])
    with pytest.raises(UsageError, match="no epoch"):
        compare.groups_of([runs.RunFolder(run)])


def test_command_needs_no_tensorflow(two_groups: list[runs.RunFolder], tmp_path: Path) -> None:
    program = ("import sys\nfrom tfcnn.runs.__main__ import main\n"
               "status = main(['compare', *sys.argv[1:]])\n"
               "heavy = {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)\n"
               "sys.exit(f'imported {heavy}' if heavy else status)")
    folders = [str(folder.path) for folder in two_groups]
    done = subprocess.run([sys.executable, "-c", program, *folders], cwd=tmp_path, env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == compare.render(compare.groups_of(two_groups)) + "written: compare.png\n"
    assert (tmp_path / "compare.png").is_file()
