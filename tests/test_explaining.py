"""Explanations: each method against NumPy, SciPy or a finite difference, and the command on a small trained network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from tfcnn import explain, networks, trained
from tfcnn.data import datasets, normalization
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.networks import lenet
from tfcnn.recipe import UsageError
from tfcnn.runs import MODEL, NORMALIZATION, RECIPE as RECIPE_FILE, RESULT
from tfcnn.runs.folder import RESULT_FIELDS
from tfcnn.trained.explaining import (explanation, filters, grad_cam, gradients, layers, maximization, occlusion,
                                      pictures, randomization, report, units)
from tfcnn.trained.network import TrainedNetwork

CLASSES = ("blue", "green", "red")


def _small(activation: str = "relu") -> keras.Model:
    """Two convolutions, the mean of their positions, and a dense layer."""
    images = x = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(6, 5, activation=activation, name="conv1")(x)
    x = keras.layers.MaxPooling2D(4, name="pool1")(x)
    x = keras.layers.Conv2D(8, 3, activation=activation, padding="same", name="conv2")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    return keras.Model(images, keras.layers.Dense(3, name="logits")(x), name="small")


def _network(model: keras.Model, name: str = "network", classes: tuple[str, ...] = CLASSES) -> TrainedNetwork:
    result = {"dataset": {"image_shape": list(model.input_shape[1:])}}
    return TrainedNetwork(name, Path(name), model, normalization.PerChannel((100.0,), (50.0,)), classes, RECIPE, result)


def _inputs(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def run(class_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run: a small network that tells noisy red, green and blue images apart."""
    folder = tmp_path_factory.mktemp("explained") / "colours"
    folder.mkdir()
    data = datasets.load("folder", str(class_folders))
    keras.utils.set_random_seed(RECIPE.seed)
    model, statistics = _small(), normalization.fit("channel", data.train.images)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.asarray(statistics.apply(data.train.images)), data.train.labels, epochs=8, verbose=0)
    model.save(folder / MODEL)
    (folder / NORMALIZATION).write_bytes(statistics.to_bytes())
    (folder / RECIPE_FILE).write_text(RECIPE.replace(dataset="folder", validation=0.0).to_json())
    result: dict[str, Any] = {}
    for field in RESULT_FIELDS:
        group, _, name = field.rpartition(".")
        (result.setdefault(group, {}) if group else result)[name] = 0
    result["dataset"] |= {"name": "folder", "class_names": CLASSES, "input_shape": [32, 32, 3]}
    (folder / RESULT).write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="module")
def found(run: Path, class_folders: Path) -> tuple[TrainedNetwork, explanation.Explanation]:
    """The explanation of three test images by that network."""
    network, images = trained.load(run), datasets.load("folder", str(class_folders)).test.images
    assert (network.predict(images).argmax(axis=1) == np.repeat([0, 1, 2], 10)).all()
    chosen = explanation.choose(network, images[::10], ["b", "g", "r"], [0, 1, 2])
    return network, explanation.explain(network, chosen, images)


def test_gradient_is_that_of_a_finite_difference() -> None:
    model, inputs, classes = _small("tanh"), _inputs(2, 32, 32, 3), np.array([2, 0])
    found = gradients.input_gradient(model)(inputs, classes)
    step = 1e-2
    for image, row, column, channel in ((0, 3, 5, 1), (0, 20, 30, 2), (1, 0, 0, 0), (1, 16, 8, 1)):
        change = np.zeros_like(inputs)
        change[image, row, column, channel] = step
        above, below = (np.asarray(model(inputs + sign * change))[image, classes[image]] for sign in (1, -1))
        assert found[image, row, column, channel] == pytest.approx((above - below) / (2 * step), rel=0.02, abs=1e-5)
    np.testing.assert_array_equal(gradients.saliency(gradients.input_gradient(model), inputs, classes),
                                  np.abs(found).max(axis=-1))
    # Of a unit of feature maps, it is that of the mean of its positions.
    step, change = 1e-2, np.zeros_like(inputs[:1])
    change[0, 9, 9, 0] = step
    above, below = (np.asarray(layers.opened(model, "conv1")(inputs[:1] + sign * change)[0])[0, ..., 4].mean()
                    for sign in (1, -1))
    slope = gradients.input_gradient(model, "conv1")(inputs[:1], np.array([4]))
    assert slope[0, 9, 9, 0] == pytest.approx((above - below) / (2 * step), rel=0.02, abs=1e-6)


def test_smoothgrad_is_the_mean_gradient_of_noisy_copies() -> None:
    first, second = _inputs(12, 5, seed=1), _inputs(5, 2, seed=2)

    def gradient(inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Of a network of one hidden layer of rectifiers, by hand."""
        active = inputs.reshape(len(inputs), -1) @ first > 0
        return ((active * second[:, classes].T) @ first.T).reshape(inputs.shape)

    image, number = _inputs(1, 2, 2, 3), np.array([1])
    deviation = gradients.NOISE * np.ptp(image)
    noise = np.random.default_rng(7).standard_normal((gradients.COPIES, 2, 2, 3), np.float32)
    mean = np.mean([gradient(image + deviation * one, number)[0] for one in noise], axis=0)
    np.testing.assert_allclose(gradients.smoothgrad(gradient, image, number, seed=7)[0], np.abs(mean).max(axis=-1),
                               atol=1e-5)
    assert np.abs(mean - gradient(image, number)[0]).max() > 0.01  # the noise does matter here


def test_grad_cam_is_that_of_equations_1_and_2() -> None:
    small, inputs, classes = _small(), _inputs(3, 32, 32, 3), np.array([2, 0, 0])
    flat = keras.layers.Flatten()(small.get_layer("conv2").output)
    model = keras.Model(small.inputs[0], keras.layers.Dense(3, name="logits")(flat))
    maps = np.asarray(layers.opened(model, "conv2")(inputs)[0])
    # y is the sum of A_k,ij times its own weight, so dy / dA_k,ij is that weight.
    kernel = model.get_layer("logits").get_weights()[0].reshape(*maps.shape[1:], 3)
    expected = np.maximum(np.einsum("nijk,kn->nij", maps, kernel.mean(axis=(0, 1))[:, classes]), 0)
    np.testing.assert_allclose(grad_cam.grad_cam(model, "conv2", inputs, classes), expected, rtol=1e-4, atol=1e-7)
    assert expected.max() > 1e-3


def test_occlusion_is_the_mean_loss_over_the_squares_that_hide_a_pixel() -> None:
    image = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    weights = np.stack([np.zeros((5, 5)), np.eye(5)], axis=-1)

    def logits(inputs: np.ndarray) -> np.ndarray:
        return np.einsum("nij,ijc->nc", inputs[..., 0], weights)

    # Squares of 2x2 pixels begin at 0, 2 and 3. Hiding a diagonal pixel v changes the logit from v to the mean, 12.
    loss = (np.arange(5) * 6 - 12.0)
    blocks = {(0, 0): loss[0] + loss[1], (2, 2): loss[2] + loss[3], (3, 3): loss[3] + loss[4], (2, 3): loss[3],
              (3, 2): loss[3]}
    expected = np.zeros((5, 5))
    for row in range(5):
        for column in range(5):
            squares = [(top, left) for top in (0, 2, 3) for left in (0, 2, 3)
                       if top <= row < top + 2 and left <= column < left + 2]
            expected[row, column] = np.mean([blocks.get(square, 0.0) for square in squares])
    found = occlusion.occlusion(logits, image, np.array([1]), side=2, stride=2)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not occlusion.occlusion(logits, image, np.array([0]), side=2, stride=2).any()
    assert occlusion.square(32, 32) == (6, 2) and occlusion.square(224, 224) == (45, 15) and occlusion.square(2, 9) == (
        1, 1)


def test_units_and_their_images_are_numpys() -> None:
    model, images = _small(), np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3)).astype(np.uint8)
    statistics = normalization.PerChannel((100.0,), (50.0,))
    maps = layers.opened(model, "conv2").predict((images - 100.0) / 50, verbose=0)[0]
    values = units.activations(model, statistics, "conv2", images)
    np.testing.assert_allclose(values, maps.max(axis=(1, 2)), atol=1e-4)
    shown = units.most_varied(values, 3)
    assert shown.tolist() == np.argsort(values.std(axis=0))[::-1][:3].tolist()
    best = units.most_activating(values, shown, 5)
    assert best.tolist() == [np.argsort(values[:, unit])[::-1][:5].tolist() for unit in shown]
    logits = units.activations(model, statistics, "logits", images)
    np.testing.assert_allclose(logits, model.predict((images - 100.0) / 50, verbose=0), atol=1e-4)


def test_first_filters_are_images() -> None:
    model = _small()
    name, found = filters.first_filters(model) or ("", np.zeros(0))
    assert name == "conv1" and found.shape == (6, 5, 5, 3)
    np.testing.assert_array_equal(found[4], model.get_layer("conv1").get_weights()[0][..., 4])
    dense = networks.find("mlp").build("fashion", image_size=7)
    name, found = filters.first_filters(dense) or ("", np.zeros(0))
    # The response of unit 9 to an image is the sum of their products.
    image = _inputs(1, 7, 7, 1)
    response = layers.opened(dense, name)(image)[0][0, 9] - dense.get_layer(name).get_weights()[1][9]
    assert name == "dense1" and (found[9] * image[0]).sum() == pytest.approx(float(response), abs=1e-4)
    assert filters.strongest(np.array([1.0, -3.0, 0.0, 2.0]).reshape(4, 1, 1, 1), 2).tolist() == [1, 3]


def test_similarity_is_scipys_rank_correlation() -> None:
    one, two = _inputs(4, 5, 6).round(1), _inputs(4, 5, 6, seed=1).round(1)
    two[1], two[2] = one[1] ** 3, 0
    expected = [stats.spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(one[[0, 3]], two[[0, 3]])]
    found = randomization.rank_correlations(one, two)
    np.testing.assert_allclose(found[[0, 3]], expected, atol=1e-12)
    assert found[1] == pytest.approx(1) and np.isnan(found[2])
    assert randomization.mean(found) == pytest.approx(np.mean(found[[0, 1, 3]]))
    assert randomization.mean(np.array([np.nan])) is None


def test_weights_are_drawn_anew_by_the_seed() -> None:
    model = _small()
    before = model.get_weights()
    one, same, other = (randomization.redrawn(model, seed).get_weights() for seed in (5, 5, 6))
    for index, weight in enumerate(before):
        np.testing.assert_array_equal(model.get_weights()[index], weight)
        np.testing.assert_array_equal(one[index], same[index])
        assert weight.ndim == 1 or len({float(np.abs(array[index]).sum()) for array in (before, one, other)}) == 3


def test_an_edge_detector_sees_each_image_alone() -> None:
    image = np.zeros((2, 5, 5, 1), np.uint8)
    image[0, :, 3:] = 10
    expected = np.zeros((5, 5))
    expected[:, 2:4] = 40  # the Sobel filter: 1, 2, 1 times a step of 10
    np.testing.assert_allclose(randomization.edges(image), [expected, np.zeros((5, 5))])


def test_randomization_tells_an_edge_detector_from_what_depends_on_the_weights(found) -> None:
    network, result = found
    similarity = {pair.name: pair.similarity for pair in result.attributions}
    assert similarity["edges"] == pytest.approx(1)
    for name in ("gradient", "smoothgrad", "grad_cam", "occlusion"):
        assert abs(similarity[name]) < 0.7, similarity
    # The first weights of the trained network, which its own seed would draw again, are no other network.
    assert result.seed != network.recipe.seed


def test_maximized_images_are_their_classes(found) -> None:
    network, result = found
    images = result.maximized.trained
    assert images.min() >= 0 and images.max() <= 1 and result.maximized.settings["shown"] == list(CLASSES)
    probabilities = network.predict(np.rint(255 * images).astype(np.uint8))
    assert (probabilities.diagonal() > 0.99).all()
    # The colour of a class is what the image has most of.
    assert images.mean(axis=(1, 2)).argmax(axis=1).tolist() == [2, 1, 0]


NETWORKS = {
    "airbench": ({"image_size": 9}, ["conv1_1", "conv2_1", "conv3_1"], "conv2_1"),
    "lenet": ({"variant": "original"}, ["C1_activation", "C3_activation"], "C3_activation"),
    "alexnet": ({"variant": "cifar", "image_size": 8}, ["conv1_activation", "norm2"], "norm2"),
    "vgg": ({"variant": "cifar16_one_dense", "image_size": 32},
            ["conv1_1_activation", "conv2_1_activation", "conv3_2_activation", "conv4_2_activation",
             "conv5_2_activation"], "conv4_2_activation"),
    "network_in_network": ({"image_size": 8}, ["cccp2_activation", "cccp4_activation", "cccp6"], "cccp4_activation"),
    "inception": ({"variant": "cifar", "image_size": 8}, ["inception_3a", "inception_4a", "inception_5b"],
                  "inception_4a"),
    "resnet": ({"depth": 20, "image_size": 8}, ["conv2_1_activation", "conv3_1_activation", "conv4_1_activation"],
               "conv3_1_activation"),
    "mlp": ({"variant": "fashion", "image_size": 8}, [], None),
}


def test_every_network_of_the_suite_is_here() -> None:
    assert sorted(NETWORKS) == networks.names()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_explained(name: str, narrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    options, stages, last = NETWORKS[name]
    monkeypatch.setattr(maximization, "STEPS", 2)
    monkeypatch.setattr(gradients, "COPIES", 2)
    monkeypatch.setattr(occlusion, "_SHARE", 2)
    network = _network(networks.find(name).build(classes=10, **options), name, tuple("abcdefghij"))
    images = np.random.default_rng(0).integers(0, 256, (3, *network.input_shape)).astype(np.uint8)
    chosen = explanation.choose(network, images[:1], ["one"], [3], "b")
    result = explanation.explain(network, chosen, images)
    assert [pair.settings["layer"] for pair in result.feature_maps] == stages == layers.stages(network.model)
    by_name = {pair.name: pair for pair in report.pairs(result)}
    assert ("grad_cam" in by_name) == bool(stages) == ("grad_cam" not in result.left_out)
    assert not last or by_name["grad_cam"].settings["layer"] == last == by_name["units"].settings["layer"]
    assert set(by_name) >= {"filters", "gradient", "smoothgrad", "occlusion", "units", "activation_maximization"}
    for pair in by_name.values():
        assert np.isfinite(pair.trained).all() and np.isfinite(pair.redrawn).all()
        assert pair.trained.shape == pair.redrawn.shape
    record = json.loads(json.dumps(report.record(network, result)))
    assert record["pictures"][0]["explained"] == "b" and record["pictures"][0]["class"] == "d"


def test_stages_are_those_on_the_way_to_the_logits() -> None:
    model = _small()
    head = keras.layers.Conv2D(2, 3, name="auxiliary")(model.get_layer("conv1").output)
    padded = keras.layers.ZeroPadding2D(1, name="padding")(model.get_layer("conv2").output)
    last = keras.layers.Conv2D(2, 7, 3, name="conv3", activation="relu")(padded)
    logits = keras.layers.Flatten(name="flatten")(keras.layers.Dropout(0.5, name="dropout")(last))
    both = keras.Model(model.inputs, [logits, keras.layers.GlobalMaxPooling2D()(head)])
    # 28x28 and 7x7 positions; the head's 26x26 are not on the way, padding has no convolution, and a 1x1 map no places.
    assert layers.stages(both) == ["conv1", "conv2"] and layers.last_stage(both) == "conv2"
    assert layers.last_stage(keras.Model(model.inputs, keras.layers.Conv2D(2, 14, 7)(model.get_layer("conv1").output))
                             ) == "conv1"
    assert layers.find(both, "conv3") == "conv3"
    for name in ("auxiliary", "dropout", "keras_tensor"):
        with pytest.raises(UsageError, match="no layer"):
            layers.find(both, name)


def test_a_layer_is_chosen(found, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maximization, "STEPS", 2)
    network, result = found
    for layer, maps, cam in (("conv1", ["conv1"], "conv1"), ("mean", ["conv1", "conv2"], "conv2")):
        again = explanation.explain(network, result.pictures, layer=layer)
        assert [pair.settings["layer"] for pair in again.feature_maps] == maps
        by_name = {pair.name: pair for pair in again.attributions}
        assert by_name["grad_cam"].settings["layer"] == cam
        assert again.maximized.settings["layer"] == layer and again.units is None and "units" in again.left_out
    with pytest.raises(UsageError, match="no layer conv9.*conv1, conv2, mean"):
        explanation.explain(network, result.pictures, layer="conv9")


def test_a_map_lies_where_its_positions_look() -> None:
    model = lenet.build(variant="original", classes=10)
    # C3 sees windows of 14x14 pixels, two pixels apart: from 0 to 13 is 6.5, and after nine steps 24.5.
    assert layers.centres(model, "C3") == {"first_centre": [6.5, 6.5], "stride": [2, 2]}
    assert pictures._extent(layers.centres(model, "C3"), (10, 10), (32, 32, 1)) == (5.5, 25.5, 25.5, 5.5)
    assert layers.centres(model, "C1") == {"first_centre": [2, 2], "stride": [1, 1]}
    nowhere = {"first_centre": None, "stride": None}
    assert pictures._extent(nowhere, (1, 1), (32, 28, 1)) == (-0.5, 27.5, 31.5, -0.5)


def test_the_shown_feature_maps_are_those_that_vary_most(found) -> None:
    network, result = found
    pair = result.feature_maps[0]
    inputs = network.normalization.apply(tf.constant(result.pictures.images)).numpy()
    whole, = units.feature_maps(network.model, [pair.settings["layer"]], inputs)
    assert pair.settings["channels"] == whole.shape[-1] and len(pair.correlations) == len(whole) * whole.shape[-1]
    for maps, shown in zip(whole, pair.trained):
        largest = sorted(maps.std(axis=(0, 1)))[::-1][:explanation.CHANNELS]
        np.testing.assert_allclose(shown.std(axis=(0, 1)), largest, rtol=1e-4)


def test_captions_are_short_and_tell_mistakes() -> None:
    names = ("cat", "great white shark", "dog")
    chosen = explanation.Pictures(np.zeros((3, 1, 1, 1), np.uint8), ("a", "b", "c"), (0, 2, None), np.array([0, 1, 1]),
                                  np.array([[0.8, 0.1, 0.1], [0.0, 0.996, 0.004], [0.5, 0.25, 0.25]]))
    assert pictures._captions(chosen, names) == ["cat 80%", "great white... 100%\n(is dog)", "great white... 25%"]


def test_tiles_stand_row_by_row() -> None:
    tiles = pictures._tiles([np.full((4, 4, 3), value, np.uint8) for value in (0, 51, 255)], 2)
    np.testing.assert_allclose([tiles[1, 1, 0], tiles[1, 6, 0], tiles[6, 1, 0], tiles[6, 6, 0]], [0, 0.2, 1, 1])


def test_command_explains_a_picture(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(maximization, "STEPS", 2)
    monkeypatch.setattr("tfcnn.trained.explaining.pictures.draw", lambda *_: {"x.png": b"x"})
    for name, size in (("red", (32, 32)), ("wide", (80, 40))):
        picture = Image.new("RGB", size, (220, 60, 60))
        picture.putpixel((size[0] // 2, size[1] // 2), (120, 60, 60))
        picture.save(tmp_path / f"{name}.png")
    names = [str(tmp_path / "red.png"), str(tmp_path / "wide.png")]
    (run / "explanation").mkdir()
    for file in ("explanation.json", "feature_maps_3.png", "units.png", "own.png"):
        (run / "explanation" / file).write_text("of an earlier explanation")
    assert explain.main([str(run), *names, "--class=blue"]) == 0
    output = capsys.readouterr().out
    record = json.loads((run / "explanation" / "explanation.json").read_text())
    assert [entry["name"] for entry in record["pictures"]] == names
    for entry in record["pictures"]:
        assert (entry["class"], entry["predicted"], entry["explained"]) == (None, "red", "blue")
    assert record["left_out"].keys() == {"units"} and "left out: units: " in output
    edges = next(entry for entry in record["explanations"] if entry["name"] == "edges")
    assert edges["rank_correlations"] == [1, 1]
    assert (run / "explanation" / "x.png").read_bytes() == b"x" and f"written: {run / 'explanation'}" in output
    assert sorted(file.name for file in (run / "explanation").iterdir()) == ["explanation.json", "own.png", "x.png"]


def test_command_explains_test_images(run: Path, class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                      ) -> None:
    monkeypatch.setattr(maximization, "STEPS", 2)
    monkeypatch.setattr(explain, "_TEST_IMAGES", 2)
    assert explain.main([str(run), f"--data_dir={class_folders}", f"--out={tmp_path}/out", "--layer=conv1"]) == 0
    record = json.loads((tmp_path / "out" / "explanation.json").read_text())
    assert [(entry["name"], entry["class"]) for entry in record["pictures"]] == [
        ("test image 0", "blue"), ("test image 10", "green")]
    assert {entry["settings"]["layer"] for entry in record["explanations"] if entry["name"] in (
        "grad_cam", "feature_maps", "units")} == {"conv1"}
    names = ("overview", "filters", "feature_maps_1", "feature_maps_2", "edges", "gradient", "smoothgrad", "grad_cam",
             "occlusion", "units", "activation_maximization")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        ["explanation.json", *(f"{name}.png" for name in names)])
    for name in names:
        with Image.open(tmp_path / "out" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5 and picture.width > 500


def test_first_images_of_each_class_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([2, 2, 0, 1, 0, 2])
    monkeypatch.setattr(explain, "_TEST_IMAGES", 5)
    assert explain._one_of_each_class(labels) == [2, 3, 0, 4, 1]
    monkeypatch.setattr(explain, "_TEST_IMAGES", 9)
    assert explain._one_of_each_class(labels) == [2, 3, 0, 4, 1, 5]


@pytest.mark.parametrize("words, message", [
    (("--layer=conv9",), "no layer conv9"),
    (("--class=purple",), "--class=purple"),
    (("--class=3",), "a number from 0 to 2"),
    (("bad.png",), "bad.png"),
    (("absent.png",), "absent.png"),
    ((".",), "cannot"),
    ((), "data_dir"),
    (("red.png", "--out=bad.png/x"), "--out"),
], ids=["layer", "class", "number", "damaged", "absent", "folder", "no data", "out"])
def test_command_reports_an_error_in_one_line(words: tuple[str, ...], message: str, run: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(explanation, "explain", lambda *_: pytest.fail("explained before the arguments were checked"))
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (32, 32), (220, 60, 60)).save("red.png")
    Path("bad.png").write_bytes(b"no picture")
    before = sorted(tmp_path.iterdir())
    assert explain.main([str(run), *words]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and errors[0].startswith("error: ") and message in errors[0]
    assert sorted(tmp_path.iterdir()) == before
