"""Augmentation as text: what `--augment` may say, and what it means.

A specification is a list of operations in the order in which they are applied, each with its arguments, such as
`mirror,crop:4,rotate:15`. It may begin with a preset: `standard,cutout:8`. `data/augmentation/` applies it; this module
needs only the standard library, so that a recipe is checked before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import math


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of an operation: a number with its limits.

    Attributes:
      name: its name in help and messages.
      help: what it is, and its unit.
      default: its value if it is not given.
      minimum: the smallest value allowed, or with `above` the bound that a value must exceed.
      maximum: the largest value allowed.
      above: whether the minimum itself is not allowed.
      whole: whether it must be a whole number.
    """

    name: str
    help: str
    default: float
    minimum: float = 0.0
    maximum: float = math.inf
    above: bool = False
    whole: bool = False


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of operation.

    Attributes:
      help: what it does, in one sentence, with its source.
      arguments: its arguments, in order.
    """

    help: str
    arguments: tuple[Argument, ...] = ()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a specification, with all its arguments; `str(operation)` is how it is written."""

    name: str
    arguments: tuple[float, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *map(_text, self.arguments)])


def _strength(help: str) -> Argument:
    return Argument("STRENGTH", help, 0.4, maximum=1.0)


# Adjacent geometric operations are composed into one resampling, see data/augmentation/geometry.py.
KINDS: dict[str, Kind] = {
    "mirror": Kind("left to right, half of the images"),
    "alternating_mirror": Kind("left to right, half of the images in one epoch, the other half in the next (Jordan "
                               "2024, section 3.6)"),
    "crop": Kind("zero padding, then a random crop of the old size (He et al. 2016, section 4.2)", (
        Argument("PADDING", "pixels on each side", 4, maximum=1000, whole=True),)),
    "resized_crop": Kind("a random part of the image, enlarged to its size (Szegedy et al. 2015, section 6)", (
        Argument("MIN_SCALE", "smallest share of the area", 0.08, maximum=1.0, above=True),)),
    "rotate": Kind("around the centre, in either direction", (
        Argument("DEGREES", "largest angle", 15.0, maximum=180.0),)),
    "shear": Kind("rows slide sideways in proportion to their distance from the centre, in either direction", (
        Argument("DEGREES", "largest angle by which vertical lines are tilted", 10.0, maximum=60.0),)),
    "translate": Kind("horizontally and vertically, in either direction", (
        Argument("DISTANCE", "largest distance, in pixels, or below 1 as a share of the side", 0.1, maximum=1000.0),)),
    "zoom": Kind("both sides by a factor from 1 / (1 + SHARE) to 1 + SHARE", (
        Argument("SHARE", "largest growth, 0.1 for 10%", 0.1, maximum=3.0),)),
    "elastic": Kind("local warping by a smoothed random displacement field (Simard et al. 2003, section 2)", (
        Argument("ALPHA", "factor of the field, in pixels", 8.0, maximum=1000.0),
        Argument("SIGMA", "standard deviation of the smoothing, in pixels", 4.0, maximum=100.0, above=True))),
    "colour_pca": Kind("adds the principal components of the colours (Krizhevsky et al. 2012, section 4.1)", (
        Argument("STRENGTH", "standard deviation of each component's factor", 0.1, maximum=10.0),)),
    "brightness": Kind("multiplies all values by a factor", (_strength("largest distance of the factor from 1"),)),
    "contrast": Kind("multiplies the distance from the image's mean grey by a factor", (
        _strength("largest distance of the factor from 1"),)),
    "saturation": Kind("multiplies the distance of each pixel from its own grey by a factor", (
        _strength("largest distance of the factor from 1"),)),
    "cutout": Kind("a black square at a random position (DeVries and Taylor 2017, section 3.2)", (
        Argument("SIZE", "side of the square in pixels", 8, maximum=1000, whole=True),)),
    "randaugment": Kind("operations drawn from a list of 14 (Cubuk et al. 2020, section 3)", (
        Argument("OPERATIONS", "operations per image", 2, minimum=1, maximum=8, whole=True),
        Argument("MAGNITUDE", "strength, on the scale of the paper from 0 to 10", 9.0, maximum=10.0))),
    "mixup": Kind("a weighted mean of two images and of their labels (Zhang et al. 2018, section 2)", (
        Argument("ALPHA", "of the weight's distribution, Beta(ALPHA, ALPHA)", 0.2, maximum=100.0, above=True),)),
    "cutmix": Kind("a rectangle of another image, labels in proportion to the areas (Yun et al. 2019, section 3.1)", (
        Argument("ALPHA", "of the kept area's distribution, Beta(ALPHA, ALPHA)", 1.0, maximum=100.0, above=True),)),
}

MIRRORS = ("mirror", "alternating_mirror")
MIXING = ("mixup", "cutmix")

PRESETS = {
    "none": "",
    "standard": "crop,mirror",
    # The paper crops 224 pixels out of 256. An image in memory may have any size, so it is padded before the crop.
    "alexnet": "crop,mirror,colour_pca:0.1",
    "imagenet": "resized_crop:0.08,mirror",
    # RandAugment as in its paper on ImageNet, and Cutout with half of its paper's side on CIFAR-10: the geometric
    # operations of RandAugment alone blacken large parts of some images.
    "strong": "crop,mirror,randaugment:2:9,cutout:8",
}


def parse(text: str, crop_padding: int = 4) -> tuple[Operation, ...]:
    """Parses a specification.

    Args:
      text: the specification.
      crop_padding: the argument of a crop that has none.

    Returns:
      The operations, in the order in which they are applied.

    Raises:
      ValueError: an operation is unknown or given twice, an argument is not a number, out of range or one too many, a
        preset is not at the beginning, or mixing is not at the end. The message is one line that says what to do.
    """
    words = [word.strip() for word in text.split(",")]
    if words[0] in PRESETS:
        preset = PRESETS[words[0]]
        words = preset.split(",") * bool(preset) + words[1:]
    operations = tuple(_operation(text, f"crop:{crop_padding}" if word == "crop" else word) for word in words)
    names = [operation.name for operation in operations]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(text, f"has {name} twice: leave one out")
    if set(MIRRORS) <= set(names):
        raise _wrong(text, f"has {' and '.join(MIRRORS)}, which together mirror at random: leave one out")
    mixing = [name for name in names if name in MIXING]
    if len(mixing) > 1:
        raise _wrong(text, f"has {' and '.join(mixing)}: a label can be mixed only once, leave one out")
    if mixing and names[-1] != mixing[0]:
        raise _wrong(text, f"has {names[-1]} after {mixing[0]}: put {mixing[0]}, which mixes finished images, last")
    return operations


def describe() -> str:
    """A line for each operation, with its arguments, and for each preset, for `--help`."""
    lines = []
    for name, kind in KINDS.items():
        arguments = "; ".join(f"{argument.name}: {argument.help}, default {_text(argument.default)}"
                              for argument in kind.arguments)
        lines.append(f"{_form(name)}: {kind.help}{arguments and '. ' + arguments}")
    return "\n".join(lines + [f"{name}: {text or 'no augmentation'}" for name, text in PRESETS.items()])


def _operation(text: str, word: str) -> Operation:
    name, *values = [part.strip() for part in word.split(":")]
    if not name:
        raise _wrong(text, f"has an empty operation: {'write none' if not text.strip() else 'remove the comma'}")
    if name in PRESETS:
        raise _wrong(text, f"has the preset {name} in the wrong place: put it first, once, without arguments")
    if name not in KINDS:
        close = difflib.get_close_matches(name, [*PRESETS, *KINDS], 1)
        raise _wrong(text, f"has the unknown operation {name}: " + (f"did you mean {close[0]}? " if close else "")
                     + f"Allowed are {', '.join(KINDS)}, and in first place one of {', '.join(PRESETS)}")
    arguments = KINDS[name].arguments
    if len(values) > len(arguments):
        raise _wrong(text, f"has too many arguments in {word}: write {_form(name)}")
    given = [_number(text, word, argument, value) for argument, value in zip(arguments, values)]
    return Operation(name, (*given, *(argument.default for argument in arguments[len(given):])))


def _number(text: str, word: str, argument: Argument, value: str) -> float:
    try:
        number = int(value) if argument.whole else float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        needed = "a whole number" if argument.whole else "a number"
        raise _wrong(text, f"has {word}, where {argument.name} must be {needed} ({argument.help})")
    if not argument.minimum <= number <= argument.maximum or (argument.above and number == argument.minimum):
        least = f"{'more than' if argument.above else 'at least'} {argument.minimum:g}"
        most = f" and at most {argument.maximum:g}" if math.isfinite(argument.maximum) else ""
        raise _wrong(text, f"has {word}, where {argument.name} must be {least}{most} ({argument.help})")
    return number


def _form(name: str) -> str:
    return ":".join([name, *(argument.name for argument in KINDS[name].arguments)])


def _text(number: float) -> str:
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _wrong(text: str, what: str) -> ValueError:
    return ValueError(f"--augment={text} {what}")
