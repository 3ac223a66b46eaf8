"""Streaming: which image comes when, and with which pixels, against Pillow and NumPy; and what is said of damage."""

from __future__ import annotations

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

from tfcnn.data import datasets, sources, streaming, windows
from tfcnn.data.normalization import PerChannel
from tfcnn.data.sources import Part, Source, from_folder, from_tfds
from tfcnn.data.streaming import Streaming
from tfcnn.recipe import Recipe, UsageError

SIZE = 14  # of the network's input: images are resized to a shorter side of 16
TRAIN, TEST = 103, 23


def _recipe(**changes) -> Recipe:
    return Recipe(experiment="", network="", stream=True,
                  **{"batch_size": 16, "augment": "none", "input_normalization": "none"} | changes)


def _streaming(source: Source, size: int = SIZE, channels: int = 3, **changes) -> Streaming:
    return Streaming(source, _recipe(**changes), (size, size, channels))


def _encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(stream, kind, **options)
    return stream.getvalue()


def _photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shapes of all sizes, which JPEG keeps and antialiasing changes."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height))
    pixels = np.asarray(coarse) + random.normal(0, 25, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)[..., :channels]


# Which part of an image is shown


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("height, width, channels", [(90, 130, 3), (131, 77, 3), (40, 40, 1), (9, 200, 3), (10, 7, 1)])
def test_windows_are_shown_as_pillow_does(kind: str, height: int, width: int, channels: int) -> None:
    encoded = _encoded(_photograph(height, width, channels), kind)
    image = Image.open(io.BytesIO(encoded))
    random = np.random.default_rng(1)
    for _ in range(6):
        extent = random.uniform(4, [height, width])
        corner = random.uniform(0, [height, width] - extent)
        (top, left), (bottom, right) = corner, corner + extent
        window = tf.constant([*corner, *extent], tf.float32)
        shown = windows.decode(tf.constant(encoded), lambda shape: window, 24, channels)
        expected = np.asarray(image.resize((24, 24), Image.Resampling.BILINEAR, (left, top, right, bottom)))
        difference = np.abs(shown.numpy().astype(int) - expected.reshape(24, 24, channels))
        # Pillow rounds between rows and columns.
        assert difference.max() <= 3 and difference.mean() < 0.5


def test_grey_colour_and_print_files_get_the_networks_channels() -> None:
    colour = np.full((20, 20, 3), (200, 100, 50), np.uint8)
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    files = {"colour": _encoded(colour, "JPEG"), "grey": _encoded(np.full((20, 20, 1), grey, np.uint8), "JPEG"),
             "png": _encoded(colour), "print": b"", "transparent": b"", "palette": b""}
    for name, mode, kind in (("print", "CMYK", "JPEG"), ("transparent", "RGBA", "PNG"), ("palette", "P", "PNG")):
        stream = io.BytesIO()
        Image.fromarray(colour).convert(mode).save(stream, kind)
        files[name] = stream.getvalue()
    for name, encoded in files.items():
        for channels, expected in ((3, [grey] * 3 if name == "grey" else colour[0, 0]), (1, [grey])):
            if name == "print" and channels == 1:
                continue  # libjpeg has no way from four colours to grey
            shown = windows.decode(tf.constant(encoded), lambda shape: windows.centre_window(shape, 8), 8, channels)
            tolerance = 30 if name == "palette" else 2  # Pillow's palette has few colours
            assert np.abs(shown.numpy() - np.array(expected, float)).max() <= tolerance, (name, channels)


def test_evaluation_crop_of_an_image_of_256_pixels_is_its_centre() -> None:
    pixels = _photograph(256, 256)
    shown = windows.decode(tf.constant(_encoded(pixels)), lambda shape: windows.centre_window(shape, 224), 224, 3)
    np.testing.assert_array_equal(shown, pixels[16:240, 16:240])


@pytest.mark.parametrize("size, side", [(224, 256), (227, 256), (112, 128), (299, 342)])
def test_evaluation_crop_is_of_the_shorter_side(size: int, side: int) -> None:
    assert windows.shorter_side(size) == side
    top, left, height, width = windows.centre_window(tf.constant([300.0, 500.0]), size).numpy()
    assert height == width == pytest.approx(size * 300 / side)
    assert (top, left) == (pytest.approx((300 - height) / 2), pytest.approx((500 - width) / 2))


def test_alexnet_crops_are_all_squares_of_the_centre() -> None:
    pixels = _photograph(256, 300)
    centre = pixels[:, 22:278]
    for rows, columns in ((0, 0), (32, 32), (5, 30)):
        # The draws that give these offsets, in the middle of their range.
        draws = tf.constant([(rows + 0.5) / 33, (columns + 0.5) / 33], tf.float32)
        shown = windows.decode(tf.constant(_encoded(pixels)),
                               lambda shape: windows.alexnet_window(shape, draws, 224), 224, 3)
        np.testing.assert_array_equal(shown, centre[rows:rows + 224, columns:columns + 224])
    last = np.float32(1 - 2**-24)
    window = windows.alexnet_window(tf.constant([512.0, 600.0]), tf.constant([last, 0]), 227).numpy()
    np.testing.assert_allclose(window, [2 * 29, 44, 454, 454])


def _resized_window(height: int, width: int, draws: np.ndarray) -> list[float]:
    """As the text of `resized_window` has it, one attempt after the other."""
    for area_draw, ratio_draw, row, column in draws.astype(float):
        area = (0.08 + 0.92 * area_draw) * height * width
        ratio = math.exp(math.log(3 / 4) + ratio_draw * (math.log(4 / 3) - math.log(3 / 4)))
        wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return [math.floor(row * (height - high + 1)), math.floor(column * (width - wide + 1)), high, wide]
    high, wide = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return [(height - high) // 2, (width - wide) // 2, high, wide]


@pytest.mark.parametrize("height, width", [(375, 500), (500, 333), (64, 64), (40, 900), (900, 40), (1, 1), (3, 2)])
def test_resized_crop_is_the_first_attempt_that_fits(height: int, width: int) -> None:
    draws = np.random.default_rng(0).random((40, 10, 4), np.float32)
    crops = [windows.resized_window(tf.constant([height, width], tf.float32), tf.constant(one)).numpy()
             for one in draws]
    expected = [_resized_window(height, width, one) for one in draws]
    # Float32 may round a square root the other way.
    assert sum(not np.array_equal(*pair) for pair in zip(crops, expected)) <= 1
    for top, left, high, wide in crops:
        assert 0 <= top <= height - high and 0 <= left <= width - wide


def test_resized_crops_have_all_areas_ratios_and_places() -> None:
    draws = np.random.default_rng(0).random((3000, 10, 4), np.float32)
    shape = tf.constant([400.0, 800.0])
    crops = tf.function(lambda: tf.map_fn(lambda one: windows.resized_window(shape, one), tf.constant(draws)))()
    top, left, height, width = crops.numpy().T
    area, ratio = height * width / (400 * 800), width / height
    # With ratios of at most 4/3, up to an area of 3/8 every attempt fits, and areas are equally likely.
    small = area[area < 0.375]
    assert small.min() < 0.09 and area.min() > 0.079 and area.max() > 0.64
    assert abs(np.histogram(small, 4, (0.08, 0.375))[0] / len(small) - 0.25).max() < 0.04  # 4 standard errors
    logarithm = np.log(ratio[area < 0.375]) / np.log(4 / 3)
    assert abs(logarithm).max() < 1.02 and abs(np.histogram(logarithm, 4, (-1, 1))[0] / len(small) - 0.25).max() < 0.04
    for place, room in ((top, 400 - height), (left, 800 - width)):
        share = (place + 0.5) / (room + 1)
        assert abs(share.mean() - 0.5) < 0.03 and share.min() < 0.02 and share.max() > 0.98


def test_ten_crops_are_numpys() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 12, 3), np.uint8)
    corners = [images[:, :6, :6], images[:, :6, 6:], images[:, 3:, :6], images[:, 3:, 6:], images[:, 1:7, 3:9]]
    expected = np.stack(corners + [crop[:, :, ::-1] for crop in corners], 1)
    crops = windows.ten_crops(tf.constant(images), 6)
    assert crops.dtype == tf.uint8
    np.testing.assert_array_equal(crops, expected)
    np.testing.assert_array_equal(windows.ten_crops(tf.constant(images), 9 - 3)[:, 9], corners[4][:, :, ::-1])
    with pytest.raises(UsageError, match="10x10 pixels .* 9x12"):
        windows.ten_crops(tf.constant(images), 10)


# Batches. The images of these data sets are of many sizes and of one colour, which tells their number and label.


def _numbered(number: int) -> np.ndarray:
    height, width = 10 + number % 7, 10 + number % 11
    return np.full((height, width, 3), (number // 256, number % 256, number % 3), np.uint8)


def _folders(root: Path, train: int = TRAIN, test: int = TEST) -> Path:
    for part, count, first in (("train", train, 0), ("test", test, 1000)):
        for number in range(first, first + count):
            folder = root / part / f"class{number % 3}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number:04}.{'png' if number % 2 else 'PNG'}").write_bytes(_encoded(_numbered(number)))
    return root


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Prepares a data set of tensorflow-datasets: (format, labels by split) -> its builder."""
    import tensorflow_datasets as tfds

    def prepare(file_format: str, splits: dict[str, list[tuple[int, int]]], files: int = 1):
        class Numbered(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("1.0.0")
            name = "numbered"

            def _info(self):
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({
                    "image": tfds.features.Image(shape=(None, None, 3)), "note": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=["class0", "class1", "class2"])}))

            def _split_generators(self, manager):
                return {split: self._generate_examples(members) for split, members in splits.items()}

            def _generate_examples(self, members):
                for number, label in members:
                    yield number, {"image": _numbered(number), "label": label, "note": "not read"}

        builder = Numbered(data_dir=tmp_path_factory.mktemp("numbered"), file_format=file_format)
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=files))
        return tfds.builder_from_directory(builder.data_path)
    return prepare


def _members(first: int, count: int) -> list[tuple[int, int]]:
    return [(number, number % 3) for number in range(first, first + count)]


@pytest.fixture(scope="module", params=["folder", "array_record", "tfrecord"])
def source(request: pytest.FixtureRequest, prepared: Callable, tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A data set in each of the forms, without a validation part."""
    if request.param == "folder":
        return from_folder(_folders(tmp_path_factory.mktemp("numbers")), 0)
    return from_tfds(prepared(request.param, {"train": _members(0, TRAIN), "test": _members(1000, TEST)}, 5), 0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """48 photographs in class folders, in JPEG."""
    root = tmp_path_factory.mktemp("photographs")
    for part, count in (("train", 48), ("test", 6)):
        for number in range(count):
            folder = root / part / f"class{number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = _photograph(30 + number % 5, 30 + number % 7, seed=number)
            (folder / f"{number}.jpeg").write_bytes(_encoded(pixels, "JPEG"))
    return from_folder(root, 0)


def _numbers(batches) -> list[list[int]]:
    pixels = [np.rint(images.numpy()[:, 5, 5] * 255).astype(int) for images, *_ in batches]
    return [(colours[:, 0] * 256 + colours[:, 1]).tolist() for colours in pixels]


def test_an_epoch_takes_no_image_twice_and_is_in_another_order_each_time(source: Source) -> None:
    tf.random.set_seed(0)  # as training does; it is no part of the order
    stream = _streaming(source)
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
    assert set().union(*epochs) == set(range(TRAIN))  # what one epoch leaves out, another takes
    assert source.class_names == ("class0", "class1", "class2")
    tf.random.set_seed(5)
    assert _numbers(_streaming(source).training(9).take(7)) == batches[9:16]  # as if the run went on there


def test_another_seed_has_another_order_and_other_crops(folders: Source) -> None:
    first, second = (next(iter(_streaming(folders, augment="imagenet", batch_size=48, seed=seed).training(0)))
                     for seed in (0, 1))
    assert first[1].numpy().tolist() != second[1].numpy().tolist()
    assert not {image.tobytes() for image in first[0].numpy()} & {image.tobytes() for image in second[0].numpy()}


def test_replicas_together_make_the_global_batch(source: Source) -> None:
    stream = _streaming(source)
    replicas, machines, local = 4, 2, 2
    pieces = [_numbers(stream.training(4, replicas, machine * local, local).take(4 * local))
              for machine in range(machines)]
    for step, numbers in enumerate(_numbers(stream.training(4).take(4))):
        assert numbers == sum((pieces[machine][step * local + place] for machine in range(machines)
                               for place in range(local)), [])


@pytest.mark.parametrize("preset", ["imagenet", "alexnet", "strong"])
def test_training_goes_on_at_any_step(folders: Source, preset: str) -> None:
    stream = _streaming(folders, augment=preset)
    steps = [(images.numpy(), labels.numpy()) for images, labels in stream.training(0).take(9)]
    images, labels = next(iter(stream.training(8)))
    np.testing.assert_array_equal(images, steps[8][0])
    np.testing.assert_array_equal(labels, steps[8][1])


@pytest.mark.parametrize("batch_size", [16, 23])
def test_evaluation_has_every_image_exactly_once(source: Source, batch_size: int) -> None:
    batches = _streaming(source).evaluation("test", batch_size)
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


def test_evaluation_shows_the_centre(folders: Source) -> None:
    """The pixels of a whole batch, against Pillow; and training without augmentation shows the same."""
    stream = _streaming(folders, batch_size=6)
    (images, labels, _), = stream.evaluation("test")
    assert labels.numpy().tolist() == [0, 0, 0, 1, 1, 1]
    for pixels, number in zip(images.numpy(), (0, 2, 4, 1, 3, 5)):
        height, width = 30 + number % 5, 30 + number % 7
        extent = min(height, width) * 14 / 16
        left, top = (width - extent) / 2, (height - extent) / 2
        image = Image.open(io.BytesIO(_encoded(_photograph(height, width, seed=number), "JPEG")))
        box = (left, top, left + extent, top + extent)
        expected = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box))
        assert np.abs(pixels * 255 - expected).max() < 3.5

    plain = {image.tobytes() for images, _ in stream.training(0).take(8) for image in images.numpy()}
    assert plain == {image.tobytes() for image in stream.inspected(48).numpy()} and len(plain) == 48


def test_ten_crops_are_of_the_square_that_training_takes(folders: Source) -> None:
    stream = _streaming(folders, augment="alexnet", batch_size=36, test_crops=10)
    batches = list(stream.evaluation("test"))
    assert [images.shape for images, _, _ in batches] == [(4, 10, SIZE, SIZE, 3)] * 2
    single = list(_streaming(folders).evaluation("test", 4))
    for (images, labels, weights), (centres, *expected) in zip(batches, single):
        np.testing.assert_allclose(images[:, 4], centres, atol=1.01 / 255)
        np.testing.assert_array_equal(images[:, 9], images[:, 4, :, ::-1])
        np.testing.assert_array_equal(images[:, 0, 2:, 2:], images[:, 3, :-2, :-2])
        np.testing.assert_array_equal(labels, expected[0])
        np.testing.assert_array_equal(weights, expected[1])


def test_augmentation_follows_the_image_and_the_epoch(folders: Source) -> None:
    stream, small = (_streaming(folders, augment="imagenet", batch_size=size) for size in (16, 4))

    def seen(stream: Streaming, count: int) -> list[bytes]:
        return [image.tobytes() for images, _ in stream.training(0).take(count) for image in images.numpy()]

    images = seen(stream, 6)
    assert len(set(images)) == 96
    assert set(images[:48]) == set(seen(small, 12))
    assert not set(images) & set(seen(_streaming(folders, augment="alexnet"), 3))


def test_half_of_the_images_are_mirrored(folders: Source) -> None:
    mirrored, plain = (np.concatenate([images for images, _ in _streaming(folders, augment="imagenet", mirror=mirror)
                                      .training(0).take(12)]) for mirror in (True, False))
    turned = [np.array_equal(image, other[:, ::-1]) for image, other in zip(mirrored, plain)]
    same = [np.array_equal(image, other) for image, other in zip(mirrored, plain)]
    assert len(turned) == 192 and all(turn != keep for turn, keep in zip(turned, same))
    assert abs(np.mean(turned) - 0.5) < 0.15  # 4 standard errors


def test_examples_are_images_of_the_first_epoch(folders: Source) -> None:
    stream = _streaming(folders, augment="imagenet")
    first = {image.tobytes() for images, _ in stream.training(0).take(3)
             for image in np.rint(images.numpy() * 255).astype(np.uint8)}
    examples = stream.examples(100)
    assert examples.dtype == np.uint8 and examples.shape == (48, SIZE, SIZE, 3)
    assert {image.tobytes() for image in examples} == first
    assert stream.inspected(5).shape == (5, SIZE, SIZE, 3)


def test_statistics_are_of_a_sample_of_the_training_part(folders: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.rint(_streaming(folders).inspected(48).numpy() * 255).astype(np.uint8)
    stream = _streaming(folders, input_normalization="channel")
    assert stream.normalization == PerChannel.of(pixels)
    images = np.concatenate([images for images, _ in stream.training(0).take(3)])
    np.testing.assert_allclose(images.mean(axis=(0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(images.std(axis=(0, 1, 2)), 1, atol=1e-4)
    monkeypatch.setattr(streaming, "_SAMPLE", 20)
    sampled = _streaming(folders, input_normalization="channel")
    assert sampled.normalization == PerChannel.of(pixels[:20]) != stream.normalization


def test_grey_networks_see_grey_images(folders: Source) -> None:
    images, _ = next(iter(_streaming(folders, channels=1, input_normalization="channel").training(0)))
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
    stream = _streaming(Source("", "", (), part, part, part))
    for batches in (stream.training(0), stream.evaluation("test")):
        part.count = 0
        begin = time.monotonic()
        iterator = iter(batches)
        next(iterator)
        pause = max(0.3, 2 * (time.monotonic() - begin))  # longer than a batch takes on this machine
        before = -1
        while part.count != before:  # until no more is read
            before = part.count
            time.sleep(pause)
        threads = os.cpu_count() or 1
        assert 16 <= part.count <= 16 * (2 * threads + 3) + 2 * threads
        del iterator


def test_measuring_says_speed_and_memory(capsys: pytest.CaptureFixture[str]) -> None:
    assert streaming.main(["--images=200", "--size=64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("training: 128 images, ") and lines[3].startswith("test: 20 images, ")
    peaks = [float(line.split()[-2]) for line in lines]
    assert 0.1 < peaks[0] <= peaks[-1] < peaks[0] + 0.7
    assert streaming.main(["--images=100"]) == 2
    assert capsys.readouterr().err.startswith("error: --batch_size=128 is more than")


# Which images there are


def test_folders_are_split_as_those_in_memory(tmp_path: Path) -> None:
    root = _folders(tmp_path)
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
    builder = prepared(file_format, {"train": _members(0, 60), "test": _members(1000, 3)}, 2)

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


def test_prepared_records_are_spread_by_files_and_buffer(prepared: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a buffer of three images, what comes first is from several files, but near their start."""
    monkeypatch.setattr(sources, "_BUFFER", 3 * 250)
    builder = prepared("tfrecord", {"train": _members(0, 500), "test": _members(1000, 9)}, 5)
    part = from_tfds(builder, 0).train
    order = [int(index) for index, _, _ in part.records(tf.constant([1, 2]), 0, 500)]
    assert sorted(order) == list(range(500))
    starts = np.cumsum([0, *builder.info.splits["train"].shard_lengths])[:-1]
    files = np.searchsorted(starts, order[:20], "right") - 1
    assert len(set(files)) >= 3 and max(np.array(order[:20]) - starts[files]) < 40
    assert order[:20] != sorted(order[:20])


def test_unlabelled_test_part_gives_way_to_validation(prepared: Callable) -> None:
    members = {"train": _members(0, 9), "test": [(1000, -1), (1001, -1)], "validation": _members(2000, 4)}
    assert len(from_tfds(prepared("tfrecord", members), 0).test) == 4
    with pytest.raises(UsageError, match="test, train; needed are train, and test or validation with labels"):
        from_tfds(prepared("tfrecord", {"train": _members(0, 9), "test": [(1000, -1)]}), 0)
    with pytest.raises(UsageError, match="needed are train"):
        from_tfds(prepared("array_record", {"test": _members(0, 9)}), 0)


# What is wrong, and what is said of it


def _damaged_folder(root: Path, case: str) -> Path:
    """Damages class folders and returns what the message should name."""
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
    named = _damaged_folder(_folders(tmp_path, 9, 9), case)
    with pytest.raises(UsageError) as caught:
        from_folder(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{named} ") and ": " in message and "\n" not in message


def test_one_class_or_too_few_images_are_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "only").mkdir(parents=True)
        (tmp_path / part / "only" / "1.png").write_bytes(_encoded(_numbered(1)))
    with pytest.raises(UsageError, match="train has one class only"):
        from_folder(tmp_path)
    with pytest.raises(UsageError, match="leaves no training image of class 0"):
        from_folder(_folders(tmp_path / "other", 9, 9), 0.9)


def test_folder_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(folder):
        raise PermissionError(13, "Permission denied", folder)

    root = _folders(tmp_path, 9, 9)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UsageError, match=f"{root / 'train'} may not be read"):
        from_folder(root)


def test_hidden_files_are_left_alone(tmp_path: Path) -> None:
    root = _folders(tmp_path, 9, 9)
    (root / "train" / ".cache").mkdir()
    (root / "train" / "class0" / ".DS_Store").write_bytes(b"")
    assert len(from_folder(root, 0).train) == 9


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
            pixels = _photograph(20, 20, seed=number)
            (folder / f"{number:02}.{kind.lower()}").write_bytes(_encoded(pixels, kind))
    source = from_folder(tmp_path, 0)
    whole = _streaming(source)
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

    # At the start, if it is one of the sample.
    assert_named(paths[0], lambda: _streaming(source, input_normalization="channel"))
    # Or else when it is its turn, by an error of TensorFlow, whatever has been read ahead.
    with pytest.raises(tf.errors.OpError):
        list(whole.training(0).take(2 * whole.steps_per_epoch + 1))
    assert_named(paths[0], lambda: whole.check_training(0, 2 * whole.steps_per_epoch + 1))
    with pytest.raises(tf.errors.OpError):
        list(whole.evaluation("test"))
    assert_named(paths[1], lambda: whole.check_evaluation("test"))


def test_what_is_whole_passes_the_check(folders: Source) -> None:
    stream = _streaming(folders)
    stream.check_training(2, 3)
    stream.check_evaluation("test")


def test_damaged_records_are_named(prepared: Callable) -> None:
    builder = prepared("tfrecord", {"train": _members(0, 60), "test": _members(1000, 3)}, 3)
    source = from_tfds(builder, 0)
    path = Path(str(builder.info.splits["train"].filepaths[2]))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UsageError, match=f"{builder.data_path} cannot be read"):
        _streaming(source, input_normalization="channel")
    for path in builder.info.splits["test"].filepaths:
        Path(str(path)).unlink()
    with pytest.raises(UsageError, match=f"{builder.data_path} cannot be read"):
        from_tfds(builder, 0)


def test_wrong_arguments_are_usage_errors(folders: Source) -> None:
    for message, call in (
            ("--batch_size=49 is more than the 48", lambda: _streaming(folders, batch_size=49)),
            ("mixup.*mixes each image.*leave out --stream", lambda: _streaming(folders, augment="imagenet,mixup")),
            ("crop:4 and resized_crop:0.1", lambda: _streaming(folders, augment="crop,resized_crop:0.1")),
            ("ZCA whitening .* 64x64x3", lambda: _streaming(folders, input_normalization="zca", size=64)),
            ("14x16 is not", lambda: Streaming(folders, _recipe(), (14, 16, 3)))):
        with pytest.raises(UsageError, match=message):
            call()
