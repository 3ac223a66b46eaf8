"""A run of streamed images is evaluated, shown pictures, explained and exported as it was tested."""

from __future__ import annotations

import json
import os
import shutil
import types
from pathlib import Path

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import environment
from tests.forked import Forked
from tests.streamed_images import encoded_image, photograph
from tfcnn import evaluate, explain, export, runs, startup, trained
from tfcnn.data import sources
from tfcnn.data.streaming import Streaming
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import UsageError
from tfcnn.runs import __main__ as runs_command
from tfcnn.runs import curves
from tfcnn.trained import data, evaluation, prediction
from tfcnn.trained.explaining import gradients, maximization, occlusion
from tfcnn.training import devices
from tfcnn.training.setup import Setup
from tfcnn.training.trainer import train

SIZE, TEST = 14, 23  # the shorter side of an image is resized to 16
PICTURES = ("calibration", "confusion", "mistakes")
RUN = RECIPE.replace(dataset="folder", stream=True, augment="alexnet", test_crops=10, image_size=SIZE, epochs=2,
                     batch_size=16, validation=0.25, warmup_epochs=0.0, learning_rate=0.003)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of many shapes in class folders; in one class they are darker."""
    root = tmp_path_factory.mktemp("photographs")
    for part, count in (("train", 64), ("test", TEST)):
        for number in range(count):
            folder = root / part / ("bright", "dark")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            pixels = photograph(20 + number % 7, 20 + number % 11, seed=number + 100 * (part == "test"))
            pixels = pixels // (1 + number % 2)
            (folder / f"{number:02}.{'png' if number % 3 else 'jpeg'}").write_bytes(
                encoded_image(pixels, "PNG" if number % 3 else "JPEG"))
    return root


@pytest.fixture(scope="module")
def run(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run that was tested with ten crops, and validated with one."""
    folder = tmp_path_factory.mktemp("streamed") / "run"
    train(RUN, folder, data_dir=str(folders))
    return folder


@pytest.fixture(scope="module")
def net(run: Path) -> trained.TrainedNetwork:
    return trained.load(run)


@pytest.fixture(scope="module")
def own(net, folders: Path) -> evaluation.Evaluation:
    return evaluation.evaluate([net], data_dir=str(folders))


def _files(folders: Path) -> list[Path]:
    return sorted((folders / "test").glob("*/*"))


def test_evaluation_is_that_of_the_run(net, own, run: Path, folders: Path) -> None:
    result = json.loads((run / "result.json").read_text())["test"]
    assert own.record["tta"] == "ten_crop" and own.record["images"] == TEST
    assert own.record["accuracy"] == result["accuracy"]
    assert own.record["loss"] == pytest.approx(result["loss"], abs=1e-5)
    # The run's validation is of the centre alone.
    validated = evaluation.evaluate([net], data_dir=str(folders), part="validation", tta="none").record
    last = runs.RunFolder(run).read_metrics()[-1]
    assert validated["accuracy"] == pytest.approx(last["validation_accuracy"], abs=1e-12)
    assert validated["loss"] == pytest.approx(last["validation_loss"], abs=1e-5) and validated["images"] == 16
    assert evaluation.evaluate([net], data_dir=str(folders), part="train", tta="mirror").record["images"] == 48
    assert own.record["calibration"]["temperature"] is not None


def test_ten_crops_are_their_mean(net, own, folders: Path) -> None:
    for file, logits in list(zip(_files(folders), own.logits))[::6]:
        image = net.read(file)[None]
        crops = net.fit(image, crops=10)[0]
        np.testing.assert_array_equal(crops[5:], crops[:5, :, ::-1])
        assert np.abs(crops[4].astype(int) - net.fit(image)[0]).max() <= 1
        expected = prediction.softmax(net.logits_of_fitted(crops)).mean(axis=0)
        np.testing.assert_allclose(prediction.softmax(logits[None])[0], expected, atol=1e-5)
        np.testing.assert_allclose(net.predict(image, batch_size=1)[0], expected, atol=1e-5)
    assert own.record["members"][0]["accuracy"] == evaluation.evaluate(
        [net], data_dir=str(folders), tta="none").record["accuracy"]


@pytest.mark.parametrize("replicas, size", [(1, 3), (3, 3), (4, 4), (8, 8)])
def test_every_device_gets_an_image_of_ten_crops(replicas: int, size: int, net, folders: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Streaming(sources.load("folder", str(folders)), net.recipe.replace(test_crops=10, batch_size=24),
                       net.input_shape)
    setup = types.SimpleNamespace(pipeline=stream, strategy=types.SimpleNamespace(num_replicas_in_sync=replicas))
    monkeypatch.setattr(devices, "distribute", lambda strategy, batches: iter(batches))
    found, count = Setup.evaluation_batches(setup, "test")
    expected = list(stream.evaluation("test"))
    assert count == len(expected)
    for (images, labels, weights), (own_images, own_labels, own_weights) in zip(found, expected):
        assert len(images) == len(labels) == len(weights) == size
        np.testing.assert_array_equal(images[:3], own_images)
        np.testing.assert_array_equal(labels[:3], own_labels)
        np.testing.assert_array_equal(weights, [*own_weights, *[0] * (size - 3)])


def test_pictures_are_cut_as_pillow_does() -> None:
    from tfcnn.data import streamed_evaluation
    for height, width in ((40, 25), (SIZE, SIZE), (10, 31)):
        pixels = photograph(height, width)
        extent = min(height, width) * SIZE / 16
        left, top = (width - extent) / 2, (height - extent) / 2
        expected = np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), Image.Resampling.BILINEAR,
                                                             (left, top, left + extent, top + extent)))
        found = streamed_evaluation.cut(tf.constant(np.stack([pixels, pixels[::-1]])), SIZE, 3).numpy()
        assert np.abs(found[0].astype(int) - expected).max() <= 1
        assert np.abs(found[1].astype(int) - expected[::-1]).max() <= 1


def test_files_and_decoded_pictures_have_the_same_pixels(net, folders: Path, tmp_path: Path) -> None:
    test = data.load(net, data_dir=str(folders)).test
    expected = np.concatenate([net.fit(net.read(file)[None]) for file in _files(folders)])
    images, labels = test.stored(tmp_path / "images")
    np.testing.assert_array_equal(images, expected)
    assert [net.class_names[label] for label in labels] == [file.parent.name for file in _files(folders)]
    np.testing.assert_array_equal(test.at([20, 3, 3]), expected[[20, 3, 3]])


def test_damaged_image_is_named(net, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders, tmp_path / "copy")
    bad = _files(tmp_path / "copy")[5]
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(UsageError, match=bad.name):
        evaluation.evaluate([net], data_dir=str(tmp_path / "copy"))


def test_tensorboard_shows_the_last_evaluation_of_a_run(run: Path, folders: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    drawn = {f"{name}.png": encoded_image(photograph(8, 9, seed=seed)) for seed, name in enumerate(PICTURES)}
    monkeypatch.setattr("tfcnn.trained.pictures.draw", lambda _: drawn)
    before = EventAccumulator(str(copy / "validation"), {"tensors": 0}).Reload().Tags()["tensors"]
    for _ in range(2):
        assert evaluate.main([str(copy), f"--data_dir={folders}"]) == 0
        events = EventAccumulator(str(copy / "validation"), {"tensors": 0}).Reload()
        assert sorted(events.Tags()["tensors"]) == sorted([*before, *(f"evaluation/{name}" for name in PICTURES)])
        for name in PICTURES:
            event, = events.Tensors(f"evaluation/{name}")
            width, height, png = tf.make_ndarray(event.tensor_proto).tolist()
            assert event.step == 1 and png == (copy / "evaluation" / f"{name}.png").read_bytes()
            with Image.open(copy / "evaluation" / f"{name}.png") as picture:
                assert picture.size == (int(width), int(height))
    # A recorded run stays as it is.
    for name in ("setup.cfg", "tfcnn/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    curves.draw(runs.RunFolder(run))
    assert runs_command.main(["record", str(run), "--name=recorded", "--weights"]) == 0
    recorded = tmp_path / "experiments" / "alexnet" / "recorded"
    there = sorted(recorded.rglob("*"))
    assert evaluate.main([str(recorded), f"--data_dir={folders}"]) == 0
    assert sorted(recorded.rglob("*")) == there and len(list(Path("runs").glob("evaluation-*/evaluation.json"))) == 1


def test_test_images_are_explained(run: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maximization, "STEPS", 1)
    monkeypatch.setattr(gradients, "COPIES", 1)
    monkeypatch.setattr(occlusion, "_SHARE", 2)
    monkeypatch.setattr(explain, "_TEST_IMAGES", 2)
    monkeypatch.setattr("tfcnn.trained.explaining.pictures.draw", lambda *_: {})
    assert explain.main([str(run), f"--data_dir={folders}", f"--out={tmp_path}"]) == 0
    record = json.loads((tmp_path / "explanation.json").read_text())
    assert [entry["class"] for entry in record["pictures"]] == ["bright", "dark"] and not record["left_out"]


def _export(*words: str) -> None:
    """Exports to both formats whose converters are the talkative ones."""
    for kind, suffix in (("onnx", "onnx"), ("litert", "tflite")):
        assert export.main([*words, f"--format={kind}", f"--out=net.{suffix}"]) == 0


def test_exporting_prints_nothing_but_our_lines(run: Path, folders: Path, tmp_path: Path) -> None:
    variables = {name: value for name, value in environment(tmp_path).items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = Forked(_export, str(run), "--quantize=int8", "--largest_loss=1", f"--data_dir={folders}", cwd=tmp_path,
                  env=variables).completed()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(f"test accuracy ({TEST} images)") == 2 and len(done.stdout.splitlines()) == 6


def test_hidden_messages_are_shown_after_an_error(capfd: pytest.CaptureFixture) -> None:
    with startup.messages_hidden():
        os.write(2, b"advice\n")
    with pytest.raises(ValueError), startup.messages_hidden():
        os.write(2, b"what went wrong\n")
        raise ValueError
    assert capfd.readouterr().err == "what went wrong\n"
