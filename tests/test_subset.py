"""Fewer classes, fewer training images and random labels: what is drawn, in memory and streamed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.streamed_images import members, numbered_folders, prepare
from tfcnn import trained
from tfcnn.data import datasets, sources, subset
from tfcnn.data.parts import Part
from tfcnn.data.sources import from_folder, from_tfds
from tfcnn.data.split import Contents, Split
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import Recipe, UsageError
from tfcnn.trained import data, evaluation
from tfcnn.training.trainer import train

NAMES = ("plane", "car", "cat", "7-9", "dog")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Prepares a data set of tensorflow-datasets: see `prepare`."""
    return functools.partial(prepare, tmp_path_factory)


def numbered(labels: list[int]) -> Split:
    """A split whose images are their numbers."""
    return Split(np.arange(len(labels)), np.array(labels, np.int32))


def contents(part: Part, order: tf.Tensor | None = None) -> dict[int, int]:
    """The label of each image by its number, which its colour tells."""
    pixels = [(tf.io.decode_png(encoded)[0, 0], int(label)) for _, label, encoded in part.records(order, 0, len(part))]
    return {int(red) * 256 + int(green): label for (red, green, _), label in pixels}


@pytest.mark.parametrize("text, labels", [
    ("", [0, 1, 2, 3, 4]), ("1-3", [1, 2, 3]), ("dog,cat", [4, 2]), ("4, 0-1,cat", [4, 0, 1, 2]), ("7-9,0", [3, 0])])
def test_classes_are_named_by_names_numbers_and_ranges(text: str, labels: list[int]) -> None:
    assert subset.parse_classes(text, NAMES) == labels


@pytest.mark.parametrize("text, message", [
    ("cat,bird", "'bird' is none of the classes, which are 0 to 4: plane, car, "), ("0-5", "'0-5' is none"),
    ("3-1", "'3-1' is none"), ("cat,", "'' is none"), ("-1,2", "'-1' is none"), ("cat,1-2", "names a class twice"),
    ("cat", "only one class")])
def test_impossible_classes_are_a_usage_error(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        subset.parse_classes(text, NAMES)
    assert str(caught.value).startswith(f"--classes={text}") and "\n" not in str(caught.value)


def test_classes_may_be_given_by_names_that_no_flag_could_hold() -> None:
    names = ("7-9", "salt, pepper", "cat")
    split = numbered([0, 1, 2, 2, 1])
    whole = Contents("somewhere", names, split, split)
    some = subset.of_classes(whole, ("cat", "7-9"))
    assert some.class_names == ("cat", "7-9")
    assert some.train.labels.tolist() == [1, 0, 0] and some.train.images.ravel().tolist() == [
        split.images.ravel()[index] for index in (0, 2, 3)]
    assert subset.of_classes(whole, ("cat", "dog")) is whole  # which has other classes: whoever asks must look


def test_training_images_are_drawn_equally_from_each_class() -> None:
    split = numbered([0] * 30 + [1] * 3 + [2] * 20 + [3] * 20)
    before: set[int] = set()
    for count, each in ((4, [1] * 4), (12, [3] * 4), (33, [10, 3, 10, 10]), (73, [30, 3, 20, 20])):
        drawn = subset.reduced(split, count, seed=5)
        assert np.bincount(drawn.labels).tolist() == each
        assert drawn.images.tolist() == sorted(drawn.images) and before <= set(drawn.images)
        np.testing.assert_array_equal(drawn.labels, split.labels[drawn.images])
        before = set(drawn.images)
    six = [np.bincount(subset.reduced(split, 6, seed).labels, minlength=4) for seed in range(8)]
    assert all(sorted(counts) == [1, 1, 2, 2] for counts in six) and len({tuple(counts) for counts in six}) > 1
    assert subset.reduced(split, 0, seed=5) is split
    with pytest.raises(UsageError, match="--train_images=74 is more than the 73 training images"):
        subset.reduced(split, 74, seed=5)


def test_random_labels_are_uniform_over_all_classes_and_independent_of_the_true_ones() -> None:
    labels = np.repeat(np.arange(10, dtype=np.int32), 2000)
    np.testing.assert_array_equal(subset.randomized(labels, 0.0, 10, seed=1), labels)
    everything = subset.randomized(labels, 1.0, 10, seed=1)
    assert everything.dtype == np.int32
    counts = np.histogram2d(labels, everything, bins=10)[0]  # 200 expected in each cell, with a deviation of 13
    assert 130 < counts.min() and counts.max() < 270
    half = subset.randomized(labels, 0.5, 10, seed=1)
    assert np.mean(half != labels) == pytest.approx(0.45, abs=0.02)
    np.testing.assert_array_equal(half[half != labels], everything[half != labels])
    assert np.any(subset.randomized(labels, 1.0, 10, seed=2) != everything)


def test_loading_keeps_validation_and_test_labels_true_and_numbers_classes_anew() -> None:
    whole = datasets.load("sample", validation=0.1, seed=3)
    random = datasets.load("sample", validation=0.1, seed=3, random_labels=1.0)
    for part in ("train", "validation", "test"):
        of_whole, of_random = getattr(whole, part), getattr(random, part)
        np.testing.assert_array_equal(of_random.images, of_whole.images)
        assert np.array_equal(of_random.labels, of_whole.labels) == (part != "train")
    some = datasets.load("sample", validation=0.1, seed=3, classes="7,2", train_images=20)
    assert some.class_names == (whole.class_names[7], whole.class_names[2])
    assert [np.bincount(part.labels).tolist() for part in (some.train, some.validation, some.test)] == [
        [10, 10], [60, 60], [100, 100]]
    for new, old in enumerate((7, 2)):
        np.testing.assert_array_equal(some.test.images[some.test.labels == new],
                                      whole.test.images[whole.test.labels == old])


def test_streamed_folders_have_the_images_and_labels_of_memory(tmp_path: Path) -> None:
    root = numbered_folders(tmp_path)
    for chosen in ({"classes": "class2,class0"}, {"train_images": 7, "random_labels": 0.5}):
        source = from_folder(root, 0.2, 5, **chosen)
        loaded = datasets.load("folder", str(root), validation=0.2, seed=5, image_size=(8, 8), **chosen)
        assert source.class_names == loaded.class_names
        for name in ("train", "validation", "test"):
            split: Split = getattr(loaded, name)
            numbers = split.images[:, 4, 4].astype(int) @ [256, 1, 0]
            assert contents(getattr(source, name)) == dict(zip(numbers.tolist(), split.labels.tolist()))


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_prepared_data_are_streamed_with_fewer_images_and_random_labels(
        prepared: Callable, file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = prepared(file_format, {"train": members(0, 60), "test": members(1000, 3)}, 2)
    true = contents(from_tfds(builder, 0.2, seed=1).train)
    source = from_tfds(builder, 0.2, seed=1, train_images=30, random_labels=0.7)
    drawn = contents(source.train)
    assert len(drawn) == len(source.train) == 30 and drawn.keys() < true.keys()
    assert 0 < sum(drawn[number] == true[number] for number in drawn) < 30
    assert contents(source.train, tf.constant([3, 4])) == drawn  # the same in another epoch
    assert contents(from_tfds(builder, 0.2, seed=1, random_labels=0.7).train).items() >= drawn.items()
    assert contents(source.validation) == contents(from_tfds(builder, 0.2, seed=1).validation)
    with pytest.raises(UsageError, match="--train_images=49 is more than the 48 training images"):
        from_tfds(builder, 0.2, seed=1, train_images=49)
    monkeypatch.setattr(sources, "find_folder", lambda *_, **__: None)
    with pytest.raises(UsageError, match="--classes=0-1 with --stream needs class folders"):
        sources.load("numbered", classes="0-1")


def test_a_run_on_some_classes_is_evaluated_on_them(tmp_path: Path) -> None:
    recipe = RECIPE.replace(dataset="sample", epochs=1, batch_size=16, classes="5-9", train_images=40,
                            random_labels=1.0, validation=0.02, augment="none")
    result = train(recipe, tmp_path / "run").record
    names = datasets.load("sample").class_names[5:]
    assert (result["dataset"]["train_images"], result["dataset"]["test_images"]) == (40, 500)
    assert tuple(result["dataset"]["class_names"]) == names and result["recipe"]["classes"] == "5-9"
    network = trained.load(tmp_path / "run")
    assert network.class_names == names and network.model.output.shape == (None, 5)
    record = evaluation.evaluate([network]).record
    assert (record["accuracy"], record["images"]) == (result["test"]["accuracy"], 500)
    expected = datasets.load("sample", validation=0.02, seed=recipe.seed, classes="5-9", train_images=40,
                             random_labels=1.0)
    _, labels = next(data.load(network).train.batches(40))
    np.testing.assert_array_equal(labels, expected.train.labels)


def test_recipes_of_older_versions_have_all_images_and_true_labels() -> None:
    older = json.loads(RECIPE.to_json())
    for name in ("train_images", "random_labels", "classes"):
        del older[name]
    assert Recipe.from_json(json.dumps(older)) == RECIPE
    with pytest.raises(UsageError, match="--random_labels=1.5 must be at most 1"):
        RECIPE.replace(random_labels=1.5)
