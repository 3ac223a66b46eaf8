"""The network of the speedrun against its released definition, and its whitening and identities against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import tfcnn  # noqa: F401  sets what Keras and TensorFlow read when they are imported
import keras
import tensorflow as tf

from tests import numpy_layers
from tfcnn.experiments.speedrun import RECIPE
from tfcnn.networks import airbench, layers
from tfcnn.recipe import UsageError
from tfcnn.training import initial_weights
from tfcnn.training.setup import prepare
from tfcnn.training.steps import Steps


def test_stages_match_the_released_network() -> None:
    model = airbench.build()
    stages = [(layer.name, layer.output.shape[1:]) for layer in model.layers
              if not layer.name.endswith(("_activation", "_normalization"))]
    assert stages == [
        ("images", (32, 32, 3)), ("whitening", (31, 31, 24)),
        ("conv1_1", (31, 31, 64)), ("pool1", (15, 15, 64)), ("conv1_2", (15, 15, 64)),
        ("conv2_1", (15, 15, 256)), ("pool2", (7, 7, 256)), ("conv2_2", (7, 7, 256)),
        ("conv3_1", (7, 7, 256)), ("pool3", (3, 3, 256)), ("conv3_2", (3, 3, 256)),
        ("pool4", (256,)), ("dense", (10,)), ("logits", (10,))]
    names = [layer.name for layer in model.layers]
    for number in (1, 2, 3):  # the first convolution of a block is pooled, then normalized, then activated
        first = names.index(f"conv{number}_1")
        assert names[first:first + 7] == [
            f"conv{number}_1", f"pool{number}", f"conv{number}_1_normalization", f"conv{number}_1_activation",
            f"conv{number}_2", f"conv{number}_2_normalization", f"conv{number}_2_activation"]
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    dense = keras.Model(model.input, model.get_layer("dense").output)
    np.testing.assert_allclose(model(x), np.asarray(dense(x)) / 9, rtol=1e-6)


def test_whitened_patches_are_uncorrelated_with_unit_variance() -> None:
    random = np.random.default_rng(0)
    colours = random.normal(size=(50, 9, 9, 1)) * [1.0, 2.0, 0.5] + random.normal(size=(50, 9, 9, 3)) / 2
    images = (colours + np.roll(colours, 1, axis=1)).astype(np.float32)  # neighbours are correlated
    layer = layers.PatchWhitening()
    layer.build((None, 9, 9, 3))
    layer.adapt(images)
    outputs = np.asarray(layer(images), np.float64).reshape(-1, 24)
    np.testing.assert_allclose(outputs[:, 12:], -outputs[:, :12], atol=1e-5)
    np.testing.assert_allclose(outputs[:, :12].T @ outputs[:, :12] / len(outputs), np.eye(12), atol=0.02)
    assert [variable.name for variable in layer.trainable_variables] == ["bias"]


def test_whitening_is_computed_from_normalized_training_images() -> None:
    setup = prepare(RECIPE.replace(dataset="sample", batch_size=64))
    images = setup.pipeline.inspected(5000).numpy()
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (1, 2)).reshape(-1, 3, 2, 2)
    kernel = setup.model.get_layer("whitening").kernel.numpy()  # [row, column, channel, filter]
    outputs = patches.reshape(-1, 12) @ kernel.transpose(2, 0, 1, 3).reshape(12, 24)
    variances = outputs.var(axis=0) + outputs.mean(axis=0) ** 2
    np.testing.assert_allclose(variances, 1, atol=0.1)
    # The sample is grey: its patches have four dimensions, and twelve values.
    filters = kernel.reshape(12, 24).T
    np.testing.assert_array_equal(filters[:4], filters[4:8])
    assert np.linalg.matrix_rank(filters) == 4


def test_without_whitening_the_first_layer_is_trained_from_random_weights() -> None:
    """PyTorch's first values: uniform, up to 1 / sqrt(n) for n = 2 * 2 * 3 inputs; no filter is an identity."""
    setup = prepare(RECIPE.replace(dataset="sample", whitening=False))
    layer = setup.model.get_layer("whitening")
    kernel = layer.kernel.numpy()
    assert layer.trainable and len(layer.trainable_variables) == 2 and kernel.shape == (2, 2, 3, 24)
    assert 0.95 * 12 ** -0.5 < np.abs(kernel).max() <= 12 ** -0.5
    assert kernel.std() == pytest.approx((12 * 3) ** -0.5, rel=0.1) and (kernel != 0).all()


def test_whitening_looks_at_fewer_of_larger_images() -> None:
    asked = []

    class Images:
        def inspected(self, count: int) -> tf.Tensor:
            asked.append(count)
            return tf.random.stateless_normal([4, 64, 128, 3], [0, 0])

    images = keras.Input((64, 128, 3))
    initial_weights.adapt(keras.Model(images, layers.PatchWhitening()(images)), Images())
    assert asked == [5000 // 8]  # as many pixels as 5,000 images of 32x32 have


def test_convolutions_begin_as_copies_of_their_inputs() -> None:
    x = numpy_layers.random(2, 7, 7, 5)
    convolution = layers.Conv2D(8, 3, padding="same", use_bias=False, kernel_initializer=layers.Dirac(
        keras.initializers.RandomUniform(0.1, 0.2)))
    outputs = np.asarray(convolution(x))
    np.testing.assert_array_equal(outputs[..., :5], x)
    assert np.all((convolution.kernel[..., 5:] >= 0.1) & (convolution.kernel[..., 5:] <= 0.2))
    again = layers.Dirac.from_config(layers.Dirac(keras.initializers.Ones()).get_config())
    np.testing.assert_array_equal(again((1, 1, 2, 3))[0, 0], [[1, 0, 1], [0, 1, 1]])


@pytest.fixture
def narrow_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airbench, "_WIDTHS", (24, 24, 24))


def _changes(rate: float, shift_l2: float = 0.0, first_shift: float = 0.0) -> dict[str, np.ndarray]:
    """By how much two steps change each weight."""
    setup = prepare(RECIPE.replace(dataset="sample", batch_size=16, validation=0.95, shift_rate=rate,
                                   schedule="constant", learning_rate=1e-4, l2=0.0, shift_l2=shift_l2, lookahead=0,
                                   precision="float32"))
    steps = Steps(setup.recipe, setup.strategy, setup.model, setup.optimizer)
    for variable in setup.model.trainable_variables:
        if variable.path.endswith("/beta"):
            variable.assign(np.full(variable.shape, first_shift))
    before = {variable.path: variable.numpy() for variable in setup.model.trainable_variables}
    steps.run(setup.training_batches(0), tf.constant(2))
    return {variable.path: variable.numpy() - before[variable.path] for variable in setup.model.trainable_variables}


def test_shifts_learn_faster_by_their_factor(narrow_stages: None) -> None:
    slow, fast = _changes(1.0), _changes(64.0)
    shifts = [path for path in slow if path.endswith("/beta")]
    assert len(shifts) == 6
    for path, change in slow.items():
        factor = 64 if path in shifts else 1
        # The second step starts from other shifts, which changes its gradients a little.
        np.testing.assert_allclose(fast[path], factor * change, atol=0.05 * factor * np.abs(change).max())


def test_shifts_lose_their_share(narrow_stages: None) -> None:
    """PyTorch's weight decay, two steps of Nesterov's momentum with a share r of the rate: (2 + 2 m + m^2) r in all."""
    free, decayed = _changes(64.0, 0.0, 0.5), _changes(64.0, 0.01, 0.5)
    lost = 0.5 * (2 + 2 * 0.85 + 0.85 ** 2) * 64 * 0.01 * 1e-4
    for path, change in free.items():
        expected = lost if path.endswith("/beta") else 0.0
        np.testing.assert_allclose(change - decayed[path], expected, atol=0.05 * lost)


def test_shift_rate_needs_an_optimizer_whose_steps_grow_with_the_gradient() -> None:
    with pytest.raises(UsageError, match="--shift_rate=64 changes nothing with --optimizer=adam"):
        RECIPE.replace(optimizer="adam")
