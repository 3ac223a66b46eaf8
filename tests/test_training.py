"""Training end to end: the command, the run's folder, and whether the recorded result is true."""

from __future__ import annotations

import csv
import gzip
import json
import math
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorflow.python.framework.config import is_op_determinism_enabled

import tfcnn.data
import tfcnn.networks.layers  # noqa: F401 - a saved network is loaded with the suite's own layers known to Keras
from tests.conftest import command, environment, start
from tests.crash_injection import Outcome, Scenario, run_scenarios
from tests.forked import Forked
from tfcnn import processor, trained
from tfcnn.data import normalization
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import Recipe, UsageError, flat
from tfcnn.runs import TIMINGS, RunFolder
from tfcnn.trained import evaluation
from tfcnn.training import devices
from tfcnn.training.loop import NotFiniteError
from tfcnn.training.steps import Steps
from tfcnn.training.trainer import prepare, train

SAMPLE = Path(tfcnn.data.__file__).parent / "sample"
# Little enough for seconds: 600 images of the sample to train on, or 120 of the class folders.
FEW = ("--epochs=2", "--train_images=600", "--batch_size=100", "--warmup_epochs=0")
# Without dropout, whose masks depend on the kind of execution and on the number of replicas.
COLOURS = RECIPE.replace(dataset="folder", epochs=2, batch_size=24, validation=0.2, warmup_epochs=0.0, dropout=0.0)
AVERAGED = COLOURS.replace(ema=0.9, l2=0.01)
LOOKAHEAD = COLOURS.replace(lookahead=3, l2=0.01)  # the weights are moved after the third and the sixth of eight steps


def _weights(folder: Path) -> list[np.ndarray]:
    return keras.saving.load_model(folder / "model.keras").get_weights()


def _same(one: Path, other: Path) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(_weights(one), _weights(other), strict=True))


def _flags(recipe: Recipe, data_dir: Path) -> list[str]:
    own = flat(RECIPE.to_dict())
    changed = {name: value for name, value in flat(recipe.to_dict()).items() if value != own[name]}
    return [f"--{name}={value}" for name, value in changed.items()] + [f"--data_dir={data_dir}"]


@pytest.fixture(scope="module")
def sample_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess]:
    """The main job, shortened, on a machine without CIFAR-10 and without a network."""
    place = tmp_path_factory.mktemp("main")
    done = start(place, *FEW).completed()
    assert done.returncode == 0, done.stderr
    folder, = (place / "runs").iterdir()
    return folder, done


def test_without_cifar10_the_sample_is_used_and_named_everywhere(sample_run) -> None:
    folder, done = sample_run
    assert "THIS RUN TAKES THE SAMPLE INSTEAD" in done.stderr and "cifar10" in done.stderr
    assert "sample" in folder.name
    assert json.loads((folder / "recipe.json").read_text())["dataset"] == "sample"
    assert "--dataset=sample" in (folder / "command.flags").read_text()
    record = json.loads((folder / "result.json").read_text())
    assert record["dataset"]["name"] == "sample" and "Fashion-MNIST" in record["dataset"]["source"]
    assert "sample" in done.stdout


def test_a_run_that_took_the_sample_goes_on_with_the_same_command(sample_run, tmp_path: Path) -> None:
    folder, _ = sample_run
    done = start(tmp_path, *FEW, f"--workdir={folder}").completed()
    assert done.returncode == 0 and "was complete already" in done.stdout, done.stderr
    asked_for = start(tmp_path, *FEW, f"--workdir={folder}", "--dataset=cifar10").completed()
    assert asked_for.returncode == 2 and "is the run of another recipe" in asked_for.stderr


def test_command_prints_folder_resume_and_repeat(sample_run) -> None:
    folder, done = sample_run
    where = f"runs/{folder.name}"
    assert f"tensorboard.main --logdir={where}" in done.stdout
    assert f"--flagfile={where}/command.flags --workdir={where}" in done.stdout  # resume
    assert done.stdout.rstrip().endswith(f"--flagfile={where}/command.flags")  # repeat
    assert "Epoch 2/2" in done.stdout and "Traceback" not in done.stderr


def test_run_folder_is_complete(sample_run) -> None:
    folder = RunFolder(sample_run[0])
    record = folder.read_result()
    assert folder.read_recipe() == RECIPE.replace(dataset="sample", epochs=2, train_images=600, batch_size=100,
                                                  warmup_epochs=0.0, crop_padding=2, dropout=0.0)
    assert record["parameters"] == 1_756_426
    assert {name: record["dataset"][name] for name in ("train_images", "validation_images", "test_images")} == {
        "train_images": 600, "validation_images": 600, "test_images": 1000}
    assert (record["epochs"], record["steps"], record["replicas"], record["strategy"]) == (2, 12, 1, "MirroredStrategy")
    rows = folder.read_metrics()
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 6), (2, 12)]
    assert rows[1]["loss"] < rows[0]["loss"]
    assert rows[1]["validation_accuracy"] > 0.2 and 0 < rows[1]["learning_rate"] < RECIPE.learning_rate
    assert (folder.path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (folder.path / "checkpoints" / "ckpt-12.index").exists()


def test_recorded_times_add_up(sample_run) -> None:
    record = RunFolder(sample_run[0]).read_result()
    with open(sample_run[0] / TIMINGS, newline="", encoding="utf-8") as file:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert [row["epoch"] for row in rows] == [1, 2] and all(row["seconds"] > 0 for row in rows)
    assert sum(row["seconds"] for row in rows) == pytest.approx(record["train_seconds"], rel=1e-6)
    # Each epoch has six steps of 100 images.
    assert [row["seconds"] * row["images_per_second"] for row in rows] == pytest.approx([600, 600], rel=1e-6)
    assert record["train_seconds"] * record["train_images_per_second"] == pytest.approx(1200, rel=1e-6)
    began, ended = (datetime.fromisoformat(record[name]) for name in ("started", "finished"))
    assert record["train_seconds"] < (ended - began).total_seconds()


def _sample_test_set() -> tuple[np.ndarray, np.ndarray]:
    images = np.frombuffer(gzip.decompress((SAMPLE / "t10k-images-idx3-ubyte.gz").read_bytes())[16:], np.uint8)
    labels = np.frombuffer(gzip.decompress((SAMPLE / "t10k-labels-idx1-ubyte.gz").read_bytes())[8:], np.uint8)
    return images.reshape(-1, 28, 28), labels


def test_recorded_accuracy_is_that_of_the_saved_network(sample_run) -> None:
    record = RunFolder(sample_run[0]).read_result()
    images, labels = _sample_test_set()
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2)])[..., np.newaxis].astype(np.float64)
    normalization = record["dataset"]["normalization"]
    inputs = (padded - normalization["mean"]) / normalization["standard_deviation"]
    logits = keras.saving.load_model(sample_run[0] / "model.keras").predict(inputs, verbose=0).astype(np.float64)
    assert record["test"]["accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean(), abs=1e-6)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    assert record["test"]["loss"] == pytest.approx(losses.mean(), rel=1e-4)


def test_tensorboard_finds_curves_images_graphs_and_hyperparameters(sample_run) -> None:
    folder, _ = sample_run
    train_events = EventAccumulator(str(folder / "train"), {"images": 0, "scalars": 0}).Reload()
    validation = EventAccumulator(str(folder / "validation")).Reload()
    rows = RunFolder(folder).read_metrics()
    assert [event.value for event in _scalars(train_events, "epoch/loss")] == pytest.approx(
        [row["loss"] for row in rows])
    assert [event.value for event in _scalars(validation, "epoch/accuracy")] == pytest.approx(
        [row["validation_accuracy"] for row in rows])
    tags = set(train_events.Tags()["tensors"])
    assert {"epoch/accuracy", "global/learning_rate", "global/images_per_second", "global/gradient_norm",
            "global/weight_norm", "gradient_norm/conv1/kernel", "weight_norm/conv1/kernel", "training_images"} <= tags
    assert {"sparsity/conv1", "sparsity/conv2", "sparsity/local3", "sparsity/local4"} <= tags
    assert all(0 < event.value < 1 for event in _scalars(train_events, "sparsity/conv2"))
    # The first two groups of cards are open, and the Graphs page opens on the first tag: the network.
    assert list(dict.fromkeys(tag.split("/")[0] for tag in sorted(tags - {"network", "training_step"})))[:2] == [
        "epoch", "global"]
    assert {"network", "training_step"} <= tags and not train_events.Tags()["graph"]
    assert "_hparams_/session_start_info" in validation.summary_metadata
    assert "test/accuracy" in validation.Tags()["tensors"]


def _scalars(events: EventAccumulator, tag: str) -> list:
    from tensorflow import make_ndarray
    return [type("Scalar", (), {"step": event.step, "value": float(make_ndarray(event.tensor_proto))})
            for event in events.Tensors(tag)]


@pytest.fixture(scope="module")
def colours_run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of COLOURS."""
    place = tmp_path_factory.mktemp("colours_run")
    done = start(place, *_flags(COLOURS, class_folders), "--workdir=run").completed()
    assert done.returncode == 0, done.stderr
    return place / "run"


def test_same_seed_gives_the_same_bits_and_another_seed_does_not(colours_run: Path, class_folders: Path,
                                                                 tmp_path: Path) -> None:
    # A process of its own, not a forked one: the order in which Python reads sets is another one, too.
    words = command(f"--flagfile={colours_run / 'command.flags'}", "--workdir=again")
    done = subprocess.run(words, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    train(COLOURS.replace(seed=1), tmp_path / "other", data_dir=str(class_folders))
    assert _same(colours_run, tmp_path / "again") and not _same(colours_run, tmp_path / "other")
    assert (colours_run / "metrics.csv").read_bytes() == (tmp_path / "again" / "metrics.csv").read_bytes()


def test_complete_run_is_left_untouched(sample_run, run_command: Callable) -> None:
    folder, _ = sample_run

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    before, flags = state(), (f"--flagfile={folder / 'command.flags'}", f"--workdir={folder}")
    finished = run_command(*flags)
    assert finished.returncode == 0 and "complete already" in finished.stdout
    refused = run_command(*flags, "--epochs=3")
    assert refused.returncode == 2 and "epochs" in refused.stderr and refused.stderr.count("\n") == 1
    assert state() == before


def test_requested_but_missing_cifar10_is_a_usage_error(run_command, tmp_path: Path) -> None:
    done = run_command("--dataset=cifar10", *FEW)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and "--data_dir" in done.stderr
    assert not (tmp_path / "runs").exists()


def _interrupt(name: str, flags: list[str], folder: Path) -> Outcome:
    """Trains in the workdir `cut` until the next epoch is saved, and sends the signal then."""
    resumed = (folder / "cut" / "metrics.csv").exists()
    # A resumed run first writes the tables of the epochs that are complete.
    scenario = Scenario(name, before=r"timings\.csv", call=1 + resumed)
    outcome, = run_scenarios(folder, "cut", [scenario], *flags, experiment="alexnet")
    return outcome


def test_ctrl_c_saves_the_state_and_says_how_to_resume(class_folders: Path, tmp_path: Path) -> None:
    outcome = _interrupt("SIGINT", _flags(COLOURS.replace(epochs=100), class_folders), tmp_path)
    assert outcome.status == 130 and "Traceback" not in outcome.errors
    assert "the state is saved" in outcome.errors
    assert "--flagfile=cut/command.flags --workdir=cut" in outcome.errors
    assert list((tmp_path / "cut" / "checkpoints").glob("*.index"))


def test_interrupted_and_killed_run_resumes_to_the_same_end(class_folders: Path, tmp_path: Path,
                                                            run_command: Callable) -> None:
    recipe = COLOURS.replace(epochs=5, lookahead=5, dropout=0.25, image_size=16)  # test_survival.py has --ema
    train(recipe, tmp_path / "whole", data_dir=str(class_folders))
    interrupted = _interrupt("SIGTERM", _flags(recipe, class_folders), tmp_path)
    assert interrupted.status == 143, interrupted.errors
    killed = _interrupt("SIGKILL", _flags(recipe, class_folders), tmp_path)
    assert killed.status == -signal.SIGKILL, killed.errors
    assert not (tmp_path / "cut" / "result.json").exists()
    assert 1 <= len(RunFolder(tmp_path / "cut").read_metrics()) < 5

    resume, = (line for line in interrupted.output.splitlines() if line.startswith("resume:"))
    resumed = run_command(*resume.split("tfcnn.experiments.alexnet ")[1].split())
    assert resumed.returncode == 0, resumed.stderr
    assert _same(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "whole" / "metrics.csv").read_bytes() == (tmp_path / "cut" / "metrics.csv").read_bytes()
    results = [RunFolder(tmp_path / name).read_result() for name in ("whole", "cut")]
    assert results[0]["test"] == results[1]["test"]


def test_loss_that_is_not_finite_ends_the_run_with_status_3(class_folders: Path, tmp_path: Path,
                                                            run_command: Callable) -> None:
    done = run_command(*_flags(COLOURS, class_folders), "--schedule=step", "--decay_epochs=1", "--decay_rate=1e30",
                       "--epochs=3", "--workdir=w")
    assert done.returncode == 3, done.stderr
    error, = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "not finite" in error and "ckpt-4" in error and "Traceback" not in done.stderr
    assert not (tmp_path / "w" / "result.json").exists()
    assert len(RunFolder(tmp_path / "w").read_metrics()) == 1
    assert [path.name for path in sorted((tmp_path / "w" / "checkpoints").glob("*.index"))] == ["ckpt-4.index"]


def test_weights_that_are_not_finite_are_not_saved(class_folders: Path, tmp_path: Path) -> None:
    """The loss of the first step is that of the initial weights, so only the second step's would show them."""
    with pytest.raises(NotFiniteError, match="is not finite after step 1; no epoch was complete"):
        train(COLOURS.replace(learning_rate=1e38, l2=1e4), tmp_path / "w", data_dir=str(class_folders),
              checkpoint_every="1")
    assert not list((tmp_path / "w" / "checkpoints").glob("*.index"))


def test_gradient_that_is_not_finite_ends_the_run_before_it_is_saved(class_folders: Path, tmp_path: Path) -> None:
    """The penalty's gradient overflows, but the loss that is reported has no penalty."""
    with pytest.raises(NotFiniteError, match="the gradient is not finite at step 0 "):
        train(COLOURS.replace(l2=1e38), tmp_path / "w", data_dir=str(class_folders))


def _train_deterministically(folder: str, data_dir: str) -> None:
    train(COLOURS.replace(deterministic=True), folder, data_dir=data_dir)
    assert is_op_determinism_enabled()


@pytest.mark.parametrize("changes", [{"execution": "eager"}, {"execution": "xla"}, {"deterministic": True}], ids=str)
def test_every_execution_gives_the_same_weights(changes: dict, colours_run: Path, class_folders: Path, tmp_path: Path
                                                ) -> None:
    if "deterministic" in changes:  # in a process of its own: TensorFlow cannot leave this mode
        done = Forked(_train_deterministically, "other", str(class_folders), cwd=tmp_path,
                      env=environment(tmp_path)).completed()
        assert done.returncode == 0, done.stderr
    else:
        train(COLOURS.replace(**changes), tmp_path / "other", data_dir=str(class_folders))
    for one, two in zip(_weights(colours_run), _weights(tmp_path / "other"), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-4)


def test_lower_precision_gives_almost_the_same_loss(class_folders: Path, tmp_path: Path) -> None:
    recipe = COLOURS.replace(optimizer="sgd", learning_rate=0.005, epochs=1, image_size=16)
    results = {kind: train(recipe.replace(precision=kind, keep_precision=True), tmp_path / kind,
                           data_dir=str(class_folders)) for kind in ("float32", "bfloat16", "float16")}
    losses = {kind: RunFolder(result.workdir).read_metrics()[0]["loss"] for kind, result in results.items()}
    assert len(set(losses.values())) == 3
    for precision, tolerance in (("bfloat16", 0.1), ("float16", 0.02)):
        assert losses[precision] == pytest.approx(losses["float32"], rel=tolerance)
        assert results[precision].record["precision"] == precision
        assert {variable.dtype for variable in results[precision].model.trainable_variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"  # what else is in the process is left as it was


@pytest.fixture(scope="module")
def averaged_run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """The run of AVERAGED, and the weights after its last step, which are not averaged."""
    return _run_and_last_weights(AVERAGED, class_folders, tmp_path_factory.mktemp("averaged") / "run")


@pytest.fixture(scope="module")
def lookahead_run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """The run of LOOKAHEAD, and the weights after its last step, which are not the slow ones."""
    return _run_and_last_weights(LOOKAHEAD, class_folders, tmp_path_factory.mktemp("lookahead") / "run")


def _run_and_last_weights(recipe: Recipe, class_folders: Path, folder: Path) -> tuple[Path, list[np.ndarray]]:
    class Latest(keras.callbacks.Callback):
        weights: list[np.ndarray] = []

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            Latest.weights = self.model.get_weights()

    train(recipe, folder, data_dir=str(class_folders), callbacks=[Latest()])
    return folder, Latest.weights


@pytest.mark.parametrize("name", ["averaged_run", "lookahead_run"])
def test_averaged_weights_are_validated_tested_and_saved(name: str, request: pytest.FixtureRequest,
                                                         class_folders: Path) -> None:
    folder, latest = request.getfixturevalue(name)
    network = trained.load(folder)

    def losses() -> list[float]:
        return [evaluation.evaluate([network], data_dir=str(class_folders), part=part).record["loss"]
                for part in ("validation", "test")]

    run = RunFolder(folder)
    recorded = [run.read_metrics()[-1]["validation_loss"], run.read_result()["test"]["loss"]]
    assert losses() == pytest.approx(recorded, rel=1e-5)
    network.model.set_weights(latest)
    assert all(abs(loss / averaged - 1) > 0.01 for loss, averaged in zip(losses(), recorded))


def test_lookahead_moves_by_the_steps_of_the_whole_training(lookahead_run, class_folders: Path) -> None:
    setup = prepare(LOOKAHEAD, str(class_folders))
    steps = Steps(LOOKAHEAD, setup.strategy, setup.model, setup.optimizer, total_steps=8)
    steps.run(setup.training_batches(0), tf.constant(8))
    steps.averages.assign()
    for expected, weight in zip(setup.model.get_weights(), _weights(lookahead_run[0]), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_lookahead_that_would_never_move_is_refused(class_folders: Path) -> None:
    with pytest.raises(UsageError, match="--lookahead=9 is more than the 8 steps"):
        prepare(COLOURS.replace(lookahead=9), str(class_folders))


def test_two_devices_give_the_weights_of_one_device(averaged_run, class_folders: Path, tmp_path: Path,
                                                    run_command: Callable) -> None:
    one_device, _ = averaged_run
    done = run_command(*_flags(AVERAGED, class_folders), "--devices=2", "--workdir=2")
    assert done.returncode == 0, done.stderr
    assert RunFolder(tmp_path / "2").read_result()["replicas"] == 2
    for one, two in zip(_weights(one_device), _weights(tmp_path / "2")):
        np.testing.assert_allclose(one, two, atol=1e-5)
    columns = ("loss", "accuracy", "validation_loss", "validation_accuracy", "gradient_norm", "weight_norm")
    for one, two in zip(*(RunFolder(folder).read_metrics() for folder in (one_device, tmp_path / "2"))):
        assert [one[name] for name in columns] == pytest.approx([two[name] for name in columns], rel=1e-4)


def test_callbacks_are_called_and_can_stop_the_run(class_folders: Path, tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        calls: list[str] = []

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.calls.append(f"epoch {epoch}")
            assert logs is not None and {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(logs)
            self.model.stop_training = np.mean([epoch]) == 1  # NumPy's boolean, which JSON has not

        def on_train_end(self, logs: dict | None = None) -> None:
            self.calls.append("end")

    result = train(COLOURS.replace(epochs=9), tmp_path / "run", data_dir=str(class_folders), callbacks=[Stop()],
                   histograms=True)
    assert Stop.calls == ["epoch 0", "epoch 1", "end"]
    assert result.record["epochs"] == 2 and result.record["processor"] == processor.description()
    tags = EventAccumulator(str(tmp_path / "run" / "train")).Reload().Tags()["tensors"]
    assert "histogram/conv1/kernel" in tags


def test_resumed_run_keeps_its_normalization(class_folders: Path, tmp_path: Path) -> None:
    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            raise ConnectionError

    recipe = COLOURS.replace(stream=True, augment="imagenet,colour_pca", input_normalization="pixel_mean")
    with pytest.raises(ConnectionError):
        train(recipe, tmp_path, data_dir=str(class_folders), callbacks=[Break()])
    kept = tmp_path / "normalization.npz"
    assert normalization.load(kept).statistics()["kind"] == "pixel_mean"
    other = normalization.PixelMean(np.full((32, 32, 3), 100.0), 50.0)  # as if another machine had computed it
    kept.write_bytes(other.to_bytes())
    record = train(recipe, tmp_path, data_dir=str(class_folders)).record
    assert record["dataset"]["normalization"] == other.statistics()
    assert record["dataset"]["train_images"] == 96 and record["test"]["images"] == 30


def test_ten_crops_and_mixed_labels_train_and_test(class_folders: Path, tmp_path: Path) -> None:
    for name, changes in (("crops", {"stream": True, "augment": "alexnet", "test_crops": 10}),
                          ("mixed", {"augment": "strong,cutmix", "input_normalization": "image"})):
        record = train(COLOURS.replace(epochs=6, learning_rate=0.02, **changes), tmp_path / name,
                       data_dir=str(class_folders)).record
        assert record["test"]["images"] == 30
        assert record["test"]["accuracy"] > 0.8, name  # three colours: a third by chance


@pytest.mark.parametrize("own_process", [False, True])
def test_only_a_process_of_its_own_is_changed(own_process: bool, class_folders: Path, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """By default, as in a notebook, training changes neither the allocator nor the priority of any thread."""
    changes: set[str] = set()
    monkeypatch.setattr("tfcnn.memory.keep_freed", lambda: changes.add("allocator"))
    monkeypatch.setattr("os.setpriority", lambda which, thread, priority: changes.add("priority"))
    train(COLOURS.replace(epochs=1), tmp_path / "run", data_dir=str(class_folders), own_process=own_process)
    assert changes == ({"allocator", "priority"} if own_process else set())


class _StopsAfterAnEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch:
            raise RuntimeError("stopped here")


def test_run_is_not_resumed_in_another_arithmetic_or_with_other_data(class_folders: Path, tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="stopped here"):
        train(COLOURS, tmp_path / "run", data_dir=str(class_folders), callbacks=[_StopsAfterAnEpoch()])
    before = {path: path.read_bytes() for path in tmp_path.rglob("ckpt*")}
    monkeypatch.setattr(devices, "computed_precision", lambda recipe: "bfloat16")
    with pytest.raises(UsageError, match="has computed in float32 so far, and would go on in bfloat16.*--overwrite"):
        train(COLOURS, tmp_path / "run", data_dir=str(class_folders))
    monkeypatch.undo()
    other = tmp_path / "other"
    shutil.copytree(class_folders, other)
    for label in (other / "train").iterdir():
        (label / "00.png").unlink()
    message = "has had 96 training, 24 validation and 30 test images of 3 classes so far, and there are 93 .*--overwr"
    with pytest.raises(UsageError, match=message):
        train(COLOURS, tmp_path / "run", data_dir=str(other))
    assert {path: path.read_bytes() for path in tmp_path.rglob("ckpt*")} == before != {}
    assert train(COLOURS, tmp_path / "run", data_dir=str(class_folders)).record["arithmetic"] == "float32"


def test_recorded_learning_rate_is_that_of_the_last_update(class_folders: Path, tmp_path: Path) -> None:
    """Steps that float16's loss scaling skips do not move the schedule."""
    updates = []

    class Overflow(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict | None = None) -> None:
            self.model.optimizer.dynamic_scale.assign(3.4e38)  # the largest float32, nearly

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            updates.append(int(self.model.optimizer.inner_optimizer.iterations.numpy()))

    # Of so large a penalty the first gradients, multiplied by the scale, are no float32.
    train(COLOURS.replace(precision="float16", epochs=3, l2=50.0), tmp_path / "run", data_dir=str(class_folders),
          callbacks=[Overflow()])
    rows = RunFolder(tmp_path / "run").read_metrics()
    steps = rows[-1]["step"]
    assert 0 < updates[-1] < steps
    expected = [COLOURS.learning_rate * (0.5 + 0.5 * math.cos(math.pi * max(0, update - 1) / steps))
                for update in updates]
    np.testing.assert_allclose([row["learning_rate"] for row in rows], expected, rtol=1e-5)
