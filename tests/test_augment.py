"""Augmentation against NumPy, Pillow and the published outputs of SplitMix64."""

from __future__ import annotations

import hashlib
import itertools
import os
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from tfcnn.data import augment, colour
from tfcnn.augmentations import KINDS, MIXING, Operation, parse

from .conftest import environment
from .forked import Forked
from .numpy_images import bilinear, grid

MASK = 2**64 - 1
COMPONENTS = colour.components(np.random.default_rng(9).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8))
ALTERING = [name for name in KINDS if name not in MIXING]


def _splitmix(state: int, draw: int) -> int:
    """The draw-th output of SplitMix64 from a state, as in Steele, Lea and Flood's listing, in Python's integers."""
    bits = (state + (draw + 1) * 0x9E3779B97F4A7C15) & MASK
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & MASK
    return bits ^ (bits >> 31)


def _seeds(count: int, seed: int = 1, epoch: int = 0) -> tf.Tensor:
    return augment.image_seeds(seed, tf.constant(epoch, tf.int64), tf.range(count, dtype=tf.int64))


def _images(count: int, height: int = 9, width: int = 7, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels)).astype(np.uint8)


def _apply(text: str, images: np.ndarray, seeds: tf.Tensor | None = None) -> np.ndarray:
    seeds = _seeds(len(images)) if seeds is None else seeds
    return augment.apply(tf.constant(images), seeds, parse(text), COMPONENTS).numpy()


def _draws(name: str, count: int) -> np.ndarray:
    """The draws of an operation for `_seeds(count)`, in double precision: [draws, count]."""
    first, number = augment.DRAWS[name]
    return np.stack([augment.uniform(_seeds(count), first + draw).numpy() for draw in range(number)]).astype(float)


def _is_uniform(values: np.ndarray, low: float, high: float) -> bool:
    """Kolmogorov's and Smirnov's test, at a significance of 0.1%."""
    ordered = (np.sort(values.ravel()) - low) / (high - low)
    return np.abs(ordered - (np.arange(ordered.size) + 0.5) / ordered.size).max() < 1.95 / np.sqrt(ordered.size)


def test_uniform_is_splitmix64() -> None:
    # The first outputs from the state 1234567, as published with the generator's reference implementations.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    assert [_splitmix(1234567, draw) for draw in range(4)] == published
    states = [0, 1, 1234567, 2**63 + 5, MASK]
    for draw in (0, 1, 2, 17):
        expected = [(_splitmix(state, draw) >> 40) / 2**24 for state in states]
        np.testing.assert_array_equal(augment.uniform(tf.constant(states, tf.uint64), draw), expected)


def test_uniform_is_uniform_and_its_draws_are_independent() -> None:
    count = 100_000
    draws = np.stack([augment.uniform(_seeds(count), draw) for draw in range(3)])
    histograms = [np.histogram(values, 20, (0, 1))[0] for values in draws]
    for histogram in histograms:  # chi-square with 19 degrees of freedom: 43.8 is its 99.9% point
        assert ((histogram - count / 20) ** 2 / (count / 20)).sum() < 43.8
    assert np.abs(np.corrcoef(draws) - np.eye(3)).max() < 0.015  # 4.7 standard errors


def test_no_two_operations_share_a_draw() -> None:
    assert set(augment.DRAWS) == set(KINDS) | {"partner", "streamed_crop"}
    ranges = sorted((first, first + count) for first, count in augment.DRAWS.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ranges))
    # These were recorded with published runs.
    assert augment.DRAWS["crop"] == (0, 2) and augment.DRAWS["mirror"] == (2, 1)


def test_seeds_differ_in_image_epoch_and_seed() -> None:
    seeds = np.concatenate([_seeds(1000, seed, epoch) for seed in range(5) for epoch in range(5)])
    assert len(np.unique(seeds)) == seeds.size
    np.testing.assert_array_equal(_seeds(10, 3, 4), _seeds(20, 3, 4)[:10])


# Mirror and crop: the very results of the runs recorded before all other operations were there


def _recorded_crop(images: np.ndarray, padding: int) -> np.ndarray:
    height, width = images.shape[1:3]
    tops, lefts = (np.floor(augment.uniform(_seeds(len(images)), draw).numpy() * (2 * padding + 1)).astype(int)
                   for draw in (0, 1))
    padded = np.pad(images, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    return np.stack([image[top:top + height, left:left + width] for image, top, left in zip(padded, tops, lefts)])


def _recorded_mirror(images: np.ndarray) -> np.ndarray:
    turned = augment.uniform(_seeds(len(images)), 2).numpy() < 0.5
    return np.where(turned[:, None, None, None], images[:, :, ::-1], images)


@pytest.mark.parametrize("height, width, channels", [(9, 7, 3), (28, 28, 1), (32, 32, 3)])
@pytest.mark.parametrize("padding", [0, 1, 4, 40])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_crop_and_mirror_are_as_recorded(padding: int, kind: type, height: int, width: int, channels: int) -> None:
    images = _images(40, height, width, channels).astype(kind)
    cropped, mirrored = _recorded_crop(images, padding), _recorded_mirror(images)
    for text, expected in ((f"crop:{padding}", cropped), ("mirror", mirrored),
                           (f"crop:{padding},mirror", _recorded_mirror(cropped)),
                           (f"mirror,crop:{padding}", _recorded_crop(mirrored, padding))):
        result = _apply(text, images)
        assert result.dtype == kind
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("text", ["crop:3,mirror", "mirror", "crop:2,cutout:3,mirror", "rotate,crop", "strong", "none"])
def test_stored_images_are_altered_as_any(text: str) -> None:
    images, indices = _images(30, 9, 7), np.random.default_rng(0).integers(0, 30, 50)
    operations = parse(text)
    taken = augment.take(tf.constant(images), tf.constant(indices), _seeds(50), operations)
    np.testing.assert_array_equal(taken, augment.apply(tf.constant(images[indices]), _seeds(50), operations))


def test_crops_are_spread_evenly_over_all_offsets() -> None:
    count = 20_000
    image = np.zeros((5, 5, 1), np.uint8)
    image[2, 2] = 1
    crops = _apply("crop:2", np.broadcast_to(image, (count, 5, 5, 1)))
    places = crops.sum(axis=0).ravel()  # the marked pixel lands on each of the 25 places equally often
    assert places.sum() == count
    assert ((places - count / 25) ** 2 / (count / 25)).sum() < 51.2  # chi-square, 24 degrees of freedom, 99.9%


def test_half_the_images_are_mirrored() -> None:
    images = _images(2000, 2, 3)
    turned = (_apply("mirror", images) != images).any((1, 2, 3))
    assert abs(turned.mean() - 0.5) < 0.04  # 3.6 standard errors


# What holds for every operation


@pytest.mark.parametrize("name", [*ALTERING, "crop,mirror,rotate,elastic", "strong"])
@pytest.mark.parametrize("shape", [(32, 32, 3), (9, 7, 3), (28, 28, 1)])
def test_an_image_is_altered_alike_whatever_is_beside_it(name: str, shape: tuple[int, int, int]) -> None:
    images, seeds, operations = _images(128, *shape), _seeds(128), parse(name)
    components = COMPONENTS if shape[-1] == 3 else COMPONENTS[:1, :1]

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.uint8), tf.TensorSpec((None,), tf.uint64)])
    def function(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        return augment.apply(images, seeds, operations, components)

    together = function(images, seeds).numpy()
    assert together.shape == images.shape
    order = np.random.default_rng(1).permutation(128)
    np.testing.assert_array_equal(function(images[order], tf.gather(seeds, order)), together[order])
    for first, count in ((0, 1), (7, 1), (125, 3), (50, 17)):
        part = slice(first, first + count)
        np.testing.assert_array_equal(function(images[part], seeds[part]), together[part])


@pytest.mark.parametrize("name", MIXING)
def test_an_image_is_mixed_alike_whatever_is_beside_it(name: str) -> None:
    images, seeds, operations = _images(128), _seeds(128), parse(name)
    partners = images[::-1].copy()
    together, shares = augment.mix(images, partners, seeds, operations)
    for part in (slice(0, 1), slice(5, 8), slice(127, 128)):
        mixed, share = augment.mix(images[part], partners[part], seeds[part], operations)
        np.testing.assert_array_equal(mixed, together[part])
        np.testing.assert_array_equal(share, shares[part])


def _digest() -> str:
    """Of all operations' results on a batch."""
    images = _images(128, 28, 28)
    parts = [_apply(name, images) for name in (*ALTERING, "rotate,shear,zoom,elastic")]
    parts += [part.numpy() for name in MIXING
              for part in augment.mix(images, images[::-1].copy(), _seeds(128), parse(name))]
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
    images = _images(16, *shape)
    # Weights of grey do not add up to 1 exactly in binary.
    tolerance = 1e-4 if text in ("contrast:0", "saturation:0") else 0
    np.testing.assert_allclose(_apply(text, images), images, rtol=0, atol=tolerance)


def test_types_are_as_documented() -> None:
    images = _images(4)
    for name in ALTERING:
        whole = name in ("mirror", "crop", "cutout", "randaugment")
        assert _apply(name, images).dtype == (np.uint8 if whole else np.float32), name
        kept = np.uint8 if name == "randaugment" else np.float32
        assert _apply(name, images.astype(np.float32)).dtype == kept, name
    assert _apply("none", images).dtype == np.uint8


@pytest.mark.parametrize("first, second", [
    ("standard", "brightness"), ("rotate", "cutout"), ("randaugment", "elastic"), ("cutout", "crop"),
    ("colour_pca", "contrast,saturation")])
def test_a_list_is_done_in_order_and_each_operation_draws_as_if_alone(first: str, second: str) -> None:
    images = _images(20, 16, 16)
    np.testing.assert_array_equal(_apply(f"{first},{second}", images), _apply(second, _apply(first, images)))


def test_mistakes_of_a_caller_are_named() -> None:
    with pytest.raises(ValueError, match="colour_pca needs the colour_components"):
        augment.apply(tf.constant(_images(1)), _seeds(1), parse("colour_pca"))
    with pytest.raises(ValueError, match="no augmentation is called blur"):
        augment.apply(tf.constant(_images(1)), _seeds(1), [Operation("blur", (1.0,))])


# Geometry. In an image whose channels are its pixels' columns and rows, what is read tells where it was read.


def _seen_places(text: str, count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The places from which all pixels come, counted from the centre; those outside of the image are NaN.

    Returns:
      x, y: [count, side, side].
    """
    columns, rows = grid(side, side)
    image = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float32)
    result = _apply(text, np.broadcast_to(image, (count, side, side, 3)))
    result[result[..., 2] < 0.9999] = np.nan
    return result[..., 0], result[..., 1]


def _seen_map(text: str, count: int, side: int) -> np.ndarray:
    """The affine map of each image, seen in the middle of a large one: [count, 2, 3], of (column, row, 1) to (x, y)."""
    x, y = _seen_places(text, count, side)
    middle = side // 2
    assert side % 2  # there is a pixel in the centre
    return np.stack([np.stack([axis[:, middle, middle + 1] - axis[:, middle, middle],
                               axis[:, middle + 1, middle] - axis[:, middle, middle],
                               axis[:, middle, middle]], -1) for axis in (x, y)], 1).astype(float)


def test_rotations_are_rotations_by_angles_drawn_evenly() -> None:
    maps = _seen_map("rotate:40", 3000, 7)
    angles = np.degrees(np.arctan2(maps[:, 1, 0], maps[:, 0, 0]))
    assert _is_uniform(angles, -40, 40)
    radians = np.radians(angles)
    zero = 0 * angles
    expected = np.array([[np.cos(radians), -np.sin(radians), zero], [np.sin(radians), np.cos(radians), zero]])
    np.testing.assert_allclose(maps, expected.transpose(2, 0, 1), atol=1e-5)


def test_shears_move_rows_by_the_tangent_of_angles_drawn_evenly() -> None:
    maps = _seen_map("shear:30", 3000, 7)
    assert _is_uniform(np.degrees(np.arctan(maps[:, 0, 1])), -30, 30)
    maps[:, 0, 1] = 0
    np.testing.assert_allclose(maps, np.broadcast_to(np.eye(2, 3), maps.shape), atol=1e-5)


@pytest.mark.parametrize("distance, pixels", [("3", 3.0), ("0.25", 0.25 * 15)])
def test_translations_are_drawn_evenly_in_both_directions(distance: str, pixels: float) -> None:
    maps = _seen_map(f"translate:{distance}", 3000, 15)
    assert _is_uniform(maps[:, 0, 2], -pixels, pixels) and _is_uniform(maps[:, 1, 2], -pixels, pixels)
    assert abs(np.corrcoef(maps[:, 0, 2], maps[:, 1, 2])[0, 1]) < 0.07  # 3.8 standard errors
    np.testing.assert_allclose(maps[:, :, :2], np.broadcast_to(np.eye(2), (3000, 2, 2)), atol=1e-5)


def test_translations_by_a_share_go_by_each_side() -> None:
    images = np.full((500, 10, 40, 1), 255, np.uint8)
    seen = augment.apply(tf.constant(images), _seeds(500), parse("translate:0.5")).numpy() > 0
    rows, columns = seen.any((2, 3)).sum(1), seen.any((1, 3)).sum(1)
    # Shifted by nearly half of its side, half of an image and one pixel more, in part, is left.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 10, 21, 40)


def test_zooms_are_drawn_evenly_on_a_logarithmic_scale() -> None:
    maps = _seen_map("zoom:0.5", 3000, 7)
    assert _is_uniform(np.log(maps[:, 0, 0]), -np.log(1.5), np.log(1.5))
    np.testing.assert_allclose(maps[:, 0, 0], maps[:, 1, 1], atol=1e-5)
    maps[:, [0, 1], [0, 1]] = 0
    np.testing.assert_allclose(maps, 0, atol=1e-5)


def test_resized_crops_are_parts_of_the_image_of_the_area_and_aspect_asked_for() -> None:
    side, least = 21, 0.1
    x, y = _seen_places(f"resized_crop:{least}", 4000, side)
    assert not np.isnan(x).any()  # nothing is read outside, not even by half a pixel
    widths, heights = (x[:, 0, -1] - x[:, 0, 0]) / (side - 1), (y[:, -1, 0] - y[:, 0, 0]) / (side - 1)
    np.testing.assert_allclose(x - np.linspace(x[:, :1, 0], x[:, :1, -1], side, axis=2), 0, atol=1e-4)
    assert _is_uniform(widths * heights, least, 1)
    aspects = np.log(widths / heights)
    fitting = np.minimum(np.log(4 / 3), -np.log(widths * heights))
    assert (np.abs(aspects) < fitting + 1e-4).all()
    free = widths * heights < 0.74  # where any aspect fits
    assert _is_uniform(aspects[free], -np.log(4 / 3), np.log(4 / 3))
    for middles, sides in (((x[:, 0, 0] + x[:, 0, -1]) / 2, widths), ((y[:, 0, 0] + y[:, -1, 0]) / 2, heights)):
        room = (1 - sides) * (side - 1) / 2
        assert _is_uniform(middles[room > 1] / room[room > 1], -1, 1)


@pytest.mark.parametrize("text", ["crop:3,mirror,rotate:50,shear:20,translate:2,zoom:0.4",
                                  "zoom:0.4,translate:2,shear:20,rotate:50,mirror,crop:3"])
def test_geometric_operations_compose_to_one_bilinear_resampling_in_their_order(text: str) -> None:
    count, height, width = 64, 14, 17
    images = _images(count, height, width)
    matrices = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    for operation in parse(text):
        draws = _draws(operation.name, count)
        step = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
        if operation.name == "crop":
            step[:, 1, 2], step[:, 0, 2] = np.floor(draws * 7) - 3
        elif operation.name == "mirror":
            step[:, 0, 0] = np.where(draws[0] < 0.5, -1, 1)
        elif operation.name == "rotate":
            angle = np.radians(50 * (2 * draws[0] - 1))
            step[:, 0, 0] = step[:, 1, 1] = np.cos(angle)
            step[:, 1, 0], step[:, 0, 1] = np.sin(angle), -np.sin(angle)
        elif operation.name == "shear":
            step[:, 0, 1] = np.tan(np.radians(20 * (2 * draws[0] - 1)))
        elif operation.name == "translate":
            step[:, 1, 2], step[:, 0, 2] = 2 * (2 * draws - 1)
        elif operation.name == "zoom":
            step[:, 0, 0] = step[:, 1, 1] = 1.4 ** (2 * draws[0] - 1)
        matrices = matrices @ step
    columns, rows = grid(height, width)
    places = np.einsum("nij,jhw->nihw", matrices, np.stack([columns, rows, np.ones_like(rows)]))
    np.testing.assert_allclose(_apply(text, images), bilinear(images, places[:, 0], places[:, 1]), atol=0.05)


def test_elastic_moves_pixels_by_a_smoothed_random_field() -> None:
    side, count, alpha, sigma = 33, 600, 6.0, 2.0
    x, y = _seen_places(f"elastic:{alpha}:{sigma}", count, side)
    columns, rows = grid(side, side)
    field = np.stack([x - columns, y - rows], 1)[:, :, 8:-8, 8:-8]  # inside, where nothing is cut off
    assert not np.isnan(field).any()
    # Noise of variance 1/3, smoothed in two directions by Gaussians whose squares add up to 1 / (2 sigma sqrt(pi)).
    deviation = alpha / np.sqrt(3) / (2 * sigma * np.sqrt(np.pi))
    assert abs(field.std() / deviation - 1) < 0.03
    assert abs(field.mean()) < 0.05 * deviation
    # The covariance of two points a distance d apart falls off as exp(-d^2 / (4 sigma^2)).
    for distance in (1, 3, 6):
        for axis in (2, 3):
            ahead, behind = (np.moveaxis(field, axis, 0)[part] for part in (np.s_[distance:], np.s_[:-distance]))
            assert abs((ahead * behind).mean() / deviation**2 - np.exp(-(distance**2) / (4 * sigma**2))) < 0.05
    assert abs((field[:, 0] * field[:, 1]).mean()) < 0.05 * deviation**2  # down and right are unrelated
    assert abs((field[1:] * field[:-1]).mean()) < 0.05 * deviation**2  # and so are images


def test_elastic_is_numpys() -> None:
    height, width, count = 11, 14, 5
    images, seeds = _images(count, height, width), _seeds(count).numpy()
    numbers = 2 * height * width
    first = augment.DRAWS["elastic"][0]
    raw = b"".join(_splitmix(int(seed), first + draw).to_bytes(8, "little")[:max(0, numbers - 8 * draw)]
                   for seed in seeds for draw in range(-(-numbers // 8)))
    noise = (2.0 * np.frombuffer(raw, np.uint8).reshape(count, 2, height, width) - 255) / 255
    kernel = np.exp(-np.arange(-40, 41.0) ** 2 / (2 * 1.5**2))
    for axis in (2, 3):
        noise = np.apply_along_axis(lambda line: np.convolve(line, kernel / kernel.sum())[40:-40], axis, noise)
    columns, rows = grid(height, width)
    expected = bilinear(images, columns + 9 * noise[:, 1], rows + 9 * noise[:, 0])
    # The field is exact to about 9 * 0.5 / 255 of a pixel.
    np.testing.assert_allclose(_apply("elastic:9:1.5", images), expected, atol=9 * 0.6 / 255 * 2 * 255)
    assert np.abs(_apply("elastic:9:1.5", images) - expected).mean() < 0.5


# Colours and shapes


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_factors_are_drawn_evenly_around_one_and_values_stay_in_range(name: str) -> None:
    images = _images(40)
    factors = 1 + 0.7 * (2 * _draws(name, 40)[0] - 1)
    grey = images @ np.array([0.299, 0.587, 0.114])
    middle = {"brightness": 0 * grey, "saturation": grey, "contrast": grey.mean((1, 2), keepdims=True) + 0 * grey}[name]
    expected = middle[..., None] + factors[:, None, None, None] * (images - middle[..., None])
    assert expected.max() > 256 and (name == "brightness" or expected.min() < -1)
    np.testing.assert_allclose(_apply(f"{name}:0.7", images), expected.clip(0, 255), atol=1e-3)


def test_colour_pca_adds_components_with_normal_factors() -> None:
    count = 5000
    images = _images(count, 2, 3).astype(np.float32)
    change = _apply("colour_pca:0.2", images) - images
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1], change.shape), atol=1e-3)
    factors = np.linalg.solve(COMPONENTS.astype(float), change[:, 0, 0].T) / 0.2
    normal = statistics.NormalDist()
    for row in factors:
        assert _is_uniform(np.vectorize(normal.cdf)(row), 0, 1)
        assert abs(row.std() - 1) < 0.035  # 3.5 standard errors
    assert np.abs(np.corrcoef(factors) - np.eye(3)).max() < 0.05
    expected = [normal.inv_cdf(draw) for draw in _draws("colour_pca", count)[0][:200]]
    np.testing.assert_allclose(factors[0, :200], expected, atol=0.01)


@pytest.mark.parametrize("size", [1, 4, 5, 30])
def test_cutout_blackens_a_square_around_any_pixel(size: int) -> None:
    count, height, width = 200, 9, 14
    images = _images(count, height, width)
    expected = images.copy()
    middles = np.floor(_draws("cutout", count) * [[height], [width]]).astype(int)
    for image, row, column in zip(expected, *middles):
        top, left = row - size // 2, column - size // 2
        image[max(top, 0):top + size, max(left, 0):left + size] = 0
    assert {(row, column) for row, column in middles.T} >= {(0, 0)} or len(np.unique(middles[0])) == height
    np.testing.assert_array_equal(_apply(f"cutout:{size}", images), expected)
    np.testing.assert_array_equal(_apply(f"cutout:{size}", images / np.float32(7)), expected / np.float32(7))


# Mixing


def test_partners_are_drawn_evenly_from_all_images() -> None:
    count, images = 50_000, 40
    partners = augment.partner_indices(_seeds(count), images).numpy()
    assert partners.min() == 0 and partners.max() == images - 1
    counts = np.bincount(partners)
    assert ((counts - count / images) ** 2 / (count / images)).sum() < 72.1  # chi-square, 39 degrees, 99.9%
    assert abs(np.corrcoef(partners[:-1], partners[1:])[0, 1]) < 0.02
    many = 2**32 - 1
    first, _ = augment.DRAWS["partner"]
    expected = [(_splitmix(int(seed), first) >> 32) * many >> 32 for seed in _seeds(20).numpy()]
    np.testing.assert_array_equal(augment.partner_indices(_seeds(20), many), expected)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 3.0, 60.0])
def test_shares_of_mixup_are_distributed_as_beta(alpha: float) -> None:
    count = 40_000
    nothing = tf.zeros((count, 1, 1, 1), tf.uint8)
    mixed, shares = augment.mix(nothing, nothing + 255, _seeds(count), parse(f"mixup:{alpha}"))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], 255 * (1 - shares), atol=1e-3)
    shares = np.sort(shares)
    assert shares[0] >= 0 and shares[-1] <= 1
    assert abs(shares.mean() - 0.5) < 0.01
    assert abs(shares.var() / (0.25 / (2 * alpha + 1)) - 1) < 0.03
    reference = np.sort(np.random.default_rng(0).beta(alpha, alpha, count))
    at = np.concatenate([shares, reference.astype(np.float32)])
    distance = np.abs(np.searchsorted(shares, at, "right") - np.searchsorted(reference.astype(np.float32), at, "right"))
    assert distance.max() / count < 1.95 * np.sqrt(2 / count)  # Kolmogorov and Smirnov, 0.1%


def test_mixup_is_the_weighted_mean_of_images() -> None:
    images, partners = _images(30), _images(60)[30:]
    mixed, shares = augment.mix(tf.constant(images), tf.constant(partners), _seeds(30), parse("standard,mixup:1"))
    assert mixed.dtype == tf.float32 and shares.dtype == tf.float32
    weights = _draws("mixup", 30)[0]  # Beta(1, 1) is uniform
    np.testing.assert_allclose(shares, weights, atol=1e-5)
    weights = weights[:, None, None, None]
    np.testing.assert_allclose(mixed, weights * images + (1 - weights) * partners, atol=0.01)


def test_cutmix_takes_a_rectangle_and_shares_by_area() -> None:
    count, height, width = 400, 10, 15
    images, partners = _images(count, height, width) // 2, _images(count, height, width) // 2 + 128
    mixed, shares = augment.mix(tf.constant(images), tf.constant(partners), _seeds(count), parse("cutmix:1"))
    assert mixed.dtype == tf.uint8
    expected, kept = images.copy(), np.ones(count)
    side, down, right = _draws("cutmix", count)
    for number in range(count):
        row, column = int(down[number] * height), int(right[number] * width)
        half = [int(np.sqrt(side[number]) * pixels) // 2 for pixels in (height, width)]
        part = np.s_[max(row - half[0], 0):row + half[0], max(column - half[1], 0):column + half[1]]
        expected[number][part] = partners[number][part]
        kept[number] -= expected[number][part][..., 0].size / (height * width)
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(shares, kept, atol=1e-6)
    np.testing.assert_allclose((mixed.numpy() < 128).mean((1, 2, 3)), kept, atol=1e-6)
    assert kept.min() < 0.3 and kept.max() == 1


def test_nothing_is_mixed_that_is_not_to_be() -> None:
    images = tf.constant(_images(4))
    assert not augment.mixes(parse("strong")) and augment.mixes(parse("strong,mixup"))
    with pytest.raises(ValueError, match="none of mixup, cutmix"):
        augment.mix(images, images, _seeds(4), parse("strong"))


# RandAugment: each layer's choice and direction are two draws


def _enhance(enhancer: type, strength: float) -> Callable[[Image.Image, int], Image.Image]:
    return lambda image, sign: enhancer(image).enhance(1 + sign * 0.9 * strength)


def _pillows(strength: float) -> list[Callable[[Image.Image, int], Image.Image]]:
    return [lambda image, sign: image, lambda image, sign: ImageOps.autocontrast(image),
            lambda image, sign: ImageOps.equalize(image),
            lambda image, sign: ImageOps.solarize(image, round(256 - 256 * strength)),
            lambda image, sign: ImageOps.posterize(image, round(8 - 4 * strength)),
            *(_enhance(enhancer, strength) for enhancer in (ImageEnhance.Color, ImageEnhance.Contrast,
                                                            ImageEnhance.Brightness, ImageEnhance.Sharpness))]


def _layer_reference(image: np.ndarray, choice: int, sign: int, strength: float) -> np.ndarray:
    height, width = image.shape[:2]
    operations = _pillows(strength)
    if choice < len(operations):
        return np.asarray(operations[choice](Image.fromarray(image), sign)).astype(int)
    x, y = grid(height, width)
    amount = sign * strength
    if choice == 9:
        angle = np.radians(30 * amount)
        x, y = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    x, y = {9: (x, y), 10: (x + 0.3 * amount * y, y), 11: (x, y + 0.3 * amount * x),
            12: (x + amount * 150 / 331 * width, y), 13: (x, y + amount * 150 / 331 * height)}[choice]
    return np.rint(bilinear(image[None], x[None], y[None])[0]).astype(int)


@pytest.mark.parametrize("magnitude", [0, 4, 9])
def test_randaugment_is_pillows(magnitude: int) -> None:
    count, strength = 250, magnitude / 10
    images = np.random.default_rng(0).normal(120, 40, (count, 18, 21, 3)).clip(20, 230).astype(np.uint8)
    result = _apply(f"randaugment:1:{magnitude}", images).astype(int)
    draws = _draws("randaugment", count)
    choices, signs = (14 * draws[0]).astype(int), np.where(draws[1] < 0.5, -1, 1)
    assert set(choices) == set(range(14))
    for image, choice, sign, altered in zip(images, choices, signs, result):
        reference = _layer_reference(image, choice, sign, strength)
        # Pillow cuts off where we round; what it computes in whole numbers is the same.
        assert np.abs(altered - reference).max() <= (0 if choice in (0, 2, 3, 4) else 1), choice
        if magnitude == 0 and choice not in (1, 2):
            np.testing.assert_array_equal(altered, image)


def test_randaugments_layers_follow_each_other() -> None:
    count = 400
    images = _images(count, 18, 21)
    result = _apply("randaugment:3:7", images)
    choices = (14 * _draws("randaugment", count)[:6:2]).astype(int)
    exact = [number for number in range(count) if set(choices[:, number]) <= {0, 2, 3, 4}]
    assert len(exact) > 5 and len({tuple(choices[:, number]) for number in exact}) > 5
    for number in exact:
        reference = images[number]
        for choice in choices[:, number]:
            reference = _layer_reference(reference, choice, 1, 0.7).astype(np.uint8)
        np.testing.assert_array_equal(result[number], reference)
