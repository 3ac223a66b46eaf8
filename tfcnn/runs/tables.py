"""Tables of complete runs, and the pages of the repository that show them."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import shlex
import statistics
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import markdown
from tfcnn.recipe import flag_text, flat, settings
from tfcnn.runs.folder import CURVES, RunFolder
from tfcnn.runs.record import dataset_label, recorded_runs

BEGIN = "<!-- results: begin, made by: python -m tfcnn.runs render -->"
END = "<!-- results: end -->"

# Settings that have a column of their own, or that come first in the column of settings.
_SHOWN_ELSEWHERE = {"experiment", "network", "variant", "dataset", "epochs"}


@dataclasses.dataclass(frozen=True)
class _Run:
    """A complete run, as the table needs it."""

    folder: RunFolder
    result: Mapping[str, Any]

    @property
    def experiment(self) -> str:
        return self.result["experiment"]

    @property
    def options(self) -> Mapping[str, Any]:
        return self.result["recipe"]["options"]

    def setting(self) -> dict[str, Any]:
        """Everything that can distinguish two runs, except for the seed.

        A field that was added to the recipe after a run was recorded has its default.
        """
        values = {field.name: field.default for field in settings()} | flat(self.result["recipe"])
        values |= {name: self.result[name] for name in ("strategy", "replicas")}
        del values["seed"]
        return values


def render_table(folders: Iterable[RunFolder], relative_to: Path | None = None) -> str:
    """A Markdown table of complete runs, sorted by experiment.

    Runs that differ only in their seed share a row, which shows the mean of their accuracies, the sample standard
    deviation, and their number. Each row shows the settings in which the runs of its experiment differ, or the
    network's options if they do not differ.

    Args:
      folders: the runs.
      relative_to: the folder that the links to the runs are relative to; by default the current one.

    Raises:
      UsageError: a run is not complete, or its result is damaged.
    """
    start = Path.cwd() if relative_to is None else relative_to
    rows = _rows(_Run(folder, folder.read_result()) for folder in folders)
    if not rows:
        return "No run has been recorded yet.\n"
    head = ("Experiment", "Setting", "Data set", "Test accuracy, %", "Seeds", "Epochs", "Parameters", "Training time",
            "Images/s", "Run")
    first_runs = [row[0] for row in rows]
    return markdown.table(head, [_cells(row, first_runs, start) for row in rows], align="lllrrrrrrl")


def _cells(row: Sequence[_Run], first_runs: Sequence[_Run], start: Path) -> tuple[str, ...]:
    """The cells of one row; `first_runs` has the first run of each row of the table."""
    first = row[0]
    return (
        first.experiment,
        _setting_label(first, [other for other in first_runs if other.experiment == first.experiment]),
        dataset_label(first.result),
        _mean_and_deviation([100 * run.result["test"]["accuracy"] for run in row]),
        str(len(row)),
        _span([run.result["epochs"] for run in row]),
        f"{first.result['parameters']:,}",
        _duration(statistics.fmean(run.result["train_seconds"] for run in row)),
        f"{statistics.fmean(run.result['train_images_per_second'] for run in row):,.0f}",
        ", ".join(f"[{_name(run.folder)}]({_link(run.folder.path, start)})" for run in row),
    )


def _rows(runs: Iterable[_Run]) -> list[list[_Run]]:
    """The runs of each row of the table.

    A run with a seed that its row already has is not another sample: it gets a row of its own.
    """
    rows: dict[tuple[str, int], list[_Run]] = collections.defaultdict(list)
    repetitions: dict[tuple[str, int], int] = collections.Counter()
    for run in sorted(runs, key=lambda run: (run.experiment, dataset_label(run.result), str(run.folder.path))):
        images = [run.result["dataset"][f"{part}_images"] for part in ("train", "validation", "test")]
        same = json.dumps([run.setting(), dataset_label(run.result), images], sort_keys=True)
        seed = run.result["seed"]
        rows[same, repetitions[same, seed]].append(run)
        repetitions[same, seed] += 1
    return list(rows.values())


def _setting_label(run: _Run, others: Sequence[_Run]) -> str:
    """The settings that distinguish the run from the others of its experiment."""
    setting = run.setting()
    differing = [name for name in setting if name not in _SHOWN_ELSEWHERE
                 and any(other.setting().get(name) != setting[name] for other in others)]
    names = ["network"] if setting["network"] != run.experiment else []
    names += ["variant"] if "variant" in setting else []
    names += differing or [name for name in run.options if name not in _SHOWN_ELSEWHERE]
    return " ".join(f"`{name}={flag_text(setting[name])}`" for name in names)


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


def _name(folder: RunFolder) -> str:
    return folder.path.resolve().name


def _link(path: Path, start: Path) -> str:
    return urllib.parse.quote(Path(os.path.relpath(path, start)).as_posix())


def stale_pages(root: Path) -> dict[Path, str]:
    """The pages of a repository that do not show its recorded runs as they are, with the text that they should have.

    Raises:
      UsageError: README.md lacks `BEGIN` or `END`, or a recorded run is damaged.
    """
    readme = root / "README.md"
    index = root / "experiments" / "README.md"
    pages = {readme: _rendered_readme(readme), index: _rendered_index(root)}
    return {page: text for page, text in pages.items()
            if not page.is_file() or page.read_text(encoding="utf-8") != text}


def _rendered_readme(readme: Path) -> str:
    table = render_table(recorded_runs(readme.parent), relative_to=readme.parent)
    return markdown.between(readme, BEGIN, END, table)


def _rendered_index(root: Path) -> str:
    """The text of experiments/README.md."""
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
