"""The page and the picture of what `input_pipeline` measured. Every number comes from the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfcnn import drawing, markdown
from tfcnn.benchmarks import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Keys of result.json, and columns of the table: ours, and with KERAS before them those of Keras's layers.
ONE_CORE, ALL_CORES, KERAS = "one core", "all cores", "Keras, "
CONSTANT = "constant batch"
_COLUMNS = (ONE_CORE, ALL_CORES, KERAS + ONE_CORE, KERAS + ALL_CORES)


def text(result: Mapping[str, Any]) -> str:
    """The page, in Markdown.

    Args:
      result: the content of result.json, see `input_pipeline.measure`.
    """
    return f"""# The speed of the input pipeline

{result['machine']}; 32x32x3 images, batch {result['batch_size']}; medians, measured in one process; TensorFlow \
{result['versions']['tensorflow']}, commit {report.short_commit(result)}.

Images per second, over {result['rounds']} rounds:

{_augmentation_table(result)}
Training on all cores. *Cost* is the fraction of training speed lost to augmentation, with its standard error; \
*pipeline* is the speed of the pipeline alone relative to that of training on one constant batch.

{_training_table(result)}
![Images per second of each augmentation](speeds.png)
"""


def _augmentation_table(result: Mapping[str, Any]) -> str:
    rows = [(f"`{name}`", *(f"{speeds[column]:,.0f}" if column in speeds else "" for column in _COLUMNS))
            for name, speeds in result["images_per_second"].items()]
    return markdown.table(("augmentation", *_COLUMNS), rows, "lrrrr")


def _training_table(result: Mapping[str, Any]) -> str:
    """A row for each network; two columns for each preset of augmentation it was trained with."""
    cost = "cost of "
    presets = [key.removeprefix(cost) for key in next(iter(result["training"].values())) if key.startswith(cost)]
    rows = []
    for name, row in result["training"].items():
        cells = [(f"{result['images_per_second'][preset][ALL_CORES] / row[CONSTANT]:,.0f}",
                  f"{row[cost + preset]:.1%} ± {row[f'uncertainty of {preset}']:.1%}") for preset in presets]
        rows.append((name, str(row["rounds"]), f"{row[CONSTANT]:,.0f}", *(cell for pair in cells for cell in pair)))
    head = ("network", "rounds", "constant batch, images/s",
            *(title for preset in presets for title in (f"`{preset}`: pipeline", "cost")))
    return markdown.table(head, rows, "l" + "r" * (len(head) - 1))


def picture(result: Mapping[str, Any]) -> bytes:
    """The picture, a PNG: bars of ours and Keras's speed on one core, and lines at the speeds of training.

    Args:
      result: the content of result.json, see `input_pipeline.measure`.
    """
    speeds = dict(reversed(result["images_per_second"].items()))
    with drawing.figure(figsize=(10, 0.36 * len(speeds) + 1.5), dpi=100, layout="constrained") as figure:
        axes = figure.subplots()
        _draw_bars(axes, speeds, KERAS + ONE_CORE, -0.2, "keras.layers", "tab:gray")
        _draw_bars(axes, speeds, ONE_CORE, 0.2, "tfcnn", "tab:blue")
        position = 0.0
        for name, speed in sorted(((name, row[CONSTANT]) for name, row in result["training"].items()),
                                  key=lambda entry: entry[1]):
            axes.axvline(speed, color="tab:red", linewidth=0.8, linestyle=":")
            position = max(speed, 1.3 * position)  # not on top of the previous name
            axes.text(position, len(speeds) - 0.3, name, rotation=60, fontsize=7, color="tab:red")
        axes.set_xscale("log")
        axes.set_yticks(range(len(speeds)), list(speeds), fontsize=8)
        axes.set_ylim(-0.6, len(speeds) + 2.2)
        axes.set_xlabel(f"images per second on one core (32x32x3, batch {result['batch_size']}); "
                        "dotted: what training consumes, on all cores")
        axes.legend(loc="lower right")
        axes.margins(x=0.15)
        return drawing.png(figure)


def _draw_bars(axes: Axes, speeds: Mapping[str, Mapping[str, float]], column: str, offset: float, label: str,
               colour: str) -> None:
    """Draws a bar for each augmentation that has a speed in the column."""
    shown = [(number + offset, row[column]) for number, row in enumerate(speeds.values()) if column in row]
    bars = axes.barh([position for position, _ in shown], [speed for _, speed in shown], 0.4, label=label, color=colour)
    axes.bar_label(bars, [f"{speed:,.0f}" for _, speed in shown], padding=2, fontsize=7)
