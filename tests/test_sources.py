"""Data sets to be streamed: which images they have, in which order, and how wrong folders are reported."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.streamed_images import encoded_image, members, numbered_folders, numbered_image, prepare
from tfcnn.data import datasets, parts
from tfcnn.data.parts import Part
from tfcnn.data.sources import from_folder, from_tfds
from tfcnn.recipe import UsageError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Prepares a data set of tensorflow-datasets: see `prepare`."""
    return functools.partial(prepare, tmp_path_factory)


def test_streamed_folders_are_split_as_in_memory(tmp_path: Path) -> None:
    root = numbered_folders(tmp_path)
    source = from_folder(root, validation=0.2, seed=5)
    loaded = datasets.load("folder", str(root), validation=0.2, seed=5, image_size=(8, 8))
    assert (source.name, source.source, source.class_names) == (loaded.name, loaded.source, loaded.class_names)
    for part, split in ((source.train, loaded.train), (source.validation, loaded.validation),
                        (source.test, loaded.test)):
        colours = split.images[:, 4, 4]
        assert len(part) == len(split.labels)
        for (index, label, encoded), colour, expected in zip(part.records(None, 0, len(part)), colours, split.labels):
            assert label == expected and tf.io.decode_png(encoded)[0, 0].numpy().tolist() == colour.tolist()
            assert Path(part.name(int(index))).read_bytes() == encoded.numpy()


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_validation_part_of_prepared_data_is_a_partition(prepared: Callable, file_format: str) -> None:
    builder = prepared(file_format, {"train": members(0, 60), "test": members(1000, 3)}, 2)

    def numbers(part: Part, order: tf.Tensor | None = None) -> list[int]:
        pixels = [tf.io.decode_png(encoded)[0, 0] for _, _, encoded in part.records(order, 0, len(part))]
        return [int(red) * 256 + int(green) for red, green, _ in pixels]

    source = from_tfds(builder, 0.2, seed=1)
    train, held_out = numbers(source.train), numbers(source.validation)
    assert (len(source.train), len(source.validation), len(source.test)) == (48, 12, 3)
    assert sorted(train + held_out) == list(range(60)) and source.source == "tensorflow-datasets, numbered/1.0.0"
    assert sorted(numbers(source.train, tf.constant([3, 4]))) == sorted(train)
    assert numbers(from_tfds(builder, 0.2, seed=1).validation) == held_out
    assert numbers(from_tfds(builder, 0.2, seed=2).validation) != held_out
    for share in (0.001, 0.999, 1.0, -0.1):
        with pytest.raises(UsageError, match="--validation=.* of 60 training images"):
            from_tfds(builder, share)


def test_sequential_records_are_shuffled_by_files_and_buffer(prepared: Callable, monkeypatch: pytest.MonkeyPatch
                                                             ) -> None:
    """With a buffer of three images, the first ones are from several files, but near their starts."""
    monkeypatch.setattr(parts, "_SHUFFLE_BUFFER", 3 * 250)
    builder = prepared("tfrecord", {"train": members(0, 500), "test": members(1000, 9)}, 5)
    part = from_tfds(builder, 0).train
    order = [int(index) for index, _, _ in part.records(tf.constant([1, 2]), 0, 500)]
    assert sorted(order) == list(range(500))
    starts = np.cumsum([0, *builder.info.splits["train"].shard_lengths])[:-1]
    files = np.searchsorted(starts, order[:20], "right") - 1
    assert len(set(files)) >= 3 and max(np.array(order[:20]) - starts[files]) < 40
    assert order[:20] != sorted(order[:20])


def test_validation_replaces_an_unlabelled_test_part(prepared: Callable) -> None:
    splits = {"train": members(0, 9), "test": [(1000, -1), (1001, -1)], "validation": members(2000, 4)}
    assert len(from_tfds(prepared("tfrecord", splits), 0).test) == 4
    with pytest.raises(UsageError, match="test, train; it must have train, and test or validation with labels"):
        from_tfds(prepared("tfrecord", {"train": members(0, 9), "test": [(1000, -1)]}), 0)
    with pytest.raises(UsageError, match="it must have train"):
        from_tfds(prepared("array_record", {"test": members(0, 9)}), 0)


# Wrong folders


def _damaged_folder(root: Path, case: str) -> Path:
    """Damages class folders and returns the path that the message should name."""
    train = root / "train"
    if case == "no test folder":
        for path in (root / "test").rglob("*.*"):
            path.unlink()
        for path in (root / "test").iterdir():
            path.rmdir()
        (root / "test").rmdir()
        return root / "test"
    if case == "no class folders":
        (root / "test").rename(root / "other")
        (root / "test").mkdir()
        return root / "test"
    if case == "empty class folder":
        (train / "class9").mkdir()
        return train / "class9"
    if case == "class in train only":
        (root / "test" / "class1").rename(root / "class1")
        return train / "class1"
    if case == "class in test only":
        (train / "class1").rename(root / "class1")
        return root / "test" / "class1"
    if case == "file beside the classes":
        (train / "list.txt").write_text("class0")
        return train / "list.txt"
    name = {"another kind of file": "notes.txt", "empty file": "0999.png", "folder in a class": "more.png"}[case]
    path = train / "class2" / name
    if case == "folder in a class":
        path.mkdir()
    else:
        path.write_bytes(b"" if case == "empty file" else b"something")
    return path


@pytest.mark.parametrize("case", ["no test folder", "no class folders", "empty class folder", "class in train only",
                                  "class in test only", "file beside the classes", "another kind of file", "empty file",
                                  "folder in a class"])
def test_wrong_folder_is_named(case: str, tmp_path: Path) -> None:
    named = _damaged_folder(numbered_folders(tmp_path, 9, 9), case)
    with pytest.raises(UsageError) as caught:
        from_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{named} ") and ": " in message and "\n" not in message


def test_one_class_or_too_few_images_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "only").mkdir(parents=True)
        (tmp_path / part / "only" / "1.png").write_bytes(encoded_image(numbered_image(1)))
    with pytest.raises(UsageError, match="train has only one class"):
        from_folder(tmp_path)
    with pytest.raises(UsageError, match="leaves no training image of class 0"):
        from_folder(numbered_folders(tmp_path / "other", 9, 9), 0.9)


def test_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder):
        raise PermissionError(13, "Permission denied", folder)

    root = numbered_folders(tmp_path, 9, 9)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=f"{root / 'train'} may not be read"):
        from_folder(root)


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    root = numbered_folders(tmp_path, 9, 9)
    (root / "train" / ".cache").mkdir()
    (root / "train" / "class0" / ".DS_Store").write_bytes(b"")
    assert len(from_folder(root, 0).train) == 9
