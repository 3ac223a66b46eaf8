"""Augmentation: pure, batched functions of (images, per-image seeds, operations) -> images.

Every image has its own 64-bit seed, a function of the run's seed, the epoch and the image's index in the training set
(`image_seeds`). What is drawn from it does not depend on the other images of the batch, on the number of threads,
devices or machines, or on where a run was resumed: the same image is altered in the same way. Each operation has its
own draws (`DRAWS`), so listing one more changes nothing in what the others do.

The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators"), a counter-based
one of a few integer operations: `tf.random.stateless_*` takes one seed a call, and a call an image would be slow.
What is not uniform is read off a table of quantiles that NumPy computes: TensorFlow's exp, sin and their like round
differently at the end of a vector, which would let an image's place in the batch be seen in its bits.

Images come as uint8 or float32 from 0 to 255. Operations that only move whole pixels (mirror, crop, cutout, cutmix)
keep the type; resampling, colours and mixup give float32 without rounding; randaugment rounds, as its operations are
defined on bytes, and gives uint8.
"""

from __future__ import annotations

import functools
import itertools
import math
import statistics
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tfcnn.augmentations import MIXING, Operation
from tfcnn.data import colour, resample

_INCREMENT = 0x9E3779B97F4A7C15  # the odd number nearest to 2^64 / golden ratio
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

# The first draw of each operation, and how many it takes. Recorded runs rest on them: add, but change none.
DRAWS = {
    "crop": (0, 2),
    "mirror": (2, 1),
    "resized_crop": (3, 4),
    "rotate": (7, 1),
    "shear": (8, 1),
    "translate": (9, 2),
    "zoom": (11, 1),
    "colour_pca": (12, 3),
    "brightness": (15, 1),
    "contrast": (16, 1),
    "saturation": (17, 1),
    "cutout": (18, 2),
    "mixup": (20, 1),
    "cutmix": (21, 3),
    "partner": (24, 1),  # not an operation: whom an image is mixed with
    "randaugment": (32, 2 * 8),  # two for each of at most eight layers
    "streamed_crop": (64, 4 * 10),  # resized_crop while decoding: four for each of ten attempts
    "elastic": (1024, 2**32),  # the last: as many as the image needs
}

_TABLE = 4096  # intervals of a table of quantiles; a power of two, so that places in it are exact
# A tail, which may have no end, is made an interval from its outer quarter on, which leaves the variance what it is.
_PROBABILITIES = np.clip(np.arange(_TABLE + 1) / _TABLE, 0.25 / _TABLE, 1 - 0.25 / _TABLE)

# Cubuk et al. 2020, section 3, in another order: what moves pixels is at the end.
_CHOICES = ("identity", "autocontrast", "equalize", "solarize", "posterize", "saturation", "contrast", "brightness",
            "sharpness", "rotate", "shear_x", "shear_y", "translate_x", "translate_y")
_MOVES = _CHOICES[9:]


# Random numbers


def image_seeds(seed: int, epoch: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """One seed for each image.

    Args:
      seed: the run's seed.
      epoch: the epoch, from 0: a scalar, or [batch].
      indices: [batch], the images' places in the training set.

    Returns:
      [batch], uint64.
    """
    start = _mix(tf.constant(seed % 2**64, tf.uint64) + tf.constant(_INCREMENT, tf.uint64))
    epoch_seed = _mix(start + tf.cast(epoch, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))
    return _mix(epoch_seed + tf.cast(indices, tf.uint64) * tf.constant(_INCREMENT, tf.uint64))


def order_seed(seed: int, epoch: tf.Tensor) -> tf.Tensor:
    """The seed of an epoch's order of the images, for `tf.random.experimental.index_shuffle`: int32 [2].

    Of several epochs, [n], they are [n, 2].
    """
    # One draw of the seeds' own generator, so that neighbouring seeds and epochs have unrelated orders.
    return tf.bitcast(image_seeds(seed, epoch, tf.fill(tf.shape(epoch), tf.constant(-1, tf.int64))), tf.int32)


def uniform(seeds: tf.Tensor, draw: int) -> tf.Tensor:
    """The draw-th random number of each image, uniform in [0, 1).

    Args:
      seeds: [batch], uint64.
      draw: which number of the image's sequence, from 0.

    Returns:
      [batch], float32, multiples of 2^-24.
    """
    return _uniforms(seeds, [draw])[:, 0]


def uniforms(seeds: tf.Tensor, operation: str) -> tf.Tensor:
    """All random numbers of an operation of `DRAWS`: [batch, draws], float32, uniform in [0, 1)."""
    return _uniforms(seeds, _draws(operation))


def partner_indices(seeds: tf.Tensor, images: int) -> tf.Tensor:
    """The training image with which each image is mixed; each of them, the image itself too, is equally likely.

    Args:
      seeds: [batch], uint64: the seeds of the images, not of the partners.
      images: how many images the training set has, below 2^32.

    Returns:
      [batch], int64, from 0 to images - 1.
    """
    upper = _shift(_bits(seeds, _draws("partner"))[:, 0], 32)
    return tf.cast(_shift(upper * tf.constant(images, tf.uint64), 32), tf.int64)


# The operations


@tf.autograph.experimental.do_not_convert  # nothing here branches on a tensor: converting is but slow
def apply(images: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation],
          colour_components: np.ndarray | None = None) -> tf.Tensor:
    """The images after all operations but those that mix images, in order.

    Geometric operations that stand side by side are composed into one resampling: what the first moves out of sight the
    next can bring back. Of mirror and crop alone it is exact, in any other company bilinear, with zeros outside.

    Args:
      images: [batch, height, width, channels], uint8 or float32 from 0 to 255; only the batch may be unknown.
      seeds: [batch], uint64, of `image_seeds`.
      operations: of `augmentations.parse`.
      colour_components: for colour_pca, of `colour.components` of the training images.

    Returns:
      Images of the same shape, uint8 or float32 as said at the head of this module.
    """
    for group in _groups(operations):
        if group[0].name in _MOVING:
            place, field = _place(seeds, group, images.shape[1:3])
            images = (resample.read(images, tf.range(tf.shape(images)[0]), place) if moves_only(group) else
                      resample.interpolate(images, place, field))
            continue
        for name, arguments in ((operation.name, operation.arguments) for operation in group):
            if name in _FACTORS:
                strength, = arguments
                factor = 1.0 + strength * (2.0 * uniform(seeds, DRAWS[name][0]) - 1.0)
                images = tf.clip_by_value(_FACTORS[name](images, factor), 0.0, 255.0)
            elif name == "colour_pca":
                if colour_components is None:
                    raise ValueError("colour_pca needs the colour_components of the training images")
                images = _colour_pca(images, seeds, arguments[0], colour_components)
            elif name == "cutout":
                images = _cutout(images, seeds, int(arguments[0]))
            elif name == "randaugment":
                images = _randaugment(images, seeds, int(arguments[0]), arguments[1] / 10)
            elif name not in MIXING:
                raise ValueError(f"no augmentation is called {name}")
    return images


@tf.autograph.experimental.do_not_convert
def take(images: tf.Tensor, indices: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation],
         colour_components: np.ndarray | None = None) -> tf.Tensor:
    """`apply` of the images of some indices, [batch], of all images: faster than to copy them first."""
    groups = _groups(operations)
    if not groups or not moves_only(groups[0]):
        return apply(tf.gather(images, indices), seeds, operations, colour_components)
    moved = resample.pixels(images, *moved_from(tf.cast(indices, tf.int32), seeds, groups[0], images.shape[1:3]))
    return apply(moved, seeds, list(itertools.chain(*groups[1:])), colour_components)


@tf.autograph.experimental.do_not_convert  # nothing here branches on a tensor: converting is but slow
def mix(images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor,
        operations: Sequence[Operation]) -> tuple[tf.Tensor, tf.Tensor]:
    """The images mixed with their partners by mixup or cutmix, whichever is one of the operations.

    Args:
      images: [batch, height, width, channels], after `apply`.
      partners: likewise: the training images of `partner_indices`, augmented by their own seeds.
      seeds: [batch], uint64: the seeds of the images.
      operations: of `augmentations.parse`.

    Returns:
      The mixed images, and for each the share of the label that stays its own, float32 `[batch]`, from 0 to 1: the rest
      is the partner's.
    """
    for operation in operations:
        if operation.name == "mixup":
            share = _quantile(_beta_quantiles(operation.arguments[0]), uniform(seeds, DRAWS["mixup"][0]))
            weight = share[:, None, None, None]
            return tf.cast(images, tf.float32) * weight + tf.cast(partners, tf.float32) * (1.0 - weight), share
        if operation.name == "cutmix":
            return _cutmix(images, partners, seeds, operation.arguments[0])
    raise ValueError(f"none of {', '.join(MIXING)} is among the operations")


def moves_only(operations: Sequence[Operation]) -> bool:
    """Whether all that the operations do is to move pixels to whole places."""
    return {operation.name for operation in operations} <= {"mirror", "crop"}


@tf.autograph.experimental.do_not_convert
def moved_from(indices: tf.Tensor, seeds: tf.Tensor, operations: Sequence[Operation], size: tuple[int, int]
               ) -> tuple[tf.Tensor, tf.Tensor]:
    """The lines and columns, for `resample.pixels`, of images on which are only operations that `moves_only`.

    Args:
      indices: [batch], int32: which images.
      seeds: [batch], uint64, of `image_seeds`.
      operations: of `augmentations.parse`.
      size: (height, width) of the images.
    """
    place, _ = _place(seeds, operations, size)
    return resample.lines_and_columns(indices, place, size)


def mixes(operations: Sequence[Operation]) -> bool:
    """Whether one of the operations mixes images."""
    return any(operation.name in MIXING for operation in operations)


# Geometry: each operation's draws, `[batch, 1, 1]` each, make a map of places


def _groups(operations: Sequence[Operation]) -> list[list[Operation]]:
    """The operations, those that move pixels and stand side by side together."""
    return [list(group) for _, group in itertools.groupby(operations, lambda operation: operation.name in _MOVING)]


def _place(seeds: tf.Tensor, operations: Sequence[Operation], size: tuple[int, int]
           ) -> tuple[resample.Place, tf.Tensor | None]:
    """Where the pixels come from after operations that move them, and the field of a local warping."""
    place, field = resample.UNMOVED, None
    mapped = [operation for operation in operations if operation.name in _MAPS]
    draws = [draw for operation in mapped for draw in _draws(operation.name)]
    numbers = dict(zip(draws, tf.unstack(_uniforms(seeds, draws)[..., None, None], len(draws), 1))) if draws else {}
    for operation in reversed(mapped):  # from the result back to the source
        own = [numbers[draw] for draw in _draws(operation.name)]
        place = _MAPS[operation.name](place, own, size, *operation.arguments)
    for operation in operations:
        if operation.name == "elastic":
            # Wherever it stands in the list, its field is added to the places in the source.
            field = resample.warp(_noise(seeds, *size), *operation.arguments)
    return place, field


def _crop(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], padding: float) -> resample.Place:
    down, right = (tf.floor(draw * (2 * padding + 1)) - padding for draw in draws)
    return resample.shift(place, right, down)


def _mirror(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int]) -> resample.Place:
    return resample.mirror(place, draws[0] < 0.5)


def _resized_crop(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], least: float) -> resample.Place:
    """A part of the image with a share of its area drawn from `least` to 1, enlarged.

    The aspect ratio is drawn from 3/4 to 4/3 on a logarithmic scale; one that does not fit in the image is replaced by
    the nearest that does, where Szegedy et al. draw again. The part ends at the middle of the image's last pixels, not
    half a pixel beyond, where there is nothing to interpolate with.
    """
    side = _quantile(np.sqrt(np.linspace(least, 1, _TABLE + 1)), draws[0])
    aspect = _quantile((4 / 3) ** np.linspace(-0.5, 0.5, _TABLE + 1), draws[1])
    aspect = tf.minimum(tf.maximum(aspect, side), 1.0 / side)
    across, along = tf.minimum(side * aspect, 1.0), tf.minimum(side / aspect, 1.0)
    down = (draws[2] - 0.5) * (1.0 - along) * (size[0] - 1)
    right = (draws[3] - 0.5) * (1.0 - across) * (size[1] - 1)
    return resample.shift(resample.scale(place, across, along), right, down)


def _rotate(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], degrees: float) -> resample.Place:
    angles = _angles(degrees)
    return resample.rotate(place, _quantile(np.cos(angles), draws[0]), _quantile(np.sin(angles), draws[0]))


def _shear(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], degrees: float) -> resample.Place:
    return resample.shear(place, across=_quantile(np.tan(_angles(degrees)), draws[0]), along=0.0)


def _translate(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], distance: float) -> resample.Place:
    down, right = (distance * (1 if distance >= 1 else pixels) * (2.0 * draw - 1.0)
                   for draw, pixels in zip(draws, size))
    return resample.shift(place, right, down)


def _zoom(place: resample.Place, draws: list[tf.Tensor], size: tuple[int, int], share: float) -> resample.Place:
    factor = _quantile((1 + share) ** np.linspace(-1, 1, _TABLE + 1), draws[0])
    return resample.scale(place, factor, factor)


_MAPS: dict[str, Callable[..., resample.Place]] = {
    "mirror": _mirror, "crop": _crop, "resized_crop": _resized_crop, "rotate": _rotate, "shear": _shear,
    "translate": _translate, "zoom": _zoom}
_MOVING = (*_MAPS, "elastic")


def _angles(degrees: float) -> np.ndarray:
    """The quantiles of an angle between -degrees and degrees, in radians."""
    return np.radians(np.linspace(-degrees, degrees, _TABLE + 1))


def _noise(seeds: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """The noise of a local warping: [batch, 2, height, width], odd whole numbers from -255 to 255, float32."""
    count = 2 * height * width
    # Eight numbers a draw: smoothed, they cannot be told from finer ones.
    first = DRAWS["elastic"][0]
    draws = tf.bitcast(_bits(seeds, range(first, first + math.ceil(count / 8))), tf.uint8)
    draws = tf.reshape(draws, (-1, 8 * math.ceil(count / 8)))[:, :count]
    return tf.reshape(2.0 * tf.cast(draws, tf.float32) - 255.0, (-1, 2, height, width))


# Colours and shapes


_FACTORS = {"brightness": colour.brightness, "contrast": colour.contrast, "saturation": colour.saturation}


def _colour_pca(images: tf.Tensor, seeds: tf.Tensor, strength: float, components: np.ndarray) -> tf.Tensor:
    draws = _uniforms(seeds, _draws("colour_pca")[:images.shape[-1]])
    return colour.shift(images, _quantile(strength * _normal_quantiles(), draws), components)


def _cutout(images: tf.Tensor, seeds: tf.Tensor, side: int) -> tf.Tensor:
    """Black squares, whose middle is any pixel of the image: at the edges less of them is in the image.

    DeVries and Taylor cut after the images were normalized, to their mean; here it is before, and the square is black.
    """
    height, width = images.shape[1:3]
    draws = _uniforms(seeds, _draws("cutout"))
    top, left = (tf.cast(draws[:, axis] * images.shape[1 + axis], tf.int32) - side // 2 for axis in range(2))
    return images * (1 - _rectangle(images, top, top + side, left, left + side))


def _cutmix(images: tf.Tensor, partners: tf.Tensor, seeds: tf.Tensor, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Yun et al. 2019, section 3.1 and algorithm 1: a rectangle with the image's aspect ratio, cut off at the edges."""
    height, width = images.shape[1:3]
    draws = _uniforms(seeds, _draws("cutmix"))
    # The area to replace is 1 - Beta(alpha, alpha) of the whole, which has the same distribution: no need to subtract.
    side = _quantile(np.sqrt(_beta_quantiles(alpha)), draws[:, 0])
    ends = []
    for axis, pixels in enumerate((height, width)):
        half = tf.cast(side * pixels, tf.int32) // 2
        middle = tf.cast(draws[:, 1 + axis] * pixels, tf.int32)
        ends += [tf.maximum(middle - half, 0), tf.minimum(middle + half, pixels)]
    top, bottom, left, right = ends
    replaced = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
    inside = _rectangle(images, *ends)
    return images * (1 - inside) + partners * inside, 1.0 - replaced


def _rectangle(images: tf.Tensor, top: tf.Tensor, bottom: tf.Tensor, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """1 from row `top` to before `bottom` and from column `left` to before `right`, `[batch]` each, elsewhere 0.

    Of the images' shape and type, since multiplying is many times as fast as choosing by a condition.
    """
    height, width, channels = images.shape[1:]
    rows = np.arange(height, dtype=np.int32)
    # The columns of all channels: to repeat them before they meet the rows is cheap, after that it is not.
    columns = np.repeat(np.arange(width, dtype=np.int32), channels)
    in_rows = tf.cast((rows >= top[:, None]) & (rows < bottom[:, None]), images.dtype)
    in_columns = tf.cast((columns >= left[:, None]) & (columns < right[:, None]), images.dtype)
    return tf.reshape(in_rows[:, :, None] * in_columns[:, None, :], (-1, height, width, channels))


# RandAugment


def _randaugment(images: tf.Tensor, seeds: tf.Tensor, layers: int, strength: float) -> tf.Tensor:
    """Each layer does one of 14 operations to an image, all equally likely (Cubuk et al. 2020, section 3).

    Ranges are AutoAugment's (Cubuk et al. 2019, table 6) times the strength, 0 to 1. An operation that can go two ways
    goes either way equally often, brightness and its like too: of strength 0 only autocontrast and equalize, which have
    none, change anything. The geometric ones are bilinear, with zeros outside. The operations are done in the order
    drawn, each to the images that drew it only, and bytes go from one to the next, as with Pillow.
    """
    images = colour.to_bytes(images)
    draws = _uniforms(seeds, _draws("randaugment")[:2 * layers])
    for layer in range(layers):
        choice = tf.cast(draws[:, 2 * layer] * len(_CHOICES), tf.int32)
        images = _layer(images, choice, tf.where(draws[:, 2 * layer + 1] < 0.5, -1.0, 1.0), strength)
    return images


def _layer(images: tf.Tensor, choice: tf.Tensor, sign: tf.Tensor, strength: float) -> tf.Tensor:
    """Does to each image its choice, [batch] from `_CHOICES`, in the direction of its sign, [batch], -1 or 1."""
    # All are moved, most of them to where they are: what moves pixels is compiled for each number of images.
    in_place = len(_CHOICES) - len(_MOVES)
    images = colour.to_bytes(_layer_moves(images, choice - in_place, sign, strength))
    group = tf.where(choice < in_place, choice, 0)
    places, parts, signs = (tf.dynamic_partition(values, group, in_place)
                            for values in (tf.range(tf.shape(images)[0]), images, sign))
    factors = [1.0 + 0.9 * strength * part for part in signs]
    results = [
        parts[0],
        colour.autocontrast(parts[1]),
        colour.equalize(parts[2]),
        colour.solarize(parts[3], 256 - round(256 * strength)),
        colour.posterize(parts[4], 8 - round(4 * strength)),
        colour.saturation(parts[5], factors[5]),
        colour.contrast(parts[6], factors[6]),
        colour.brightness(parts[7], factors[7]),
        colour.sharpness(parts[8], factors[8]),
    ]
    merged = tf.dynamic_stitch(places, [colour.to_bytes(result) for result in results])
    return tf.ensure_shape(merged, images.shape)


def _layer_moves(images: tf.Tensor, choice: tf.Tensor, sign: tf.Tensor, strength: float) -> tf.Tensor:
    height, width = images.shape[1:3]
    turn, across, along, right, down = (tf.where(choice == index, sign, 0.0)[:, None, None]
                                        for index in range(len(_MOVES)))
    angle = math.radians(30 * strength)
    cosine = 1.0 - tf.abs(turn) * (1 - math.cos(angle))
    place = resample.rotate(resample.UNMOVED, cosine, turn * math.sin(angle))
    place = resample.shear(place, across * 0.3 * strength, along * 0.3 * strength)
    distance = 150 / 331 * strength
    return resample.interpolate(images, resample.shift(place, right * distance * width, down * distance * height))


# The generator, and the tables


def _mix(bits: tf.Tensor) -> tf.Tensor:
    """SplitMix64's finalizer: every bit of the result depends on every bit of the argument."""
    for shift, multiplier in zip((30, 27), _MULTIPLIERS):
        bits = tf.bitwise.bitwise_xor(bits, _shift(bits, shift)) * tf.constant(multiplier, tf.uint64)
    return tf.bitwise.bitwise_xor(bits, _shift(bits, 31))


def _shift(bits: tf.Tensor, count: int) -> tf.Tensor:
    return tf.bitwise.right_shift(bits, tf.constant(count, tf.uint64))


def _draws(name: str) -> list[int]:
    first, count = DRAWS[name]
    return list(range(first, first + count))


def _bits(seeds: tf.Tensor, draws: Sequence[int]) -> tf.Tensor:
    """These outputs of SplitMix64 from each seed, counted from 0: [batch, draws], uint64."""
    return _mix(seeds[:, None] + tf.constant([(draw + 1) * _INCREMENT % 2**64 for draw in draws], tf.uint64))


def _uniforms(seeds: tf.Tensor, draws: Sequence[int]) -> tf.Tensor:
    """These draws of each image: [batch, draws], float32, as of `uniform`."""
    # The cast goes through int32: uint64 to float32 is slow on some processors.
    return tf.cast(tf.cast(_shift(_bits(seeds, draws), 40), tf.int32), tf.float32) * 2.0**-24


def _quantile(table: np.ndarray, draws: tf.Tensor) -> tf.Tensor:
    """The quantiles at the draws, uniform in [0, 1), of a table [_TABLE + 1] of those at 0, 1 / _TABLE, ... 1."""
    table = table.astype(np.float32)
    places = draws * _TABLE
    index = tf.cast(places, tf.int32)
    return tf.gather(table[:-1], index) + tf.gather(np.diff(table), index) * (places - tf.cast(index, tf.float32))


@functools.cache
def _normal_quantiles() -> np.ndarray:
    """The quantiles of the standard normal distribution: a table for `_quantile`."""
    return np.array([statistics.NormalDist().inv_cdf(probability) for probability in _PROBABILITIES])


@functools.cache
def _beta_quantiles(alpha: float) -> np.ndarray:
    """The quantiles of the distribution Beta(alpha, alpha): a table for `_quantile`."""
    # In terms of s = x^alpha the density is smooth at 0 for alpha < 1, too, where in terms of x it is infinite.
    power = min(alpha, 1.0)
    s = np.linspace(0, 0.5**power, 2**16 + 1)
    x = s ** (1 / power)
    density = x ** (alpha - power) * (1 - x) ** (alpha - 1)
    below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    lower = np.interp(_PROBABILITIES[:_TABLE // 2 + 1], below / (2 * below[-1]), s) ** (1 / power)
    return np.concatenate([lower, 1 - lower[-2::-1]])
