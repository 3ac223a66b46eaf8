"""Several workers, each a process on 127.0.0.1: same result as one process, losing a worker, signals, descriptions."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import nullcontext
from pathlib import Path

import tfcnn.networks.layers  # noqa: F401 - a saved network is loaded with the suite's own layers known to Keras
import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import environment, start
from tests.crash_injection import Scenario, start_scenario
from tests.forked import Forked
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.flags import parse
from tfcnn.recipe import UsageError
from tfcnn.runs import RunFolder
from tfcnn.training import machines
from tfcnn.training.setup import prepare
from tfcnn.training.trainer import train

EPOCHS, STEPS = 3, 4
# What a wrong resume would change: dropout masks, moving averages, a schedule. And batch normalization, whose
# statistics the workers exchange within a step.
FLAGS = ("--dataset=folder", f"--epochs={EPOCHS}", "--batch_size=24", "--validation=0.2", "--dropout=0.25", "--ema=0.9",
         "--normalization=batch")
TIMED = {"seconds", "images_per_second"}

# Exit status, standard output and standard error of a process.
End = tuple[int, str, str]


def _start(folder: Path, count: int, *flags: str, last_flags: tuple[str, ...] = (), last: Scenario | None = None
           ) -> list[Forked]:
    """Starts the same command in so many workers.

    Args:
      folder: the working directory of all of them.
      count: number of workers.
      flags: the command's flags.
      last_flags: further flags of the last worker.
      last: where the last worker sends itself a signal.
    """
    folder.mkdir(exist_ok=True)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()

    def variables(index: int) -> dict[str, str]:
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        return {"TF_CONFIG": json.dumps(config), "TMPDIR": str(folder)}

    processes = [start(folder, *flags, experiment="lenet5", **variables(index)) for index in range(count - 1)]
    processes.append(start_scenario(folder, last or Scenario(), *flags, *last_flags, experiment="lenet5",
                                    **variables(count - 1)))
    return processes


def _ends(processes: list[Forked]) -> list[End]:
    """Waits for all of them."""
    ends = [process.completed() for process in processes]
    return [(end.returncode, end.stdout, end.stderr) for end in ends]


def _weights(folder: Path) -> list[np.ndarray]:
    return keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.fixture(scope="module")
def alone(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of one process with two and with three devices, in the folders 2 and 3."""
    folder = tmp_path_factory.mktemp("alone")
    done = Forked(_train_alone, class_folders, cwd=folder, env=environment(folder)).completed()
    assert done.returncode == 0, done.stderr
    return folder


def _train_alone(data_dir: Path) -> None:
    recipe, _ = parse(RECIPE, ["lenet5", *FLAGS])
    for count in (3, 2):
        train(recipe, str(count), data_dir=str(data_dir), devices=count)


@pytest.fixture(scope="module")
def together(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two and of three workers, in the folders 2/run and 3/run."""
    folder = tmp_path_factory.mktemp("together")
    for count in (2, 3):
        ends = _ends(_start(folder / str(count), count, *FLAGS, f"--data_dir={class_folders}", "--workdir=run"))
        assert [status for status, _, _ in ends] == [0] * count, ends
        assert "test accuracy" in ends[0][1] and f"Epoch {EPOCHS}/{EPOCHS}" in ends[0][1]
        for _, output, _ in ends[1:]:
            assert output == "done; the first machine has the results in run\n"
    return folder


@pytest.mark.parametrize("count", [2, 3])
def test_several_workers_give_the_result_of_one_process(count: int, alone: Path, together: Path) -> None:
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
def test_only_the_chief_writes_the_run_folder(count: int, together: Path) -> None:
    folder = together / str(count)
    # The temporary copies have been removed. AutoGraph's own files and their bytecode are left by forked processes.
    assert {path.name for path in folder.iterdir()
            if not path.name.startswith(("__autograph", "__pycache__"))} == {"run"}
    for part in ("train", "validation"):
        assert len(list((folder / "run" / part).iterdir())) == 1
        events = EventAccumulator(str(folder / "run" / part), {"tensors": 0}).Reload()
        assert [event.step for event in events.Tensors("epoch/loss")] == list(range(EPOCHS))
    assert len(list((folder / "run" / "checkpoints").glob("*.index"))) == 2


@pytest.fixture(scope="module")
def killed(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[End], list[End]]:
    """Two workers, the second killed in the second epoch, then both started again: the folder and how they ended."""
    folder = tmp_path_factory.mktemp("killed")
    flags = (*FLAGS, f"--data_dir={class_folders}", "--workdir=run")
    # After the second epoch's steps, which are collectives, so that the chief has saved the first epoch by then.
    ends = _ends(_start(folder, 2, *flags, last=Scenario("SIGKILL", inside="evaluation", call=2)))
    assert (folder / "run" / "checkpoints" / f"ckpt-{STEPS}.index").exists(), ends
    return folder / "run", ends, _ends(_start(folder, 2, *flags))


def test_lost_worker_ends_the_others_with_status_4(killed) -> None:
    _, (first, second), _ = killed
    assert second[0] == -signal.SIGKILL and first[0] == 4, first
    error, = (line for line in first[2].splitlines() if line.startswith("error: "))
    assert "another machine" in error and "start all of them again" in error and "Traceback" not in first[2]


def test_run_resumed_by_all_workers_equals_the_uninterrupted_run(killed, together: Path) -> None:
    folder, _, again = killed
    assert [status for status, _, _ in again] == [0, 0], again
    whole = RunFolder(together / "2" / "run")
    for one, other in zip(_weights(whole.path), _weights(folder), strict=True):
        np.testing.assert_array_equal(one, other)
    rows = whole.read_metrics(), RunFolder(folder).read_metrics()
    assert [{name: row[name] for name in row.keys() - TIMED} for row in rows[0]] == [
        {name: row[name] for name in row.keys() - TIMED} for row in rows[1]]
    assert whole.read_result()["test"] == RunFolder(folder).read_result()["test"]


def test_only_the_last_collective_of_a_run_may_lose_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has all it needs may end before another one has its last message."""
    collectives: list[int] = []

    def mean(strategy: tf.distribute.Strategy, values: list[float]) -> list[float]:
        collectives.append(len(collectives))
        if collectives[-1] == lost:
            raise tf.errors.UnavailableError(None, None, "Socket closed")
        return values

    def run() -> None:
        collectives.clear()
        with machines.run_folder(tf.distribute.get_strategy(), tmp_path / "run", lambda folder: nullcontext()):
            pass

    monkeypatch.setattr(machines, "mean", mean)
    lost = -1
    run()
    last = collectives[-1]
    for lost in range(last):
        with pytest.raises(tf.errors.UnavailableError):
            run()
    lost = last
    run()


def test_sigterm_to_one_worker_ends_all_with_the_state_saved(class_folders: Path, tmp_path: Path) -> None:
    ends = _ends(_start(tmp_path, 2, *FLAGS, f"--data_dir={class_folders}", "--workdir=run",
                        last=Scenario("SIGTERM", inside="steps", call=2)))
    assert [status for status, _, _ in ends] == [143, 143], ends
    messages = [next(line for line in errors.splitlines() if line.startswith("SIGTERM")) for _, _, errors in ends]
    assert messages[0] == messages[1] and "the state is saved" in messages[0]
    step = messages[0].split("step ")[1].split(";")[0]
    assert 1 < int(step) <= STEPS  # how many steps the second call has is the only thing that depends on their speed
    assert (tmp_path / "run" / "checkpoints" / f"ckpt-{step}.index").exists()


@pytest.mark.parametrize("flag, what", [("--seed=1", "the recipe"), ("--checkpoint_every=3", "--checkpoint_every")])
def test_workers_with_different_commands_end_with_a_usage_error(flag: str, what: str, class_folders: Path,
                                                                tmp_path: Path) -> None:
    ends = _ends(_start(tmp_path, 2, *FLAGS, f"--data_dir={class_folders}", "--workdir=run", last_flags=(flag,)))
    statuses = {status for status, _, _ in ends}
    assert 2 in statuses and statuses <= {2, 4}, ends
    assert any(f"error: {what} is not the same on all machines" in errors for _, _, errors in ends)
    assert not (tmp_path / "run").exists()


def test_workers_compare_what_must_be_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[dict[str, str]] = []
    monkeypatch.setattr(machines, "is_multi_worker", lambda strategy: True)
    monkeypatch.setattr(machines, "check_equal", lambda strategy, what, value: compared[-1].update({what: str(value)}))
    for seed in (0, 0, 1):
        compared.append({})
        prepare(RECIPE.replace(dataset="sample", seed=seed))
    assert compared[0] == compared[1]
    different = {what for what, value in compared[0].items() if compared[2][what] != value}
    assert different == {"the recipe", "the network's first weights"}


WORKERS = {"worker": ["a:1", "b:2"]}


@pytest.mark.parametrize("config, cluster", [
    ({"cluster": WORKERS, "task": {"type": "worker", "index": 1}}, machines.Cluster(("a:1", "b:2"), 1)),
    ({"cluster": WORKERS, "task": {"type": "worker", "index": "0"}}, machines.Cluster(("a:1", "b:2"), 0)),
    ({"cluster": {"chief": ["c:3"]} | WORKERS, "task": {"type": "worker", "index": 0}},
     machines.Cluster(("c:3", "a:1", "b:2"), 1)),
    ({"cluster": {"chief": ["c:3"]} | WORKERS, "task": {"type": "chief", "index": 0}},
     machines.Cluster(("c:3", "a:1", "b:2"), 0)),
    ({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}, None)], ids=str)
def test_tf_config_lists_the_workers(config: dict, cluster: machines.Cluster | None,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert machines.cluster() == cluster


def test_process_without_tf_config_trains_alone(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_malformed_tf_config_is_a_usage_error(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UsageError, match="TF_CONFIG") as caught:
        machines.cluster()
    assert "\n" not in str(caught.value)


def test_slurm_lists_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_usage_error_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    config = {"cluster": WORKERS, "task": {"type": "worker", "index": 0}}
    for flags, word in ((["--workdir=run", "--devices=3"], "several processes"), ([], "--workdir"),
                        (["--workdir=run", "--batch_size=25"], "2 machines")):
        done = start(tmp_path, "--dataset=sample", "--batch_size=24", *flags, experiment="lenet5",
                     TF_CONFIG=json.dumps(config)).completed()
        assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert word in done.stderr and not list(tmp_path.iterdir())
