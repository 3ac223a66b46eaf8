"""Tables of complete runs."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import statistics
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import markdown
from tfcnn.recipe import flag_text, flat, settings
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.record import dataset_label, result_of_training

# Settings that have a column of their own, or that come first in the column of settings.
_SHOWN_ELSEWHERE = {"experiment", "network", "variant", "dataset", "epochs"}


@dataclasses.dataclass(frozen=True)
class Run:
    """A complete run, as the tables need it."""

    folder: RunFolder
    result: Mapping[str, Any]
    evaluation: Mapping[str, Any] | None = None

    @classmethod
    def read(cls, folder: RunFolder) -> Run:
        """Reads a complete run; errors are those of `result_of_training`, or the evaluation is damaged."""
        return cls(folder, result_of_training(folder), folder.read_evaluation())

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
        values: dict[str, Any] = {field.name: field.default for field in settings()} | flat(self.result["recipe"])
        values |= {name: self.result[name] for name in ("strategy", "replicas")}
        values["arithmetic"] = self.result.get("arithmetic", values["precision"])
        values["device"] = self.result.get("device", "CPU:0").split(":")[0]  # CPU or GPU: without a device's number
        values["augment"] = augmentation(values["augment"])
        del values["seed"]
        return values


def render_table(folders: Iterable[RunFolder], relative_to: Path | None = None) -> str:
    """A Markdown table of complete runs, sorted by experiment.

    Runs that differ only in their seed share a row, which shows the mean of their accuracies, the sample standard
    deviation, and their number; of time and speed the median, since a run may have been paused. Each row shows the
    settings in which the runs of its experiment differ, or the network's options if they do not differ.

    Args:
      folders: the runs.
      relative_to: the folder that the links to the runs are relative to; by default the current one.

    Raises:
      UsageError: a run is not complete, or its result is damaged.
    """
    start = Path.cwd() if relative_to is None else relative_to
    rows = group_by_seed(map(Run.read, folders))
    if not rows:
        return "No run has been recorded yet.\n"
    head = ("Experiment", "Setting", "Data set", "Test accuracy, %", "Seeds", "Epochs", "Parameters", "Training time",
            "Images/s", "Run")
    first_runs = [row[0] for row in rows]
    return markdown.table(head, [_cells(row, first_runs, start) for row in rows], align="lllrrrrrrl")


def _cells(row: Sequence[Run], first_runs: Sequence[Run], start: Path) -> tuple[str, ...]:
    """The cells of one row; `first_runs` has the first run of each row of the table."""
    first = row[0]
    return (
        first.experiment,
        _setting_label(first, [other for other in first_runs if other.experiment == first.experiment]),
        dataset_label(first.result),
        mean_and_deviation([100 * run.result["test"]["accuracy"] for run in row]),
        str(len(row)),
        span([run.result["epochs"] for run in row]),
        f"{first.result['parameters']:,}",
        duration(statistics.median(run.result["train_seconds"] for run in row)),
        f"{statistics.median(run.result['train_images_per_second'] for run in row):,.0f}",
        run_links(row, start),
    )


def group_by_seed(runs: Iterable[Run], repetitions: bool = True) -> list[list[Run]]:
    """The runs of each row of a table: those that differ in nothing but their seed.

    Args:
      runs: the runs.
      repetitions: whether a run with a seed that its row already has, which is not another sample, gets a row of its
        own; otherwise it is left out.
    """
    rows: dict[tuple[str, int], list[Run]] = collections.defaultdict(list)
    seen: dict[tuple[str, int], int] = collections.Counter()
    for run in sorted(runs, key=lambda run: (run.experiment, dataset_label(run.result), str(run.folder.path))):
        images = [run.result["dataset"][f"{part}_images"] for part in ("train", "validation", "test")]
        same = json.dumps([run.setting(), dataset_label(run.result), images], sort_keys=True)
        seed = run.result["seed"]
        if repetitions or not seen[same, seed]:
            rows[same, seen[same, seed]].append(run)
        seen[same, seed] += 1
    return list(rows.values())


def _setting_label(run: Run, others: Sequence[Run]) -> str:
    """The settings that distinguish the run from the others of its experiment."""
    setting = run.setting()
    differing = [name for name in setting if name not in _SHOWN_ELSEWHERE
                 and any(other.setting().get(name) != setting[name] for other in others)]
    names = ["network"] if setting["network"] != run.experiment else []
    names += ["variant"] if "variant" in setting else []
    names += differing or [name for name in run.options if name not in _SHOWN_ELSEWHERE]
    return " ".join(f"`{name}={flag_text(setting[name])}`" for name in names)


def augmentation(setting: str | bool) -> str:
    """A recipe's `augment` as text; in early recipes it was true or false."""
    return {True: "standard", False: "none"}[setting] if isinstance(setting, bool) else setting


def mean_and_deviation(values: Sequence[float]) -> str:
    """The mean, and of several values the sample standard deviation, as in `8.61 ± 0.10`."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def span(values: Sequence[int]) -> str:
    """The smallest and the largest value, as in `38–40`; one number if they are equal."""
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low}–{high}"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def run_links(row: Sequence[Run], start: Path) -> str:
    """Links to the runs of a row, by the name of the first and the seeds of the others: `fast-seed0`, `1`, `2`."""
    names = [run_name(row[0].folder), *(str(run.result["seed"]) for run in row[1:])]
    return ", ".join(f"[{name}]({relative_link(run.folder.path, start)})" for name, run in zip(names, row))


def run_name(folder: RunFolder) -> str:
    """The name of a run, which is that of its folder."""
    return folder.path.resolve().name


def relative_link(path: Path, start: Path) -> str:
    """A path as a Markdown link has it, relative to the folder of the page."""
    return urllib.parse.quote(Path(os.path.relpath(path, start)).as_posix())
