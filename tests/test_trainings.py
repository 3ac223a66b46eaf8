"""The runs of a study: how many train at a time, on which cores, and until when. A script stands for each training."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.trainings import Trainings

# It waits until as many processes run as it is told, and fails if there are more at any time, or fewer for a minute.
TRAINING = """#!{python}
import json, os, pathlib, sys, time
job = json.loads(sys.argv[-1])
place = pathlib.Path(job["folder"]).parent / "started"
place.mkdir(exist_ok=True)
own = place / str(os.getpid())
own.write_text(json.dumps(job))
end = time.monotonic() + 60
while len(list(place.iterdir())) < {together}:
    if time.monotonic() > end:
        sys.exit("error: alone")
    time.sleep(0.01)
running = [file for file in place.iterdir() if os.path.exists("/proc/" + file.name)]
print(json.dumps([job["cores"], len(running)]), flush=True)
sys.exit(0 if len(running) <= {together} else "error: too many at a time")
"""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with a file for each process that was started; two of them are to run at a time."""
    program = tmp_path / "python"
    program.write_text(TRAINING.format(python=sys.executable, together=2))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    return tmp_path / "runs" / "started"


def test_so_many_runs_as_jobs_train_at_a_time_on_cores_of_their_own(started: Path, monkeypatch: pytest.MonkeyPatch
                                                                    ) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2, 3, 5})
    recipes = [RECIPE.replace(seed=seed) for seed in range(4)]
    Trainings("study", started.parent, jobs=2, data_dir="data").complete([*recipes, recipes[0]])
    jobs = [json.loads(file.read_text()) for file in started.iterdir()]
    assert sorted(json.loads(job["recipe"])["seed"] for job in jobs) == [0, 1, 2, 3]  # a recipe that comes twice, once
    assert {tuple(job["cores"]) for job in jobs} == {(0, 3), (2, 5)}
    assert {job["data_dir"] for job in jobs} == {"data"}


def test_no_run_is_started_when_the_time_is_over(started: Path) -> None:
    Trainings("study", started.parent, jobs=2, seconds=0).complete([RECIPE])
    assert not started.exists()
