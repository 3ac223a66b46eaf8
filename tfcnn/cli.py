"""The command line of an experiment: what it runs, and what it prints.

    cli.run(RECIPE, sample=SAMPLE, presets=PRESETS)    trains
    cli.measure(NAME, OPTIONS, action)                 measures something else
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl.flags import FlagValues

from tfcnn import arguments, commands, exit_status, files, flags, signals, streams
from tfcnn.recipe import Option, Presets, Recipe, UsageError
from tfcnn.runs import COMMAND, CURVES, MISSING, RESULT, RunFolder, State, new_folder
from tfcnn.runs.record import benchmark_result, unfinished
from tfcnn.startup import import_tensorflow

if TYPE_CHECKING:
    from tfcnn.training.trainer import Result

_SAMPLE = "sample"

Action = Callable[[Recipe, FlagValues], int]


def run(recipe: Recipe, argv: Sequence[str] | None = None, action: Action | None = None,
        sample: Mapping[str, Any] | None = None, presets: Presets | None = None) -> None:
    """Runs an experiment as its command line says, and ends the process.

    The exit status is 0 when done, 2 after a usage error, 3 if the loss, the gradient or a weight was not finite, 4 if
    another machine of the run has stopped, 130 or 143 after an interruption.

    Args:
      recipe: the experiment's recipe, which flags change.
      argv: the program's name and its arguments; by default those of the process.
      action: what to do with the recipe and the flags, returning the status; by default the recipe is trained. It is
        called with TensorFlow imported. If the recipe's data set is unavailable and no flag has asked for it, it is
        called again with the sample as the data set.
      sample: the fields and options that the experiment changes when it trains on the sample, which is small and should
        take minutes; a flag that is given takes precedence, and so does a preset.
      presets: what each value of --preset changes, by its name; a flag that is given takes precedence.
    """
    words = list(sys.argv if argv is None else argv)
    train = functools.partial(_train, reference=recipe)
    exit_status.end_process(lambda: _run(recipe, words, action or train, sample or {}, presets or {}))


def measure(name: str, options: Mapping[str, Option], action: Callable[[Mapping[str, Any], Path], None],
            argv: Sequence[str] | None = None) -> None:
    """Runs an experiment that measures something and has options of its own instead of a recipe; ends the process.

    Args:
      name: the experiment's name.
      options: its options, each of which is a flag.
      action: called, with TensorFlow imported, with the values of the options and of --overwrite, and with the folder
        for the result: a new folder, one that may be overwritten, or one that holds an `unfinished` result.
      argv: the program's name and its arguments; by default those of the process.
    """
    words = list(sys.argv if argv is None else argv)
    exit_status.end_process(lambda: _measure(name, options, action, words))


def _run(recipe: Recipe, argv: list[str], action: Action, sample_changes: Mapping[str, Any],
         presets: Presets) -> int:
    if flags.asks_for_help(argv):
        print(_help(recipe, sample_changes, presets))
        return exit_status.DONE
    given, values = flags.parse(recipe, argv, presets)
    arguments.check(os.getcwd())  # where relative paths lead
    chosen = flags.preset(values, presets)
    on_sample = given.replace(dataset=_SAMPLE, **{
        name: value for name, value in sample_changes.items() if not values[name].present and name not in chosen})
    import_tensorflow()
    from tfcnn.data.datasets import Unavailable

    if given.dataset == _SAMPLE or not values["dataset"].present and _goes_on(on_sample, values):
        return action(on_sample, values)
    try:
        return action(given, values)
    except Unavailable as error:
        if values["dataset"].present:
            raise
        line = "!" * 100
        print(f"{line}\n!! {given.dataset} is not on this machine and cannot be downloaded:\n"
              f"!! THIS RUN TAKES THE {_SAMPLE.upper()} INSTEAD (6,000 training images of Fashion-MNIST).\n"
              f"!! {error}\n{line}", file=sys.stderr)
        return action(on_sample, values)


def _goes_on(recipe: Recipe, values: Mapping[str, Any]) -> bool:
    """Whether --workdir holds a run of this recipe that goes on, or is complete."""
    if not values["workdir"].value or values["overwrite"].value:
        return False
    try:
        return RunFolder(files.expanded(values["workdir"].value)).state(recipe) is not State.NEW
    except UsageError:
        return False


def _measure(name: str, options: Mapping[str, Option], action: Callable[[Mapping[str, Any], Path], None],
             argv: list[str]) -> int:
    if flags.asks_for_help(argv):
        print(_usage(name) + flags.of_options(name, options).get_help())
        return exit_status.DONE
    values = flags.parse_options(name, options, argv)
    arguments.check(os.getcwd())
    given = {option_name: values[option_name].value for option_name in (*options, "overwrite")}
    with _result_folder(name, values["workdir"].value, given["overwrite"]) as workdir:
        import_tensorflow()
        before = benchmark_result(workdir, name)
        try:
            action(given, workdir)
        except KeyboardInterrupt as interrupt:
            if benchmark_result(workdir, name) in (None, before):
                raise
            rest = f"\nresume: {commands.to_measure_rest(name, argv[1:], workdir)}" if unfinished(workdir, name) else ""
            print(f"\ninterrupted; what has been measured is in {workdir}{rest}", file=sys.stderr)
            return exit_status.of_interrupt(interrupt)
    return exit_status.DONE


@contextmanager
def _result_folder(name: str, workdir: str, overwrite: bool) -> Iterator[Path]:
    """The folder for the result of a benchmark: the one that is named, or a new one. It is removed if it stays empty.

    Raises:
      UsageError: the folder cannot be used, or holds something else.
    """
    folder = files.expanded(workdir) if workdir else new_folder(name)
    created = [folder, folder.parent]
    try:
        if workdir:
            created = [path for path in (folder, *folder.parents) if not path.exists()]
        taken = os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir()))
        if taken and not overwrite and not unfinished(folder, name):
            raise UsageError(f"{folder} exists already: choose another --workdir, or give --overwrite")
        if taken and folder.is_dir() and not _is_of_benchmark(folder, name):
            raise UsageError(f"{folder} holds something else than a result of {name}: choose another --workdir")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # now, and not after an hour of measurements
            pass
    except OSError as error:
        raise files.usage_error(f"cannot use {folder} as the folder of the result", error, folder) from error
    try:
        yield folder
    finally:
        with suppress(OSError):
            for path in created:
                path.rmdir()


def _is_of_benchmark(folder: Path, name: str) -> bool:
    """Whether a folder holds the result of a benchmark, or, without a result, only what one writes besides."""
    if (folder / RESULT).exists():
        return benchmark_result(folder, name) is not None
    suffixes = [path.suffix for path in folder.iterdir() if path.name != "README.md"]
    return ".png" in suffixes and set(suffixes) <= {".png", ".tmp"}


def _train(recipe: Recipe, values: FlagValues, reference: Recipe) -> int:
    """Trains the recipe and prints what became of it; returns the exit status.

    `reference` is the experiment's own recipe.
    """
    from tfcnn.training import machines
    from tfcnn.training.loop import NotFiniteError
    from tfcnn.training.trainer import train

    workdir = files.expanded(values["workdir"].value) if values["workdir"].value else None
    cluster = machines.cluster(values["cluster"].value, values["wait"].value)
    if cluster and not workdir:
        raise UsageError("several machines need a --workdir that is the same folder for all of them")
    run = commands.RunCommands(recipe.experiment, workdir) if workdir else None
    reports = not (cluster and cluster.index)  # every machine of a cluster is here; the first one reports
    begun = False

    def on_start(folder: Path) -> None:
        nonlocal begun, run
        begun, run = True, commands.RunCommands(recipe.experiment, folder)
        if reports:
            _report_start(run, recipe)

    command_flags = flags.to_repeat(recipe, values)
    try:
        result = train(recipe, workdir, data_dir=values["data_dir"].value or None,
                       devices=values["devices"].value, cluster=values["cluster"].value, wait=values["wait"].value,
                       overwrite=values["overwrite"].value, histograms=values["histograms"].value,
                       checkpoint_every=values["checkpoint_every"].value,
                       command_flags=command_flags, on_start=on_start, own_process=True, reference=reference)
    except signals.Interrupted as error:
        print(f"\n{error}{_resume(run)}", file=sys.stderr)
        return 128 + error.signal_number
    except KeyboardInterrupt as interrupt:  # before the first step, or after the last one
        if not begun:
            raise
        print(f"\ninterrupted; all that was done is saved{_resume(run)}", file=sys.stderr)
        return exit_status.of_interrupt(interrupt)
    except streams.OutputLost:
        print(f"{'the last checkpoint' if cluster else 'what was done'} is saved{_resume(run)}", file=sys.stderr)
        raise
    except NotFiniteError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return exit_status.NOT_FINITE
    except machines.MachineLost as error:
        print("\n" * begun + f"error: {error}{_resume(run)}", file=sys.stderr)
        return exit_status.MACHINE_LOST
    if reports:
        _print_result(recipe, result, command_flags)
    else:
        print(f"done; the first machine has the results in {result.workdir}")
    return exit_status.DONE


def _report_start(run: commands.RunCommands, recipe: Recipe) -> None:
    from tfcnn.training.devices import computed_precision

    print(f"run:         {run.workdir}\nTensorBoard: {run.tensorboard}\nresume:      {run.resume}", flush=True)
    computed = computed_precision(recipe)
    if computed != recipe.precision:
        print(f"precision:   {computed}, since this machine is slower in {recipe.precision}; --keep_precision "
              f"computes in {recipe.precision} anyway", flush=True)


def _resume(run: commands.RunCommands | None) -> str:
    """A further line that says how to go on, unless the run has not begun, as when machines have never met."""
    return f"\nresume: {run.resume}" if run and (run.workdir / COMMAND).exists() else ""


def _print_result(recipe: Recipe, result: Result, command_flags: Sequence[str]) -> None:
    record, workdir = result.record, result.workdir
    run = commands.RunCommands(recipe.experiment, workdir, command_flags if COMMAND in result.unusable else ())
    if not result.trained:
        print(f"this run was complete already; give --overwrite to repeat it here, or another --workdir: {workdir}")
    for name, why in result.unusable.items():
        print(f"not usable:    {name} {'is missing' if why == MISSING else why}")
    drawn = f"curves:        {workdir / CURVES}\n" if (workdir / CURVES).exists() else ""
    print(f"\ntest accuracy: {result.test_accuracy:.4f} ({record['test']['images']:,} images; {recipe.dataset}: "
          f"{record['dataset']['source']})\n"
          f"training:      {record['epochs']} epochs, {record['train_seconds']:.0f} s, "
          f"{record['train_images_per_second']:,.0f} images/s\n"
          f"run:           {workdir}\n"
          f"{drawn}"
          f"TensorBoard:   {run.tensorboard}\n"
          f"repeat:        {run.repeat}")


def _help(recipe: Recipe, sample_changes: Mapping[str, Any], presets: Presets) -> str:
    """What `--help` prints."""
    changes = ", ".join(f"--{name}={value}" for name, value in sample_changes.items())
    return (_usage(recipe.experiment)
            + "A flag that is not given keeps the experiment's value, shown as its default. --noNAME turns a boolean\n"
            "off; --flagfile=FILE reads flags from a file, such as a run's command.flags.\n"
            + (f"On the sample the experiment's own values are {changes}.\n" if changes else "")
            + flags.of_recipe(recipe, presets).get_help())


def _usage(experiment: str) -> str:
    about = (sys.modules["__main__"].__doc__ or "").strip()
    return f"usage: python -m {commands.module(experiment)} [--flag=value ...]\n\n{about}\n\n"
