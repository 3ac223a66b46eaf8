"""The figure of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import environment
from tests.toy_run import RECIPE, ROWS, complete_run, result_of
from tfcnn import runs
from tfcnn.recipe import UsageError
from tfcnn.runs import curves


def test_drawing_a_run_imports_neither_tensorflow_nor_pyplot(tmp_path: Path) -> None:
    program = ("import sys\nfrom tfcnn import runs\nfrom tfcnn.runs import curves, record, tables\n"
               "assert not {'tensorflow', 'keras', 'numpy', 'matplotlib'} & set(sys.modules)\n"
               "curves.draw(runs.RunFolder(sys.argv[1]))\n"
               "assert not {'tensorflow', 'keras', 'matplotlib.pyplot'} & set(sys.modules)")
    folder = complete_run(tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", program, str(folder.path)], env=environment(tmp_path),
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [1, 200])
def test_curves_of_one_epoch_and_of_many_are_a_picture(count: int, tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    folder.write_metrics([ROWS[0] | {"epoch": epoch + 1, "loss": 1 / (epoch + 1)} for epoch in range(count)])
    picture = Image.open(curves.draw(folder))
    assert picture.size[0] >= 1200 and picture.size[1] >= 400
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 50
    assert (folder.path / runs.CURVES).stat().st_size < 150_000


def test_curves_mark_the_test_accuracy_if_it_is_known(tmp_path: Path) -> None:
    folder = runs.RunFolder(tmp_path / "run")
    folder.prepare(RECIPE, [])
    with pytest.raises(UsageError, match=runs.METRICS):
        curves.draw(folder)
    folder.write_metrics([])
    with pytest.raises(UsageError, match="no epoch"):
        curves.draw(folder)

    def black_pixels(result: dict | None) -> int:
        pixels = np.asarray(Image.open(curves.draw(folder, result)).convert("L"))
        accuracy_panel = pixels[pixels.shape[0] // 5:pixels.shape[0] * 4 // 5, int(pixels.shape[1] * 0.45):]
        return int((accuracy_panel < 10).sum())

    folder.write_metrics([{name: row[name] for name in row if not name.startswith("validation")} for row in ROWS])
    without, given = black_pixels(None), black_pixels(result_of())
    assert given > without + 100
    folder.write_result(result_of())
    assert black_pixels(None) == given
