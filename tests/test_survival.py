"""Runs that are killed, interrupted, damaged or out of disk space end like the run that nothing happened to."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import tfcnn.networks.layers  # noqa: F401 - a saved network is loaded with the suite's own layers known to Keras
from tests.conftest import environment
from tests.crash_injection import Outcome, Scenario, run_scenarios
from tests.forked import Forked
from tfcnn import trained
from tfcnn.recipe import UsageError
from tfcnn.runs import RunFolder
from tfcnn.trained import evaluation
from tfcnn.training.checkpoints import Checkpoints, Progress
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import Setup, prepare, train

EPOCHS, STEPS = 6, 6
# Everything that has state: dropout, batch normalization, augmentation, a moving average, a schedule, and what depends
# on validation.
FLAGS = ("--dataset=folder", "--variant=fashion", "--normalization=batch", "--dropout=0.2", "--augment", "--ema=0.5",
         f"--epochs={EPOCHS}", "--batch_size=12", "--validation=0.4", "--warmup_epochs=1", "--learning_rate=0.02",
         # The rate rises thirtyfold after three epochs: the best epoch is not the last one, and there are plateaus.
         "--schedule=step", "--decay_epochs=3", "--decay_rate=30",
         "--plateau_epochs=1", "--plateau_factor=0.5", "--best_weights", "--early_stopping=5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of all runs."""
    return tmp_path_factory.mktemp("survival")


@pytest.fixture(scope="module")
def run(folder: Path, class_folders: Path) -> Callable[..., list[Outcome]]:
    """Runs the scenarios in a run's folder, see `tests.crash_injection`."""
    def run_in(workdir: str, scenarios: list[Scenario], *flags: str) -> list[Outcome]:
        return run_scenarios(folder, workdir, scenarios, *FLAGS, f"--data_dir={class_folders}", *flags)

    return run_in


@pytest.fixture(scope="module")
def whole(folder: Path, run: Callable) -> Path:
    """The folder of the run that is never killed nor interrupted."""
    outcome, = run("whole", [Scenario()])
    assert outcome.status == 0, outcome.errors
    return folder / "whole"


def _tensors(folder: Path) -> dict[str, bytes]:
    """The tensors of the newest checkpoint, without progress, which holds times, and the names of objects."""
    newest = max((folder / "checkpoints").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in reader.get_variable_to_shape_map()
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not name.startswith("progress/")}


def _curves(folder: Path) -> dict[str, list]:
    """What TensorBoard shows, except speeds: each curve's points in order, duplicates included.

    The compiled step is left out, too: the names of its functions count what the process has traced before.
    """
    differing = {"global/images_per_second", "_hparams_/session_start_info", "training_step"}
    curves = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(folder / part), {"tensors": 0, "graph": 1}).Reload()
        for tag in set(events.Tags()["tensors"]) - differing:
            curves[f"{part}/{tag}"] = [(event.step, event.tensor_proto.SerializeToString())
                                       for event in events.Tensors(tag)]
    return curves


def _written_once(folder: Path) -> dict[str, int]:
    """How often each thing that should be written once is in the event files."""
    events = [event for part in ("train", "validation") for path in sorted((folder / part).iterdir())
              for event in EventFileLoader(str(path)).Load()]
    tags = [value.tag for event in events for value in event.summary.value]
    once = ("training_images", "network", "training_step", "_hparams_/session_start_info", "test/accuracy", "test/loss")
    return {tag: tags.count(tag) for tag in once}


def _assert_same_end(whole: Path, folder: Path) -> None:
    assert (folder / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert _tensors(folder) == _tensors(whole)
    assert _curves(folder) == _curves(whole)
    assert set(_written_once(folder).values()) == {1}
    results = [RunFolder(path).read_result() for path in (whole, folder)]
    for name in ("test", "epochs", "steps", "tested_epoch", "recipe"):
        assert results[0][name] == results[1][name]
    networks = [keras.saving.load_model(path / "model.keras") for path in (whole, folder)]
    for one, two in zip(*(network.get_weights() for network in networks), strict=True):
        np.testing.assert_array_equal(one, two)
    assert [row["epoch"] for row in RunFolder(folder).read_metrics()] == list(range(1, results[0]["epochs"] + 1))
    assert not [path for path in folder.rglob("*") if path.name.startswith("unfinished") or path.suffix == ".tmp"]


def test_reference_run_has_everything_that_is_compared(whole: Path, class_folders: Path) -> None:
    rows, result = RunFolder(whole).read_metrics(), RunFolder(whole).read_result()
    losses = [row["validation_loss"] for row in rows]
    assert len(rows) == EPOCHS and losses.index(min(losses)) < EPOCHS - 1
    assert result["tested_epoch"] == losses.index(min(losses)) + 1
    # The best epoch's averaged weights are those that were validated, tested and saved.
    validation, test = (evaluation.evaluate([trained.load(whole)], data_dir=str(class_folders), part=part).record
                        for part in ("validation", "test"))
    assert validation["loss"] == pytest.approx(min(losses), rel=1e-5)
    assert validation["loss"] < 0.99 * losses[-1]
    assert test["loss"] == pytest.approx(result["test"]["loss"], rel=1e-5)
    assert rows[5]["learning_rate"] < rows[3]["learning_rate"] > rows[2]["learning_rate"]
    assert set(_written_once(whole).values()) == {1}
    assert len(_curves(whole)["train/epoch/loss"]) == EPOCHS
    assert any(name.startswith("seeds/") for name in _tensors(whole))


def test_repeatedly_killed_run_ends_like_the_uninterrupted_run(whole: Path, folder: Path, run: Callable) -> None:
    random_moment = random.Random(5)

    def within(stage: str, call: int = 1, **changes: Any) -> Scenario:
        """A kill at a random moment of a stage; at its end if it takes less than the time drawn."""
        return Scenario(inside=stage, call=call, after=10 ** random_moment.uniform(-4, 0.5), **changes)

    last = EPOCHS * STEPS
    # A checkpoint is saved after every step. Each scenario must happen wherever the one before it was killed.
    scenarios = [
        # Before the first checkpoint.
        Scenario(before="recipe.json"), Scenario(before="command.flags"),
        within("setup"), within("tracing"), within("steps"),
        Scenario(before=r"ckpt-1\.data.*"), Scenario(before=r"ckpt-1\.index"),
        # Within the first epoch.
        within("checkpoint"), within("steps", 2), within("checkpoint", 2),
        # The first epoch's end. Its events are written, its checkpoint is not; then its tables are not.
        Scenario(before=rf"ckpt-{STEPS}\.data.*"), Scenario(before=rf"ckpt-{STEPS}\.index"),
        Scenario(before="metrics.csv"), Scenario(before="timings.csv"),
        Scenario(inside="evaluation"), within("evaluation"),
        # Within the second or the third epoch.
        within("checkpoint"), within("checkpoint", random_moment.randint(2, 3)), within("checkpoint", damage=True),
        # The end of the third or fourth one, for the tables are also written when a run goes on; then a later step.
        within("tables", 3), within("steps", random_moment.randint(2, STEPS)),
        # The end.
        Scenario(before=rf"ckpt-{last}\.sha256"), within("test"), within("network"), Scenario(before="model.keras"),
        Scenario(before="result.json")]
    *killed, end = run("killed", [*scenarios, Scenario()], "--checkpoint_every=1")
    assert [outcome.status for outcome in killed] == [-9] * len(scenarios), killed
    assert end.status == 0, end.errors
    assert len(scenarios) >= 20 and sum(outcome.unfinished for outcome in killed) >= 5
    # A process killed before it replaces the damaged checkpoint leaves it for the next one to report again.
    damaged = next(number for number, scenario in enumerate(scenarios) if scenario.damage)
    reported = [number for number, outcome in enumerate([*killed, end]) if "is damaged" in outcome.errors]
    assert reported in ([damaged], [damaged, damaged + 1])
    _assert_same_end(whole, folder / "killed")


def test_run_stops_at_any_stage_when_interrupted(whole: Path, folder: Path, run: Callable) -> None:
    last = EPOCHS * STEPS
    cases = [  # the scenario, and the step that the message names
        (Scenario("SIGTERM", before="recipe.json"), None),
        (Scenario("SIGTERM", hanging=1), 0),  # the first step
        (Scenario("SIGINT", inside="tracing"), None),
        (Scenario("SIGINT", before=rf"ckpt-{STEPS}\.data.*"), STEPS),
        (Scenario("SIGTERM", inside="evaluation"), 2 * STEPS),
        # The epoch's validation, what TensorBoard shows of it, and the next epoch's first step.
        (Scenario("SIGTERM", hanging=1), 2 * STEPS),
        (Scenario("SIGINT", hanging=2), 2 * STEPS),
        (Scenario("SIGTERM", hanging=3), 2 * STEPS),
        # After a first step, its epoch's validation; after a whole epoch and a first step, the next one's validation.
        (Scenario("SIGINT", hanging=2), 3 * STEPS),
        (Scenario("SIGTERM", hanging=5), 4 * STEPS),
        (Scenario("SIGINT", inside="test"), last),
        (Scenario("SIGTERM", hanging=1), last),  # the test
        (Scenario("SIGTERM", before="curves.png"), last)]
    *outcomes, end = run("interrupted", [*(scenario for scenario, _ in cases), Scenario()])
    for (scenario, step), outcome in zip(cases, outcomes, strict=True):
        assert outcome.status == {"SIGTERM": 143, "SIGINT": 130}[scenario.signal], outcome
        assert "Traceback" not in outcome.errors and not outcome.unfinished
        if step is not None:
            assert "--flagfile=interrupted/command.flags --workdir=interrupted" in outcome.errors, outcome
            message = f"{scenario.signal} after step {step};" if step else f"{scenario.signal} before the first step;"
            if step == last and not scenario.hanging:
                message = "all that was done is saved"
            assert message in outcome.errors, outcome
    assert end.status == 0, end.errors
    _assert_same_end(whole, folder / "interrupted")


NEWEST, BEFORE = (f"ckpt-{EPOCHS * STEPS - missing}" for missing in (0, STEPS))
DATA, INDEX, SUMS = ".data-00000-of-00001", ".index", ".sha256"


def _flip(path: Path, position: float) -> None:
    """Flips a bit at a relative position of the file, from 0 to 1."""
    content = bytearray(path.read_bytes())
    content[int(position * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def _cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])


def _swap(folder: Path, ending: str) -> None:
    one, other = folder / f"{NEWEST}{ending}", folder / f"{BEFORE}{ending}"
    one.write_bytes(other.read_bytes())


# Name -> what is done to the folder of the checkpoints.
DAMAGES: dict[str, Callable[[Path], None]] = {
    "data cut in half": lambda folder: _cut(folder / f"{NEWEST}{DATA}", 0.5),
    "data without its last byte": lambda folder: _cut(folder / f"{NEWEST}{DATA}", 0.9999999),
    "data empty": lambda folder: _cut(folder / f"{NEWEST}{DATA}", 0),
    "data gone": lambda folder: (folder / f"{NEWEST}{DATA}").unlink(),
    "data flipped at its start": lambda folder: _flip(folder / f"{NEWEST}{DATA}", 0),
    "data flipped in the middle": lambda folder: _flip(folder / f"{NEWEST}{DATA}", 0.5),
    "data flipped at its end": lambda folder: _flip(folder / f"{NEWEST}{DATA}", 1),
    "data of the one before": lambda folder: _swap(folder, DATA),
    "index cut in half": lambda folder: _cut(folder / f"{NEWEST}{INDEX}", 0.5),
    "index empty": lambda folder: _cut(folder / f"{NEWEST}{INDEX}", 0),
    "index gone": lambda folder: (folder / f"{NEWEST}{INDEX}").unlink(),
    "index flipped at its start": lambda folder: _flip(folder / f"{NEWEST}{INDEX}", 0),
    "index flipped in its footer": lambda folder: _flip(folder / f"{NEWEST}{INDEX}", 0.999),
    "index of the one before": lambda folder: _swap(folder, INDEX),
    "sums gone": lambda folder: (folder / f"{NEWEST}{SUMS}").unlink(),
    "sums empty": lambda folder: _cut(folder / f"{NEWEST}{SUMS}", 0),
    "sums flipped": lambda folder: _flip(folder / f"{NEWEST}{SUMS}", 0.01),
    "all three of the one before": lambda folder: [_swap(folder, ending) for ending in (DATA, INDEX, SUMS)] and None,
}


@pytest.fixture(scope="module")
def setup(whole: Path, class_folders: Path) -> Setup:
    return prepare(RunFolder(whole).read_recipe(), str(class_folders))


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy of the complete run, without its result."""
    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    (folder / "result.json").unlink()
    return folder


def _restored(folder: Path, setup: Setup) -> dict[str, bytes]:
    """Every tensor after restoring into a network and an optimizer that held other values."""
    best = [tf.Variable(tf.ones_like(weight.value)) for weight in setup.model.weights]
    averages = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer).averages.variables
    for variable in (*setup.model.variables, *setup.optimizer.variables):
        variable.assign(tf.ones_like(variable.value))
    progress = Progress()
    Checkpoints(folder, setup.model, setup.optimizer, progress, best, averages).restore()
    saved = folder.parent / "saved"
    Checkpoints(saved, setup.model, setup.optimizer, progress, best, averages).save()
    return _all_tensors(saved / f"ckpt-{progress.step}")


def _all_tensors(path: Path) -> dict[str, bytes]:
    reader = tf.train.load_checkpoint(str(path))
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in reader.get_variable_to_shape_map()
            if name != "_CHECKPOINTABLE_OBJECT_GRAPH"}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_and_the_one_before_restored(damage: str, copy: Path, setup: Setup,
                                                                      capsys: pytest.CaptureFixture) -> None:
    checkpoints = copy / "checkpoints"
    DAMAGES[damage](checkpoints)
    assert _restored(checkpoints, setup) == _all_tensors(checkpoints / BEFORE)
    report, = capsys.readouterr().err.splitlines()
    assert f"{checkpoints / NEWEST} is damaged" in report


@pytest.mark.parametrize("names", [(), ("checkpoint",), ("ckpt-x.index", "notes.txt")], ids=str)
def test_a_complete_checkpoint_is_restored_whatever_is_beside_it(names: tuple[str, ...], copy: Path, setup: Setup,
                                                                 capsys: pytest.CaptureFixture) -> None:
    checkpoints = copy / "checkpoints"
    for name in names:
        (checkpoints / name).write_text("model_checkpoint_path: 'ckpt-1'\nall_model_checkpoint_paths: gone")
    assert _restored(checkpoints, setup) == _all_tensors(checkpoints / NEWEST)
    assert not capsys.readouterr().err


def test_checksums_are_sha256(whole: Path) -> None:
    for line in (whole / "checkpoints" / f"{NEWEST}{SUMS}").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((whole / "checkpoints" / name).read_bytes()).hexdigest() == digest


def test_run_without_a_complete_checkpoint_is_refused_and_unchanged(copy: Path, class_folders: Path) -> None:
    for name in (NEWEST, BEFORE):
        _flip(copy / "checkpoints" / f"{name}{DATA}", 0.3)
    (copy / "run.lock").unlink()
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="no checkpoint in .* is whole; .* --overwrite"):
        train(RunFolder(copy).read_recipe(), copy, data_dir=str(class_folders))
    (copy / "run.lock").unlink()
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


class _DiskFull(keras.callbacks.Callback):
    """Leaves one MiB of disk space after the second epoch, before it is saved."""

    def __init__(self, kind: str, folder: Path) -> None:
        super().__init__()
        self._kind = kind
        self._folder = folder

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if epoch == 1 and self._kind == "limit":
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif epoch == 1:
            disk = os.statvfs(self._folder)
            (self._folder / "others").write_bytes(bytes(disk.f_bavail * disk.f_frsize - 2**20))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["limit", "tmpfs"])
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole(
        kind: str, whole: Path, class_folders: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    disk = request.getfixturevalue("small_disk") if kind == "tmpfs" else tmp_path
    recipe = RunFolder(whole).read_recipe()
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        remedy = {"tmpfs": "make room", "limit": "let this process write larger files"}[kind]
        with pytest.raises(UsageError, match=f"cannot save a checkpoint .*ckpt-{STEPS} is whole: {remedy}") as error:
            train(recipe, disk / "run", data_dir=str(class_folders), callbacks=[_DiskFull(kind, disk)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "\n" not in str(error.value)
    assert {path.stem for path in (disk / "run" / "checkpoints").iterdir()} == {f"ckpt-{STEPS}"}
    assert len(RunFolder(disk / "run").read_metrics()) == 1
    if kind == "limit":
        train(recipe, disk / "run", data_dir=str(class_folders))
        _assert_same_end(whole, disk / "run")


def test_training_without_progress_lowers_the_rate_and_stops_early(whole: Path, class_folders: Path,
                                                                   tmp_path: Path) -> None:
    """The rate is too small to change a weight, so every epoch is as good as the first."""
    recipe = RunFolder(whole).read_recipe().replace(
        normalization="none", learning_rate=1e-30, schedule="constant", decay_epochs="", warmup_epochs=0.0, ema=0.0,
        early_stopping=3)
    result = train(recipe, tmp_path / "run", data_dir=str(class_folders))
    rows = RunFolder(tmp_path / "run").read_metrics()
    assert len({row["validation_loss"] for row in rows}) == 1
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-30, 1e-30, 5e-31, 2.5e-31], rel=1e-6)
    assert (result.record["epochs"], result.record["tested_epoch"]) == (4, 1)


class _Memory(keras.callbacks.Callback):
    """Prints how much memory the process has at the end of each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        print("resident", pages * resource.getpagesize())


def _train_thirty_epochs(whole: Path, data_dir: str) -> None:
    recipe = RunFolder(whole).read_recipe().replace(epochs=30, early_stopping=0, schedule="constant", decay_epochs="")
    train(recipe, Path("thirty"), data_dir=data_dir, callbacks=[_Memory()])


def test_memory_does_not_grow(whole: Path, class_folders: Path, folder: Path) -> None:
    """In a new process, whose memory no other test has used."""
    done = Forked(_train_thirty_epochs, whole, str(class_folders), cwd=folder, env=environment(folder)).completed()
    assert done.returncode == 0, done.stderr
    resident = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("resident")]
    assert len(resident) == 30
    assert resident[29] <= 1.02 * resident[4], resident
