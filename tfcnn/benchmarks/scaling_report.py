"""The page and the picture of what `scaling` measured. Every number comes from the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tfcnn import drawing, markdown
from tfcnn.benchmarks import report
from tfcnn.processor import count_cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TARGET = 0.9  # of the speed of one process with all cores


def text(result: Mapping[str, Any]) -> str:
    """The page, in Markdown.

    Args:
      result: the content of result.json, see `scaling.measure`.
    """
    recipe, cores, own = result["recipe"], count_cores(result["cores"]), count_cores(result["cores_of_each_process"])
    rows = ([(f"1 process, {cores}, {count} device{'s' * (count != '1')}", row)
             for count, row in result["devices"].items()]
            + [(f"{count} process{'es' * (count != '1')}, {own} each", row)
               for count, row in result["processes"].items()]
            + [(f"{count} processes, {own} each, batch normalization not synchronized", row)
               for count, row in result["processes_not_synchronized"].items()])
    table = markdown.table(
        ("", "images/s", "lowest to highest", f"relative to one process with {cores}", "relative to the ideal"),
        [(name, f"{row['images_per_second']:,.0f}", f"{min(row['rounds']):,.0f} to {max(row['rounds']):,.0f}",
          f"{row['of_one_process']:.3f}", f"{row['of_the_ideal']:.3f}") for name, row in rows], "lrrrr")
    return f"""# How training speed scales with devices and processes

{result['machine']}; the network of the experiment {recipe['experiment']} on the CPU, {recipe['batch_size']} images in \
each step for any number of devices; medians of {result['rounds']} rounds, in each of which every setting was measured \
in turn; TensorFlow {result['versions']['tensorflow']}, commit {report.short_commit(result)}.

The logical devices of one process share its {cores}, so ideally the speed stays the same. The processes, which \
communicate over the loopback interface, have {own} each, so ideally the speed is proportional to their number.

{table}
![Speed against the number of devices and of processes](scaling.png)
"""


def picture(result: Mapping[str, Any]) -> bytes:
    """The picture, a PNG: devices on the left, processes on the right, each with the ideal line.

    Args:
      result: the content of result.json, see `scaling.measure`.
    """
    with drawing.figure(figsize=(10, 4.5), dpi=100, layout="constrained") as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        whole = result["devices"]["1"]["images_per_second"]
        one = result["processes"]["1"]["images_per_second"]
        cores, own = count_cores(result["cores"]), count_cores(result["cores_of_each_process"])
        for axes, kind, ideal in (
                (left, "devices", lambda count: whole), (right, "processes", lambda count: count * one)):
            counts = [int(count) for count in result[kind]]
            axes.plot(counts, list(map(ideal, counts)), color="tab:gray", linestyle="--", label="ideal")
            _draw_speeds(axes, result[kind], "tab:blue", "measured (median, lowest to highest)")
            axes.set_xticks(counts)
            axes.margins(x=0.15)
            axes.grid(alpha=0.3)
        if result["processes_not_synchronized"]:
            _draw_speeds(right, result["processes_not_synchronized"], "tab:green",
                         "batch normalization not synchronized")
        right.axhline(TARGET * whole, color="tab:red", linestyle=":", label=f"{TARGET} of one process with {cores}")
        left.set_title(f"logical devices of one process,\nwhich share its {cores}", fontsize=10)
        right.set_title(f"processes on one machine,\n{own} each", fontsize=10)
        left.set_xlabel("logical devices")
        right.set_xlabel("processes")
        left.set_ylabel(f"images per second ({result['recipe']['experiment']}, batch {result['recipe']['batch_size']})")
        left.set_ylim(bottom=0)
        for axes in (left, right):
            axes.legend(loc="lower right", fontsize=8)
        return drawing.png(figure)


def _draw_speeds(axes: Axes, rows: Mapping[str, Mapping[str, Any]], colour: str, label: str) -> None:
    """Medians with bars from the lowest to the highest speed."""
    counts, speeds = [int(count) for count in rows], [row["images_per_second"] for row in rows.values()]
    spread = [[row["images_per_second"] - min(row["rounds"]) for row in rows.values()],
              [max(row["rounds"]) - row["images_per_second"] for row in rows.values()]]
    axes.errorbar(counts, speeds, spread, color=colour, marker="o", capsize=4, label=label)
    for count, speed in zip(counts, speeds):
        axes.annotate(f"{speed:,.0f}", (count, speed), (6, -14), textcoords="offset points", fontsize=8)
