"""The flags of an experiment, derived from its recipe or from its own options.

They are parsed before TensorFlow is imported, so that `--help` and mistakes are answered at once. Each experiment has a
set of flags of its own, not absl's global one, so that several experiments can be used in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from absl import flags as absl_flags
from absl.flags import FlagValues

from tfcnn import arguments
from tfcnn.recipe import Option, Presets, Recipe, Scalar, UsageError, check, flag_text, settings

_PRESET = "preset"

# Name, default and help of each flag that belongs to the run, not to the recipe.
_RUN_FLAGS: tuple[tuple[str, Scalar, str], ...] = (
    ("workdir", "", "folder of the run; if it holds an unfinished run of the same recipe, that run continues. By "
                    "default a new folder under runs/"),
    ("data_dir", "", "folder with the data set's official files, its class folders (--dataset=folder), or what "
                     "tensorflow-datasets has prepared"),
    ("devices", 0, "number of GPUs, or of logical CPU devices, that share each batch; 0: every GPU, or one CPU device"),
    ("cluster", "", "slurm: the processes of this Slurm job step train together; otherwise the workers that TF_CONFIG "
                    "lists, if it is set. All of them need the same --workdir"),
    ("wait", 0.0, "minutes to wait for the other machines at the start; without them the run then ends with status 4. "
                  "0: without end"),
    ("checkpoint_every", "", "save the state within epochs too: every so many steps, such as 200, or minutes, such as "
                             "5m; by default at the end of each epoch only"),
    ("overwrite", False, "remove the run that is in --workdir and start from scratch"),
    ("histograms", False, "write a histogram of every weight for TensorBoard after each epoch"),
)

# Recorded with the recipe, so that a run continues as it began.
_KEPT_FLAGS = ("data_dir", "devices", "cluster", "wait", "histograms", "checkpoint_every")


def of_recipe(recipe: Recipe, presets: Presets = MappingProxyType({})) -> FlagValues:
    """The flags of an experiment that trains: --preset, the recipe's fields, the network's options, the run's own."""
    values = FlagValues()
    if presets:
        lines = (f"{name}: {' '.join(_as_flags(changes))}" for name, changes in presets.items())
        absl_flags.DEFINE_enum(_PRESET, None, list(presets), "\n".join((
            "other values than the experiment's own, which the other flags change:", *lines)),
            flag_values=values, module_name=_PRESET)
    for field in settings():
        _define(values, "recipe", field.name, getattr(recipe, field.name), field.metadata["choices"],
                field.metadata["help"], field.metadata["switch"])
    for name, option in recipe.options.items():
        _define(values, f"network {recipe.network}", name, option.value, option.choices, option.help)
    for name, default, help_text in _RUN_FLAGS:
        _define(values, "run", name, default, (), help_text)
    return values


def of_options(experiment: str, options: Mapping[str, Option]) -> FlagValues:
    """The flags of an experiment that measures: its options, --workdir and --overwrite."""
    values = FlagValues()
    for name, option in options.items():
        _define(values, experiment, name, option.value, option.choices, option.help)
    _define(values, experiment, "workdir", "", (),
            "folder of the result; if it holds an incomplete result, that is completed. By default a new folder under "
            "runs/")
    _define(values, experiment, "overwrite", False, (), "replace the result that is in --workdir")
    return values


def parse(recipe: Recipe, argv: Sequence[str], presets: Presets = MappingProxyType({})) -> tuple[Recipe, FlagValues]:
    """The recipe as changed by the flags, and the flags.

    Args:
      recipe: the experiment's recipe.
      argv: the program's name and its arguments.
      presets: the experiment's presets; --preset chooses one, which the other flags change.

    Raises:
      UsageError: an unknown flag, a value that is not allowed, or an argument that is not a flag.
    """
    values = of_recipe(recipe, presets)
    _read(values, argv)
    names = [field.name for field in settings()] + list(recipe.options)
    changes = {name: values[name].value for name in names if values[name].present}
    return recipe.replace(**{**preset(values, presets), **changes}), values


def preset(values: FlagValues, presets: Presets) -> Mapping[str, Scalar]:
    """What the preset that --preset names changes; nothing without a preset."""
    return presets[values[_PRESET].value] if presets and values[_PRESET].value else {}


def parse_options(experiment: str, options: Mapping[str, Option], argv: Sequence[str]) -> FlagValues:
    """The flags of an experiment that measures, with their values checked.

    Args:
      experiment: its name.
      options: its options.
      argv: the program's name and its arguments.

    Raises:
      UsageError: as in `parse`.
    """
    values = of_options(experiment, options)
    _read(values, argv)
    for name, option in options.items():
        check(name, values[name].value, type(option.value), option.choices)
    return values


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether --help, or another spelling of it, is among the arguments."""
    return any(argument in ("--help", "-help", "-h", "--helpfull", "--helpshort") for argument in argv[1:])


def to_repeat(recipe: Recipe, values: FlagValues) -> list[str]:
    """The flags that repeat a run even if the experiment's recipe is changed later: what command.flags holds."""
    recorded = {field.name: getattr(recipe, field.name) for field in settings()} | recipe.network_options()
    recorded |= {name: values[name].value for name in _KEPT_FLAGS if values[name].value}
    return _as_flags(recorded)


def _as_flags(values: Mapping[str, Scalar]) -> list[str]:
    return [f"--{name}={flag_text(value)}" for name, value in values.items()]


def _read(values: FlagValues, argv: Sequence[str]) -> None:
    try:
        rest = values([*argv[:1], *arguments.expanded(argv[1:])])[1:]
    except (absl_flags.Error, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag; flags are written --name=value")


def _define(values: FlagValues, group: str, name: str, default: Scalar, choices: Sequence[Scalar], help_text: str,
            switch: bool = False) -> None:
    """Defines a flag whose type is that of its default; a switch is a text that can also be `true` or `false`."""
    location: dict[str, Any] = {"flag_values": values, "module_name": group}
    if isinstance(default, bool):
        absl_flags.DEFINE_boolean(name, default, help_text, **location)
    elif switch:
        absl_flags.DEFINE(absl_flags.ArgumentParser(), name, default, help_text,
                          serializer=absl_flags.ArgumentSerializer(), boolean=True, **location)
    elif isinstance(default, str) and choices:
        absl_flags.DEFINE_enum(name, default, list(choices), help_text, **location)
    else:
        define = {int: absl_flags.DEFINE_integer, float: absl_flags.DEFINE_float,
                  str: absl_flags.DEFINE_string}[type(default)]
        allowed = f"<{'|'.join(map(str, choices))}>: " if choices else ""
        define(name, default, allowed + help_text, **location)
