"""The data set `sample`: what it contains, and how it is made."""

import collections
import dataclasses
import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest

from tests.data_files import DEBIAN, IDX, flip, mnist, read_idx, refused, write_idx
from tfcnn.data import datasets, make_sample, official

SAMPLE = Path(official.__file__).with_name("sample")
pytestmark = pytest.mark.usefixtures("isolated_data")


def test_sample_is_balanced_and_small():
    dataset = datasets.load("sample", validation=0)
    assert dataset.train.images.shape == (6_000, 28, 28, 1) and dataset.test.images.shape == (1_000, 28, 28, 1)
    assert np.bincount(dataset.train.labels).tolist() == [600] * 10
    assert np.bincount(dataset.test.labels).tolist() == [100] * 10
    assert dataset.source == "6,000 + 1,000 images of Fashion-MNIST, shipped with tfcnn"
    assert sum(file.stat().st_size for file in SAMPLE.iterdir()) <= 4_000_000
    licence = (SAMPLE / "LICENSE").read_text()
    assert "The MIT License" in licence and "Zalando" in licence and "WITHOUT WARRANTY OF ANY KIND" in licence


def test_sample_has_the_first_images_of_fashion_mnist():
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    for images, labels, count in ((IDX[0], IDX[1], 600), (IDX[2], IDX[3], 100)):
        seen: collections.Counter = collections.Counter()
        chosen = []
        official = read_idx(DEBIAN / f"{labels}.gz")
        for index, label in enumerate(official.tolist()):
            seen[label] += 1
            if seen[label] <= count:
                chosen.append(index)
        np.testing.assert_array_equal(read_idx(SAMPLE / f"{images}.gz"), read_idx(DEBIAN / f"{images}.gz")[chosen])
        np.testing.assert_array_equal(read_idx(SAMPLE / f"{labels}.gz"), official[chosen])


def test_sample_can_be_made_again(full_size, tmp_path):
    if not DEBIAN.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    assert make_sample.main([f"--data_dir={DEBIAN}", f"--output={tmp_path}"]) == 0
    for name in IDX:
        ours, shipped = ((folder / f"{name}.gz").read_bytes() for folder in (tmp_path, SAMPLE))
        assert gzip.decompress(ours) == gzip.decompress(shipped)
        if "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng compresses to other bytes
            assert ours == shipped


def test_making_the_sample_depends_on_content_only(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(official.KNOWN, "sample", dataclasses.replace(
        official.KNOWN["sample"], train_images=20, test_images=10))
    train, test = mnist()
    write_idx(tmp_path / "a", train, test)
    write_idx(tmp_path / "somewhere else", train, test, compress=False)
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert make_sample.main([f"--data_dir={tmp_path / 'a'}", f"--output={tmp_path / 'one'}"]) == 0
    monkeypatch.setattr("time.time", lambda: 1.5e9)
    assert make_sample.main([f"--data_dir={tmp_path / 'somewhere else'}", f"--output={tmp_path / 'two' / 'deep'}"]) == 0
    for name in IDX:
        assert (tmp_path / "one" / f"{name}.gz").read_bytes() == (tmp_path / "two/deep" / f"{name}.gz").read_bytes()
    np.testing.assert_array_equal(read_idx(tmp_path / "one" / f"{IDX[1]}.gz"), train[1][:20])
    np.testing.assert_array_equal(read_idx(tmp_path / "one" / f"{IDX[2]}.gz"), test[0][:10, ..., 0])

    assert make_sample.main([f"--data_dir={tmp_path / 'none'}", f"--output={tmp_path / 'one'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and str(tmp_path / "none") in error and error.count("\n") == 1


def test_damaged_sample_is_named(tmp_path, monkeypatch):
    for name in IDX:
        (tmp_path / f"{name}.gz").write_bytes((SAMPLE / f"{name}.gz").read_bytes())
    monkeypatch.setitem(official.KNOWN, "sample", dataclasses.replace(
        official.KNOWN["sample"], system_folder=str(tmp_path)))
    flip(tmp_path / f"{IDX[0]}.gz", 100_000)
    message = refused("sample")
    assert str(tmp_path / IDX[0]) in message and "install tfcnn again" in message
    for file in tmp_path.iterdir():
        file.unlink()
    assert str(tmp_path) in refused("sample")
