"""The randomization test: does an explanation change when the network has not learnt anything?

*Source*: Adebayo, Gilmer, Muelly, Goodfellow, Hardt and Kim, "Sanity Checks for Saliency Maps", NeurIPS 2018, section
3, "model parameter randomization test". All weights are drawn anew at once, as before training; the similarity of two
explanations is Spearman's rank correlation, one of the paper's measures. Near 1 the explanation does not depend on what
was learnt; near 0 it does. An edge detector looks like an explanation, and fails: its correlation is 1.
"""

from __future__ import annotations

import keras
import numpy as np
from scipy import ndimage, stats


def redrawn(model: keras.Model, seed: int) -> keras.Model:
    """The same network before training: each weight drawn anew by its layer's own initializer.

    Args:
      model: the trained network, which is left unchanged.
      seed: of the weights; not the seed of the training run, whose first weights the trained ones resemble. It becomes
        the seed of Python's, NumPy's and TensorFlow's global random numbers, too.
    """
    keras.utils.set_random_seed(seed)
    return keras.models.clone_model(model)


def rank_correlations(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each explanation with its counterpart.

    Args:
      one: explanations, `[n, ...]`.
      two: as many of the same shape.

    Returns:
      `[n]`, from -1 to 1; not a number where all values of an explanation are equal.
    """
    ranks = [stats.rankdata(values.reshape(len(values), -1), axis=1) for values in (one, two)]
    one, two = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (one * two).sum(axis=1) / np.sqrt((one ** 2).sum(axis=1) * (two ** 2).sum(axis=1))


def mean(correlations: np.ndarray) -> float | None:
    """The mean of the correlations that are numbers; None if there are none."""
    known = correlations[np.isfinite(correlations)]
    return float(known.mean()) if known.size else None


def edges(images: np.ndarray) -> np.ndarray:
    """An edge detector, the test's control: the length of Sobel's gradient, its mean over the channels.

    Args:
      images: `[batch, height, width, channels]`.

    Returns:
      `[batch, height, width]`.
    """
    slope, smooth = np.array([-1.0, 0.0, 1.0]), np.array([1.0, 2.0, 1.0])
    values = images.astype(np.float64)
    along = [ndimage.correlate1d(ndimage.correlate1d(values, slope, axis=axis), smooth, axis=3 - axis)
             for axis in (1, 2)]
    return np.hypot(*along).mean(axis=-1)
