"""A run's folder: write it, read it back, draw it, and render tables from many.

    python -m tfcnn.runs show RUN_FOLDER ...     print the table of these runs
    python -m tfcnn.runs record RUN_FOLDER       copy a complete run's small files to experiments/
    python -m tfcnn.runs render [--check]        render the recorded runs into README.md and experiments/README.md

A run's folder is the contract between training and all that looks at it afterwards. Its files are written atomically,
and result.json last of all: its presence means that the run is complete.

This module imports neither TensorFlow nor Keras, so that looking at runs is quick and never takes a device.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import enum
import fcntl
import importlib.metadata
import io
import json
import math
import numbers
import os
import platform
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import textwrap
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from tfcnn.recipe import Recipe, UsageError, flat, settings

RECIPE = "recipe.json"
COMMAND = "command.flags"
METRICS = "metrics.csv"
TIMINGS = "timings.csv"
RESULT = "result.json"
CHECKPOINTS = "checkpoints"
MODEL = "model.keras"
NORMALIZATION = "normalization.npz"
CURVES = "curves.png"
TRAIN_EVENTS = "train"
VALIDATION_EVENTS = "validation"
LOCK = "run.lock"

# In the order in which --overwrite removes them: without its result the old run no longer passes for complete. The
# recipe is not removed but replaced, so that the folder is a run's at any moment.
_REPLACED = (RESULT, CHECKPOINTS, MODEL, NORMALIZATION, METRICS, TIMINGS, CURVES, TRAIN_EVENTS, VALIDATION_EVENTS,
             COMMAND)

# What `record` copies, the result last; and the timings before it, which runs of earlier versions have in metrics.csv.
RECORDED = (RECIPE, COMMAND, METRICS, CURVES, RESULT)

# What every result.json has, at least; a dot leads into a nested object. Recorded runs are held to it too, so a field
# that they lack cannot be demanded here.
RESULT_FIELDS = (
    "experiment", "recipe.options", "network", "parameters",
    "dataset.name", "dataset.source", "dataset.train_images", "dataset.validation_images", "dataset.test_images",
    "test.accuracy", "test.loss", "test.images",
    "epochs", "steps", "train_seconds", "train_images_per_second",
    "strategy", "replicas", "precision", "execution", "seed", "versions", "commit", "started", "finished",
)

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")

BEGIN = "<!-- results: begin, made by: python -m tfcnn.runs render -->"
END = "<!-- results: end -->"

Metrics = dict[str, int | float]


class State(enum.Enum):
    """What `RunFolder.prepare` found."""

    NEW = "new"
    UNFINISHED = "unfinished"
    COMPLETE = "complete"


class RunFolder:
    """The folder of one training run.

    Attributes:
      path: where it is; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def complete(self) -> bool:
        """Whether the run has ended and left its result."""
        return (self.path / RESULT).is_file()

    def prepare(self, recipe: Recipe, command_flags: Sequence[str], overwrite: bool = False) -> State:
        """Makes the folder ready for a run of the recipe.

        Args:
          recipe: what is to be run.
          command_flags: the flags that replay the run, one a word, such as `--epochs=30`.
          overwrite: whether another run in the folder, complete or not, makes way. Only a run's own files are removed.

        Returns:
          NEW if the run starts from nothing, UNFINISHED if it is this recipe's run and goes on, COMPLETE if this
          recipe's run is there with its result, of which nothing was touched.

        Raises:
          UsageError: the folder holds a run of another recipe, or something that is not a run, or cannot be used.
        """
        if any(len(flag.splitlines()) != 1 for flag in command_flags):
            raise UsageError(f"a flag with a line break cannot be kept in {COMMAND}")
        try:
            state = self.state(recipe, overwrite)
            if state is State.NEW:
                self.path.mkdir(parents=True, exist_ok=True)
                for name in _REPLACED:
                    _remove(self.path / name)
                    _remove(_temporary(self.path / name))
                write(self.path / RECIPE, recipe.to_json())
            if state is State.NEW or not (self.path / COMMAND).exists():
                write(self.path / COMMAND, "".join(f"{flag}\n" for flag in command_flags))
        except OSError as error:
            raise UsageError(f"cannot use {self.path} as a run's folder: {error.strerror}") from error
        return state

    @contextmanager
    def opened(self, recipe: Recipe, command_flags: Sequence[str], overwrite: bool = False) -> Iterator[State]:
        """Within the context the folder is `prepare`d and locked, unless it has the complete run: then it is let be."""
        state = self.state(recipe, overwrite)
        if state is State.COMPLETE:
            yield state
            return
        with self.locked():
            yield self.prepare(recipe, command_flags, overwrite)  # another process may have ended this run since

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the folder, which is made if need be.

        The kernel ends the lock with the process, however that ends; the file that carries it stays.

        Raises:
          UsageError: a living process has the folder, or it cannot be used.
        """
        with self._lock():
            yield

    def _lock(self) -> IO[str]:
        """The open file that carries the lock, until it is closed."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / LOCK, "a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                with file:
                    file.seek(0)
                    raise UsageError(f"{self.path} is in use by {file.read().strip() or 'another process'}; wait for "
                                     "it, stop it, or choose another --workdir") from error
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file
        except OSError as error:
            raise UsageError(f"cannot use {self.path} as a run's folder: {error.strerror}") from error

    def state(self, recipe: Recipe, overwrite: bool = False) -> State:
        """What `prepare` is to return, or to raise; touches nothing."""
        path = self.path
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is a file; choose a folder with --workdir")
        # A process killed in its very first write leaves just these behind.
        leftovers = (_temporary(path / RECIPE), path / LOCK)
        if not path.exists() or all(entry in leftovers for entry in path.iterdir()):
            return State.NEW
        if not (path / RECIPE).exists():
            raise UsageError(f"{path} has files but is not a run ({RECIPE} is missing); choose another --workdir")
        there = self.read_recipe()
        if overwrite:
            return State.NEW
        if there != recipe:
            raise UsageError(f"{path} is the run of another recipe ({_differences(there, recipe)}); "
                             f"choose another --workdir, or give --overwrite")
        return State.COMPLETE if self.complete else State.UNFINISHED

    def read_recipe(self) -> Recipe:
        """The recipe that the folder's run follows.

        Raises:
          UsageError: recipe.json is missing or damaged.
        """
        text = self._read(RECIPE)
        try:
            return Recipe.from_json(text)
        except UsageError as error:
            raise UsageError(f"{self.path / RECIPE} is unreadable: {error}") from error

    def read_command(self) -> list[str]:
        """The flags that replay the run.

        Raises:
          UsageError: command.flags is missing or damaged.
        """
        return self._read(COMMAND).splitlines()

    def write_metrics(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes metrics.csv anew, a row an epoch; the first row's keys are the columns.

        Raises:
          ValueError: a row has other keys than the first.
          UsageError: the file cannot be written.
        """
        self._write_table(METRICS, rows)

    def write_timings(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes timings.csv anew: what, unlike metrics.csv, is another each time a run is repeated.

        Raises:
          ValueError: a row has other keys than the first.
          UsageError: the file cannot be written.
        """
        self._write_table(TIMINGS, rows)

    def _write_table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns = list(rows[0]) if rows else []
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            if row.keys() != set(columns):
                raise ValueError(f"a row of {name} has the columns {list(row)}, the first one {columns}")
            values = (row[column] for column in columns)
            writer.writerow([int(value) if isinstance(value, numbers.Integral) else float(value) for value in values])
        write(self.path / name, text.getvalue())

    def read_metrics(self) -> list[Metrics]:
        """The rows of metrics.csv: what was an int is an int, all else is a float.

        Raises:
          UsageError: the file is missing or damaged.
        """
        header, *lines = csv.reader(self._read(METRICS).splitlines() or [""])
        try:
            return [dict(zip(header, map(_number, line), strict=True)) for line in lines]
        except ValueError as error:
            raise UsageError(f"{self.path / METRICS} is damaged: {error}") from error

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Writes result.json, which makes the run complete: to be called last of all.

        Args:
          result: has at least `RESULT_FIELDS`; `recipe` is `Recipe.to_dict()`, accuracies are fractions in [0, 1].

        Raises:
          ValueError: a field is missing, or a number is not finite.
          UsageError: the file cannot be written.
        """
        missing = _missing_fields(result)
        if missing:
            raise ValueError(f"the result lacks {', '.join(missing)}")
        write(self.path / RESULT, json.dumps(result, indent=2, allow_nan=False) + "\n")

    def read_result(self) -> dict[str, Any]:
        """The run's result.

        Raises:
          UsageError: the run is not complete, or result.json is damaged.
        """
        if not self.complete:
            raise UsageError(f"{self.path} is not a complete run: it has no {RESULT}")
        text = self._read(RESULT)
        try:
            result = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{self.path / RESULT} is damaged: {error}") from error
        missing = _missing_fields(result)
        if missing:
            raise UsageError(f"{self.path / RESULT} is damaged: it lacks {', '.join(missing)}")
        return result

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot read {self.path / name}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UsageError(f"{self.path / name} is damaged: {error}") from error


def environment() -> dict[str, Any]:
    """What a run ran on.

    Returns:
      `versions` (of Python and the packages a number depends on) and `commit` (of the checkout that holds this package,
      followed by -dirty if a tracked file has been changed; "unknown" outside a checkout).
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {"versions": versions, "commit": _commit(Path(__file__).resolve().parent.parent)}


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # Installed under another project's checkout, the package would take that project's commit for its own.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def draw_curves(folder: RunFolder, result: Mapping[str, Any] | None = None) -> Path:
    """Draws the run's curves.png: loss, accuracy, and the learning rate if it varies, over the epochs.

    Training and validation differ in colour (safe for the colour-blind), lightness, dash and marker, so that they are
    told apart in print too. The accuracy on the test set is marked if it is known.

    Args:
      folder: the run's.
      result: what is about to be written as the run's result; by default that which is in the folder, if any.

    Returns:
      The picture's path.

    Raises:
      UsageError: the run has no epoch yet, or a file of it is damaged.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    recipe = folder.read_recipe()
    rows = folder.read_metrics()
    if not rows:
        raise UsageError(f"{folder.path} has no epoch to draw yet")
    if result is None and folder.complete:
        result = folder.read_result()
    columns = {name: [row[name] if math.isfinite(row[name]) else math.nan for row in rows] for name in rows[0]}
    epochs = columns["epoch"]
    rate_varies = len(set(columns["learning_rate"])) > 1

    with matplotlib.rc_context({
            "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold",
            "axes.linewidth": 0.8, "figure.titlesize": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
            "grid.color": "0.88", "grid.linewidth": 0.6, "grid.linestyle": "-", "lines.linewidth": 1.5,
            "legend.frameon": False, "legend.handlelength": 2.4, "axes.formatter.useoffset": False}):
        figure = Figure(figsize=(7.0 if rate_varies else 6.0, 2.9), dpi=200, layout="constrained")
        FigureCanvasAgg(figure)
        widths = [1, 1, 0.6] if rate_varies else [1, 1]
        panels = figure.subplots(1, len(widths), width_ratios=widths)
        losses, accuracies = panels[:2]
        few = len(epochs) <= 30
        training = {"color": "#E07B00", "linestyle": (0, (4, 1.5)), "marker": "o" if few else "", "markersize": 3.5,
                    "markerfacecolor": "white"}
        validation = {"color": "#004C80", "linestyle": "-", "marker": "s" if few else "", "markersize": 3}
        for prefix, style in (("", training), ("validation_", validation)):
            if f"{prefix}loss" in columns:
                label = "validation" if prefix else "training"
                losses.plot(epochs, columns[f"{prefix}loss"], label=label, **style)
                accuracies.plot(epochs, [100 * value for value in columns[f"{prefix}accuracy"]], label=label, **style)
        if result:
            accuracy = 100 * result["test"]["accuracy"]
            test = accuracies.plot(epochs[-1], accuracy, color="black", marker="*", markersize=11, linestyle="",
                                   markeredgecolor="white", markeredgewidth=0.8, clip_on=False, zorder=5,
                                   label=f"test: {accuracy:.2f} %")
            accuracies.legend(handles=test, handlelength=1)
        losses.set_title("Loss")
        accuracies.set_title("Accuracy, %")
        losses.legend()
        if rate_varies:
            rates = panels[2]
            rates.set_title("Learning rate")
            rates.plot(epochs, columns["learning_rate"], color="0.25")
            if recipe.schedule in ("step", "exponential") and min(columns["learning_rate"]) > 0:
                rates.set_yscale("log")
            else:
                rates.set_ylim(bottom=0)
        margin = max(0.5, 0.02 * len(epochs))
        for panel, ticks in zip(panels, (6, 6, 4)):
            panel.set_xlabel("Epoch")
            panel.set_xlim(epochs[0] - margin, epochs[-1] + margin)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
        figure.suptitle(_title(recipe, result), color="0.2")
        picture = io.BytesIO()
        figure.savefig(picture, format="png")
    write(folder.path / CURVES, picture.getvalue())
    return folder.path / CURVES


def _title(recipe: Recipe, result: Mapping[str, Any] | None) -> str:
    variant = recipe.network_options().get("variant", "")
    words = [recipe.experiment, f"{recipe.network} {variant}".strip(),
             _dataset_label(result) if result else recipe.dataset, f"seed {recipe.seed}"]
    if recipe.experiment == recipe.network:
        del words[0]
    return textwrap.fill(", ".join(words), width=92, max_lines=2, placeholder=" ...")


def _dataset_label(result: Mapping[str, Any]) -> str:
    name, source = result["dataset"]["name"], result["dataset"]["source"]
    return source if name == "folder" else name if source in ("", name) else f"{name} ({source})"


@dataclasses.dataclass(frozen=True)
class _Run:
    """A complete run, as the table sees it."""

    folder: RunFolder
    result: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return self.result["experiment"]

    @property
    def options(self) -> Mapping[str, Any]:
        return self.result["recipe"]["options"]

    def setting(self) -> dict[str, Any]:
        """All that may tell two runs apart, but for the seed.

        A run recorded before a field was added to the recipe has the field's default.
        """
        values = {field.name: field.default for field in settings()} | flat(self.result["recipe"])
        values |= {name: self.result[name] for name in ("strategy", "replicas")}
        del values["seed"]
        return values


def render_table(folders: Iterable[RunFolder], relative_to: Path | None = None) -> str:
    """A Markdown table of complete runs, sorted by experiment.

    Runs that differ in nothing but the seed share a row, which gives the mean of their accuracies, the sample standard
    deviation, and their number. The rows of an experiment are told apart by the settings in which they differ; where
    there is no difference, the network's options are shown.

    Args:
      folders: the runs' folders.
      relative_to: the folder that the links to the runs start from; by default the current one.

    Raises:
      UsageError: a run is not complete, or its result is damaged.
    """
    start = Path.cwd() if relative_to is None else relative_to
    rows = _rows(_Run(folder, folder.read_result()) for folder in folders)
    if not rows:
        return "No run has been recorded yet.\n"
    head = ("Experiment", "Setting", "Data set", "Test accuracy, %", "Seeds", "Epochs", "Parameters", "Training time",
            "Images/s", "Run")
    lines = [head, ("---", "---", "---", "---:", "---:", "---:", "---:", "---:", "---:", "---")]
    for row in rows:
        result = row[0].result
        lines.append((
            row[0].experiment,
            _setting_label(row[0], [other[0] for other in rows if other[0].experiment == row[0].experiment]),
            _dataset_label(result),
            _mean_and_deviation([100 * run.result["test"]["accuracy"] for run in row]),
            str(len(row)),
            _span([run.result["epochs"] for run in row]),
            f"{result['parameters']:,}",
            _duration(statistics.fmean(run.result["train_seconds"] for run in row)),
            f"{statistics.fmean(run.result['train_images_per_second'] for run in row):,.0f}",
            ", ".join(f"[{_name(run.folder)}]({_link(run.folder.path, start)})" for run in row),
        ))
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _rows(runs: Iterable[_Run]) -> list[list[_Run]]:
    """The runs of each row of the table.

    To repeat a seed is not to draw another sample: the repetition gets a row of its own.
    """
    rows: dict[tuple[str, int], list[_Run]] = collections.defaultdict(list)
    repetitions: dict[tuple[str, int], int] = collections.Counter()
    for run in sorted(runs, key=lambda run: (run.experiment, _dataset_label(run.result), str(run.folder.path))):
        images = [run.result["dataset"][f"{part}_images"] for part in ("train", "validation", "test")]
        same = json.dumps([run.setting(), _dataset_label(run.result), images], sort_keys=True)
        seed = run.result["seed"]
        rows[same, repetitions[same, seed]].append(run)
        repetitions[same, seed] += 1
    return list(rows.values())


def _setting_label(run: _Run, others: Sequence[_Run]) -> str:
    """What tells the run from the others of its experiment, as flags."""
    setting = run.setting()
    shown_elsewhere = {"experiment", "network", "variant", "dataset", "epochs"}
    differing = [name for name in setting if name not in shown_elsewhere
                 and any(other.setting().get(name) != setting[name] for other in others)]
    names = ["network"] if setting["network"] != run.experiment else []
    names += ["variant"] if "variant" in setting else []
    names += differing or [name for name in run.options if name not in shown_elsewhere]
    return " ".join(f"`{name}={_flag_value(setting[name])}`" for name in names)


def _mean_and_deviation(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _flag_value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(folder: RunFolder) -> str:
    return folder.path.resolve().name


def _link(path: Path, start: Path) -> str:
    return urllib.parse.quote(Path(os.path.relpath(path, start)).as_posix())


def repository_root() -> Path:
    """The checkout of tfcnn that the current folder is in, else the one that holds this package.

    Raises:
      UsageError: there is neither.
    """
    current = Path.cwd()
    for folder in (current, *current.parents, Path(__file__).resolve().parent.parent):
        if (folder / "setup.cfg").is_file() and (folder / "tfcnn" / "runs.py").is_file():
            return folder
    raise UsageError("this is no checkout of tfcnn (a folder with setup.cfg and tfcnn/); change to one")


def recorded_runs(root: Path) -> list[RunFolder]:
    """The runs recorded in a repository: experiments/<experiment>/<name>/ with a result."""
    return [RunFolder(result.parent) for result in sorted(root.glob(f"experiments/*/*/{RESULT}"))]


def record(folder: RunFolder, root: Path, name: str = "") -> RunFolder:
    """Copies a complete run's small files (no weights, no events) to experiments/<experiment>/<name>/.

    Args:
      folder: the run.
      root: the repository.
      name: the recorded run's name; the folder's own if empty.

    Raises:
      UsageError: the run is incomplete or damaged, the name is not a folder's name, or such a run is recorded already.
    """
    name = name or _name(folder)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"--name={name} must begin with a letter or digit, and go on with these, '.', '_' or '-'")
    experiment = folder.read_result()["experiment"]
    for read in (folder.read_recipe, folder.read_command, folder.read_metrics):
        read()
    missing = [file for file in RECORDED if not (folder.path / file).is_file()]
    if missing:
        raise UsageError(f"{folder.path} cannot be recorded: it lacks {', '.join(missing)}")
    recorded = root / "experiments" / experiment / name
    try:
        recorded.mkdir(parents=True)
        timings = [TIMINGS] if (folder.path / TIMINGS).is_file() else []
        for file in (*timings, *RECORDED):
            shutil.copyfile(folder.path / file, recorded / file)
    except FileExistsError as error:
        raise UsageError(f"{recorded} exists already; give another --name, or remove it first") from error
    except OSError as error:
        raise UsageError(f"cannot record {folder.path} as {recorded}: {error.strerror}") from error
    return RunFolder(recorded)


def stale_pages(root: Path) -> dict[Path, str]:
    """The pages that no longer show what is recorded, with the text they should have.

    Raises:
      UsageError: README.md has not got the two markers, or a recorded run is damaged.
    """
    readme = root / "README.md"
    index = root / "experiments" / "README.md"
    pages = {readme: _rendered_readme(readme), index: _rendered_index(root)}
    return {page: text for page, text in pages.items()
            if not page.is_file() or page.read_text(encoding="utf-8") != text}


def _rendered_readme(readme: Path) -> str:
    return between(readme, BEGIN, END, render_table(recorded_runs(readme.parent), relative_to=readme.parent))


def between(page: Path, begin: str, end: str, table: str) -> str:
    """The text of a page with a table in it made anew.

    Args:
      page: the file as it is.
      begin: the line before the table.
      end: the line after it.
      table: what is to stand between them.

    Raises:
      UsageError: the page cannot be read, or lacks the two lines.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {page}: {error.strerror}") from error
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise UsageError(f"{page} needs the lines '{begin}' and '{end}' where the table is to stand")
    return f"{before}{begin}\n\n{table}\n{end}{after}"


def _rendered_index(root: Path) -> str:
    folder = root / "experiments"
    runs = recorded_runs(root)
    parts = [
        BEGIN,
        "# Recorded runs",
        "Accuracies are of the last epoch (or of the averaged weights) on the whole test set, each image counted once; "
        "over several seeds: the mean ± the sample standard deviation. Each run's folder has its recipe, its command, "
        "the metrics of every epoch, and its result.",
        render_table(runs, relative_to=folder).rstrip(),
    ]
    for run in runs:
        experiment = run.read_result()["experiment"]
        command = shlex.join(["python", "-m", f"tfcnn.experiments.{experiment}", *run.read_command()])
        parts += [f"## {experiment}: {_name(run)}", f"```\n{command}\n```",
                  f"![Loss and accuracy over the epochs]({_link(run.path / CURVES, folder)})"]
    return "\n\n".join(parts + [END]) + "\n"


def _differences(there: Recipe, here: Recipe) -> str:
    old, new = flat(there.to_dict()), flat(here.to_dict())
    return ", ".join(f"{name}: {_flag_value(old.get(name, 'none'))} there, {_flag_value(new.get(name, 'none'))} here"
                     for name in old | new if old.get(name) != new.get(name))


def _missing_fields(result: Any) -> list[str]:
    def has(names: Sequence[str]) -> bool:
        value = result
        for name in names:
            if not isinstance(value, Mapping) or name not in value:
                return False
            value = value[name]
        return True

    return [field for field in RESULT_FIELDS if not has(field.split("."))]


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _temporary(path: Path) -> Path:
    """Where a file is written before it takes its place. The name is always the same, so that what a killed process
    left behind is written over, and known to be ours."""
    return path.with_name(f"{path.name}.tmp")


def unfinished(folder: Path) -> dict[str, Any] | None:
    """What an experiment that trains nothing to its end had measured in the folder when it was interrupted.

    Returns:
      its result, which says that it is not complete; None if the folder holds no such result.
    """
    try:
        result = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("complete") is False else None


def write(path: Path, content: str | bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
      UsageError: it cannot be written.
    """
    temporary = _temporary(path)
    try:
        with open(temporary, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like all others of the suite."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see python -m tfcnn.runs --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m tfcnn.runs", description="Show runs, record them, and render their table.")
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print the table of some runs")
    show.add_argument("folders", nargs="+", type=RunFolder, metavar="RUN_FOLDER")
    recording = commands.add_parser("record", help="copy a complete run's small files to experiments/")
    recording.add_argument("folder", type=RunFolder, metavar="RUN_FOLDER")
    recording.add_argument("--name", default="", help="name of the recorded run; by default the folder's")
    rendering = commands.add_parser("render", help="render the recorded runs' table into README.md and experiments/")
    rendering.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a page is stale")
    return parser


def _run_command(arguments: argparse.Namespace) -> int:
    if arguments.command == "show":
        print(render_table(arguments.folders), end="")
        return 0
    root = repository_root()
    if arguments.command == "record":
        recorded = record(arguments.folder, root, arguments.name)
        print(f"recorded as {recorded.path}; show it with: python -m tfcnn.runs render")
        return 0
    stale = stale_pages(root)
    names = ", ".join(page.relative_to(root).as_posix() for page in stale)
    if arguments.check:
        if stale:
            print(f"stale: {names}; run: python -m tfcnn.runs render", file=sys.stderr)
        return 1 if stale else 0
    for page, text in stale.items():
        page.parent.mkdir(exist_ok=True)
        write(page, text)
    print(f"rendered {names}" if stale else "nothing to render: all pages are up to date")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """The command `python -m tfcnn.runs`.

    Args:
      words: the command line after the program's name; by default that of the process.

    Returns:
      The exit status: 0 done, 1 a page is stale, 2 a usage error.
    """
    try:
        return _run_command(_parser().parse_args(words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
