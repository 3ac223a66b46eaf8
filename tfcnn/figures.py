"""Figures of studies, in one house style: every seed is visible, colours are safe for the colour-blind.

Each function draws into an empty matplotlib figure, or into one of its panels, from the contents of a study.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tfcnn import drawing, verdict

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")

Record = Mapping[str, Any]


def values(record: Record, label: str, measure: str) -> list[float]:
    """What was measured of an arm, seed by seed, without runs that have diverged; empty if it was not trained."""
    return [run[measure] for arm in record["arms"] if arm["label"] == label for run in arm["runs"]
            if run[measure] is not None]


def labels(record: Record) -> list[str]:
    """The arms that have runs."""
    return [arm["label"] for arm in record["arms"] if arm["runs"]]


def by_arm(record: Record, panel: Any, measure: str, chosen: Sequence[str] = ()) -> None:
    """A row for each arm: a dot for each seed, the mean, and its 95% interval.

    Args:
      record: the contents of study.json.
      panel: matplotlib's axes.
      measure: the name of the measure.
      chosen: the arms, from top to bottom; empty for all that have runs.
    """
    rows = [label for label in chosen or labels(record) if label in labels(record)]
    for row, label in enumerate(rows):
        found = values(record, label, measure)
        colour = drawing.COLOURS[row % len(drawing.COLOURS)]
        if not found:
            panel.text(0.02, row, "no value", transform=panel.get_yaxis_transform(), va="center", color="0.4")
            continue
        mean, interval = verdict.t_interval(found)
        if interval:
            panel.plot(interval, [row, row], color=colour, linewidth=2.5, alpha=0.35, solid_capstyle="butt")
        panel.plot(found, [row] * len(found), linestyle="", marker="o", markersize=4, color=colour, alpha=0.6,
                   markeredgewidth=0)
        panel.plot([mean], [row], marker="|", markersize=15, markeredgewidth=2, color=colour)
        panel.annotate(_number(mean), (mean, row), (0, 9), textcoords="offset points", ha="center", fontsize=7.5,
                       color="0.25")
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.7)
    panel.grid(axis="y", visible=False)
    panel.set_xlabel(record["measures"][measure])


def curves(record: Record, panel: Any, column: str, chosen: Sequence[str] = ()) -> None:
    """A curve over the epochs for each arm: the mean, and a band from the lowest to the highest seed.

    Args:
      record: the contents of study.json.
      panel: matplotlib's axes.
      column: of metrics.csv, such as `loss` or `validation_accuracy`, or what the runs' callbacks observed. An accuracy
        is drawn as an error, in percent.
      chosen: the arms; empty for all that have runs.
    """
    as_error = column.endswith("accuracy")
    rows = [label for label in chosen or labels(record) if label in labels(record)]
    for number, label in enumerate(rows):
        runs = [run["curves"][column] for arm in record["arms"] if arm["label"] == label for run in arm["runs"]
                if column in run["curves"]]
        if not runs:
            continue
        points = [[100 * (1 - value) if as_error else value for value in epoch] for epoch in zip(*runs)]
        epochs, colour = range(1, len(points) + 1), drawing.COLOURS[number % len(drawing.COLOURS)]
        panel.fill_between(epochs, [min(row) for row in points], [max(row) for row in points], color=colour,
                           alpha=0.2, linewidth=0)
        panel.plot(epochs, [statistics.fmean(row) for row in points], color=colour, label=label,
                   marker="o" if len(points) < 3 else "", markersize=3)
    part = "validation" if column.startswith("validation") else "training"
    panel.set_ylabel(f"{part} error, %" if as_error else f"{part} loss" if column.endswith("loss") else column)
    panel.set_xlabel("epoch")
    panel.locator_params(axis="x", integer=True)
    panel.legend(fontsize=8)


def against(record: Record, panel: Any, measure: str, groups: Mapping[str, Mapping[float, str]], title: str,
            log_x: bool = False, ticks: bool = False) -> None:
    """A line for each group of arms over a number in which they differ: a dot for each seed, a line of the means.

    Args:
      record: the contents of study.json.
      panel: matplotlib's axes.
      measure: the name of the measure.
      groups: for each line its name, and its arms' labels by their number.
      title: what the horizontal axis says.
      log_x: whether the horizontal axis is logarithmic.
      ticks: whether the ticks of the horizontal axis are the numbers of the arms that have runs.
    """
    present: set[float] = set()
    for number, (name, arms) in enumerate(groups.items()):
        present |= _line(record, panel, measure, arms, number, name)
    panel.set_xlabel(title)
    panel.set_ylabel(record["measures"][measure])
    if log_x:
        drawing.plain_log(panel, "x")
    if ticks:
        panel.set_xticks(sorted(present), [f"{x:,g}" for x in sorted(present)])
    if len(groups) > 1:
        panel.legend(fontsize=8)


def trade_off(record: Record, panel: Any, cost: str, measure: str, chosen: Sequence[str] = (), legend: bool = True
              ) -> None:
    """A measure over a cost: a small mark for each seed, a large one for an arm's mean; low and left is better.

    Args:
      record: the contents of study.json.
      panel: matplotlib's axes.
      cost: the name of the measure on the horizontal axis.
      measure: the name of the measure on the vertical axis.
      chosen: the arms; empty for all that have runs.
      legend: whether it names the arms; without, they have the colours of `by_arm`.
    """
    rows = [label for label in chosen or labels(record) if label in labels(record)]
    for number, label in enumerate(rows):
        pairs = [(run[cost], run[measure]) for arm in record["arms"] if arm["label"] == label for run in arm["runs"]
                 if run[cost] is not None and run[measure] is not None]
        if not pairs:
            continue
        colour = drawing.COLOURS[number % len(drawing.COLOURS)]
        style = {"color": colour, "marker": _MARKERS[number % len(_MARKERS)], "linestyle": ""}
        panel.plot(*zip(*pairs), markersize=3.5, alpha=0.5, markeredgewidth=0, **style)
        panel.plot(*([statistics.fmean(axis)] for axis in zip(*pairs)), markersize=8, label=label, **style)
    panel.margins(0.12)
    panel.locator_params(axis="x", nbins=4)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    panel.set_xlabel(record["measures"][cost])
    panel.set_ylabel(record["measures"][measure])
    if legend:
        panel.legend(fontsize=7.5)


def measures_against(record: Record, panel: Any, names: Mapping[str, str], arms: Mapping[int, str], title: str,
                     axis: str) -> None:
    """A line for each of several measures over a number in which the arms differ.

    Args:
      record: the contents of study.json.
      panel: matplotlib's axes.
      names: what the legend says, by the name of the measure.
      arms: the labels of the arms, by their number.
      title: what the horizontal axis says.
      axis: what the vertical axis says.
    """
    for number, (measure, name) in enumerate(names.items()):
        _line(record, panel, measure, arms, number, name)
    panel.locator_params(axis="x", integer=True)
    panel.set_xlabel(title)
    panel.set_ylabel(axis)
    if len(names) > 1:
        panel.legend(fontsize=8)


def _line(record: Record, panel: Any, measure: str, arms: Mapping[Any, str], number: int, name: str) -> set[float]:
    """One line of `against` or `measures_against`; returns where on the horizontal axis it has values."""
    found = {x: values(record, label, measure) for x, label in sorted(arms.items())}
    found = {x: seeds for x, seeds in found.items() if seeds}
    style = {"color": drawing.COLOURS[number % len(drawing.COLOURS)], "marker": _MARKERS[number % len(_MARKERS)]}
    for x, seeds in found.items():
        panel.plot([x] * len(seeds), seeds, linestyle="", markersize=3.5, alpha=0.45, markeredgewidth=0, **style)
    panel.plot(list(found), [statistics.fmean(seeds) for seeds in found.values()], label=name, markersize=5, **style)
    return set(found)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:#.3g}".rstrip(".")
