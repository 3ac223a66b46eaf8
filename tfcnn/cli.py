"""The command line: every flag, derived from an experiment's recipe, and what a run prints.

Flags are parsed before TensorFlow is imported, so that `--help` and mistakes are answered at once.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from absl import flags

from tfcnn.recipe import Option, Recipe, Scalar, UsageError, check, settings
from tfcnn.runs import COMMAND, CURVES, RESULT
from tfcnn.runs.record import unfinished
from tfcnn.training import signals

_SAMPLE = "sample"

# Recorded with the recipe, so that a run that goes on does so as it began.
_KEPT_FLAGS = ("data_dir", "devices", "cluster", "histograms", "checkpoint_every")

Action = Callable[[Recipe, flags.FlagValues], int]


def run(recipe: Recipe, argv: Sequence[str] | None = None, action: Action | None = None,
        sample: Mapping[str, Any] | None = None) -> None:
    """Runs an experiment as its command line says, and ends the process with the status of the contract.

    The status is 0 when done, 2 after a usage error, 3 if the loss was not finite, 130 or 143 after an interruption.

    Args:
      recipe: the experiment's own recipe, which flags change.
      argv: the program's name and its arguments; by default the process's.
      action: what to do with the recipe and the flags, returning the status; by default the recipe is trained. It is
        called with TensorFlow imported, and again with the sample for data set if the recipe's own cannot be had and
        was not asked for by a flag.
      sample: the fields and options that the experiment changes when it trains on the sample, which is small and should
        take minutes; a flag that is given takes precedence.
    """
    arguments = list(sys.argv if argv is None else argv)
    train = functools.partial(_train, reference=recipe)
    _end(lambda: _run(recipe, arguments, action or train, dict(sample or {})))


def measure(name: str, options: Mapping[str, Option], action: Callable[[Mapping[str, Any], Path], None],
            argv: Sequence[str] | None = None) -> None:
    """Runs an experiment that trains nothing to its end, and so has options of its own for flags instead of a recipe.

    Args:
      name: the experiment's.
      options: its flags.
      action: called, with TensorFlow imported, with the flags' values, --overwrite's among them, and a folder for what
        it makes: a new one, one that may be written over, or one in which a result is `unfinished`.
      argv: the program's name and its arguments; by default the process's.
    """
    arguments = list(sys.argv if argv is None else argv)

    def run_action() -> int:
        values = flags.FlagValues()
        for option_name, option in options.items():
            _define(values, name, option_name, option.value, option.choices, option.help)
        _define(values, name, "workdir", "", (),
                "folder for the result; one that is not complete is completed. By default a new one under runs/")
        _define(values, name, "overwrite", False, (), "write over the result that is in --workdir")
        if _asks_for_help(arguments):
            print(_usage(name) + values.get_help())
            return 0
        _read(values, arguments)
        for option_name, option in options.items():
            check(option_name, values[option_name].value, type(option.value), option.choices)
        workdir = Path(values["workdir"].value or Path("runs", f"{name}-{datetime.now():%Y%m%d-%H%M%S}"))
        taken = workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir()))
        if taken and not values["overwrite"].value and not unfinished(workdir):
            raise UsageError(f"{workdir} is there already: choose another --workdir, or give --overwrite")
        import_tensorflow()
        try:
            action({option_name: values[option_name].value for option_name in (*options, "overwrite")}, workdir)
        except KeyboardInterrupt as interrupt:
            if not (workdir / RESULT).exists():
                raise
            rest = f"; the same command with --workdir={shlex.quote(str(workdir))} measures the rest"
            print(f"\ninterrupted; what has been measured is in {workdir}{rest if unfinished(workdir) else ''}",
                  file=sys.stderr)
            return _status(interrupt)
        return 0

    _end(run_action)


def _end(action: Callable[[], int]) -> NoReturn:
    """Ends the process with the status that the action returns, or that its failure means."""
    try:
        with _terminable():
            status = action()
        sys.stdout.flush()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt as interrupt:  # in training it is heeded where the state can be saved
        print("\ninterrupted before there was anything to save", file=sys.stderr)
        status = _status(interrupt)
    except BrokenPipeError:  # nobody reads on, as in `--help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 128 + signal.SIGPIPE
    sys.stderr.flush()
    if signals.calls_still_running():
        with suppress(BrokenPipeError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def _status(interrupt: KeyboardInterrupt) -> int:
    return 128 + (signal.SIGTERM if isinstance(interrupt, _Terminated) else signal.SIGINT)


@contextmanager
def _terminable() -> Iterator[None]:
    """Within the context SIGTERM is an exception, as SIGINT is."""
    def terminate(number: int, frame: object) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():  # where Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def flag_values(recipe: Recipe) -> flags.FlagValues:
    """The flags of an experiment: its recipe's fields, its network's options, and the run's own.

    They are the caller's own set, not absl's global one, so that several experiments can live in one process.
    """
    values = flags.FlagValues()
    for field in settings():
        _define(values, "recipe", field.name, getattr(recipe, field.name), field.metadata["choices"],
                field.metadata["help"], field.metadata["switch"])
    for name, option in recipe.options.items():
        _define(values, f"network {recipe.network}", name, option.value, option.choices, option.help)
    for name, default, help_text in (
            ("workdir", "", "folder of the run; an unfinished run of the same recipe in it goes on. By default a new "
                            "folder under runs/"),
            ("data_dir", "", "folder with the data set's official files, its class folders (--dataset=folder), or what "
                             "tensorflow-datasets has prepared"),
            ("devices", 0, "GPUs, or logical CPU devices, that share each batch; 0: every GPU, or one CPU device"),
            ("cluster", "", "slurm: the processes of this Slurm job step train together; otherwise those that "
                            "TF_CONFIG lists, if it is set. All need the same --workdir"),
            ("checkpoint_every", "", "save the state within epochs too, every so many steps, such as 200, or minutes, "
                                     "such as 5m; by default at the end of each epoch"),
            ("overwrite", False, "remove the run that is in --workdir and start anew"),
            ("histograms", False, "give TensorBoard a histogram of every weight after each epoch")):
        _define(values, "run", name, default, (), help_text)
    return values


def parse(recipe: Recipe, argv: Sequence[str]) -> tuple[Recipe, flags.FlagValues]:
    """The recipe with the changes that the flags ask for, and the flags.

    Raises:
      UsageError: an unknown flag, a value that is not allowed, or an argument that is no flag.
    """
    values = flag_values(recipe)
    _read(values, argv)
    names = [field.name for field in settings()] + list(recipe.options)
    changes = {name: values[name].value for name in names if values[name].present}
    return recipe.replace(**changes), values


def _read(values: flags.FlagValues, argv: Sequence[str]) -> None:
    try:
        rest = values(list(argv))[1:]
    except (flags.Error, OSError) as error:
        raise UsageError(" ".join(str(error).split())) from error
    if rest:
        raise UsageError(f"{rest[0]!r} is not a flag; flags are written --name=value")


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(argument in ("--help", "-help", "-h", "--helpfull", "--helpshort") for argument in argv[1:])


def _run(recipe: Recipe, argv: list[str], action: Action, changes: Mapping[str, Any]) -> int:
    if _asks_for_help(argv):
        print(_help(recipe, changes))
        return 0
    given, values = parse(recipe, argv)
    sample = given.replace(dataset=_SAMPLE, **{
        name: value for name, value in changes.items() if not values[name].present})
    import_tensorflow()
    from tfcnn.data.datasets import Unavailable

    if given.dataset == _SAMPLE:
        return action(sample, values)
    try:
        return action(given, values)
    except Unavailable as error:
        if values["dataset"].present:
            raise
        line = "!" * 100
        print(f"{line}\n!! {given.dataset} is not on this machine and cannot be downloaded:\n"
              f"!! THIS RUN TAKES THE {_SAMPLE.upper()} INSTEAD (6,000 training images of Fashion-MNIST).\n"
              f"!! {error}\n{line}", file=sys.stderr)
        return action(sample, values)


def _train(recipe: Recipe, values: flags.FlagValues, reference: Recipe) -> int:
    """Trains and tells how it went; returns the exit status. The reference is the experiment's own recipe."""
    from tfcnn.training import machines
    from tfcnn.training.loop import NotFiniteError
    from tfcnn.training.trainer import train

    cluster = machines.cluster(values["cluster"].value)
    if cluster and not values["workdir"].value:
        raise UsageError("several machines need a --workdir that is the same folder for all of them")
    name = f"{recipe.experiment}-{recipe.dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    workdir = Path(values["workdir"].value or Path("runs", name))
    here = shlex.quote(str(workdir))
    repeat = f"{_python()} -m {_module(recipe.experiment)} --flagfile={shlex.quote(str(workdir / COMMAND))}"
    resume = f"{repeat} --workdir={here}"
    board = f"{_python()} -m tensorboard.main --logdir={here}"

    # All machines of a cluster run this; the first one reports.
    other = bool(cluster and cluster.index)
    begun = False

    def announce() -> None:
        nonlocal begun
        begun = True
        if other:
            return
        print(f"run:         {workdir}\nTensorBoard: {board}\nresume:      {resume}", flush=True)

    try:
        result = train(recipe, workdir, data_dir=values["data_dir"].value or None, devices=values["devices"].value,
                       cluster=values["cluster"].value, overwrite=values["overwrite"].value,
                       histograms=values["histograms"].value, checkpoint_every=values["checkpoint_every"].value,
                       command_flags=_command_flags(recipe, values), on_start=announce, own_process=True,
                       reference=reference)
    except signals.Interrupted as error:
        print(f"\n{error}\nresume: {resume}", file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt as interrupt:  # before the first step or after the last one
        if not begun:
            raise
        print(f"\ninterrupted; all that was done is saved\nresume: {resume}", file=sys.stderr)
        return _status(interrupt)
    except NotFiniteError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 3
    except machines.MachineLost as error:
        print(f"\nerror: {error}\nresume: {resume}", file=sys.stderr)
        return 4
    if other:
        print(f"done; the first machine has the results in {workdir}")
        return 0
    record = result.record
    if not result.trained:
        print(f"this run was complete already; --overwrite does it again, another --workdir beside it: {workdir}")
    print(f"\ntest accuracy: {result.test_accuracy:.4f} ({record['test']['images']:,} images; {recipe.dataset}: "
          f"{record['dataset']['source']})\n"
          f"training:      {record['epochs']} epochs, {record['train_seconds']:.0f} s, "
          f"{record['train_images_per_second']:,.0f} images/s\n"
          f"run:           {workdir}\n"
          f"curves:        {workdir / CURVES}\n"
          f"TensorBoard:   {board}\n"
          f"repeat:        {repeat}")
    return 0


def import_tensorflow() -> None:
    """Imports TensorFlow without the notes of its libraries on what the machine has, unless the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as notes:
        os.dup2(notes.fileno(), 2)
        try:
            import tensorflow
            tensorflow.config.list_physical_devices()
        except Exception:
            notes.seek(0)
            os.write(standard_error, notes.read())
            raise
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)


def _command_flags(recipe: Recipe, values: flags.FlagValues) -> list[str]:
    """The flags that repeat a run, whatever becomes of the experiment's own recipe."""
    settings_given = {field.name: getattr(recipe, field.name) for field in settings()} | recipe.network_options()
    settings_given |= {name: values[name].value for name in _KEPT_FLAGS if values[name].value}
    return [f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in settings_given.items()]


def _define(values: flags.FlagValues, group: str, name: str, default: Scalar, choices: Sequence[Scalar],
            help_text: str, switch: bool = False) -> None:
    place: dict[str, Any] = {"flag_values": values, "module_name": group}
    if isinstance(default, bool):
        flags.DEFINE_boolean(name, default, help_text, **place)
    elif switch:
        flags.DEFINE(flags.ArgumentParser(), name, default, help_text, serializer=flags.ArgumentSerializer(),
                     boolean=True, **place)
    elif isinstance(default, str) and choices:
        flags.DEFINE_enum(name, default, list(choices), help_text, **place)
    else:
        define = {int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[type(default)]
        allowed = f"<{'|'.join(map(str, choices))}>: " if choices else ""
        define(name, default, allowed + help_text, **place)


def _module(experiment: str) -> str:
    return f"tfcnn.experiments.{experiment}"


def _usage(experiment: str) -> str:
    about = (sys.modules["__main__"].__doc__ or "").strip()
    return f"usage: python -m {_module(experiment)} [--flag=value ...]\n\n{about}\n\n"


def _help(recipe: Recipe, changes: Mapping[str, Any]) -> str:
    """What `--help` prints."""
    otherwise = ", ".join(f"--{name}={value}" for name, value in changes.items())
    return (_usage(recipe.experiment)
            + "A flag that is not given keeps the experiment's value, shown as its default. --noNAME turns a boolean\n"
            "off; --flagfile=FILE reads flags from a file, such as a run's command.flags.\n"
            + (f"On the sample the experiment's own values are {otherwise}.\n" if otherwise else "")
            + flag_values(recipe).get_help())


def _python() -> str:
    """The interpreter as one would type it here."""
    here = os.getcwd() + os.sep
    return sys.executable.removeprefix(here) if sys.executable.startswith(here) else "python"
