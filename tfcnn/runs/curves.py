"""The figure of a run: loss, accuracy and learning rate over the epochs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import drawing, files
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs.folder import CURVES, Metrics, RunFolder
from tfcnn.runs.record import dataset_label

STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold",
    "axes.linewidth": 0.8, "figure.titlesize": 9,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "0.88", "grid.linewidth": 0.6, "grid.linestyle": "-", "lines.linewidth": 1.5,
    "legend.frameon": False, "legend.handlelength": 2.4, "axes.formatter.useoffset": False}

# Training and validation differ in colour (safe for the colour-blind), lightness, dash and marker, so that they can be
# told apart in print too.
_TRAINING = {"color": "#E07B00", "linestyle": (0, (4, 1.5)), "marker": "o", "markersize": 3.5,
             "markerfacecolor": "white"}
_VALIDATION = {"color": "#004C80", "linestyle": "-", "marker": "s", "markersize": 3}
_MOST_EPOCHS_WITH_MARKERS = 30

Columns = Mapping[str, Sequence[float]]


def draw(folder: RunFolder, result: Mapping[str, Any] | None = None) -> Path:
    """Draws the run's curves.png: loss, accuracy and, if it varies, the learning rate over the epochs.

    The accuracy on the test set is marked if it is known.

    Args:
      folder: the run.
      result: the result that is about to be written; by default the one in the folder, if any.

    Returns:
      The path of the picture.

    Raises:
      UsageError: the run has no complete epoch yet, or one of its files is damaged.
    """
    recipe = folder.read_recipe()
    rows = folder.read_metrics()
    if not rows:
        raise UsageError(f"{folder.path} has no epoch to draw yet")
    if result is None and folder.complete:
        result = folder.read_result()
    columns = finite_columns(rows)
    rate_varies = len(set(columns["learning_rate"])) > 1
    width = 7.0 if rate_varies else 6.0
    with drawing.figure(STYLE, figsize=(width, 2.9), dpi=200, layout="constrained") as figure:
        widths = [1, 1, 0.6] if rate_varies else [1, 1]
        panels = figure.subplots(1, len(widths), width_ratios=widths)
        _draw_loss_and_accuracy(panels[0], panels[1], columns, result)
        if rate_varies:
            _draw_learning_rate(panels[2], columns, recipe.schedule)
        label_epochs(panels, columns["epoch"])
        figure.suptitle(_title(recipe, result), color="0.2")
        picture = drawing.png(figure)
    files.write(folder.path / CURVES, picture)
    return folder.path / CURVES


def finite_columns(rows: Sequence[Metrics]) -> Columns:
    """The columns of the metrics; infinite values become NaN, which matplotlib leaves out."""
    return {name: [row[name] if math.isfinite(row[name]) else math.nan for row in rows] for name in rows[0]}


def _draw_loss_and_accuracy(losses: Any, accuracies: Any, columns: Columns, result: Mapping[str, Any] | None) -> None:
    """Draws the first two panels."""
    epochs = columns["epoch"]
    markers = {} if len(epochs) <= _MOST_EPOCHS_WITH_MARKERS else {"marker": ""}
    for prefix, label, style in (("", "training", _TRAINING), ("validation_", "validation", _VALIDATION)):
        if f"{prefix}loss" in columns:
            losses.plot(epochs, columns[f"{prefix}loss"], label=label, **style | markers)
            accuracies.plot(epochs, [100 * value for value in columns[f"{prefix}accuracy"]], label=label,
                            **style | markers)
    if result:
        accuracy = 100 * result["test"]["accuracy"]
        test = accuracies.plot(epochs[-1], accuracy, color="black", marker="*", markersize=11, linestyle="",
                               markeredgecolor="white", markeredgewidth=0.8, clip_on=False, zorder=5,
                               label=f"test: {accuracy:.2f} %")
        accuracies.legend(handles=test, handlelength=1)
    losses.set_title("Loss")
    accuracies.set_title("Accuracy, %")
    losses.legend()


def _draw_learning_rate(panel: Any, columns: Columns, schedule: str) -> None:
    """Draws the third panel."""
    rates = columns["learning_rate"]
    panel.set_title("Learning rate")
    panel.plot(columns["epoch"], rates, color="0.25")
    if schedule in ("step", "exponential") and min(rates) > 0:
        panel.set_yscale("log")
    else:
        panel.set_ylim(bottom=0)


def label_epochs(panels: Sequence[Any], epochs: Sequence[float]) -> None:
    """Gives all panels the same horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    margin = max(0.5, 0.02 * len(epochs))
    for panel, ticks in zip(panels, (6, 6, 4)):
        panel.set_xlabel("Epoch")
        panel.set_xlim(epochs[0] - margin, epochs[-1] + margin)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=ticks, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def _title(recipe: Recipe, result: Mapping[str, Any] | None) -> str:
    options = recipe.network_options()
    variant = options.get("variant", options.get("depth", ""))
    words = [recipe.experiment, f"{recipe.network} {variant}".strip(),
             dataset_label(result) if result else recipe.dataset, f"seed {recipe.seed}"]
    if recipe.experiment == recipe.network:
        del words[0]
    return drawing.plain(textwrap.fill(", ".join(words), width=92, max_lines=2, placeholder=" ..."))
