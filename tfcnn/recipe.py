"""The recipe: everything that determines the result of a training run, as plain data.

This module and `augmentations` need only the standard library, so that flags can be parsed, and `--help` printed,
without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from tfcnn import augmentations

Scalar = bool | int | float | str

PRECISIONS = ("float32", "bfloat16", "float16")

# What each preset of an experiment changes, by the preset's name: fields of the recipe and options of the network.
Presets = Mapping[str, Mapping[str, Scalar]]


class UsageError(Exception):
    """A mistake that the user can correct. The message is one line that says what is wrong and what to do."""


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a network or of a benchmark, which an experiment exposes as a flag.

    Attributes:
      value: the experiment's value; its type is the type of the flag.
      choices: the allowed values; empty if every value of the type is allowed.
      help: the text for `--help`.
      default: the value where nothing is given; None if that is not known.
    """

    value: Scalar
    choices: tuple[Scalar, ...] = dataclasses.field(default=(), compare=False)
    help: str = dataclasses.field(default="", compare=False)
    default: Scalar | None = dataclasses.field(default=None, compare=False)


def _setting(default: Scalar, help: str, choices: tuple[Scalar, ...] = (), minimum: float | None = None,
             below: float | None = None, switch: bool = False) -> Any:
    """A field of the recipe, with what its flag needs.

    Args:
      default: its default, whose type is the type of the flag.
      help: the text for `--help`.
      choices: the allowed values; empty if all are allowed.
      minimum: the smallest allowed number.
      below: a number that the value must stay below.
      switch: whether the flag is a text that can also be `true` or `false`, as in `--noaugment`.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "below": below, "switch": switch}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines a result: the network, the data, how to train, and the seed.

    Durations of the learning-rate schedule are in epochs (fractions allowed), so that they keep their meaning when the
    batch size or the data set changes. `batch_size` is the global one, whatever the number of devices.

    Raises:
      UsageError: a value of the wrong type, out of range, or that does not go with the others.
    """

    experiment: str
    network: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    dataset: str = _setting(
        "sample", "data set: cifar10, cifar100, mnist, fashion_mnist, folder, sample, or another image-classification "
                  "data set of tensorflow-datasets")
    validation: float = _setting(
        0.1, "fraction of the training images held out for validation, the same in each class", minimum=0, below=1)
    image_size: int = _setting(0, "height and width of the network's input, in pixels; 0: the network's own", minimum=0)
    stream: bool = _setting(
        False, "decode, crop and resize the images during training: for class folders, and data sets of "
               "tensorflow-datasets, that are too large for memory")
    augment: str = _setting(
        "standard", "random changes of the training images: operations, separated by commas, in the order in which "
                    "they are applied; the first may be a preset (--noaugment: none).\n" + augmentations.describe(),
        switch=True)
    crop_padding: int = _setting(
        4, "PADDING of a crop that names none. Streamed images are not padded; the only crop that they can have is "
           "AlexNet's",
        minimum=0)
    mirror: bool = _setting(True, "allow mirroring; --nomirror removes it from --augment")
    input_normalization: str = _setting(
        "channel", "channel: mean 0 and deviation 1 in each colour; none: division by 255 only; image: mean 0 and "
                   "deviation 1 in each image; pixel_mean: the mean image is subtracted, deviation 1 "
                   "in all values; zca: whitening",
        ("channel", "none", "image", "pixel_mean", "zca"))
    test_crops: int = _setting(
        1, "1: the centre of each test image; 10: AlexNet's ten crops, whose predictions are averaged (streamed images "
           "only)", (1, 10))
    train_images: int = _setting(
        0, "train on so many images only, as many of each class as possible, drawn from the training images after "
           "validation images were held out; 0: all", minimum=0)
    random_labels: float = _setting(
        0.0, "probability with which the label of a training image is replaced by a random one, the same in all "
             "epochs; validation and test labels stay true", minimum=0)
    classes: str = _setting(
        "", "use the images of these classes only: names, numbers and ranges of numbers, separated by commas, such as "
            "0-4 or cat,dog; they are numbered anew in this order. By default all")

    initial_weights: str = _setting(
        "", "a trained network to start from instead of random weights: the folder of a run, or the name of one that "
            "ships with the package; imagenet: the weights of keras.applications, for VGG-16 and 19, ResNet-50, 101 "
            "and 152, and Inception-v3. The last layer is new if the classes differ; the input normalization is kept")
    freeze: str = _setting(
        "none", "layers that are not trained: none; all: all but the last; or the name of a layer, or of a stage such "
                "as conv3, up to which the network is frozen")

    epochs: int = _setting(20, "passes over the training images", minimum=1)
    batch_size: int = _setting(128, "images in each step, over all devices together", minimum=1)
    accumulate: int = _setting(
        1, "number of parts in which each device computes its share of the batch, one after the other; their "
           "gradients are summed. It saves memory. Batch normalization uses the images of one part, and its moving "
           "averages move once a part", minimum=1)
    synchronize: bool = _setting(
        True, "batch normalization uses the images of all devices together; --nosynchronize: each device uses its "
              "own images, which saves communication within a step")
    optimizer: str = _setting(
        "momentum", "update rule of the weights",
        ("sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "adagrad"))
    learning_rate: float = _setting(0.01, "peak learning rate", minimum=0)
    shift_rate: float = _setting(
        1.0, "factor of the learning rate of batch normalization's shifts; with sgd, momentum and nesterov only",
        minimum=0)
    shift_l2: float = _setting(
        0.0, "penalty shift_l2 / 2 * sum(b^2) over batch normalization's shifts, added to the loss; shift_rate "
             "multiplies its gradient, too", minimum=0)
    momentum: float = _setting(0.9, "momentum of the optimizers momentum, nesterov and rmsprop", minimum=0, below=1)
    schedule: str = _setting(
        "constant", "how the learning rate changes",
        ("constant", "step", "exponential", "inverse_time", "cosine", "one_cycle", "triangle"))
    warmup_epochs: float = _setting(
        0.0, "epochs over which the learning rate rises from zero; one_cycle and triangle have a rise of their own "
             "instead", minimum=0)
    decay_epochs: str = _setting(
        "", "step: the epochs at which the learning rate is multiplied by decay_rate, such as 30,45; "
            "exponential and inverse_time: the number of epochs in one decay period")
    decay_rate: float = _setting(
        0.1, "factor of each step (step) or of each period (exponential); the rate of inverse_time", minimum=0)
    l1: float = _setting(0.0, "penalty l1 * sum(|w|) over the kernels, added to the loss", minimum=0)
    l2: float = _setting(
        0.0, "penalty l2 / 2 * sum(w^2) over the kernels, added to the loss: the papers' weight decay", minimum=0)
    weight_decay: float = _setting(
        0.0, "decoupled weight decay of the kernels: w -= learning_rate * weight_decay * w", minimum=0)
    clip_norm: float = _setting(
        0.0, "a gradient with a larger global norm is scaled down to this norm; 0: no clipping", minimum=0)
    label_smoothing: float = _setting(
        0.0, "fraction of the label that is spread evenly over all classes", minimum=0, below=1)
    auxiliary_weight: float = _setting(
        0.3, "weight of the loss of each auxiliary head, if the network has any", minimum=0)
    ema: float = _setting(
        0.0, "decay in each step of an exponential moving average of the weights, lower in the first steps, which is "
             "evaluated instead of the weights; 0: off",
        minimum=0, below=1)
    lookahead: int = _setting(
        0, "Lookahead: after every so many steps the weights go back a part of the way that they have come since the "
           "last time, a larger part towards the end; the result is evaluated; 0: off", minimum=0)

    early_stopping: int = _setting(
        0, "stop after this many epochs in a row without a lower validation loss; 0: never", minimum=0)
    plateau_epochs: int = _setting(
        0, "multiply the learning rate by plateau_factor after this many epochs in a row without a lower "
           "validation loss, on top of the schedule; 0: never", minimum=0)
    plateau_factor: float = _setting(0.1, "factor of plateau_epochs", minimum=0, below=1)
    best_weights: bool = _setting(
        False, "end with the weights of the epoch with the lowest validation loss instead of those of the last epoch")

    execution: str = _setting(
        "graph", "graph: many steps in one compiled graph; eager: define by run; xla: a step compiled by XLA",
        ("graph", "eager", "xla"))
    precision: str = _setting(
        "float32", "arithmetic of the layers; weights stay float32; on a CPU that is slower in it, float32 takes its "
                   "place", PRECISIONS)
    keep_precision: bool = _setting(False, "compute in the given precision even on a CPU that is slower in it")
    tensor_float_32: bool = _setting(
        True, "on a GPU that has it, float32 layers multiply in TensorFloat-32, whose factors have 10 bits after the "
              "point instead of 23, as is TensorFlow's default; --notensor_float_32: in float32")
    seed: int = _setting(
        0, "seed of the weights, the order of the images, augmentation, dropout, the validation split, train_images "
           "and random_labels", minimum=0)
    deterministic: bool = _setting(False, "use only operations whose results are the same to the last bit each time")

    def __post_init__(self) -> None:
        options = {name: option if isinstance(option, Option) else Option(option)
                   for name, option in self.options.items()}
        object.__setattr__(self, "options", options)
        # Recipes of earlier versions, in which augmentation was only on or off.
        former = {"true": "standard", "false": "none"}
        object.__setattr__(self, "augment", former.get(str(self.augment).lower(), self.augment))
        for field in settings():
            if type(field.default) is float and type(getattr(self, field.name)) is int:
                object.__setattr__(self, field.name, float(getattr(self, field.name)))
            check(field.name, getattr(self, field.name), type(field.default), **_limits(field))
        for name, option in options.items():
            check(name, option.value, type(option.value), option.choices)
        if self.random_labels > 1:
            raise UsageError(f"--random_labels={self.random_labels:g} must be at most 1")
        self.decay_points()
        self.augmentations()
        if self.test_crops > 1 and not self.stream:
            raise UsageError(f"--test_crops={self.test_crops} needs images larger than the network's input: add "
                             "--stream")
        if self.lookahead and self.ema:
            raise UsageError(f"--lookahead={self.lookahead} and --ema={self.ema:g} both average the weights: leave one "
                             "out")
        if self.shift_rate != 1 and self.optimizer not in ("sgd", "momentum", "nesterov"):
            raise UsageError(f"--shift_rate={self.shift_rate:g} changes nothing with --optimizer={self.optimizer}, "
                             "whose steps do not depend on the size of the gradient: use sgd, momentum or nesterov")
        for name in ("early_stopping", "plateau_epochs", "best_weights"):
            if getattr(self, name) and not self.validation:
                raise UsageError(f"--{name} needs validation images: give --validation a share, such as 0.1")

    def network_options(self) -> dict[str, Scalar]:
        """The keyword arguments of the network's `build`."""
        return {name: option.value for name, option in self.options.items()}

    def decay_points(self) -> tuple[float, ...]:
        """`decay_epochs` as increasing numbers.

        Raises:
          UsageError: they are not, or the schedule needs other numbers.
        """
        try:
            points = tuple(float(word) for word in self.decay_epochs.split(",") if word.strip())
        except ValueError:
            points = (-1.0,)
        if not all(math.isfinite(point) and point > 0 for point in points) or list(points) != sorted(set(points)):
            raise UsageError(f"--decay_epochs={self.decay_epochs} must be increasing numbers of epochs, such as 30,45")
        if self.schedule in ("exponential", "inverse_time") and len(points) != 1:
            raise UsageError(f"--schedule={self.schedule} needs one number of epochs in --decay_epochs, such as 10")
        if self.schedule == "step" and not points:
            raise UsageError("--schedule=step needs the epochs of its steps in --decay_epochs, such as 30,45")
        return points

    def augmentations(self) -> tuple[augmentations.Operation, ...]:
        """The operations on the training images, in the order in which they are applied.

        Raises:
          UsageError: `augment` is not a list of operations.
        """
        try:
            operations = augmentations.parse(self.augment, self.crop_padding)
        except ValueError as error:
            raise UsageError(str(error)) from error
        left_out = () if self.mirror else augmentations.MIRRORS
        return tuple(operation for operation in operations if operation.name not in left_out)

    def padding(self) -> int:
        """The margin in pixels within which the training images' random crops move, or would move if there were any."""
        crops = [operation for operation in self.augmentations() if operation.name == "crop"]
        return int(crops[0].arguments[0]) if crops else self.crop_padding

    def replace(self, **changes: Any) -> Recipe:
        """A copy with some fields or network options changed.

        Raises:
          UsageError: a name is neither a field nor an option of the recipe, or a value is not allowed.
        """
        fields = {field.name for field in dataclasses.fields(self)}
        options = dict(self.options)
        for name in [name for name in changes if name not in fields]:
            if name not in options:
                raise UsageError(f"{name} is neither a field of the recipe nor an option of {self.network}: "
                                 f"{', '.join(sorted(fields | set(options)))}")
            options[name] = dataclasses.replace(options[name], value=changes.pop(name))
        return dataclasses.replace(self, **{"options": options, **changes})

    def with_options_of(self, other: Recipe) -> Recipe:
        """The recipe with those options of another one that it lacks, at their defaults.

        An earlier version of the suite, which did not have them yet, wrote it.
        """
        added = {name: Option(option.default) for name, option in other.options.items()
                 if name not in self.options and option.default is not None}
        return dataclasses.replace(self, options={**self.options, **added})

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data that JSON can hold."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {"options": self.network_options()}

    def to_json(self) -> str:
        """The recipe as JSON, as in recipe.json."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The recipe that `to_json` wrote.

        Raises:
          UsageError: the text is not a recipe.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise UsageError(f"not a recipe of this version of tfcnn: {error}") from error


def flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """The dictionary of `Recipe.to_dict` with the network's options beside the fields, as flags have them."""
    return {name: value for name, value in values.items() if name != "options"} | values["options"]


def flag_text(value: Any) -> str:
    """A value as the command line has it: `true` and `false` in lower case."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings() -> list[dataclasses.Field]:
    """The fields of a recipe that a flag can set."""
    return [field for field in dataclasses.fields(Recipe) if field.metadata]


def _limits(field: dataclasses.Field) -> dict[str, Any]:
    return {name: field.metadata[name] for name in ("choices", "minimum", "below")}


def check(name: str, value: Any, kind: type, choices: tuple[Scalar, ...] = (), minimum: float | None = None,
          below: float | None = None) -> None:
    """Raises UsageError unless the value is of the kind and within the limits."""
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"--{name}={value!r} must be of type {kind.__name__}")
    if choices and value not in choices:
        raise UsageError(f"--{name}={value} must be one of {', '.join(map(str, choices))}")
    number = float(value) if isinstance(value, int | float) else 0.0
    if not math.isfinite(number):
        raise UsageError(f"--{name}={value} must be a finite number")
    if minimum is not None and number < minimum:
        raise UsageError(f"--{name}={value} must be at least {minimum:g}")
    if below is not None and number >= below:
        raise UsageError(f"--{name}={value} must be less than {below:g}")
