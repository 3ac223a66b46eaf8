"""Augmentation as text: what `--augment` may say, and what it means.

A specification is a list of operations in the order in which they are applied, each with its arguments, such as
`mirror,crop:4,rotate:15`. It may begin with a preset: `standard,cutout:8`. `data/augment.py` carries it out; this
module needs the standard library only, so that a recipe is checked before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import difflib
import math


@dataclasses.dataclass(frozen=True)
class Argument:
    """One argument of an operation: a number with its limits.

    Attributes:
      help: what it is, and its unit.
      default: what holds where it is not given.
      minimum: the smallest value allowed, or with `above` the largest that is too small.
      maximum: the largest value allowed.
      above: whether the minimum itself is too small.
      whole: whether it is a whole number.
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
    """What an operation does, in one sentence with its source, and the arguments it has."""

    help: str
    arguments: tuple[Argument, ...] = ()


@dataclasses.dataclass(frozen=True)
class Operation:
    """One operation of a specification, with all its arguments; `str` is how it is written."""

    name: str
    arguments: tuple[float, ...] = ()

    def __str__(self) -> str:
        return ":".join([self.name, *map(_text, self.arguments)])


def _strength(help: str) -> Argument:
    return Argument("STRENGTH", help, 0.4, maximum=1.0)


# The geometric ones that stand side by side are done in one resampling, see resample.py.
KINDS: dict[str, Kind] = {
    "mirror": Kind("left to right, half of the images"),
    "crop": Kind("zero padding and a crop of the old size at a random place (He et al. 2016, section 4.2)", (
        Argument("PADDING", "pixels on each side", 4, maximum=1000, whole=True),)),
    "resized_crop": Kind("a random part of the image, enlarged to its size (Szegedy et al. 2015, section 6)", (
        Argument("MIN_SCALE", "smallest share of the area", 0.08, maximum=1.0, above=True),)),
    "rotate": Kind("around the centre, either way", (
        Argument("DEGREES", "largest angle", 15.0, maximum=180.0),)),
    "shear": Kind("rows slide sideways in proportion to their distance from the centre, either way", (
        Argument("DEGREES", "largest angle of what was upright", 10.0, maximum=60.0),)),
    "translate": Kind("in both directions, either way", (
        Argument("DISTANCE", "largest distance, in pixels, or below 1 as a share of the side", 0.1, maximum=1000.0),)),
    "zoom": Kind("both sides by a factor from 1 / (1 + SHARE) to 1 + SHARE", (
        Argument("SHARE", "largest growth, 0.1 for 10%", 0.1, maximum=3.0),)),
    "elastic": Kind("local warping: a smoothed random field of displacements (Simard et al. 2003, section 2)", (
        Argument("ALPHA", "factor of the field, in pixels", 8.0, maximum=1000.0),
        Argument("SIGMA", "standard deviation of the smoothing, in pixels", 4.0, maximum=100.0, above=True))),
    "colour_pca": Kind("adds the principal components of the colours (Krizhevsky et al. 2012, section 4.1)", (
        Argument("STRENGTH", "standard deviation of each component's factor", 0.1, maximum=10.0),)),
    "brightness": Kind("times a factor", (_strength("largest distance of the factor from 1"),)),
    "contrast": Kind("distance from the image's mean grey times a factor", (
        _strength("largest distance of the factor from 1"),)),
    "saturation": Kind("distance of each pixel from its grey times a factor", (
        _strength("largest distance of the factor from 1"),)),
    "cutout": Kind("a square at a random place turns black (DeVries and Taylor 2017, section 3.2)", (
        Argument("SIZE", "side of the square in pixels", 8, maximum=1000, whole=True),)),
    "randaugment": Kind("operations drawn from 14 (Cubuk et al. 2020, section 3)", (
        Argument("OPERATIONS", "how many an image", 2, minimum=1, maximum=8, whole=True),
        Argument("MAGNITUDE", "strength, on the scale of the paper from 0 to 10", 9.0, maximum=10.0))),
    "mixup": Kind("the mean of two images and of their labels, in a random proportion (Zhang et al. 2018, section 2)", (
        Argument("ALPHA", "of the proportion's distribution, Beta(ALPHA, ALPHA)", 0.2, maximum=100.0, above=True),)),
    "cutmix": Kind("a rectangle of another image, labels in proportion to the areas (Yun et al. 2019, section 3.1)", (
        Argument("ALPHA", "of the kept area's distribution, Beta(ALPHA, ALPHA)", 1.0, maximum=100.0, above=True),)),
}

MIXING = ("mixup", "cutmix")

PRESETS = {
    "none": "",
    "standard": "crop,mirror",
    # The paper's crops of 224 pixels out of 256: of an image in memory, which may have any size, those of a padded one.
    "alexnet": "crop,mirror,colour_pca:0.1",
    "imagenet": "resized_crop:0.08,mirror",
    # RandAugment as its paper uses it on ImageNet, and half of Cutout's side on CIFAR-10: the geometric operations of
    # RandAugment alone blacken much of some images.
    "strong": "crop,mirror,randaugment:2:9,cutout:8",
}


def parse(text: str, crop_padding: int = 4) -> tuple[Operation, ...]:
    """The operations that a specification names, in its order.

    Args:
      text: the specification.
      crop_padding: the argument of a crop that has none.

    Raises:
      ValueError: an operation is unknown or given twice, an argument is not a number, out of its range or too many, a
        preset is not at the beginning, or mixing is not at the end.
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
    mixing = [name for name in names if name in MIXING]
    if len(mixing) > 1:
        raise _wrong(text, f"has {' and '.join(mixing)}: a label is mixed once, leave one out")
    if mixing and names[-1] != mixing[0]:
        raise _wrong(text, f"has {names[-1]} after {mixing[0]}: put {mixing[0]}, which mixes finished images, last")
    return operations


def describe() -> str:
    """All operations with their arguments, and the presets, a line each, for `--help`."""
    lines = []
    for name, kind in KINDS.items():
        arguments = "; ".join(f"{argument.name}: {argument.help}, {_text(argument.default)} if not given"
                              for argument in kind.arguments)
        lines.append(f"{_form(name)}: {kind.help}{arguments and '. ' + arguments}")
    return "\n".join(lines + [f"{name}: {text or 'the images as they are'}" for name, text in PRESETS.items()])


def _operation(text: str, word: str) -> Operation:
    name, *values = [part.strip() for part in word.split(":")]
    if not name:
        raise _wrong(text, f"has an empty operation: {'say none' if not text.strip() else 'remove the comma'}")
    if name in PRESETS:
        raise _wrong(text, f"has the preset {name} in a wrong place: put it first, without arguments, and once")
    if name not in KINDS:
        close = difflib.get_close_matches(name, [*PRESETS, *KINDS], 1)
        raise _wrong(text, f"has the unknown operation {name}: " + (f"did you mean {close[0]}? " if close else "")
                     + f"Allowed are {', '.join(KINDS)}, and first of all one of {', '.join(PRESETS)}")
    arguments = KINDS[name].arguments
    if len(values) > len(arguments):
        raise _wrong(text, f"has too many arguments in {word}: needed is {_form(name)}")
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
