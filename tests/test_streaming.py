"""Streaming: the order of the images, their pixels against Pillow, and how damage is reported."""

from __future__ import annotations

import functools
import io
import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.streamed_images import (SIZE, TEST, TRAIN, encoded_image, members, numbered_folders, photograph, prepare,
                                   recipe, stream_of)
from tfcnn.data import streaming
from tfcnn.data.normalization import PerChannel
from tfcnn.data.parts import Part
from tfcnn.data.sources import Source, from_folder, from_tfds
from tfcnn.data.streaming import Streaming
from tfcnn.recipe import UsageError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """Prepares a data set of tensorflow-datasets: see `prepare`."""
    return functools.partial(prepare, tmp_path_factory)


@pytest.fixture(scope="module", params=["folder", "array_record", "tfrecord"])
def source(request: pytest.FixtureRequest, prepared: Callable, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A data set in each of the forms, without a validation part."""
    if request.param == "folder":
        return from_folder(numbered_folders(tmp_path_factory.mktemp("numbers")), 0)
    return from_tfds(prepared(request.param, {"train": members(0, TRAIN), "test": members(1000, TEST)}, 5), 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """48 photographs in class folders, in JPEG."""
    root = tmp_path_factory.mktemp("photographs")
    for part, count in (("train", 48), ("test", 6)):
        for number in range(count):
            folder = root / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = photograph(30 + number % 5, 30 + number % 7, seed=number)
            (folder / f"{number}.jpeg").write_bytes(encoded_image(pixels, "JPEG"))
    return from_folder(root, 0)


def _numbers(batches) -> list[list[int]]:
    pixels = [np.rint(images.numpy()[:, 5, 5] * 255).astype(int) for images, *_ in batches]
    return [(colours[:, 0] * 256 + colours[:, 1]).tolist() for colours in pixels]


def test_an_epoch_has_no_image_twice_and_each_epoch_has_its_own_order(source: Source) -> None:
    tf.random.set_seed(0)  # as training does; the order does not depend on it
    stream = stream_of(source)
    assert stream.steps_per_epoch == 6
    steps = list(stream.training(0).take(24))
    batches = _numbers(steps)
    for (images, labels), numbers in zip(steps, batches):
        assert labels.dtype == tf.int32 and images.dtype == tf.float32 and images.shape == (16, SIZE, SIZE, 3)
        assert labels.numpy().tolist() == [number % 3 for number in numbers]
    epochs = [sum(batches[start:start + 6], []) for start in range(0, 24, 6)]
    for numbers in epochs:
        assert len(set(numbers)) == 96 and set(numbers) <= set(range(TRAIN))
        assert abs(np.corrcoef(numbers, range(96))[0, 1]) < 0.45  # 4.5 standard errors
    assert len({tuple(numbers) for numbers in epochs}) == 4
    assert set().union(*epochs) == set(range(TRAIN))  # images that one epoch leaves out are in another
    assert source.class_names == ("class0", "class1", "class2")
    tf.random.set_seed(5)
    assert _numbers(stream_of(source).training(9).take(7)) == batches[9:16]  # as if the run resumed there


def test_another_seed_has_another_order_and_other_crops(folders: Source) -> None:
    first, second = (next(iter(stream_of(folders, augment="imagenet", batch_size=48, seed=seed).training(0)))
                     for seed in (0, 1))
    assert first[1].numpy().tolist() != second[1].numpy().tolist()
    assert not {image.tobytes() for image in first[0].numpy()} & {image.tobytes() for image in second[0].numpy()}


def test_replicas_together_make_the_global_batch(source: Source) -> None:
    stream = stream_of(source)
    replicas, workers, local = 4, 2, 2
    batches_of = [_numbers(stream.training(4, replicas, worker * local, local).take(4 * local))
                  for worker in range(workers)]
    for step, numbers in enumerate(_numbers(stream.training(4).take(4))):
        assert numbers == sum((batches_of[worker][step * local + replica] for worker in range(workers)
                               for replica in range(local)), [])


@pytest.mark.parametrize("preset", ["imagenet", "alexnet", "strong"])
def test_training_resumes_at_any_step(folders: Source, preset: str) -> None:
    stream = stream_of(folders, augment=preset)
    steps = [(images.numpy(), labels.numpy()) for images, labels in stream.training(0).take(9)]
    images, labels = next(iter(stream.training(8)))
    np.testing.assert_array_equal(images, steps[8][0])
    np.testing.assert_array_equal(labels, steps[8][1])


@pytest.mark.parametrize("batch_size", [16, 23])
def test_evaluation_has_every_image_exactly_once(source: Source, batch_size: int) -> None:
    batches = stream_of(source).evaluation("test", batch_size)
    assert len(batches) == math.ceil(TEST / batch_size)
    batches = list(batches)
    assert {images.shape for images, _, _ in batches} == {(batch_size, SIZE, SIZE, 3)}
    assert {labels.shape for _, labels, _ in batches} == {(batch_size,)}
    weights = np.concatenate([weights for _, _, weights in batches])
    numbers = np.array(sum(_numbers(batches), []))
    labels = np.concatenate([labels for _, labels, _ in batches])
    assert set(weights) <= {0.0, 1.0}
    assert labels[weights == 1].tolist() == (numbers[weights == 1] % 3).tolist()
    assert sorted(numbers[weights == 1].tolist()) == list(range(1000, 1000 + TEST))


def test_evaluation_crops_the_centre(folders: Source) -> None:
    """The pixels of a whole batch against Pillow; training without augmentation has the same images."""
    stream = stream_of(folders, batch_size=6)
    (images, labels, _), = stream.evaluation("test")
    assert labels.numpy().tolist() == [0, 0, 0, 1, 1, 1]
    for pixels, number in zip(images.numpy(), (0, 2, 4, 1, 3, 5)):
        height, width = 30 + number % 5, 30 + number % 7
        extent = min(height, width) * 14 / 16
        left, top = (width - extent) / 2, (height - extent) / 2
        image = Image.open(io.BytesIO(encoded_image(photograph(height, width, seed=number), "JPEG")))
        box = (left, top, left + extent, top + extent)
        expected = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box))
        assert np.abs(pixels * 255 - expected).max() < 3.5

    plain = {image.tobytes() for images, _ in stream.training(0).take(8) for image in images.numpy()}
    assert plain == {image.tobytes() for image in stream.inspected(48).numpy()} and len(plain) == 48


def test_ten_crops_are_cut_from_the_square_that_training_crops(folders: Source) -> None:
    stream = stream_of(folders, augment="alexnet", batch_size=36, test_crops=10)
    batches = list(stream.evaluation("test"))
    assert [images.shape for images, _, _ in batches] == [(4, 10, SIZE, SIZE, 3)] * 2
    single = list(stream_of(folders).evaluation("test", 4))
    for (images, labels, weights), (centres, *expected) in zip(batches, single):
        np.testing.assert_allclose(images[:, 4], centres, atol=1.01 / 255)
        np.testing.assert_array_equal(images[:, 9], images[:, 4, :, ::-1])
        np.testing.assert_array_equal(images[:, 0, 2:, 2:], images[:, 3, :-2, :-2])
        np.testing.assert_array_equal(labels, expected[0])
        np.testing.assert_array_equal(weights, expected[1])


def test_augmentation_depends_on_the_image_and_the_epoch_only(folders: Source) -> None:
    stream, small = (stream_of(folders, augment="imagenet", batch_size=size) for size in (16, 4))

    def seen(stream: Streaming, count: int) -> list[bytes]:
        return [image.tobytes() for images, _ in stream.training(0).take(count) for image in images.numpy()]

    images = seen(stream, 6)
    assert len(set(images)) == 96
    assert set(images[:48]) == set(seen(small, 12))
    assert not set(images) & set(seen(stream_of(folders, augment="alexnet"), 3))


def test_alternating_mirror_mirrors_each_image_in_one_of_two_epochs(folders: Source) -> None:
    images, plain = (np.concatenate([part for part, _ in stream_of(folders, augment=augment).training(0).take(count)])
                     for augment, count in (("alternating_mirror", 6), ("none", 3)))
    first, second = ({image.tobytes() for image in images[part]} for part in (slice(48), slice(48, 96)))
    assert len(first) == 48 and first == {image[:, ::-1].tobytes() for image in images[48:]} != second
    assert 10 < sum(image.tobytes() in first for image in plain) < 38  # four standard deviations of 48 fair coins


def test_half_of_the_images_are_mirrored(folders: Source) -> None:
    mirrored, plain = (np.concatenate([images for images, _ in stream_of(folders, augment="imagenet", mirror=mirror)
                                      .training(0).take(12)]) for mirror in (True, False))
    is_mirrored = [np.array_equal(image, other[:, ::-1]) for image, other in zip(mirrored, plain)]
    same = [np.array_equal(image, other) for image, other in zip(mirrored, plain)]
    assert len(is_mirrored) == 192 and all(one != other for one, other in zip(is_mirrored, same))
    assert abs(np.mean(is_mirrored) - 0.5) < 0.15  # 4 standard errors


def test_examples_are_images_of_the_first_epoch(folders: Source) -> None:
    stream = stream_of(folders, augment="imagenet")
    first = {image.tobytes() for images, _ in stream.training(0).take(3)
             for image in np.rint(images.numpy() * 255).astype(np.uint8)}
    examples, labels = stream.examples(100)
    assert examples.dtype == np.uint8 and examples.shape == (48, SIZE, SIZE, 3)
    assert {image.tobytes() for image in examples} == first
    assert labels.shape == (48,)
    assert stream.inspected(5).shape == (5, SIZE, SIZE, 3)


def test_statistics_come_from_a_sample_of_the_training_part(folders: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.rint(stream_of(folders).inspected(48).numpy() * 255).astype(np.uint8)
    stream = stream_of(folders, input_normalization="channel")
    assert stream.normalization == PerChannel.of(pixels)
    images = np.concatenate([images for images, _ in stream.training(0).take(3)])
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1, atol=1e-4)
    monkeypatch.setattr(streaming, "_SAMPLE", 20)
    sampled = stream_of(folders, input_normalization="channel")
    assert sampled.normalization == PerChannel.of(pixels[:20]) != stream.normalization


def test_networks_with_one_channel_get_grey_images(folders: Source) -> None:
    images, _ = next(iter(stream_of(folders, channels=1, input_normalization="channel").training(0)))
    assert images.shape == (16, SIZE, SIZE, 1)


class _Counted(Part):
    """Counts the images that are read of a part."""

    def __init__(self, part: Part, repeats: int) -> None:
        self.origin, self._part, self._repeats, self.count = part.origin, part, repeats, 0

    def __len__(self) -> int:
        return len(self._part) * self._repeats

    def records(self, order, start, stop, wanted=None) -> tf.data.Dataset:
        def counted(index: np.ndarray) -> np.ndarray:
            self.count += 1
            return index

        def read(index, label, encoded):
            return tf.ensure_shape(tf.numpy_function(counted, [index], tf.int64), []), label, encoded

        return self._part.records(None, 0, len(self._part)).repeat(self._repeats).map(read)


def test_only_a_few_batches_are_read_ahead(folders: Source) -> None:
    """However large the data set: here 48,000 images."""
    part = _Counted(folders.train, 1000)
    stream = stream_of(Source("", "", (), part, part, part))
    for batches in (stream.training(0), stream.evaluation("test")):
        part.count = 0
        begin = time.monotonic()
        iterator = iter(batches)
        next(iterator)
        pause = max(0.3, 2 * (time.monotonic() - begin))  # longer than a batch takes on this machine
        before = -1
        while part.count != before:  # until reading has stopped
            before = part.count
            time.sleep(pause)
        threads = os.cpu_count() or 1
        assert 16 <= part.count <= 16 * (2 * threads + 3) + 2 * threads
        del iterator


def test_measuring_reports_speed_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert streaming.main(["--images=200", "--size=64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("training: 128 images, ") and lines[3].startswith("test: 20 images, ")
    peaks = [float(line.split()[-2]) for line in lines]
    assert 0.1 < peaks[0] <= peaks[-1] < peaks[0] + 0.7
    assert streaming.main(["--images=100"]) == 2
    assert capsys.readouterr().err.startswith("error: --batch_size=128 is more than")


# Damage


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[:len(content) * 2 // 3],
    "header only": lambda content: content[:20],
    "another format": lambda content: b"BM" + content,
    "gone": lambda content: b"",
}


@pytest.mark.parametrize("damage, kind", [("truncated", "JPEG"), ("truncated", "PNG"), ("header only", "JPEG"),
                                          ("another format", "PNG"), ("gone", "PNG")])
def test_damaged_image_is_named(kind: str, damage: str, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for number in range(40):
            folder = tmp_path / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = photograph(20, 20, seed=number)
            (folder / f"{number:02}.{kind.lower()}").write_bytes(encoded_image(pixels, kind))
    source = from_folder(tmp_path, 0)
    whole = stream_of(source)
    paths = [tmp_path / part / "class1" / f"17.{kind.lower()}" for part in ("train", "test")]
    for path in paths:
        content = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(DAMAGE[damage](content))

    def assert_named(path: Path, action: Callable[[], object]) -> None:
        with pytest.raises(UsageError) as caught:
            action()
        message = str(caught.value)
        assert str(path) in message and "\n" not in message and len(message) < 600
        assert "get it again" in message and "[[" not in message

    # At the start, if the image is in the sample.
    assert_named(paths[0], lambda: stream_of(source, input_normalization="channel"))
    # Otherwise when it is decoded, by an error of TensorFlow, whatever has been read ahead.
    with pytest.raises(tf.errors.OpError):
        list(whole.training(0).take(2 * whole.steps_per_epoch + 1))
    assert_named(paths[0], lambda: whole.check_training(0, 2 * whole.steps_per_epoch + 1))
    with pytest.raises(tf.errors.OpError):
        list(whole.evaluation("test"))
    assert_named(paths[1], lambda: whole.check_evaluation("test"))


def test_undamaged_images_pass_the_check(folders: Source) -> None:
    stream = stream_of(folders)
    stream.check_training(2, 3)
    stream.check_evaluation("test")


def test_damaged_records_are_named(prepared: Callable) -> None:
    builder = prepared("tfrecord", {"train": members(0, 60), "test": members(1000, 3)}, 3)
    source = from_tfds(builder, 0)
    path = Path(str(builder.info.splits["train"].filepaths[2]))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=f"{builder.data_path} cannot be read"):
        stream_of(source, input_normalization="channel")
    for path in builder.info.splits["test"].filepaths:
        Path(str(path)).unlink()
    with pytest.raises(UsageError, match=f"{builder.data_path} cannot be read"):
        from_tfds(builder, 0)


def test_wrong_arguments_are_usage_errors(folders: Source) -> None:
    for message, call in (
            ("--batch_size=49 is more than the 48", lambda: stream_of(folders, batch_size=49)),
            ("mixup.*mixes each image.*leave out --stream", lambda: stream_of(folders, augment="imagenet,mixup")),
            ("crop:4 and resized_crop:0.1", lambda: stream_of(folders, augment="crop,resized_crop:0.1")),
            ("ZCA whitening .* 64x64x3", lambda: stream_of(folders, input_normalization="zca", size=64)),
            ("14x16 is not", lambda: Streaming(folders, recipe(), (14, 16, 3)))):
        with pytest.raises(UsageError, match=message):
            call()
