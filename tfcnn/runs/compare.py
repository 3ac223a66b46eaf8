"""Complete runs beside each other: their curves in one figure, and a table of how they differ and what they reached."""

from __future__ import annotations

import dataclasses
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import drawing, files, markdown
from tfcnn.recipe import UsageError, flag_text
from tfcnn.runs.curves import STYLE, finite_columns, label_epochs
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.record import dataset_label
from tfcnn.runs.tables import Run, duration, group_by_seed, mean_and_deviation, run_name, span

_COLOURS = drawing.COLOURS[:-1]  # grey is the key's; more groups than these get shades of one scale
_PARTS: dict[str, dict[str, Any]] = {
    "validation_": {"linestyle": "-"},
    "": {"linestyle": (0, (4, 1.5)), "linewidth": 1.0, "alpha": 0.7}}
_ABSENT = "–"


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but their seed.

    Attributes:
      label: what people call them.
      runs: the runs.
    """

    label: str
    runs: Sequence[Run]

    def settings(self) -> dict[str, str]:
        """Everything that can distinguish the group from others, as text."""
        first = self.runs[0]
        numbers = {"train_images": first.result["dataset"]["train_images"]}
        settings = first.setting() | {"dataset": dataset_label(first.result)} | numbers
        return {name: flag_text(value) for name, value in settings.items()}

    def column(self, name: str) -> list[list[float]]:
        """A column of metrics.csv: for each epoch that all runs have, the value of each run; empty if one lacks it."""
        columns = [finite_columns(run.folder.read_metrics()) for run in self.runs]
        if not all(name in column for column in columns):
            return []
        return [list(values) for values in zip(*(column[name] for column in columns))]


def groups_of(folders: Iterable[RunFolder]) -> list[Group]:
    """The runs by group, in the order in which the first of each group is given.

    Raises:
      UsageError: a run is given twice, is not complete or is damaged.
    """
    folders = list(folders)
    order = {folder.path.resolve(): number for number, folder in enumerate(folders)}
    if len(order) < len(folders):
        raise UsageError("a run is given twice")
    found = [sorted(group, key=lambda run: order[run.folder.path.resolve()])
             for group in group_by_seed(map(Run.read, folders))]
    found.sort(key=lambda group: order[group[0].folder.path.resolve()])
    for folder in folders:
        if not folder.read_metrics():
            raise UsageError(f"{folder.path} is damaged: its metrics have no epoch")
    return [Group(label, runs) for label, runs in zip(_labels(found), found)]


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """A name for each group: that of its run, or what the names of its runs begin with."""
    names = [_common_name([run_name(run.folder) for run in group]) for group in groups]
    if len(set(names)) < len(names):
        names = [_common_name([str(run.folder.path) for run in group]) for group in groups]
    return [name if len(group) == 1 else f"{name} (n = {len(group)})" for name, group in zip(names, groups)]


def _common_name(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    return os.path.commonprefix(names).rstrip("-_./").removesuffix("seed").rstrip("-_./") or names[0]


def render(groups: Sequence[Group]) -> str:
    """A Markdown table with a column for each group: the settings in which they differ, then what they reached."""
    settings = [group.settings() for group in groups]
    names = dict.fromkeys(name for setting in settings for name in setting)
    rows = [[f"`{name}`", *(setting.get(name, _ABSENT) for setting in settings)] for name in names
            if len({setting.get(name) for setting in settings}) > 1]
    rows += [[title, *(reached(group) for group in groups)] for title, reached in _REACHED.items()]
    return markdown.table(["", *(group.label for group in groups)], rows, "l" + "r" * len(groups))


def _of_results(group: Group, value: Callable[[Mapping[str, Any]], float]) -> list[float]:
    return [value(run.result) for run in group.runs]


def _last_validation(group: Group) -> str:
    values = [finite_columns(run.folder.read_metrics()).get("validation_accuracy") for run in group.runs]
    return mean_and_deviation([100 * column[-1] for column in values if column]) if all(values) else _ABSENT


_REACHED: dict[str, Callable[[Group], str]] = {
    "seeds": lambda group: ", ".join(str(run.result["seed"]) for run in group.runs),
    "epochs run": lambda group: span([run.result["epochs"] for run in group.runs]),
    "parameters": lambda group: f"{group.runs[0].result['parameters']:,}",
    "validation accuracy in the last epoch, %": _last_validation,
    "test accuracy, %": lambda group: mean_and_deviation(
        _of_results(group, lambda result: 100 * result["test"]["accuracy"])),
    "test loss": lambda group: f"{statistics.fmean(_of_results(group, lambda result: result['test']['loss'])):.4f}",
    "training time": lambda group: duration(
        statistics.fmean(_of_results(group, lambda result: result["train_seconds"]))),
    "images/s": lambda group: (
        f"{statistics.fmean(_of_results(group, lambda result: result['train_images_per_second'])):,.0f}"),
}


def draw(groups: Sequence[Group], path: Path) -> None:
    """Draws loss and error over the epochs, and the error on the test set, of all groups over each other.

    A group of several runs is its mean, and a band from the lowest to the highest of them. The vertical axes are
    logarithmic, unless a value is 0.

    Raises:
      UsageError: the file cannot be written, or is not a PNG.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"--out={path} must end in .png")
    legend_rows = -(-len(groups) // 3)
    with drawing.figure(STYLE, figsize=(7.0, 3.2 + 0.18 * legend_rows), dpi=200, layout="constrained") as figure:
        panels = figure.subplots(1, 2)
        handles = [_draw_group(panels, group, colour) for group, colour in zip(groups, _colours(len(groups)))]
        panels[0].set_title("Loss")
        panels[1].set_title("Error, %")
        for panel in panels:
            _scale(panel)
        _add_key(panels[1], groups)
        label_epochs(panels, range(1, max(run.result["epochs"] for group in groups for run in group.runs) + 1))
        figure.legend(handles=handles, labels=[group.label for group in groups], loc="outside lower center",
                      ncols=min(3, len(groups)))
        picture = drawing.png(figure)
    files.write(path, picture)


def _colours(count: int) -> list[Any]:
    if count <= len(_COLOURS):
        return list(_COLOURS[:count])
    from matplotlib.cm import ScalarMappable
    return [ScalarMappable(cmap="viridis").cmap(number / (count - 1)) for number in range(count)]


def _draw_group(panels: Sequence[Any], group: Group, colour: Any) -> Any:
    """Draws a group's curves into both panels; returns a line that stands for it in the legend."""
    from matplotlib.lines import Line2D

    epochs = [int(values[0]) for values in group.column("epoch")]
    for prefix, style in _PARTS.items():
        for panel, name in zip(panels, ("loss", "accuracy")):
            values = [_error(row) if name == "accuracy" else row for row in group.column(prefix + name)]
            if not values:
                continue
            panel.plot(epochs, [statistics.fmean(row) for row in values], color=colour, **style)
            if len(group.runs) > 1:
                panel.fill_between(epochs, [min(row) for row in values], [max(row) for row in values], color=colour,
                                   alpha=0.18, linewidth=0)
    test = _error(_of_results(group, lambda result: result["test"]["accuracy"]))
    mean = statistics.fmean(test)
    # The mean of equal numbers may be rounded.
    below, above = max(0.0, mean - min(test)), max(0.0, max(test) - mean)
    panels[1].errorbar(epochs[-1], mean, [[below], [above]], color=colour, marker="*",
                       markersize=10, markeredgecolor="white", markeredgewidth=0.6, clip_on=False, zorder=5)
    return Line2D([], [], color=colour, linewidth=2)


def _error(accuracies: Iterable[float]) -> list[float]:
    """Errors in percent; rounded, so that an accuracy of 1 is an error of 0."""
    return [round(100 * (1 - accuracy), 9) for accuracy in accuracies]


def _scale(panel: Any) -> None:
    """Makes the vertical axis logarithmic, with ticks that are plain numbers, unless a value is 0."""
    drawn = [value for line in panel.lines for value in line.get_ydata()]
    if any(value <= 0 for value in drawn):
        panel.set_ylim(bottom=0)
        return
    drawing.plain_log(panel, "y")


def _add_key(panel: Any, groups: Sequence[Group]) -> None:
    """Says what the line styles mean that are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    grey = "0.35"
    handles: list[Any] = [Line2D([], [], color=grey, label=prefix.rstrip("_") or "training", **style)
                          for prefix, style in _PARTS.items()
                          if any(group.column(f"{prefix}accuracy") for group in groups)]
    handles.append(Line2D([], [], color=grey, marker="*", markersize=9, linestyle="", label="test"))
    if any(len(group.runs) > 1 for group in groups):
        handles.append(Patch(color=grey, alpha=0.25, linewidth=0, label="all seeds"))
    panel.legend(handles=handles)
