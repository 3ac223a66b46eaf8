"""Every kind of picture file, in memory, in the stream and alone: the same pixels, or the same line."""

from __future__ import annotations

import functools
import io
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests import pictures
from tests.conftest import start
from tests.streamed_images import encoded_image, photograph, stream_of
from tfcnn.data import datasets, image_windows, images, pipeline
from tfcnn.data.sources import from_folder
from tfcnn.recipe import UsageError

SHOWN = pictures.shown()
REFUSED = pictures.refused()
NETWORKS = (1, 3)  # channels


def _for_network(pixels: np.ndarray, channels: int) -> np.ndarray:
    if channels == 3:
        return np.broadcast_to(pixels, (*pixels.shape[:-1], 3))
    if pixels.shape[-1] == 1:
        return pixels
    return np.rint(pixels.astype(float) @ [0.299, 0.587, 0.114])[..., None].astype(np.uint8)


def _assert_same(pixels: np.ndarray, expected: np.ndarray, channels: int, name: str) -> None:
    difference = np.abs(pixels.astype(int) - expected)
    # In single precision, luma that ends in exactly a half may be rounded the other way.
    assert difference.max() <= (channels == 1) and difference.mean() < 0.02, name


def _write(root: Path, files: dict[str, bytes]) -> None:
    """Class folders with some files to train on, and others to test on."""
    for name in ("a", "b"):
        for part in ("train", "test"):
            (root / part / name).mkdir(parents=True, exist_ok=True)
        for number in range(8):
            content = encoded_image(photograph(pictures.SIDE, pictures.SIDE, seed=number))
            (root / "train" / name / f"{number}.png").write_bytes(content)
    (root / "test" / "b" / "plain.png").write_bytes(content)
    for file, content in files.items():
        (root / "test" / "a" / file).write_bytes(content)


@functools.cache
def _window(channels: int) -> tf.types.experimental.ConcreteFunction:
    """Decodes the largest square of an image at the side of the pictures here."""
    def decode(encoded: tf.Tensor) -> tf.Tensor:
        return image_windows.decode_window(encoded, _square, pictures.SIDE, channels)

    return tf.function(decode, input_signature=[tf.TensorSpec([], tf.string)])


def _square(shape: tf.Tensor) -> tf.Tensor:
    side = tf.reduce_min(shape)
    return tf.concat([(shape - side) / 2, [side, side]], 0)


@pytest.mark.parametrize("number", range(3), ids=["PNG types", "PNG parts", "JPEG"])
def test_picture_alone_is_decoded_as_a_viewer_shows_it(number: int) -> None:
    for name, content, pixels in (pictures.every_type, pictures.other_pngs, pictures.jpegs)[number]():
        np.testing.assert_array_equal(images.decode(content), pixels, name)
        for channels in NETWORKS:
            _assert_same(images.decode(content, channels), _for_network(pixels, channels), channels, name)


@pytest.mark.parametrize("orientation", pictures.TURNED)
def test_turned_pictures_have_the_size_that_is_shown(orientation: int, tmp_path: Path) -> None:
    stored = photograph(5, 9)
    data = pictures.exif(orientation)
    png = pictures.png(stored, pictures.RGB, 8, after=pictures.chunk(b"eXIf", data))
    jpeg = pictures.saved(Image.fromarray(stored), "JPEG", exif=b"Exif\0\0" + data)
    for content, pixels in ((png, stored), (jpeg, pictures.shown_by_pillow(jpeg))):
        shown = pictures.TURNED[orientation](pixels)
        path = tmp_path / "picture.png"
        path.write_bytes(content)
        np.testing.assert_array_equal(images.decode(path), shown)
        np.testing.assert_array_equal(images.decode(content, box=[1, 2, 3, 2]), shown[1:4, 2:4])
        np.testing.assert_array_equal(images.read([[str(path)]], None)[0][0], shown)
        tall = shown.shape[0] > shown.shape[1]
        square = shown[2:7] if tall else shown[:, 2:7]
        window = image_windows.decode_window(tf.constant(content), _square, 5, 3)
        np.testing.assert_array_equal(window, square)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("every-kind")
    _write(root, {name: content for name, content, _ in SHOWN})
    return root


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", NETWORKS)
def test_memory_and_stream_have_the_same_pixels(channels: int, folder: Path) -> None:
    dataset = datasets.load("folder", str(folder), validation=0)
    memory = pipeline.fit(dataset.test, (pictures.SIDE, pictures.SIDE, channels)).images
    # The evaluation crop of 16 pixels is the centre of 14, not resized.
    stream = stream_of(from_folder(folder, 0), channels=channels)
    crops = np.concatenate([batch.numpy()[weights > 0] for batch, _, weights in stream.evaluation("test")])
    np.testing.assert_array_equal(np.rint(crops * 255), memory[:, 1:-1, 1:-1])
    for (name, _, pixels), image in zip(SHOWN, memory):
        _assert_same(image, _for_network(pixels, channels), channels, name)


def test_grey_pictures_have_one_channel_in_memory(tmp_path: Path) -> None:
    grey = [(name, content, pixels) for name, content, pixels in SHOWN if pixels.shape[-1] == 1]
    paths = [tmp_path / name for name, _, _ in grey]
    for path, (_, content, _) in zip(paths, grey):
        path.write_bytes(content)
    memory, = images.read([[str(path) for path in paths]], None)
    np.testing.assert_array_equal(memory, [pixels for _, _, pixels in grey])


@pytest.mark.parametrize("case", REFUSED)
def test_memory_and_stream_refuse_with_the_same_line(case: str, tmp_path: Path) -> None:
    content, advice = REFUSED[case]
    _write(tmp_path, {"wrong.jpg": content})
    path = tmp_path / "test" / "a" / "wrong.jpg"
    messages = []
    for action in (lambda: datasets.load("folder", str(tmp_path), validation=0),
                   lambda: stream_of(from_folder(tmp_path, 0)).check_evaluation("test"),
                   lambda: images.read([[str(path)]], None), lambda: images.decode(content, name=str(path))):
        with pytest.raises(UsageError) as caught:
            action()
        messages.append(str(caught.value))
    assert set(messages) == {messages[0]} and messages[0].startswith(f"{path} ") and "\n" not in messages[0]
    assert advice in messages[0] and ("get it again" in messages[0]) == ("get it again" in advice)
    for channels in NETWORKS:
        with pytest.raises(tf.errors.OpError):
            _window(channels)(content)


def _constant(height: int, width: int) -> bytes:
    """A PNG of one bit a pixel, white."""
    row = b"\0" + b"\xff" * -(-width // 8)
    header = pictures.png(np.zeros([1, 1, 1], int), pictures.GREY, 1)
    compress = zlib.compressobj(1)
    rows = b"".join([compress.compress(row) for _ in range(height)] + [compress.flush()])
    size = height.to_bytes(4, "big")
    return (header[:8] + pictures.chunk(b"IHDR", width.to_bytes(4, "big") + size + b"\1\0\0\0\0")
            + pictures.chunk(b"IDAT", rows) + pictures.chunk(b"IEND", b""))


def test_sizes_that_are_resized_differ_by_rounding_only() -> None:
    """Pillow, in memory, rounds between rows and columns; TensorFlow, in the stream, does not."""
    photographs = [(kind, photograph(height, width)) for kind in ("JPEG", "PNG") for height, width in (
        (1, 3000), (3000, 1), (1, 1), (7, 5), (15, 40), (40, 16), (300, 200))]
    files = [encoded_image(pixels, kind) for kind, pixels in photographs]
    turned = pictures.saved(Image.fromarray(photograph(90, 50)), "JPEG", exif=b"Exif\0\0" + pictures.exif(8))
    for content in [*files, turned, _constant(14_000, 14_000), _constant(1, 60_000)]:
        memory = images.fit(images.decode(content), (pictures.SIDE, pictures.SIDE))
        for channels in NETWORKS if len(content) < 100_000 else (3,):
            difference = np.abs(_window(channels)(content).numpy().astype(int) - images.to_channels(memory, channels))
            assert difference.max() <= 2 and difference.mean() < 0.5


def test_ordinary_photographs_are_decoded_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has one thread at a time: only TensorFlow keeps all processors busy."""
    picture = Image.fromarray(photograph(200, 300))
    plain = pictures.saved(picture, "JPEG")
    for content, ordinary in (
            (plain, True), (pictures.saved(picture.convert("L"), "JPEG"), True),
            (pictures.saved(picture, "JPEG", progressive=True, quality=95, subsampling=0), True),
            (plain[:-2], False), (plain + b"more", False), (pictures.saved(picture.convert("CMYK"), "JPEG"), False),
            (pictures.saved(picture, "JPEG", exif=b"Exif\0\0" + pictures.exif(1)), True),
            (pictures.saved(picture, "JPEG", exif=b"Exif\0\0" + pictures.exif(3)), False),
            (pictures.saved(picture, "JPEG", icc_profile=bytes(3000)), True), (encoded_image(photograph(9, 9)), False)):
        partial, shape = image_windows._shape(tf.constant(content))
        assert bool(partial) == ordinary
        if ordinary:
            assert shape.numpy().tolist() == [200, 300]
            box = [20, 31, 90, 100]
            cropped = tf.io.decode_and_crop_jpeg(content, box, dct_method="INTEGER_ACCURATE").numpy()
            expected = images.decode(content, box=box)
            # Not the outermost columns: TensorFlow does not know their neighbours. Windows have a margin.
            np.testing.assert_array_equal(cropped[:, 1:-1], expected[:, 1:-1])
    monkeypatch.setattr(image_windows, "_describe", None)
    assert image_windows.decode_window(tf.constant(plain), _square, 9, 3).shape == (9, 9, 3)


# The real command


def _run(folder: Path, tmp_path: Path, *arguments: str) -> tuple[int, list[str]]:
    done = start(tmp_path, "--dataset=folder", f"--data_dir={folder}", "--epochs=1", "--batch_size=8", "--validation=0",
                 f"--workdir={tmp_path / 'run'}", *arguments, experiment="lenet5").completed()
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
def test_every_kind_is_read_without_a_word_of_a_library(stream: bool, folder: Path, tmp_path: Path) -> None:
    assert _run(folder, tmp_path, f"--stream={stream}") == (0, [])


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "stream"])
def test_truncated_photograph_is_one_line_on_standard_error(stream: bool, tmp_path: Path) -> None:
    photo = io.BytesIO()
    Image.fromarray(photograph(64, 64)).save(photo, "JPEG")
    data = tmp_path / "data"
    _write(data, {"cut.jpg": photo.getvalue()[:-300]})
    status, lines = _run(data, tmp_path, f"--stream={stream}")
    assert status == 2 and len(lines) == 1
    assert lines[0].startswith(f"error: {data / 'test' / 'a' / 'cut.jpg'} cannot be read as an image (image file is")
