"""Each normalization against NumPy in float64. A normalized image does not depend on the rest of its batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfcnn.data import normalization
from tfcnn.data.normalization import PerChannel, PixelMean, Zca
from tfcnn.recipe import UsageError


def _images(count: int, shape: tuple[int, int, int] = (6, 5, 3), seed: int = 0) -> np.ndarray:
    """Returns images whose neighbouring pixels correlate; brightness and contrast vary by image and channel."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, *shape)).cumsum(axis=1).cumsum(axis=2)
    values = 40 * random.random((count, 1, 1, 1)) * noise + random.normal([90, 120, 150][:shape[2]], 20)
    return np.clip(values, 0, 255).astype(np.uint8)


def _standardized(images: np.ndarray) -> np.ndarray:
    values = images.astype(np.float64).reshape(len(images), -1)
    centred = values - values.mean(axis=1)[:, None]
    return centred / np.maximum(np.sqrt((centred ** 2).mean(axis=1)), 1 / np.sqrt(values.shape[1]))[:, None]


def _apply(one: normalization.Normalization, images: np.ndarray) -> np.ndarray:
    normalized = one.apply(tf.constant(images))
    assert normalized.dtype == tf.float32 and normalized.shape == images.shape
    return normalized.numpy()


def _assert_refused(message: str, *arguments) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        normalization.fit(*arguments)
    assert "\n" not in str(caught.value)


def test_channel_equals_the_float32_computation_of_recorded_runs() -> None:
    """Recorded runs depend on every bit: statistics from counts, then a product and a difference in float32."""
    images = _images(50)
    fitted = normalization.fit("channel", images)
    assert isinstance(fitted, PerChannel) and fitted == PerChannel.of(images)
    for channel in range(3):
        count = np.bincount(images[..., channel].ravel(), minlength=256)
        mean = float(np.average(np.arange(256.0), weights=count))
        deviation = float(np.sqrt(np.average((np.arange(256.0) - mean) ** 2, weights=count)))
        assert (fitted.mean[channel], fitted.standard_deviation[channel]) == (mean, deviation)
    scale = np.float32(1) / np.array(fitted.standard_deviation, np.float32)
    expected = images.astype(np.float32) * scale - np.array(fitted.mean, np.float32) * scale
    np.testing.assert_array_equal(_apply(fitted, images), expected)
    exact = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
    np.testing.assert_allclose(expected, exact, atol=1e-5)


def test_none_divides_by_255() -> None:
    images = _images(7)
    np.testing.assert_allclose(_apply(normalization.fit("none", images), images), images / 255.0, rtol=3e-7)


def test_image_has_mean_0_and_variance_1() -> None:
    images = _images(64)
    normalized = _apply(normalization.fit("image", images), images)
    np.testing.assert_allclose(normalized.reshape(64, -1), _standardized(images), atol=1e-5)
    np.testing.assert_allclose(normalized, tf.image.per_image_standardization(images), atol=1e-5)
    has_contrast = images.std(axis=(1, 2, 3)) > 1
    assert has_contrast.sum() > 50
    np.testing.assert_allclose(normalized[has_contrast].mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(normalized[has_contrast].var(axis=(1, 2, 3)), 1, atol=1e-5)


def test_image_of_little_contrast_is_not_amplified() -> None:
    images = np.full((3, 4, 4, 3), 201, np.uint8)
    images[1, 0, 0, 0], images[2] = 202, 0
    fitted = normalization.fit("image", images)
    normalized = _apply(fitted, images)
    assert np.all(normalized[[0, 2]] == 0)
    np.testing.assert_allclose(normalized, tf.image.per_image_standardization(images), atol=1e-5)
    np.testing.assert_allclose(normalized[1, 0, 0, 0], (1 - 1 / 48) * np.sqrt(48), rtol=1e-5)
    np.testing.assert_allclose(_apply(fitted, images + np.float32(0.25)), normalized, atol=1e-5)


def test_pixel_mean_agrees_with_numpy() -> None:
    images = _images(200)
    fitted = normalization.fit("pixel_mean", images)
    assert isinstance(fitted, PixelMean)
    mean = images.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(fitted.mean, mean, rtol=1e-12)
    deviation = np.sqrt(((images - mean) ** 2).mean())
    assert fitted.standard_deviation == pytest.approx(deviation, rel=1e-10)
    normalized = _apply(fitted, images)
    np.testing.assert_allclose(normalized, (images - mean) / deviation, atol=2e-5)
    np.testing.assert_allclose(normalized.mean(axis=0), 0, atol=1e-5)
    assert normalized.std() == pytest.approx(1, rel=1e-5)


@pytest.fixture(scope="module")
def whitening() -> tuple[np.ndarray, Zca]:
    images = _images(3000, (6, 6, 3))
    return images, Zca.of(images)


def test_zca_agrees_with_numpy(whitening: tuple[np.ndarray, Zca]) -> None:
    """The reference uses the singular value decomposition of the data; the code decomposes their covariance."""
    images, fitted = whitening
    values = _standardized(images)
    centred = values - values.mean(axis=0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    variances = singular ** 2 / len(images)
    expected = centred @ directions.T @ np.diag((variances + 0.1) ** -0.5) @ directions
    whitened = _apply(fitted, images).reshape(len(images), -1)
    np.testing.assert_allclose(whitened, expected, atol=2e-5)
    # Epsilon makes variances less than 1: they are near 1 in directions of large variance, near 0 in those of small.
    covariance = np.cov(whitened.T, bias=True)
    np.testing.assert_allclose(covariance, directions.T @ np.diag(variances / (variances + 0.1)) @ directions,
                               atol=2e-5)
    assert (variances > 2).sum() > 5
    strong = directions[variances > 2]
    np.testing.assert_allclose(strong @ covariance @ strong.T, np.eye(len(strong)), atol=0.05)


def test_zca_removes_correlation(whitening: tuple[np.ndarray, Zca]) -> None:
    images, fitted = whitening
    others = _images(3000, (6, 6, 3), seed=1)  # other images than those it was fitted to

    def correlation(values: np.ndarray) -> float:
        return float(np.abs(np.corrcoef(values.reshape(len(values), -1).T) - np.eye(108)).mean())

    assert correlation(others) > 0.15 and correlation(_apply(fitted, others)) < 0.05


def test_zca_of_equal_images_is_finite() -> None:
    images = np.repeat(_images(1), 20, axis=0)
    np.testing.assert_allclose(_apply(normalization.fit("zca", images), images), 0, atol=1e-4)


def test_zca_sums_are_exact(whitening: tuple[np.ndarray, Zca]) -> None:
    """Sums do not depend on the order of addition: in units of `step`, they are integers below 2^53."""
    matrix = whitening[1].matrix.astype(np.float64)
    step = 2.0 ** (np.ceil(np.log2(np.abs(matrix).max())) - 23)
    weights = matrix / step
    assert np.all(weights == np.rint(weights)) and 2 ** 22 <= np.abs(weights).max() <= 2 ** 23
    assert 255 * 256 * 4096 * 2 ** 23 < 2 ** 53
    np.testing.assert_array_equal(matrix, matrix.T)


@pytest.mark.parametrize("kind", normalization.KINDS)
@pytest.mark.parametrize("pixels", [np.uint8, np.float32])
def test_an_image_does_not_depend_on_the_rest_of_its_batch(kind: str, pixels: type) -> None:
    images = _images(128, (16, 16, 3))
    fitted = normalization.fit(kind, images)
    if pixels is np.float32:
        images = (images * np.random.default_rng(2).random(images.shape)).astype(np.float32)
    together = _apply(fitted, images)
    order = np.random.default_rng(1).permutation(128)
    np.testing.assert_array_equal(_apply(fitted, images[order]), together[order])
    for count in (1, 3):
        np.testing.assert_array_equal(_apply(fitted, images[7:7 + count]), together[7:7 + count])
    any_batch = tf.function(fitted.apply, input_signature=[tf.TensorSpec((None, 16, 16, 3), pixels)])
    np.testing.assert_array_equal(any_batch(tf.constant(images)), together)
    mapped = tf.data.Dataset.from_tensor_slices(images).batch(50).map(fitted.apply, 2)
    np.testing.assert_array_equal(np.concatenate([batch.numpy() for batch in mapped]), together)


@pytest.mark.parametrize("kind", ["channel", "pixel_mean", "zca"])
def test_statistics_from_batches_equal_those_of_all_images(kind: str) -> None:
    images = _images(1500)
    whole = normalization.fit(kind, images)
    parts = normalization.fit(kind, (images[start:start + 401] for start in range(0, 1500, 401)))
    # Sums are exact (integers) except those of ZCA, whose weights differ in the last bits.
    np.testing.assert_allclose(_apply(parts, images), _apply(whole, images), atol=2e-5 if kind == "zca" else 0)
    if kind != "zca":
        assert parts.statistics() == whole.statistics()


@pytest.mark.parametrize("kind", normalization.KINDS)
def test_loading_restores_the_saved_normalization(kind: str, tmp_path: Path) -> None:
    images = _images(40)
    fitted = normalization.fit(kind, images)
    (tmp_path / "normalization").write_bytes(fitted.to_bytes())
    loaded = normalization.load(tmp_path / "normalization")
    assert type(loaded) is type(fitted) and loaded.statistics() == fitted.statistics()
    np.testing.assert_array_equal(_apply(loaded, images), _apply(fitted, images))
    statistics = json.dumps(fitted.statistics())
    assert json.loads(statistics)["kind"] == kind and len(statistics) < 500


def test_channel_statistics_in_json_agree_with_numpy() -> None:
    images = _images(40)
    statistics = json.loads(json.dumps(normalization.fit("channel", images).statistics()))
    np.testing.assert_allclose(statistics["mean"], images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(statistics["standard_deviation"], images.std(axis=(0, 1, 2)), rtol=1e-12)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and then nothing", b"no archive"])
def test_error_names_a_damaged_file(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "normalization.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="normalization.npz cannot be read"):
        normalization.load(path)


def test_error_names_a_file_with_other_contents(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    for fields in ({"kind": "median"}, {"mean": 1.0}, {"kind": "channel", "mean": [1.0]}):
        np.savez(path, **fields)
        with pytest.raises(UsageError, match="other.npz cannot be read"):
            normalization.load(path)


def test_invalid_normalizations_are_usage_errors() -> None:
    _assert_refused("no normalization 'zac': choose one of channel, none", "zac", _images(3))
    _assert_refused("4096 values an image, and these have 64x64x3: choose", "zca", np.zeros((2, 64, 64, 3), np.uint8))
    for kind in ("channel", "pixel_mean", "zca"):
        _assert_refused("no training images", kind, _images(3)[:0])
        _assert_refused("no training images", kind, iter([]))


@pytest.mark.parametrize("kind", ["channel", "pixel_mean", "zca"])
def test_images_without_contrast_become_0(kind: str) -> None:
    images = np.full((5, 4, 4, 1), 7, np.uint8)
    np.testing.assert_array_equal(_apply(normalization.fit(kind, images), images), 0)
