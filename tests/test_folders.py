"""Class folders in memory: which pixels are read, and damage is reported with the name of the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data_files import assert_same, flip, refused, write_folder
from tfcnn.data import datasets


def on_white(pixels: np.ndarray, opacity: int) -> np.ndarray:
    return np.rint(pixels * (opacity / 255) + 255 - opacity).astype(np.uint8)


def test_folder_of_colour_images(tmp_path):
    pixels = write_folder(tmp_path / "pets")
    (tmp_path / "pets" / "train" / ".DS_Store").write_text("hidden")
    (tmp_path / "pets" / "train" / "dog" / ".hidden").mkdir()
    (tmp_path / "pets" / "test" / "cat" / "1.png").rename(tmp_path / "pets" / "test" / "cat" / "1.PnG")
    (tmp_path / "pets" / "README").write_text("not in train/ or test/")
    dataset = datasets.load("folder", f"{tmp_path}/pets/", validation=0, image_size=(20, 20))
    assert dataset.class_names == ("cat", "dog") and dataset.source == "pets, class folders"
    order = [f"{name}/{index}.png" for name in ("cat", "dog") for index in (0, 1)]
    assert_same(dataset.train, (np.stack([pixels[f"train/{file}"] for file in order]), np.array([0, 0, 1, 1])))
    assert_same(dataset.test, (np.stack([pixels[f"test/{file}"] for file in order]), np.array([0, 0, 1, 1])))


def test_folder_of_jpeg_files(tmp_path):
    write_folder(tmp_path, size=(16, 16), suffix="jpg")
    colour = np.full([16, 16, 3], (200, 100, 50), np.uint8)
    Image.fromarray(colour).save(tmp_path / "train" / "cat" / "0.jpg", quality=95)
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "train" / "dog" / "9.JPEG", quality=95)
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    assert images.shape == (5, 16, 16, 3)
    for index in (0, 4):
        np.testing.assert_allclose(images[index], colour, atol=3)


def test_folder_of_grey_images(tmp_path):
    pixels = write_folder(tmp_path, mode="L")
    wide = np.linspace(0, 65535, 48).astype(np.uint16).reshape(8, 6)
    Image.fromarray(wide).save(tmp_path / "train" / "cat" / "2.png")
    Image.fromarray(wide >= 30_000).save(tmp_path / "train" / "cat" / "3.png")
    grey = pixels["train/cat/0.png"]
    Image.fromarray(np.dstack([grey, np.full_like(grey, 51)])).save(tmp_path / "train" / "cat" / "4.png")
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    assert images.shape == (7, 8, 6, 1)
    np.testing.assert_array_equal(images[0, ..., 0], pixels["train/cat/0.png"])
    np.testing.assert_array_equal(images[2, ..., 0], wide // 256)
    np.testing.assert_array_equal(images[3, ..., 0], np.where(wide >= 30_000, 255, 0))
    np.testing.assert_array_equal(images[4, ..., 0], on_white(grey, 51))


@pytest.mark.filterwarnings("error")
def test_folder_of_grey_and_colour_images(tmp_path):
    pixels = write_folder(tmp_path, mode="L")
    colour = np.random.default_rng(1).choice(np.array([0, 80, 255], np.uint8), (8, 6, 3))
    Image.fromarray(colour).quantize(27).save(tmp_path / "train" / "cat" / "2.png", transparency=bytes([51] * 27))
    opacity = np.full([8, 6, 1], 7, np.uint8)
    Image.fromarray(np.concatenate([colour, opacity], -1)).save(tmp_path / "test" / "cat" / "2.png")
    dataset = datasets.load("folder", str(tmp_path), validation=0)
    np.testing.assert_array_equal(dataset.train.images[0], np.stack([pixels["train/cat/0.png"]] * 3, -1))
    np.testing.assert_array_equal(dataset.train.images[2], on_white(colour, 51))
    np.testing.assert_array_equal(dataset.test.images[2], on_white(colour, 7))


def test_images_of_different_sizes_are_resized_and_centre_cropped(tmp_path):
    write_folder(tmp_path, size=(20, 20))
    landscape = np.zeros([40, 120, 3], np.uint8)
    landscape[:, 40:80] = 200
    Image.fromarray(landscape).save(tmp_path / "train" / "cat" / "0.png")
    portrait = np.zeros([120, 40, 3], np.uint8)
    portrait[40:80] = 100
    Image.fromarray(portrait).save(tmp_path / "train" / "cat" / "1.png")
    stripes = np.zeros([80, 80, 3], np.uint8)
    stripes[::2] = 200
    Image.fromarray(stripes).save(tmp_path / "test" / "dog" / "0.png")
    dataset = datasets.load("folder", str(tmp_path), validation=0, image_size=(10, 10))
    assert dataset.train.images.shape == (4, 10, 10, 3)
    # Except at the edges, where the resized pixels include some of the cropped ones.
    np.testing.assert_array_equal(dataset.train.images[0, :, 1:-1], 200)
    np.testing.assert_array_equal(dataset.train.images[1, 1:-1], 100)
    # Without antialiasing, stripes of one pixel would vanish, or cover everything.
    np.testing.assert_allclose(dataset.test.images[2], 100, atol=5)
    assert datasets.load("folder", str(tmp_path), validation=0, image_size=(12, 24)).test.images.shape[1:3] == (12, 24)
    message = refused("folder", str(tmp_path))
    assert "--image_size" in message and str(tmp_path / "train" / "cat" / "1.png") in message


def test_large_images_are_decoded_like_small_ones(tmp_path):
    """Large images are decoded by several threads, small ones by one thread."""
    pixels = write_folder(tmp_path, size=(130, 120))
    images = datasets.load("folder", str(tmp_path), validation=0).train.images
    np.testing.assert_array_equal(images, [pixels[f"train/{name}/{index}.png"] for name in ("cat", "dog")
                                           for index in (0, 1)])
    (tmp_path / "test" / "dog" / "1.png").write_bytes((tmp_path / "test" / "dog" / "0.png").read_bytes()[:9_000])
    assert str(tmp_path / "test" / "dog" / "1.png") in refused("folder", str(tmp_path))


def test_images_that_do_not_fit_into_memory_are_refused(tmp_path):
    write_folder(tmp_path)
    write_folder(tmp_path, classes=("hen",), size=(9, 9))
    assert "do not fit into memory" in refused("folder", str(tmp_path), image_size=(10_000_000, 10_000_000))


# Damage


def remove_tree(path: Path) -> None:
    for file in sorted(path.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    path.rmdir()


def save_gif(path: Path) -> None:
    Image.new("P", (6, 8)).save(path, format="GIF")


FOLDER_DAMAGE = {
    "truncated png": ("train/dog/1.png", lambda path: path.write_bytes(path.read_bytes()[:-60])),
    "flipped byte": ("test/dog/1.png", lambda path: flip(path, 60)),
    "text": ("train/cat/0.png", lambda path: path.write_text("not an image")),
    "empty file": ("test/cat/1.png", lambda path: path.write_bytes(b"")),
    "another format": ("train/cat/1.png", save_gif),
    "other file": ("train/dog/notes.txt", lambda path: path.write_text("x")),
    "folder in a class": ("test/dog/more", Path.mkdir),
    "folder like an image": ("test/dog/more.png", Path.mkdir),
    "file beside the classes": ("train/labels.csv", lambda path: path.write_text("x")),
    "empty class": ("train/emu", lambda path: (path.mkdir(), (path.parent.parent / "test" / "emu").mkdir())),
    "class not in test": ("train/emu", lambda path: (path.mkdir(), Image.new("RGB", (6, 8)).save(path / "0.png"))),
    "class not in train": ("test/emu", lambda path: (path.mkdir(), Image.new("RGB", (6, 8)).save(path / "0.png"))),
    "no train": ("train", remove_tree),
    "no test": ("test", remove_tree),
    "no classes": ("train", lambda path: (remove_tree(path), path.mkdir())),
    "one class": ("train", lambda path: (remove_tree(path / "cat"), remove_tree(path.parent / "test" / "cat"))),
}


@pytest.mark.parametrize("case", FOLDER_DAMAGE)
def test_damaged_folder_is_named(case, tmp_path):
    write_folder(tmp_path)
    datasets.load("folder", str(tmp_path), validation=0)
    file, damage = FOLDER_DAMAGE[case]
    damage(tmp_path / file)
    assert str(tmp_path / file) in refused("folder", str(tmp_path), validation=0)


def test_truncated_jpeg_is_named(tmp_path):
    write_folder(tmp_path, size=(32, 32), suffix="jpg")
    file = tmp_path / "train" / "dog" / "0.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    assert str(file) in refused("folder", str(tmp_path))


def test_folder_needs_data_dir(tmp_path):
    assert "--data_dir" in refused("folder")
    assert str(tmp_path / "none") in refused("folder", str(tmp_path / "none"))
