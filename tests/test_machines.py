"""Several machines, each a process on 127.0.0.1: the result of one, whatever becomes of them; how they are named."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import tfcnn.networks.layers  # noqa: F401 - a saved network is loaded with the suite's own layers known to Keras
import keras
import numpy as np
import pytest

from tests.conftest import environment, start
from tests.forked import Forked
from tfcnn import cli
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import UsageError
from tfcnn.runs import RunFolder
from tfcnn.training import machines
from tfcnn.training.trainer import train

# Twelve steps, with what a wrong resume would change: masks of dropout, moving averages, a schedule; and with what
# machines tell each other within a step, batch normalization's statistics.
FLAGS = ("--dataset=folder", "--epochs=3", "--batch_size=24", "--validation=0.2", "--dropout=0.25", "--ema=0.9",
         "--normalization=batch")
TIMED = {"seconds", "images_per_second"}


def _start(place: Path, count: int, *flags: str, extra: Sequence[str] = ()) -> list[Forked]:
    """Starts the same command on so many machines; the last one gets further flags."""
    place.mkdir(exist_ok=True)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    processes = []
    for index in range(count):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        processes.append(start(place, *flags, *(extra if index == count - 1 else ()), experiment="lenet5",
                               TF_CONFIG=json.dumps(config), TMPDIR=str(place)))
    return processes


def _end(processes: list[Forked]) -> list[tuple[int, str, str]]:
    """Status, output and errors of each."""
    ends = [process.completed() for process in processes]
    return [(end.returncode, end.stdout, end.stderr) for end in ends]


def _weights(folder: Path) -> list[np.ndarray]:
    return keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.fixture(scope="module")
def alone(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process with two and with three devices, in the folders 2 and 3."""
    place = tmp_path_factory.mktemp("alone")
    done = Forked(_train_alone, class_folders, cwd=place, env=environment(place)).completed()
    assert done.returncode == 0, done.stderr
    return place


def _train_alone(data_dir: Path) -> None:
    recipe, _ = cli.parse(RECIPE, ["lenet5", *FLAGS])
    for count in (3, 2):
        train(recipe, str(count), data_dir=str(data_dir), devices=count)


@pytest.fixture(scope="module")
def together(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two and of three machines, in the folders 2/run and 3/run."""
    place = tmp_path_factory.mktemp("together")
    for count in (2, 3):
        ends = _end(_start(place / str(count), count, *FLAGS, f"--data_dir={class_folders}", "--workdir=run"))
        assert [end[0] for end in ends] == [0] * count, ends
        assert "test accuracy" in ends[0][1] and "Epoch 3/3" in ends[0][1]
        for _, output, _ in ends[1:]:
            assert output == "done; the first machine has the results in run\n"
    return place


@pytest.mark.parametrize("count", [2, 3])
def test_several_machines_give_the_result_of_one(count: int, alone: Path, together: Path) -> None:
    one, many = RunFolder(alone / str(count)), RunFolder(together / str(count) / "run")
    for a, b in zip(_weights(one.path), _weights(many.path), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
    for row, other in zip(one.read_metrics(), many.read_metrics(), strict=True):
        names = row.keys() - TIMED
        assert [row[name] for name in names] == pytest.approx([other[name] for name in names], abs=1e-5, rel=1e-5)
    results = one.read_result(), many.read_result()
    assert results[0]["test"] == pytest.approx(results[1]["test"], abs=1e-5)
    assert results[1]["test"]["images"] == 30
    assert (results[1]["strategy"], results[1]["replicas"]) == ("CollectiveAllReduceStrategy", count)


@pytest.mark.parametrize("count", [2, 3])
def test_one_machine_writes_the_folder(count: int, together: Path) -> None:
    place = together / str(count)
    # Copies in the temporary folder have been removed; AutoGraph's files, TensorFlow's, are left by forked processes.
    assert {path.name for path in place.iterdir() if not path.name.startswith("__autograph")} == {"run"}
    processes = {path.name.split(".")[-3] for path in place.rglob("events.out.tfevents.*")}
    assert len(processes) == 1, processes
    assert len(list((place / "run" / "checkpoints").glob("*.index"))) == 2


@pytest.fixture(scope="module")
def killed(class_folders: Path, tmp_path_factory: pytest.TempPathFactory
           ) -> tuple[Path, list[tuple[int, str, str]], float, list[tuple[int, str, str]]]:
    """Two machines of which the second is killed after an epoch, and both started again: what they said, and when."""
    place = tmp_path_factory.mktemp("killed")
    processes = _start(place, 2, *FLAGS, f"--data_dir={class_folders}", "--workdir=run")
    while not (place / "run" / "metrics.csv").exists() and processes[0].poll() is None:
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    ends = _end(processes)
    seconds = time.monotonic() - begin
    again = _end(_start(place, 2, *FLAGS, f"--data_dir={class_folders}", "--workdir=run"))
    return place / "run", ends, seconds, again


def test_a_lost_machine_ends_the_others(killed) -> None:
    _, (first, second), seconds, _ = killed
    assert second[0] == -signal.SIGKILL and first[0] == 4, first
    error, = (line for line in first[2].splitlines() if line.startswith("error: "))
    assert "another machine" in error and "start all of them again" in error and "Traceback" not in first[2]
    assert seconds < 60


def test_all_started_again_end_where_they_would_have(killed, together: Path) -> None:
    folder, _, _, again = killed
    assert [end[0] for end in again] == [0, 0], again
    whole = RunFolder(together / "2" / "run")
    for one, other in zip(_weights(whole.path), _weights(folder), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = whole.read_metrics(), RunFolder(folder).read_metrics()
    assert [{name: row[name] for name in row.keys() - TIMED} for row in rows[0]] == [
        {name: row[name] for name in row.keys() - TIMED} for row in rows[1]]
    assert whole.read_result()["test"] == RunFolder(folder).read_result()["test"]


def test_sigterm_to_one_machine_ends_all_with_the_state_saved(class_folders: Path, tmp_path: Path) -> None:
    processes = _start(tmp_path, 2, *FLAGS, "--epochs=1000", f"--data_dir={class_folders}", "--workdir=run")
    while not (tmp_path / "run" / "metrics.csv").exists() and processes[0].poll() is None:
        time.sleep(0.05)
    processes[1].send_signal(signal.SIGTERM)
    ends = _end(processes)
    assert [end[0] for end in ends] == [143, 143], ends
    said = [next(line for line in end[2].splitlines() if line.startswith("SIGTERM")) for end in ends]
    assert said[0] == said[1] and "the state is saved" in said[0]
    step = said[0].split("step ")[1].split(";")[0]
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{step}.index").exists()


def test_machines_with_different_recipes_are_told_so(class_folders: Path, tmp_path: Path) -> None:
    ends = _end(_start(tmp_path, 2, *FLAGS, f"--data_dir={class_folders}", "--workdir=run", extra=["--seed=1"]))
    assert {end[0] for end in ends} <= {2, 4} and any(end[0] == 2 for end in ends), ends
    assert any("error: the recipe is not the same on all machines" in end[2] for end in ends)
    assert not (tmp_path / "run").exists()


WORKERS = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize("config, cluster", [
    ({"cluster": WORKERS, "task": {"type": "worker", "index": 1}}, machines.Cluster(("a:1", "b:2"), 1)),
    ({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}, machines.Cluster(("a:1", "b:2"), 0)),
    ({"cluster": {"chief": ["c:3"]} | WORKERS, "task": {"type": "worker", "index": 0}},
     machines.Cluster(("c:3", "a:1", "b:2"), 1)),
    ({"cluster": {"chief": ["c:3"]} | WORKERS, "task": {"type": "chief", "index": 0}},
     machines.Cluster(("c:3", "a:1", "b:2"), 0)),
    ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}, None)], ids=str)
def test_tf_config_names_the_machines(config: dict, cluster: machines.Cluster | None,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert machines.cluster() == cluster


def test_without_tf_config_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert machines.cluster() is None


@pytest.mark.parametrize("text", [
    "{", "[]", "{}", "3", json.dumps({"cluster": WORKERS}), json.dumps({"task": {"type": "worker", "index": 0}}),
    *(json.dumps({"cluster": cluster, "task": task}) for cluster, task in [
        (WORKERS, {"type": "worker", "index": 2}), (WORKERS, {"type": "worker", "index": -1}),
        (WORKERS, {"type": "worker"}), (WORKERS, {"type": "worker", "index": "x"}), (WORKERS, 0),
        (WORKERS, {"type": "evaluator", "index": 0}), (WORKERS, {"type": ["worker"], "index": 0}),
        (WORKERS | {"ps": ["c:3"]}, {"type": "worker", "index": 0}), ({}, {"type": "worker", "index": 0}),
        (["a:1"], {"type": "worker", "index": 0}), ({"worker": "a:1"}, {"type": "worker", "index": 0}),
        ({"worker": ["a", "b"]}, {"type": "worker", "index": 0}), ({"worker": [1, 2]}, {"type": "worker", "index": 0}),
        ({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}),
        ({"worker": ["a:0", "b:99999"]}, {"type": "worker", "index": 0})])])
def test_a_malformed_tf_config_is_a_usage_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="TF_CONFIG") as caught:
        machines.cluster()
    assert "\n" not in str(caught.value)


def test_slurm_names_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    with pytest.raises(UsageError, match="srun"):
        machines.cluster("slurm")
    with pytest.raises(UsageError, match="slurm"):
        machines.cluster("kubernetes")
    for name, value in (("PROCID", "2"), ("STEP_NUM_TASKS", "3"), ("STEP_NODELIST", "node[07-08]"),
                        ("STEP_TASKS_PER_NODE", "2,1")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert machines.cluster("slurm") == machines.Cluster(("node07:8888", "node07:8889", "node08:8888"), 2)


def test_a_mistake_is_one_line_before_anything_is_written(tmp_path: Path) -> None:
    config = {"cluster": WORKERS, "task": {"type": "worker", "index": 0}}
    for flags, word in ((["--workdir=run", "--devices=3"], "several processes"), ([], "--workdir"),
                        (["--workdir=run", "--batch_size=25"], "2 machines")):
        done = start(tmp_path, "--dataset=sample", "--batch_size=24", *flags, experiment="lenet5",
                     TF_CONFIG=json.dumps(config)).completed()
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert word in done.stderr and not list(tmp_path.iterdir())
