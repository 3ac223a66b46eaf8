"""The in-memory pipeline: the order of the images, how often each occurs, and its pixels."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfcnn.augmentations import parse
from tfcnn.data import normalization
from tfcnn.data.augmentation import composition, mixing, random_numbers, resampling
from tfcnn.data.datasets import Dataset, Split
from tfcnn.data.normalization import PerChannel as Normalization
from tfcnn.data.pipeline import Pipeline, fit, in_parallel
from tfcnn.recipe import Recipe, UsageError
from tfcnn.training import process

SHAPE = (8, 8, 1)


def _split(count: int, first: int = 0) -> Split:
    """Returns images whose first two pixels encode their number."""
    images = np.random.default_rng(first).integers(0, 256, (count, *SHAPE)).astype(np.uint8)
    numbers = first + np.arange(count)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers // 256, numbers % 256
    return Split(images, (numbers % 10).astype(np.int32))


def _pipeline(train: int = 103, test: int = 53, **changes) -> Pipeline:
    dataset = Dataset(name="numbered", source="", class_names=tuple("0123456789"), train=_split(train),
                      validation=_split(20, 1000), test=_split(test, 2000))
    settings = {"batch_size": 16, "augment": "none", "crop_padding": 2} | changes
    return Pipeline(dataset, Recipe(experiment="", network="", **settings), SHAPE)


def _pixels(pipeline: Pipeline, images: tf.Tensor) -> np.ndarray:
    """Undoes the normalization and returns the pixel values."""
    mean, deviation = pipeline.normalization.mean[0], pipeline.normalization.standard_deviation[0]
    return np.rint(images.numpy() * deviation + mean).astype(int)


def _numbers(pipeline: Pipeline, batches) -> list[list[int]]:
    pixels = [_pixels(pipeline, images) for images, *_ in batches]
    return [(images[:, 0, 0, 0] * 256 + images[:, 0, 1, 0]).tolist() for images in pixels]


def test_no_image_repeats_within_an_epoch_and_epochs_differ_in_order() -> None:
    pipeline = _pipeline()
    assert pipeline.steps_per_epoch == 103 // 16
    batches = _numbers(pipeline, pipeline.training(0).take(4 * 6))
    epochs = [sum(batches[start:start + 6], []) for start in range(0, 24, 6)]
    for numbers in epochs:
        assert len(set(numbers)) == 96 and set(numbers) <= set(range(103))
    assert len({tuple(numbers) for numbers in epochs}) == 4
    assert set().union(*epochs) == set(range(103))  # images that one epoch leaves out occur in another
    assert _numbers(pipeline, pipeline.training(0).take(6)) == batches[:6]
    other = _pipeline(seed=1)
    assert _numbers(other, other.training(0).take(6)) != batches[:6]


def test_order_is_random() -> None:
    numbers = np.array(_numbers(pipeline := _pipeline(2048), pipeline.training(0).take(128))).ravel()
    assert abs(np.corrcoef(numbers, np.arange(2048))[0, 1]) < 0.1  # 4.5 standard errors
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.1


def test_labels_belong_to_their_images() -> None:
    pipeline = _pipeline(batch_size=32)
    for dataset in (pipeline.training(0).take(5), pipeline.evaluation("test")):
        for images, labels, *_ in dataset:
            assert labels.numpy().tolist() == [number % 10 for number in _numbers(pipeline, [(images,)])[0]]


def test_training_resumes_at_any_step() -> None:
    pipeline = _pipeline(augment="standard")
    steps = [(images.numpy(), labels.numpy()) for images, labels in pipeline.training(0).take(15)]
    for first in (1, 6, 13):
        images, labels = next(iter(pipeline.training(first)))
        np.testing.assert_array_equal(images, steps[first][0])
        np.testing.assert_array_equal(labels, steps[first][1])


@pytest.mark.parametrize("replicas, workers", [(2, 1), (4, 1), (4, 2)])
def test_batches_of_replicas_form_the_global_batch(replicas: int, workers: int) -> None:
    pipeline = _pipeline(augment="standard")
    local = replicas // workers
    batches = [list(pipeline.training(3, replicas, worker * local, local).take(2 * local))
               for worker in range(workers)]
    for step, (images, labels) in enumerate(pipeline.training(3).take(2)):
        parts = [batches[worker][step * local + replica] for worker in range(workers) for replica in range(local)]
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), images)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), labels)


@pytest.mark.parametrize("count", [1, 16, 53])
def test_evaluation_has_every_image_exactly_once(count: int) -> None:
    pipeline = _pipeline(test=count)
    batches = list(pipeline.evaluation("test"))
    assert {len(images) for images, _, _ in batches} == {16}
    weights = np.concatenate([weights for _, _, weights in batches])
    numbers = np.array(sum(_numbers(pipeline, batches), []))
    assert set(weights) <= {0.0, 1.0}
    assert numbers[weights == 1].tolist() == list(range(2000, 2000 + count))


def test_augmentation_depends_only_on_the_image_and_the_epoch() -> None:
    pipeline, small = _pipeline(augment="standard"), _pipeline(augment="standard", batch_size=4)
    assert small.steps_per_epoch == 25

    def seen(source: Pipeline, first: int, count: int) -> set[bytes]:
        batches = list(source.training(first).take(count))
        return {image.tobytes() for images, _ in batches for image in images.numpy()}

    first, again = seen(pipeline, 0, 6), seen(small, 0, 25)
    # Another batch size gives the same augmented images, except for the few left out in either case.
    assert len(first & again) >= 96 - 3
    assert len(first & seen(pipeline, 6, 6)) < 10


@pytest.mark.parametrize("more", ["", ",brightness:0"])
def test_alternating_mirror_mirrors_an_image_in_every_other_epoch(more: str) -> None:
    """Jordan 2024, section 3.6: random in the first epoch, and from then on the other way round in each epoch."""
    pipeline, plain = (_pipeline(augment=augment, train=160, input_normalization="none")
                       for augment in (f"alternating_mirror{more}", "none"))
    mirrored: list[dict[int, bool]] = []
    for epoch in range(4):
        seen = {}
        for images, originals in zip(pipeline.training(10 * epoch).take(10), plain.training(10 * epoch).take(10)):
            for image, original in zip(images[0].numpy(), originals[0].numpy()):
                same, flipped = (np.allclose(image, other, atol=1e-6) for other in (original, original[:, ::-1]))
                assert same != flipped
                number = int(np.rint(original[0, 0, 0] * 255) * 256 + np.rint(original[0, 1, 0] * 255))
                seen[number] = flipped
        assert len(seen) == 160
        mirrored.append(seen)
    assert 50 < sum(mirrored[0].values()) < 110  # 4.7 standard deviations of 160 fair coins
    for before, after in itertools.pairwise(mirrored):
        assert all(after[number] != flipped for number, flipped in before.items())


def test_mirroring_and_cropping_can_be_turned_off() -> None:
    mirrored, cropped, neither = (
        next(iter(_pipeline(augment="standard", **changes).training(0)))[0].numpy()
        for changes in ({"crop_padding": 0}, {"mirror": False}, {"crop_padding": 0, "mirror": False}))
    plain = next(iter(_pipeline().training(0)))[0].numpy()
    np.testing.assert_array_equal(neither, plain)
    is_mirrored = [np.array_equal(image, other[:, ::-1]) for image, other in zip(mirrored, plain)]
    is_same = [np.array_equal(image, other) for image, other in zip(mirrored, plain)]
    assert all(one != other for one, other in zip(is_mirrored, is_same)) and any(is_mirrored) and any(is_same)
    assert not np.array_equal(cropped, plain)


@pytest.mark.parametrize("mixing", ["mixup:1", "cutmix:1"])
def test_mixed_images_have_mixed_labels(mixing: str) -> None:
    """Labels are mixed with the same weights as the image and its partner."""
    pipeline, plain = (_pipeline(augment=f"mirror,crop{mix}", train=160, input_normalization="none")
                       for mix in (f",{mixing}", ""))
    for (images, shares), (own, labels) in zip(pipeline.training(0).take(10), plain.training(0).take(10)):
        assert shares.shape == (16, 10) and shares.dtype == tf.float32
        np.testing.assert_allclose(tf.reduce_sum(shares, 1), 1, atol=1e-6)
        share = shares.numpy()[range(16), labels]
        changed = np.abs(images.numpy() - own.numpy()).max(axis=(1, 2, 3)) > 1e-3
        # An unchanged image keeps most of its label; at most two classes have a weight above 0.
        assert np.all(share[~changed] > 0.4) and np.all((shares.numpy() > 0).sum(axis=1) <= 2)
        if mixing.startswith("cutmix"):
            kept = np.mean(images.numpy() == own.numpy(), axis=(1, 2, 3))
            different = (shares.numpy() > 0).sum(axis=1) == 2
            assert np.all(kept[different] >= share[different] - 1e-6)


def test_partners_are_augmented_with_their_own_seeds_and_mixed_with_the_images() -> None:
    pipeline, plain = (_pipeline(augment=f"mirror{mix}", input_normalization="none") for mix in (",mixup:1", ""))
    seeds = random_numbers.image_seeds(0, tf.constant(0, tf.int64), tf.range(103, dtype=tf.int64))
    partners = mixing.partner_indices(seeds, 103).numpy()
    # Mirroring moves the two pixels that encode the number, so each image is identified by all its pixels.
    split = _split(103)
    augmented = composition.apply(split.images, seeds, parse("mirror")).numpy() / 255
    (images, shares), = pipeline.training(0).take(1)
    (own, labels), = plain.training(0).take(1)
    for image, share, alone, label in zip(images.numpy(), shares.numpy(), own.numpy(), labels.numpy()):
        number = int(np.argmin(np.abs(augmented - alone).sum(axis=(1, 2, 3))))
        other = augmented[partners[number]]
        part = share[label] if partners[number] % 10 != label else np.vdot(image - other, alone - other) / (
            np.vdot(alone - other, alone - other) or 1.0)
        np.testing.assert_allclose(image, part * alone + (1 - part) * other, atol=1e-5)


def test_colour_components_come_from_the_training_images() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (40, 8, 8, 3)).astype(np.uint8)
    others = np.full_like(images, 200)
    dataset = Dataset(name="", source="", class_names=("0", "1"), train=Split(images, np.zeros(40, np.int32)),
                      validation=Split(others, np.zeros(40, np.int32)), test=Split(others, np.zeros(40, np.int32)))
    recipe = Recipe(experiment="", network="", batch_size=40, augment="colour_pca:2", input_normalization="none")
    (shown, _), = Pipeline(dataset, recipe, (8, 8, 3)).training(0).take(1)
    shifts = np.array([(image * 255 - images).reshape(40, -1, 3).mean(axis=1)[
        np.argmin([np.ptp(image * 255 - one, axis=(0, 1)).sum() for one in images])] for image in shown.numpy()])
    values, vectors = np.linalg.eigh(np.cov(images.reshape(-1, 3).T / 255, bias=True))
    factors = shifts / 255 @ vectors / values
    assert abs(factors.std(axis=0) - 2).max() < 0.7  # 3 standard errors of 40 draws


@pytest.mark.parametrize("kind", normalization.KINDS)
def test_input_normalization_comes_from_the_training_images(kind: str) -> None:
    pipeline = _pipeline(input_normalization=kind)
    fitted = normalization.fit(kind, _split(103).images)
    for (images, *_), first in ((next(iter(pipeline.evaluation("test"))), 2000),):
        np.testing.assert_array_equal(images, fitted.apply(tf.constant(_split(53, first).images[:16])))
    assert pipeline.normalization.statistics() == fitted.statistics()


@pytest.mark.parametrize("kind", normalization.KINDS)
@pytest.mark.parametrize("augment", ["mirror", "mirror,brightness:0"])
def test_training_images_are_normalized_after_they_are_augmented(augment: str, kind: str) -> None:
    """Both where whole pixels are moved and where images are computed: `brightness:0` changes none."""
    pipeline = _pipeline(input_normalization=kind, augment=augment)
    originals, fitted = _split(103).images, normalization.fit(kind, _split(103).images)
    mirrored = []
    for (images, _), indices in zip(pipeline.training(0).take(2), pipeline.order(0).take(2)):
        own = originals[indices.numpy()]
        plain, flipped = (fitted.apply(tf.constant(each)).numpy() for each in (own, own[:, :, ::-1]))
        for image, same, other in zip(images.numpy(), plain, flipped):
            mirrored.append(np.allclose(image, other, atol=1e-5))
            np.testing.assert_allclose(image, other if mirrored[-1] else same, atol=1e-5)
    assert set(mirrored) == {False, True}


def test_normalization_agrees_with_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 200, (50, 6, 6, 3)).astype(np.uint8) // [1, 2, 3]
    images = images.astype(np.uint8)
    normalization = Normalization.of(images)
    np.testing.assert_allclose(normalization.mean, images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(normalization.standard_deviation, images.std(axis=(0, 1, 2)), rtol=1e-12)
    expected = (images - images.mean(axis=(0, 1, 2))) / images.std(axis=(0, 1, 2))
    np.testing.assert_allclose(normalization.apply(tf.constant(images)), expected, atol=1e-5)


def test_normalization_of_constant_images_is_finite() -> None:
    images = np.full((3, 4, 4, 1), 7, np.uint8)
    assert np.all(Normalization.of(images).apply(tf.constant(images)).numpy() == 0)


def test_statistics_come_only_from_the_training_images() -> None:
    pipeline = _pipeline()
    assert pipeline.normalization == Normalization.of(_split(103).images)


def test_fit_pads_and_resizes_images_and_converts_channels() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.uint8)
    labels = np.zeros(3, np.int32)
    colour = fit(Split(grey, labels), (32, 32, 3)).images
    assert colour.shape == (3, 32, 32, 3) and colour.dtype == np.uint8
    np.testing.assert_array_equal(colour, np.repeat(np.pad(grey, [(0, 0), (2, 2), (2, 2), (0, 0)]), 3, axis=-1))

    flat = np.full((2, 50, 40, 3), (10, 200, 30), np.uint8)
    resized = fit(Split(flat, labels[:2]), (32, 32, 1)).images
    assert resized.shape == (2, 32, 32, 1)
    assert np.all(resized == round(0.299 * 10 + 0.587 * 200 + 0.114 * 30))
    np.testing.assert_array_equal(fit(Split(flat, labels[:2]), (50, 40, 3)).images, flat)
    with pytest.raises(UsageError, match="2 channels"):
        fit(Split(flat[..., :2], labels[:2]), (50, 40, 3))


def test_images_with_more_pixels_than_int32_can_count_are_as_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for augment in ("standard", "none", "crop,mixup:0.2"):
        expected = list(_pipeline(augment=augment).training(0).take(8))
        with monkeypatch.context() as patch:
            patch.setattr(resampling, "_ADDRESSABLE", 103 * 8 * 8)
            pipeline = _pipeline(augment=augment)
            found = list(pipeline.training(0).take(8))
        assert not pipeline._moves_whole_pixels
        for (images, labels), (own, own_labels) in zip(found, expected, strict=True):
            np.testing.assert_allclose(images, own, atol=1e-6)
            np.testing.assert_array_equal(labels, own_labels)


def test_images_of_other_proportions_are_cut_and_not_squashed() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 80, 160, 3)).astype(np.uint8)
    labels = np.zeros(2, np.int32)
    middle = fit(Split(images[:, :, 40:120], labels), (64, 64, 3)).images
    np.testing.assert_array_equal(fit(Split(images, labels), (64, 64, 3)).images, middle)
    upright = images.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(fit(Split(upright, labels), (64, 128, 3)).images,
                                  fit(Split(upright[:, 60:100], labels), (64, 128, 3)).images)


def test_batches_are_not_autotuned() -> None:
    pipeline = _pipeline()
    for dataset in (pipeline.training(0), pipeline.evaluation("test")):
        assert dataset.options().autotune.enabled is False


def test_fewer_images_than_a_batch_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--batch_size=104 .* 103"):
        _pipeline(batch_size=104)


def test_only_the_threads_that_prepare_batches_have_low_priority() -> None:
    """These threads must use most of the CPU time of preparing batches, and no other thread may start later."""
    dataset = tf.data.Dataset.range(10**9).map(lambda number: number + 1, 1)
    assert next(iter(dataset)).numpy() == 1  # TensorFlow's own threads have started
    before = {thread: os.getpriority(os.PRIO_PROCESS, thread) for thread in process.thread_ids()}
    with process.low_priority_threads():
        batches = iter(in_parallel(tf.data.Dataset.range(10**9), lambda seed: tf.reduce_sum(
            tf.random.stateless_normal([10**6], [0, 1] + seed)), 2))
    low_priority = [thread for thread in set(process.thread_ids()) - before.keys()
                    if os.getpriority(os.PRIO_PROCESS, thread) == 19]
    assert len(low_priority) >= 2
    assert all(os.getpriority(os.PRIO_PROCESS, thread) == priority for thread, priority in before.items()
               if Path(f"/proc/self/task/{thread}").exists())
    start, start_of_all = sum(map(_processor_seconds, low_priority)), time.process_time()
    for _ in range(20):
        next(batches)
    assert sum(map(_processor_seconds, low_priority)) - start > 0.5 * (time.process_time() - start_of_all)
    assert set(process.thread_ids()) <= before.keys() | set(low_priority)  # no thread has started since


def _processor_seconds(thread: int) -> float:
    """Returns the CPU time of a thread of this process, in seconds."""
    return int(Path(f"/proc/self/task/{thread}/schedstat").read_text().split()[0]) / 1e9
