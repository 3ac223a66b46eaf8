"""Trained networks: loaded from a run or from what ships, evaluated, shown pictures; errors are one line."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
from PIL import Image

from tests.conftest import environment
from tests.forked import Forked, run_module
from tfcnn import evaluate, predict, trained
from tfcnn.data import datasets, normalization, official
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import UsageError
from tfcnn.runs import RunFolder, curves
from tfcnn.runs import __main__ as runs_command
from tfcnn.runs.published import VIEWS
from tfcnn.trained import evaluation, metrics, pictures, prediction, shipped, views, weights
from tfcnn.trained.explaining import pictures as explaining_pictures
from tfcnn.training.trainer import train

SMALL = RECIPE.replace(dataset="folder", epochs=2, batch_size=24, validation=0.2, warmup_epochs=0.0,
                       learning_rate=0.003)


@pytest.fixture(scope="module")
def run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run of a small AlexNet on three classes."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(SMALL, folder, data_dir=str(class_folders))
    return folder


@pytest.fixture(scope="module")
def net(run: Path) -> trained.TrainedNetwork:
    return trained.load(run)


def _command(folder: Path, module: str, *words: str):
    return Forked(run_module, f"tfcnn.{module}", *words, cwd=folder, env=environment(folder)).completed()


def test_evaluation_is_that_of_the_run(run: Path, net, class_folders: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    found = evaluation.evaluate([net], data_dir=str(class_folders))
    assert found.record["accuracy"] == result["test"]["accuracy"] and found.record["images"] == 30
    assert found.record["loss"] == pytest.approx(result["test"]["loss"], abs=1e-6)
    # The logits are those that Keras computes of images normalized by NumPy.
    with np.load(run / "normalization.npz") as stored:
        mean, deviation = stored["mean"], stored["standard_deviation"]
    images = datasets.load("folder", str(class_folders)).test.images
    own = keras.saving.load_model(run / "model.keras").predict((images - mean) / deviation, verbose=0)
    np.testing.assert_allclose(found.logits, own, atol=1e-4)
    np.testing.assert_allclose(net.predict(images), prediction.softmax(own), atol=1e-5)
    assert net.class_names == ("blue", "green", "red") and net.recipe == SMALL
    # The temperature is the one with the lowest loss on the validation images.
    held_out = evaluation.evaluate([net], data_dir=str(class_folders), part="validation")
    assert held_out.record["calibration"]["temperature"] is held_out.record["calibration"]["ece_after"] is None

    def loss(temperature: float) -> float:
        return metrics.mean_loss(held_out.logits / temperature, held_out.labels)

    temperature = found.record["calibration"]["temperature"]
    assert loss(temperature) <= min(loss(0.9 * temperature), loss(1.1 * temperature)) + 1e-9


def test_labels_are_those_of_the_network_where_its_classes_have_another_order(net, class_folders: Path) -> None:
    order = [2, 0, 1]
    logits = keras.ops.take(net.model.output, np.array(order), axis=-1)
    other = dataclasses.replace(net, model=keras.Model(net.model.input, logits), class_names=tuple(
        net.class_names[index] for index in order))
    one, two = (evaluation.evaluate([network], data_dir=str(class_folders)).record for network in (net, other))
    assert two["accuracy"] == one["accuracy"] and two["loss"] == pytest.approx(one["loss"])
    np.testing.assert_array_equal(two["confusion"], np.array(one["confusion"])[order][:, order])


def test_images_of_any_size_are_fitted_as_in_training(net) -> None:
    flat = np.zeros((4, 32, 32, 3), np.uint8)
    flat[np.arange(4), :, :, [0, 1, 2, 0]] = 255
    expected = net.predict(flat)
    for shape in ((64, 64), (32, 50), (7, 9), (100, 32)):
        larger = np.broadcast_to(flat[:, :1, :1], (4, *shape, 3))
        np.testing.assert_allclose(net.predict(larger), expected, atol=1e-5)
    # The middle is what counts.
    wide = np.concatenate([np.zeros_like(flat), flat, np.zeros_like(flat)], axis=2)
    np.testing.assert_allclose(net.predict(wide), expected, atol=1e-5)
    grey = np.full((1, 32, 32, 1), 77, np.uint8)
    np.testing.assert_allclose(net.predict(grey), net.predict(np.repeat(grey, 3, axis=3)), atol=1e-5)
    assert net.predict(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 3)
    assert len(net.predict(np.zeros((130, 32, 32, 3), np.uint8), batch_size=64)) == 130
    for bad in (flat / 255, flat[0], flat[..., :2]):
        with pytest.raises(UsageError, match="uint8"):
            net.predict(bad)


def test_an_ensemble_stands_beside_its_members(net, run: Path, class_folders: Path) -> None:
    other = trained.load(run)
    for weight in other.model.trainable_variables:
        weight.assign(weight * 0.5)
    found = evaluation.evaluate([net, other], data_dir=str(class_folders))
    images = datasets.load("folder", str(class_folders)).test.images
    mean = (net.predict(images) + other.predict(images)) / 2
    np.testing.assert_allclose(prediction.softmax(found.logits), mean, atol=1e-5)
    right = mean.argmax(axis=1) == found.labels
    for member, network in zip(found.record["members"], (net, other), strict=True):
        own = network.predict(images).argmax(axis=1) == found.labels
        assert member["accuracy"] == own.mean() and member["difference"] == pytest.approx(right.mean() - own.mean())


def test_what_a_run_held_out_and_left_out_of_its_data_set_is_used_of_another(net, class_folders: Path) -> None:
    elsewhere = dataclasses.replace(net, recipe=net.recipe.replace(dataset="cifar10", classes="5-7"))
    record = evaluation.evaluate([elsewhere], "folder", str(class_folders), "train").record
    assert record["images"] == len(datasets.load("folder", str(class_folders), validation=0.0).train)
    assert record["calibration"]["temperature"] is None


def test_other_images_under_the_same_name_are_another_data_set(net, class_folders: Path, tmp_path: Path) -> None:
    assert evaluation.evaluate([net], data_dir=str(class_folders)).record["calibration"]["temperature"] is not None
    more = tmp_path / class_folders.name
    shutil.copytree(class_folders, more)
    for name in net.class_names:
        shutil.copy(more / "train" / name / "00.png", more / "train" / name / "new.png")
    assert evaluation.evaluate([net], data_dir=str(more)).record["calibration"]["temperature"] is None
    everything = evaluation.evaluate([net], data_dir=str(more), part="train").record
    assert everything["images"] == len(datasets.load("folder", str(more), validation=0.0).train)
    with pytest.raises(UsageError, match="held no validation images of folder from there out: choose another --split"):
        evaluation.evaluate([net], data_dir=str(more), part="validation")


def test_a_picture_of_the_inputs_size_is_fitted_as_any_other(class_folders: Path) -> None:
    lenet = trained.load("lenet5-mnist")  # it learnt digits of 28x28 pixels, padded to 32x32
    with np.load(Path(__file__).parent / "shipped_answers" / "lenet5-mnist.npz") as stored:
        digits = stored["images"]
    enlarged = np.stack([np.asarray(Image.fromarray(digit.squeeze()).resize((32, 32), Image.Resampling.BICUBIC))
                         for digit in digits])[..., None]
    assert np.abs(lenet.predict(enlarged) - lenet.predict(digits)).max() < 0.2


def test_ten_crops_have_the_padding_of_the_training_images_crops(net) -> None:
    for augment, padding in (("standard", 4), ("alternating_mirror,crop:2", 2), ("none", 4)):
        assert net.recipe.replace(augment=augment).padding() == padding


def test_weights_that_ship_are_rounded_where_the_accuracy_stays(run: Path, class_folders: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def ship(source: Path, name: str) -> tuple[float, set[str]]:
        card = shipped.ship(source, name, str(class_folders))
        with np.load(shipped.FOLDER / name / "weights.npz") as stored:
            return card["accuracy"], {stored[weight].dtype.name for weight in stored.files}

    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "weights")
    with pytest.raises(UsageError, match="trained on folder, whose licence is not in"):
        ship(run, "alexnet-unlicensed")
    monkeypatch.setitem(shipped.LICENCES, "folder", "none")
    accuracy = json.loads((run / "result.json").read_text())["test"]["accuracy"]
    assert accuracy > 0.4 and ship(run, "alexnet-folder") == (accuracy, {"float16"})

    # The second class is favoured by 15, which rounding to a multiple of 32 would take away.
    favouring = tmp_path / "favouring"
    shutil.copytree(run, favouring)
    model = keras.saving.load_model(run / "model.keras")
    model.layers[-1].bias.assign([32768, 32768 + 15, 32768])
    model.save(favouring / "model.keras")
    assert ship(favouring, "alexnet-favouring") == (10 / 30, {"float32"})


def test_images_that_a_member_was_trained_on_are_no_validation_images(net, class_folders: Path) -> None:
    other = dataclasses.replace(net, recipe=net.recipe.replace(seed=5))  # which held out others
    same = evaluation.evaluate([net, net], data_dir=str(class_folders), part="validation").record
    assert same["images"] == 24
    alike = evaluation.evaluate([net, net], data_dir=str(class_folders)).record
    assert alike["calibration"]["temperature"] is not None
    calibration = evaluation.evaluate([net, other], data_dir=str(class_folders)).record["calibration"]
    assert calibration["temperature"] is calibration["ece_after"] is None
    with pytest.raises(UsageError, match="or not the same: choose another --split"):
        evaluation.evaluate([net, other], data_dir=str(class_folders), part="validation")


def test_classes_of_an_older_run_are_those_of_its_data_set(net, run: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    result = json.loads((copy / "result.json").read_text())
    for field in ("class_names", "image_shape", "input_shape"):
        del result["dataset"][field]
    (copy / "result.json").write_text(json.dumps(result))
    with pytest.raises(UsageError, match="earlier version"):
        trained.load(copy)
    (copy / "recipe.json").write_text(net.recipe.replace(dataset="cifar10").to_json())
    with pytest.raises(UsageError, match="3 classes and 10 names"):
        trained.load(copy)
    entry = dataclasses.replace(official.KNOWN["cifar10"], class_names=("cat", "deer", "dog"), image_shape=(30, 30, 3))
    monkeypatch.setitem(official.KNOWN, "cifar10", entry)
    again = trained.load(copy)
    assert again.class_names == ("cat", "deer", "dog") and again.image_size == (30, 30)


# How much each view counts.
VIEW_WEIGHTS = {"none": [1], "mirror": [1] * 2, "shift": [1] * 9, "six": [2, 2, 1, 1, 1, 1], "ten_crop": [1] * 10}


@pytest.mark.parametrize("kind, weights", VIEW_WEIGHTS.items())
def test_probabilities_of_views_are_averaged(kind: str, weights: list[int]) -> None:
    shown: list[np.ndarray] = []
    answers = np.random.default_rng(1).normal(size=(len(weights), 3, 4))

    def answer(view: np.ndarray, batch_size: int) -> np.ndarray:
        shown.append(view)
        return answers[len(shown) - 1]

    network = SimpleNamespace(logits_of_fitted=answer, recipe=RECIPE)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    exponentials = np.exp(answers)
    probabilities = exponentials / exponentials.sum(-1, keepdims=True)
    found = np.exp(views.logits(network, images, kind, 2))
    np.testing.assert_allclose(found / found.sum(-1, keepdims=True), np.average(probabilities, 0, weights), 1e-12)
    np.testing.assert_array_equal(shown, list(views.views(images, kind)))


def test_every_kind_of_views_has_a_name() -> None:
    assert list(VIEW_WEIGHTS) == list(VIEWS)
    with pytest.raises(ValueError, match="no such kind"):
        list(views.views(np.zeros((1, 4, 4, 1), np.uint8), "seven"))


def test_views_are_moved_and_mirrored() -> None:
    image = np.arange(1, 17, dtype=np.uint8).reshape(1, 4, 4, 1)
    plain, mirrored = (view[0, ..., 0] for view in views.views(image, "mirror"))
    np.testing.assert_array_equal(mirrored, np.fliplr(plain))
    shifts = [view[0, ..., 0] for view in views.views(image, "shift")]
    assert len(shifts) == 9
    np.testing.assert_array_equal(shifts[4], plain)
    np.testing.assert_array_equal(shifts[0], [[11, 12, 0, 0], [15, 16, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(shifts[5], [[0, 0, 1, 2], [0, 0, 5, 6], [0, 0, 9, 10], [0, 0, 13, 14]])
    six = [view[0, ..., 0] for view in views.views(image, "six")]
    moved = [plain, [[6, 7, 8, 7], [10, 11, 12, 11], [14, 15, 16, 15], [10, 11, 12, 11]],
             [[6, 5, 6, 7], [2, 1, 2, 3], [6, 5, 6, 7], [10, 9, 10, 11]]]
    np.testing.assert_array_equal(six[::2], moved)
    np.testing.assert_array_equal(six[1::2], np.flip(moved, 2))
    crops = [view[0, ..., 0] for view in views.views(image, "ten_crop", padding=1)]
    padded = np.pad(plain, 1)
    corners = [padded[row:row + 4, column:column + 4] for row in (0, 2) for column in (0, 2)]
    assert len(crops) == 10
    for crop in (plain, *corners):
        assert any((crop == found).all() for found in crops)
        assert any((np.fliplr(crop) == found).all() for found in crops)


def test_weights_in_a_file_are_those_of_the_network(net, tmp_path: Path) -> None:
    again = trained.load(net.folder)
    for weight in again.model.weights:
        weight.assign(weight * 0 + 3)
    weights.save(net.model, tmp_path / "w.npz", "float32")
    weights.load(again.model, tmp_path / "w.npz")
    for one, two in zip(net.model.get_weights(), again.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(UsageError, match="another network"):
        weights.load(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), tmp_path / "w.npz")
    (tmp_path / "w.npz").write_bytes((tmp_path / "w.npz").read_bytes()[:1000])
    with pytest.raises(UsageError, match="cannot be read"):
        weights.load(again.model, tmp_path / "w.npz")


@pytest.mark.parametrize("kind", ["weights", "normalization"])
def test_a_flipped_bit_in_a_file_of_arrays_is_one_line_or_harmless(kind: str, net, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    values = [np.arange(6.0).reshape(2, 3), np.arange(7.0, 10.0)]
    model.set_weights(values)
    intact = weights.to_bytes(model) if kind == "weights" else net.normalization.to_bytes()
    path = tmp_path / "file.npz"
    refused = 0
    for position in range(0, len(intact), 2):
        for bit in (0, 4):
            path.write_bytes(intact[:position] + bytes([intact[position] ^ 1 << bit]) + intact[position + 1:])
            model.set_weights([np.full_like(value, -1) for value in values])
            try:
                found = weights.load(model, path) if kind == "weights" else normalization.load(path)
            except UsageError:
                refused += 1
            else:
                assert kind == "weights" or found == net.normalization
                assert kind != "weights" or all(map(np.array_equal, model.get_weights(), values))
    assert refused > len(intact) // 2


def test_a_recorded_run_with_weights_is_a_trained_network(net, run: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tfcnn").mkdir()
    for name in ("setup.cfg", "tfcnn/__init__.py"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    curves.draw(RunFolder(run))
    assert runs_command.main(["record", str(run), "--name=small"]) == 0
    assert runs_command.main(["record", str(run), "--name=whole", "--weights"]) == 0
    recorded = tmp_path / "experiments" / "alexnet"
    with pytest.raises(UsageError, match="has no weights"):
        trained.load(recorded / "small")
    again = trained.load(recorded / "whole")
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    np.testing.assert_allclose(again.predict(images), net.predict(images), atol=2e-3)
    with np.load(recorded / "whole" / "weights.npz") as stored:
        assert {stored[name].dtype for name in stored.files} == {np.dtype("float16")}
    assert {path.name for path in (recorded / "whole").iterdir()} - {path.name for path in (
        recorded / "small").iterdir()} == {"weights.npz"}


@pytest.mark.parametrize("damage, message", [
    (lambda run: (run / "model.keras").write_bytes(b"PK" + bytes(100)), "model.keras cannot be read"),
    (lambda run: (run / "model.keras").unlink(), "has no weights"),
    (lambda run: (run / "normalization.npz").unlink(), "normalization"),
    (lambda run: (run / "result.json").unlink(), "not a complete run"),
    (lambda run: shutil.rmtree(run), "neither the folder of a run nor one of the networks"),
], ids=["damaged", "no weights", "no normalization", "no result", "no folder"])
def test_what_cannot_be_loaded_is_one_line(damage, message: str, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    damage(copy)
    with pytest.raises(UsageError, match=message) as caught:
        trained.load(copy)
    assert len(str(caught.value).splitlines()) == 1


def test_command_evaluates(run: Path, class_folders: Path, tmp_path: Path) -> None:
    done = _command(tmp_path, "evaluate", str(run), f"--data_dir={class_folders}", "--out=out")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert f"test accuracy: {record['accuracy']:.4f}" in done.stdout
    assert set(record) >= {"images", "accuracy", "accuracy_interval", "top5_accuracy", "loss", "classes", "confusion",
                           "calibration"}
    with np.load(tmp_path / "out" / "predictions.npz") as stored:
        assert (stored["logits"].argmax(axis=1) == stored["labels"]).mean() == record["accuracy"]
    for name in ("confusion", "calibration", "mistakes"):
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            picture.load()


def test_a_run_is_evaluated_without_what_may_be_removed(run: Path, class_folders: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("model.keras", "normalization.npz", "recipe.json", "result.json"):
        shutil.copy(run / name, tmp_path / name)
    assert evaluate.main([str(tmp_path), f"--data_dir={class_folders}"]) == 0
    text = (tmp_path / "evaluation" / "evaluation.json").read_text()
    record = json.loads(text)
    assert f"test accuracy: {record['accuracy']:.4f}" in capsys.readouterr().out
    assert not (tmp_path / "validation").exists()
    # A row of the confusion matrix is a line, whatever the number of classes.
    assert all(f"    {json.dumps(row).replace('[', '[ ').replace(']', ' ]')}" in text for row in record["confusion"])


def test_dollar_signs_in_the_names_of_classes_are_no_formulas() -> None:
    names = ["$5_to_$10", r"under_$5_\frac{$"]
    record = {"confusion": [[3, 1], [0, 2]], "class_names": names, "accuracy": 0.8, "images": 6}
    assert pictures.confusion(record).startswith(b"\x89PNG")
    assert explaining_pictures._short(names[0]) == r"\$5_to_\$10"


def test_command_evaluates_an_ensemble(net, run: Path, class_folders: Path, tmp_path: Path,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    changed = keras.saving.load_model(other / "model.keras")
    for weight in changed.trainable_variables:
        weight.assign(weight * 0.5)
    changed.save(other / "model.keras")
    words = [str(run), str(other), f"--data_dir={class_folders}", f"--out={tmp_path / 'out'}"]
    assert evaluate.main(words) == 0
    record = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    printed = capsys.readouterr().out
    assert f"test accuracy: {record['accuracy']:.4f}" in printed
    images = datasets.load("folder", str(class_folders)).test.images
    with np.load(tmp_path / "out" / "predictions.npz") as stored:
        for member, network in zip(record["members"], (net, trained.load(other)), strict=True):
            assert member["accuracy"] == (network.predict(images).argmax(axis=1) == stored["labels"]).mean()
            assert f"{member['accuracy']:.4f}" in printed
        mean = (net.predict(images) + trained.load(other).predict(images)) / 2
        np.testing.assert_allclose(prediction.softmax(stored["logits"].astype(np.float64)), mean, atol=1e-5)


def test_command_answers_pictures_and_names_bad_ones(run: Path, class_folders: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    pictures = tmp_path / "pictures" / "inside"
    pictures.mkdir(parents=True)
    for name, colour in (("r", (200, 60, 60)), ("g", (60, 200, 60))):
        Image.new("RGB", (80, 50), colour).save(pictures / f"{name}.png")
    (pictures / "bad.jpg").write_bytes(b"\xff\xd8\xff no picture")
    done = _command(tmp_path, "predict", str(run), "pictures", "--format=json", "--top=2")
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1 and errors[0].startswith("error: ") and "bad.jpg" in errors[0]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(row["file"]).name for row in rows] == ["g.png", "r.png"]
    for row in rows:
        own = trained.load(run).predict(np.asarray(Image.open(tmp_path / row["file"]))[None])[0]
        best = np.argsort(-own)[:2]
        assert [found["class"] for found in row["predictions"]] == [("blue", "green", "red")[index] for index in best]
        np.testing.assert_allclose([found["probability"] for found in row["predictions"]], own[best], atol=1e-5)
    assert predict.main([str(run), str(tmp_path / "pictures"), "--format=csv", "--top=2"]) == 2
    head, *table = csv.reader(capsys.readouterr().out.splitlines())
    assert head == ["file", "rank", "class", "probability"]
    assert [(Path(file).name, rank, label) for file, rank, label, _ in table] == [
        (Path(row["file"]).name, str(rank), found["class"])
        for row in rows for rank, found in enumerate(row["predictions"], 1)]
    np.testing.assert_allclose([float(probability) for *_, probability in table],
                               [found["probability"] for row in rows for found in row["predictions"]], atol=1e-5)


@pytest.mark.parametrize("words, message", [
    (("evaluate", "no-such-network"), "ship with the package"),
    (("evaluate", "{run}", "--dataset=sample"), "other classes"),
    (("predict", "{run}", "empty"), "no JPEG or PNG"),
    (("predict", "{run}", "x.png", "--top=0"), "--top"),
    (("predict", "{run}", "~nobody-of-this-name/x.png"), "home folder"),
], ids=["source", "classes", "empty", "top", "home"])
def test_command_reports_an_error_in_one_line(words: tuple[str, ...], message: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = _command(tmp_path, words[0], *(word.format(run=run) for word in words[1:]))
    assert done.returncode == 2 and message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line]) == 1
