"""`datasets.load`: where files are searched for, what is imported, and how the validation part is split off."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data_files import assert_same, random_images, refused, write_folder, write_idx
from tfcnn.data import datasets, split
from tfcnn.recipe import UsageError

pytestmark = pytest.mark.usefixtures("isolated_data")


def test_order_in_which_files_are_searched_for(tmp_path, monkeypatch):
    def write(folder: Path, seed: int) -> np.ndarray:
        train = random_images(60, (28, 28, 1), 10, seed)
        write_idx(folder, train, random_images(20, (28, 28, 1), 10, seed))
        return train[0]

    debian, direct = write(tmp_path / "debian", 1), write(tmp_path / "data", 2)
    (tmp_path / "data" / "cifar-10-binary.tar.gz").write_bytes(b"of another data set")

    def found(data_dir: str | None) -> np.ndarray:
        return datasets.load("fashion_mnist", data_dir, validation=0).train.images

    np.testing.assert_array_equal(found(None), debian)
    np.testing.assert_array_equal(found(str(tmp_path / "data")), direct)
    named = write(tmp_path / "data" / "fashion_mnist", 3)
    np.testing.assert_array_equal(found(str(tmp_path / "data")), named)
    monkeypatch.setenv("HOME", str(tmp_path))
    np.testing.assert_array_equal(found("~/data"), named)
    # The sample's files have the same names; its own must be read.
    assert len(datasets.load("sample", str(tmp_path / "data"), validation=0).train.labels) == 6_000


def test_data_dir_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("mnist", "folder", "cifar10"):
        assert f"--data_dir={tmp_path / 'file'} is not a folder" in refused(name, str(tmp_path / "file"))


def test_what_needs_no_tensorflow_does_not_import_it(tmp_path):
    """A run without a network must fail within ten seconds, and a folder or the sample needs no TensorFlow."""
    write_folder(tmp_path)
    program = f"""
import sys
from tfcnn.data import datasets, tfds
tfds.answers = lambda url: False
datasets.load("sample")
datasets.load("folder", {str(tmp_path)!r}, validation=0)
try:
    datasets.load("cifar10")
except datasets.Unavailable:
    print([name for name in ("tensorflow", "tensorflow_datasets", "keras") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# The validation part


def numbered(labels: list[int]) -> split.Split:
    """Images whose pixels are their index."""
    count = len(labels)
    images = np.arange(count, dtype=np.uint16).view(np.uint8).reshape(count, 1, 2, 1)
    return split.Split(images, np.array(labels, np.int32))


def indices(part: split.Split) -> list[int]:
    return part.images.reshape(-1, 2).copy().view(np.uint16)[:, 0].tolist()


def test_validation_part_is_a_balanced_partition():
    labels = ([0] * 100 + [1] * 37 + [2] * 5) * 2
    train, held_out = split.split_validation(numbered(labels), 0.1, seed=3)
    assert np.bincount(held_out.labels).tolist() == [20, 7, 1]
    assert sorted(indices(train) + indices(held_out)) == list(range(len(labels)))
    for part in (train, held_out):
        assert indices(part) == sorted(indices(part))
        assert part.labels.tolist() == [labels[index] for index in indices(part)]


def test_validation_part_is_a_function_of_labels_share_and_seed():
    labels = [0, 1] * 200
    images = numbered(labels)
    np.random.seed(1)
    first = indices(split.split_validation(images, 0.25, seed=0)[1])
    np.random.seed(2)
    assert indices(split.split_validation(images, 0.25, seed=0)[1]) == first
    assert indices(split.split_validation(images, 0.25, seed=1)[1]) != first
    other_pixels = split.Split(images.images[::-1], images.labels)
    np.testing.assert_array_equal(split.split_validation(other_pixels, 0.25, 0)[1].images,
                                  other_pixels.images[first])
    # Recorded runs depend on it: another validation part would be another experiment.
    assert first[:8] == [0, 5, 7, 10, 12, 15, 20, 23]


def test_loading_holds_out_the_validation_part():
    whole, dataset = datasets.load("sample", validation=0), datasets.load("sample", validation=0.05, seed=7)
    expected = split.split_validation(whole.train, 0.05, 7)
    for part, reference in zip((dataset.train, dataset.validation, dataset.test), (*expected, whole.test)):
        assert_same(part, (reference.images, reference.labels))
    assert np.bincount(dataset.validation.labels).tolist() == [30] * 10
    assert len(datasets.load("sample").validation.labels) == 600


@pytest.mark.parametrize("labels, share, reason", [
    ([0] * 10 + [1] * 2, 0.8, "leaves no training image of class 1"),
    ([0] * 9 + [1], 0.5, "leaves no training image of class 1"),
    ([0] * 4 + [1] * 4, 0.1, "no image at all"),
    ([0] * 4 + [1] * 4, 1.0, "less than 1"),
    ([0] * 4 + [1] * 4, -0.1, "at least 0"),
    ([0] * 4 + [1] * 4, float("nan"), "at least 0"),
])
def test_impossible_validation_share_is_a_usage_error(labels, share, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        split.split_validation(numbered(labels), share, 0)
    assert "--validation=" in str(caught.value) and "\n" not in str(caught.value)
