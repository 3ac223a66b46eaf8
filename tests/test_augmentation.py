"""Lists of augmentations: mirror and crop as in recorded runs, and what holds for every operation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.augmented_images import COMPONENTS, augmented, random_images, seeds_of
from tests.conftest import environment
from tests.forked import Forked
from tfcnn.augmentations import KINDS, MIRRORS, MIXING, Operation, parse
from tfcnn.data.augmentation import composition, mixing, random_numbers, resampling

NOT_MIXING = [name for name in KINDS if name not in MIXING]


# Mirror and crop: the exact results of the runs recorded before there were other operations


def _recorded_crop(images: np.ndarray, padding: int) -> np.ndarray:
    height, width = images.shape[1:3]
    tops, lefts = (np.floor(random_numbers.uniform(seeds_of(len(images)), draw).numpy() * (2 * padding + 1)).astype(int)
                   for draw in (0, 1))
    padded = np.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    return np.stack([image[top:top + height, left:left + width] for image, top, left in zip(padded, tops, lefts)])


def _recorded_mirror(images: np.ndarray) -> np.ndarray:
    mirrored = random_numbers.uniform(seeds_of(len(images)), 2).numpy() < 0.5
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


@pytest.mark.parametrize("height, width, channels", [(9, 7, 3), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("padding", [0, 1, 4, 40])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_crop_and_mirror_are_as_in_recorded_runs(padding: int, kind: type, height: int, width: int, channels: int
                                                 ) -> None:
    images = random_images(40, height, width, channels).astype(kind)
    cropped, mirrored = _recorded_crop(images, padding), _recorded_mirror(images)
    for text, expected in ((f"crop:{padding}", cropped), ("mirror", mirrored),
                           (f"crop:{padding},mirror", _recorded_mirror(cropped)),
                           (f"mirror,crop:{padding}", _recorded_crop(mirrored, padding))):
        result = augmented(text, images)
        assert result.dtype == kind
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("text", ["crop:3,mirror", "mirror", "crop:2,cutout:3,mirror", "rotate,crop", "strong", "none"])
def test_gathering_and_augmenting_is_the_same_as_one_after_the_other(text: str) -> None:
    images, indices = random_images(30, 9, 7), np.random.default_rng(0).integers(0, 30, 50)
    operations = parse(text)
    gathered = composition.gather_and_augment(tf.constant(images), tf.constant(indices), seeds_of(50), operations)
    np.testing.assert_array_equal(gathered, composition.apply(tf.constant(images[indices]), seeds_of(50), operations))


def test_images_with_more_pixels_than_int32_can_count_are_gathered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # The largest number of images of GoogLeNet's size whose pixels have an offset, and one more.
    most = 2**31 // 224**2
    for count, expected in ((most, True), (most + 1, False)):
        assert resampling.addressable(tf.TensorSpec((count, 224, 224, 3), tf.uint8)) is expected
    images, indices = tf.constant(random_images(20)), tf.constant([3, 19, 0], tf.int64)
    for text in ("crop,mirror", "crop:2,rotate:10"):
        expected = composition.gather_and_augment(images, indices, seeds_of(3), parse(text))
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "_ADDRESSABLE", 20 * 9 * 7)
            patch.setattr(resampling, "source_offsets", _only_for_batches(resampling.source_offsets))
            found = composition.gather_and_augment(images, indices, seeds_of(3), parse(text))
        np.testing.assert_array_equal(found, expected)


def _only_for_batches(source_offsets: Callable[..., Any]) -> Callable[..., Any]:
    """`source_offsets`, which refuses indices of more than three images."""
    def checked(indices: tf.Tensor, *arguments: Any) -> Any:
        assert indices.numpy().max() < 3
        return source_offsets(indices, *arguments)

    return checked


def test_crops_are_uniform_over_all_offsets() -> None:
    count = 20_000
    image = np.zeros((5, 5, 1), np.uint8)
    image[2, 2] = 1
    crops = augmented("crop:2", np.broadcast_to(image, (count, 5, 5, 1)))
    positions = crops.sum(axis=0).ravel()  # the marked pixel is equally often at each of 25 positions
    assert positions.sum() == count
    assert ((positions - count / 25) ** 2 / (count / 25)).sum() < 51.2  # chi-square, 24 degrees of freedom, 99.9%


def test_half_the_images_are_mirrored() -> None:
    images = random_images(2000, 2, 3)
    mirrored = (augmented("mirror", images) != images).any((1, 2, 3))
    assert abs(mirrored.mean() - 0.5) < 0.04  # 3.6 standard errors


# Every operation


@pytest.mark.parametrize("name", [*NOT_MIXING, "crop,mirror,rotate,elastic", "strong"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 7, 3), (28, 28, 1)])
def test_an_image_does_not_depend_on_the_rest_of_its_batch(name: str, shape: tuple[int, int, int]) -> None:
    images, seeds, operations = random_images(128, *shape), seeds_of(128), parse(name)
    components = COMPONENTS if shape[-1] == 3 else COMPONENTS[:1, :1]

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.uint8), tf.TensorSpec((None,), tf.uint64)])
    def function(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return composition.apply(images, seeds, operations, components)

    together = function(images, seeds).numpy()
    assert together.shape == images.shape
    order = np.random.default_rng(1).permutation(128)
    np.testing.assert_array_equal(function(images[order], tf.gather(seeds, order)), together[order])
    for first, count in ((0, 1), (7, 1), (125, 3), (50, 17)):
        part = slice(first, first + count)
        np.testing.assert_array_equal(function(images[part], seeds[part]), together[part])


@pytest.mark.parametrize("name", MIXING)
def test_a_mixed_image_does_not_depend_on_the_rest_of_its_batch(name: str) -> None:
    images, seeds, operations = random_images(128), seeds_of(128), parse(name)
    partners = images[::-1].copy()
    together, shares = mixing.mix(images, partners, seeds, operations)
    for part in (slice(0, 1), slice(5, 8), slice(127, 128)):
        mixed, share = mixing.mix(images[part], partners[part], seeds[part], operations)
        np.testing.assert_array_equal(mixed, together[part])
        np.testing.assert_array_equal(share, shares[part])


def _digest() -> str:
    """A checksum of the results of all operations on a batch."""
    images = random_images(128, 28, 28)
    parts = [augmented(name, images) for name in (*NOT_MIXING, "rotate,shear,zoom,elastic")]
    parts += [part.numpy() for name in MIXING
              for part in mixing.mix(images, images[::-1].copy(), seeds_of(128), parse(name))]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()


def _print_digest(threads: int) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    print(_digest())


def test_the_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    other = 1 if (os.cpu_count() or 1) > 1 else 3
    done = Forked(_print_digest, other, cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.stdout.split()[-1:] == [_digest()], done.stderr


@pytest.mark.parametrize("text", [
    "crop:0", "resized_crop:1", "rotate:0", "shear:0", "translate:0", "zoom:0", "elastic:0", "colour_pca:0",
    "brightness:0", "contrast:0", "saturation:0", "cutout:0", "none",
    "rotate:0,shear:0,zoom:0,elastic:0,translate:0,resized_crop:1"])
@pytest.mark.parametrize("shape", [(9, 7), (32, 32)])
def test_strength_zero_is_the_identity(text: str, shape: tuple[int, int]) -> None:
    images = random_images(16, *shape)
    # The weights of grey do not sum to exactly 1 in binary.
    tolerance = 1e-4 if text in ("contrast:0", "saturation:0") else 0
    np.testing.assert_allclose(augmented(text, images), images, rtol=0, atol=tolerance)


def test_dtypes_are_as_documented() -> None:
    images = random_images(4)
    for name in NOT_MIXING:
        whole = name in (*MIRRORS, "crop", "cutout", "randaugment")
        assert augmented(name, images).dtype == (np.uint8 if whole else np.float32), name
        kept = np.uint8 if name == "randaugment" else np.float32
        assert augmented(name, images.astype(np.float32)).dtype == kept, name
    assert augmented("none", images).dtype == np.uint8


@pytest.mark.parametrize("first, second", [
    ("standard", "brightness"), ("rotate", "cutout"), ("randaugment", "elastic"), ("cutout", "crop"),
    ("colour_pca", "contrast,saturation")])
def test_operations_are_applied_in_order_each_with_the_draws_it_has_alone(first: str, second: str) -> None:
    images = random_images(20, 16, 16)
    np.testing.assert_array_equal(augmented(f"{first},{second}", images), augmented(second, augmented(first, images)))


def test_missing_components_and_unknown_operations_are_errors() -> None:
    with pytest.raises(ValueError, match="colour_pca needs the colour_components"):
        composition.apply(tf.constant(random_images(1)), seeds_of(1), parse("colour_pca"))
    with pytest.raises(ValueError, match="no augmentation is called blur"):
        composition.apply(tf.constant(random_images(1)), seeds_of(1), [Operation("blur", (1.0,))])
