"""Runs that are killed, interrupted, injured, or out of disk space: they end as the run that nothing happened to."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
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
from tfcnn.runs import RunFolder

EPOCHS, STEPS = 6, 6
# Dropout, batch normalization, augmentation, a moving average, a schedule, and all that looks at validation.
FLAGS = ("--dataset=folder", "--variant=fashion", "--normalization=batch", "--dropout=0.2", "--augment", "--ema=0.5",
         f"--epochs={EPOCHS}", "--batch_size=12", "--validation=0.4", "--schedule=cosine", "--warmup_epochs=1",
         "--learning_rate=0.3", "--plateau_epochs=1", "--plateau_factor=0.5", "--best_weights", "--early_stopping=5")


def _live(place: Path, data_dir: Path, workdir: str, lives: list[dict[str, Any]], *flags: str) -> list[dict[str, Any]]:
    """Lets a run live these lives, see `tests.mortal`."""
    plan = place / f"{workdir}.json"
    plan.write_text(json.dumps({"arguments": [*FLAGS, f"--data_dir={data_dir}", f"--workdir={workdir}", *flags],
                                "lives": lives}))
    done = subprocess.run([sys.executable, "-m", "tests.mortal", plan.name], cwd=place, env=environment(place),
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("survival")


@pytest.fixture(scope="module")
def whole(place: Path, class_folders: Path) -> Path:
    """The run that nothing happens to."""
    end, = _live(place, class_folders, "whole", [{}])
    assert end["status"] == 0, end["err"]
    return place / "whole"


def _tensors(folder: Path) -> dict[str, bytes]:
    """All that the newest checkpoint has, but for its progress, which has times in it."""
    newest = max((folder / "checkpoints").glob("*.index"), key=lambda path: int(path.stem.split("-")[1]))
    reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
    return {name: np.asarray(reader.get_tensor(name)).tobytes() for name in reader.get_variable_to_shape_map()
            if not name.startswith("progress/")}


def _curves(folder: Path) -> dict[str, list]:
    """What TensorBoard shows, but for the speed: for each curve the points, in order, whatever is there twice too."""
    curves = {}
    for part in ("train", "validation"):
        events = EventAccumulator(str(folder / part), {"tensors": 0, "graph": 1}).Reload()
        for tag in set(events.Tags()["tensors"]) - {"epoch_images_per_second", "_hparams_/session_start_info"}:
            curves[f"{part}/{tag}"] = [(event.step, event.tensor_proto.SerializeToString())
                                       for event in events.Tensors(tag)]
    return curves


def _written_once(folder: Path) -> dict[str, int]:
    """How often the event files have what belongs there once."""
    events = [event for part in ("train", "validation") for path in sorted((folder / part).iterdir())
              for event in EventFileLoader(str(path)).Load()]
    tags = [value.tag for event in events for value in event.summary.value]
    once = ("augmented_training_images", "keras", "_hparams_/session_start_info", "test_accuracy", "test_loss")
    return {tag: tags.count(tag) for tag in once} | {"graph": sum(bool(event.graph_def) for event in events)}


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


def test_the_run_that_the_others_are_compared_with_has_all_in_it(whole: Path) -> None:
    rows = RunFolder(whole).read_metrics()
    losses = [row["validation_loss"] for row in rows]
    assert len(rows) == EPOCHS and losses.index(min(losses)) < EPOCHS - 1  # so that the best weights are not the last
    assert RunFolder(whole).read_result()["tested_epoch"] == losses.index(min(losses)) + 1
    assert any(later > earlier for earlier, later in itertools.pairwise(losses[:-1]))  # so that there was a plateau
    assert set(_written_once(whole).values()) == {1}
    assert len(_curves(whole)["train/epoch_loss"]) == EPOCHS
    assert any(name.startswith("seeds/") for name in _tensors(whole))


def test_a_run_killed_again_and_again_ends_as_if_it_had_never_been(whole: Path, place: Path, class_folders: Path) -> None:
    moments = random.Random(5)
    last = EPOCHS * STEPS
    lives: list[dict[str, Any]] = [
        {"before": "recipe.json"}, {"before": "command.flags"},
        {"after": moments.uniform(0.1, 1)}, {"after": moments.uniform(0.1, 2)},
        {"before": r"ckpt-1\.data.*"}, {"before": r"ckpt-1\.index"},
        {"watch": "checkpoints/unfinished", "after": moments.uniform(0, 0.03)},
        {"watch": "checkpoints/ckpt-2.index", "after": moments.uniform(0, 0.1)},
        {"before": rf"ckpt-{STEPS}\.data.*"},  # the epoch's events are written, its checkpoint is not
        {"before": rf"ckpt-{STEPS}\.index"},
        {"before": "metrics.csv"}, {"before": "timings.csv"},
        {"inside": "_evaluate"},
        {"watch": "checkpoints/unfinished", "after": moments.uniform(0, 0.03)},
        {"watch": f"checkpoints/ckpt-{2 * STEPS + 2}.index", "after": moments.uniform(0, 0.1)},
        {"watch": "checkpoints/unfinished", "after": moments.uniform(0, 0.03), "injure": True},
        {"watch": f"checkpoints/ckpt-{4 * STEPS}.index", "after": moments.uniform(0, 0.1)},
        {"before": rf"ckpt-{last}\.sha256"}, {"before": "model.keras"}, {"before": "curves.png"},
        {"before": "result.json"}]
    ends = _live(place, class_folders, "killed", [life | {"signal": "SIGKILL"} for life in lives] + [{}],
                 "--checkpoint_every=1")
    assert [end["status"] for end in ends] == [-9] * len(lives) + [0], ends[-1]["err"]
    assert len(lives) >= 20 and sum(end["unfinished"] for end in ends) >= 5
    damaged = ["is damaged" in end["err"] for end in ends]
    assert damaged == [bool(life.get("injure")) for life in lives] + [False]
    _assert_same_end(whole, place / "killed")


def test_interruptions_at_any_stage_are_heeded(whole: Path, place: Path, class_folders: Path) -> None:
    lives = [
        ("SIGTERM", {"before": "recipe.json"}, None),  # while it is being set up
        ("SIGINT", {"inside": "_graph"}, None),
        ("SIGTERM", {"inside": "_train_call"}, 1),
        ("SIGINT", {"before": rf"ckpt-{STEPS}\.data.*"}, STEPS),  # while a checkpoint is being written
        ("SIGTERM", {"inside": "_evaluate"}, 2 * STEPS),
        ("SIGINT", {"before": rf"ckpt-{EPOCHS * STEPS}\.index"}, EPOCHS * STEPS),
        ("SIGTERM", {"inside": "test"}, EPOCHS * STEPS), ("SIGINT", {"before": "curves.png"}, EPOCHS * STEPS)]
    ends = _live(place, class_folders, "interrupted", [life | {"signal": name} for name, life, _ in lives] + [{}])
    for (name, _, step), end in zip(lives, ends):
        assert end["status"] == {"SIGTERM": 143, "SIGINT": 130}[name], end
        assert "Traceback" not in end["err"] and not end["unfinished"]
        if step:
            assert "--flagfile=interrupted/command.flags --workdir=interrupted" in end["err"], end
        if step and "after step" in end["err"]:
            assert f"{name} after step {step};" in end["err"]
    assert ends[-1]["status"] == 0, ends[-1]["err"]
    _assert_same_end(whole, place / "interrupted")
