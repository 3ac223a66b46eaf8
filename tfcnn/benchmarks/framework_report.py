"""What `frameworks` found, as a page and as a picture. Every figure comes from the result."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# TensorFlow's modes are blue, the suite's default the strongest, PyTorch's are of the colour of fire.
_COLOURS = {"eager": "#c6dbef", "graph_single": "#6baed6", "graph": "#08519c", "xla": "#9e9ac8", "pytorch": "#fdd0a2",
            "pytorch_channels_last": "#fd8d3c", "pytorch_compiled": "#a63603"}
_INCHES = 8.0, 3.6  # of a precision's picture with few networks
_INCHES_A_NETWORK = 1.5

_PROSE = """## What was measured

Whole training steps, with loss, gradients, optimizer and moving averages, on one constant batch: everywhere of the same
network, batch and optimizer, with as many threads. *First step* is to build the network, to compile it and to do the
first step, without the import. *Peak memory* is that of the whole process.

*The ceiling* is the time of the network's convolutions and matrix products alone: forward, the gradient of the weights,
and that of the input where something before it learns; each is TensorFlow's own operation on the network's shapes, one
after the other. It is no law of nature: a mode that runs two such operations at the same time, or has a faster one for
them, may come to more than 1, and PyTorch has operations of its own.

## What each mode is good and bad for

**TensorFlow, eager** (`--execution=eager`). Python calls one operation after the other and has each result at once. So
a breakpoint or `print` anywhere in a layer or in the step shows the numbers, and an error is raised where it arises.
The price is Python's time for each operation, however little that has to do: training ran at {eager} times the
default's speed. This mode is for looking into a network, not for training it.

**TensorFlow, graph, one step a call.** Python runs once, to build a graph. TensorFlow simplifies it, joins operations,
and runs at the same time what can be. Python still calls every step: {single} times the default's speed. Python code in
a layer runs only while the graph is built: a breakpoint there sees tensors without values. `tf.print` and
`tf.debugging` become part of the graph and do see them.

**TensorFlow, graph, many steps a call** (the suite's default). The loop over the steps is in the graph too, and Python
does nothing while they run. In return Python sees losses only when a call is over, so the trainer keeps
its calls short. It took {first_graph} s to the end of the first step, because the graph is built before, against
{first_eager} s in eager mode.

**TensorFlow, XLA** (`--execution=xla`). The gradients are compiled into one program for just these shapes, and anew for
others; element-wise operations that follow one another become one. On a CPU its convolutions decide: {xla} times the
default's speed, after {first_xla} s to the end of the first step. What it does on a GPU was not measured. It cannot
compile every operation, `tf.print` for one, so it is the worst of these modes to debug in.

**PyTorch, eager.** Define by run as in TensorFlow's eager mode, as easy to debug, and at {pytorch} times its speed.
With channels last in memory it ran {channels_last} times as fast as with channels first.

**PyTorch, compiled** (`torch.compile`). Python code is traced at its first call. What lies between convolutions becomes
generated C++, for which a compiler must be there when the program runs. It took {first_compiled} s to the end of the
first step, against {first_pytorch} s without compiling, and then ran {compiled} times as fast. A batch of another shape
is compiled anew. To debug, one leaves out the compilation: the code is the same.
"""


def text(result: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The page.

    Args:
      result: what `frameworks.measure` writes.
      labels: mode -> what it is called.
    """
    versions = result["versions"]
    commit, *dirty = result["commit"].split("-")
    pytorch = f"PyTorch {versions['torch']}" if "torch" in versions else (
        "PyTorch is not installed and was left out (`pip install 'tfcnn[pytorch]'`)")
    lines = [
        "# How fast the networks train", "",
        f"{result['machine']}; batch {result['batch_size']}; TensorFlow {versions['tensorflow']}, Keras "
        f"{versions['keras']}, {pytorch}; commit {'-'.join([commit[:7], *dirty])}. Medians of {result['rounds']} "
        f"rounds, in each of which every process had its turn of about {result['seconds']:g} s, or of one step if that "
        "takes longer, while the others were stopped. Where memory was short, not all modes of a network were in the "
        "same rounds, but the default and the ceiling were in all."]
    if result["sittings"] > 1:
        lines[-1] += (f" The run was interrupted and went on, so that it took {result['sittings']} sittings; each "
                      "network and precision was measured within one.")
    lines.append("")
    if not result["complete"]:
        lines += ["**This run is not complete:** what is missing below had not been measured when this was written.",
                  ""]
    lines += ["## The suite's default mode beside PyTorch's best, and beside the ceiling", "",
              "| network | precision | default, images/s | PyTorch's best, images/s | | times as fast | asked "
              "| share of the ceiling | asked |",
              "|---|---|---:|---:|---|---:|---:|---:|---:|"]
    for network, precision, found in _pairs(result):
        arms, best = found["arms"], found["best_pytorch"]
        lines.append("| " + " | ".join((
            network, precision, _number(arms.get("graph", {}).get("median")),
            _number(arms[best]["median"] if best else None), labels[best].removeprefix("PyTorch, ") if best else "",
            _decimal(found["over_pytorch"]), _decimal(found["asked_over_pytorch"]),
            _decimal(found["share_of_ceiling"]), _decimal(found["asked_share_of_ceiling"]))) + " |")
    lines += ["",
              "*Times as fast* and *share of the ceiling* are medians over the rounds of the ratio within a round.", "",
              "![Speed of each mode, for each network](frameworks.png)", "", "## All modes"]
    for network, precision, found in _pairs(result):
        lines += ["", f"### {network}, {precision}", "",
                  "| | images/s | smallest to largest | first step, s | import, s | peak memory, GiB | share of the "
                  "ceiling |", "|---|---:|---:|---:|---:|---:|---:|"]
        for name, row in found["arms"].items():
            cells = (f"failed: {row['failed'].replace('|', '/')}", *[""] * 5) if "failed" in row else (
                _number(row["median"]), f"{_number(row['smallest'])} to {_number(row['largest'])}",
                f"{row['first_seconds']:.1f}", f"{row['import_seconds']:.1f}", f"{row['peak_bytes'] / 2**30:.2f}",
                _decimal(row.get("share_of_ceiling")))
            lines.append(f"| {' | '.join((labels[name], *cells))} |")
    return "\n".join([*lines, "", _prose(result)])


def _prose(result: Mapping[str, Any]) -> str:
    """What was measured, and what each mode is good and bad for."""
    def speed(name: str, reference: str = "graph") -> str:
        # Each was compared with the default in the same rounds, but perhaps not with each other.
        return _span(arms[name]["over_default"] / arms[reference].get("over_default", 1.0)
                     for arms in _measured(result, name, reference, "graph"))

    def first(name: str) -> str:
        return _span(arms[name]["first_seconds"] for arms in _measured(result, name))

    return _PROSE.format(
        eager=speed("eager"), single=speed("graph_single"), xla=speed("xla"),
        pytorch=speed("pytorch", "eager"), channels_last=speed("pytorch_channels_last", "pytorch"),
        compiled=speed("pytorch_compiled", "pytorch_channels_last"), first_eager=first("eager"),
        first_graph=first("graph"), first_xla=first("xla"), first_pytorch=first("pytorch_channels_last"),
        first_compiled=first("pytorch_compiled"))


def _pairs(result: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Network, precision and what was found of them."""
    for network, precisions in result["networks"].items():
        for precision, found in precisions.items():
            yield network, precision, found


def _measured(result: Mapping[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    """The arms of every network and precision of which all of these modes have been measured."""
    for _, _, found in _pairs(result):
        if all("median" in found["arms"].get(name, {}) for name in names):
            yield found["arms"]


def _span(values: Iterable[float]) -> str:
    found = sorted(values)
    if not found:
        return "(not measured)"
    low, high = (_two_digits(value) for value in (found[0], found[-1]))
    return low if low == high else f"{low} to {high}"


def _two_digits(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def picture(result: Mapping[str, Any], labels: Mapping[str, str]) -> bytes:
    """The picture, a PNG: for each network and precision how fast each mode is beside PyTorch's best.

    Args:
      result: what `frameworks.measure` writes.
      labels: mode -> what it is called.
    """
    precisions = list(dict.fromkeys(precision for _, precision, _ in _pairs(result)))
    width = max(_INCHES[0], _INCHES_A_NETWORK * len(result["networks"]) + 1)
    figure = Figure(figsize=(width, _INCHES[1] * len(precisions) + 1), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(precisions), 1, squeeze=False)[:, 0]
    for axes, precision in zip(panels, precisions):
        _draw(axes, {network: found for network, its_precision, found in _pairs(result) if its_precision == precision},
              labels)
        axes.set_title(f"{precision}, batch {result['batch_size']}, {result['machine']}", fontsize=9)
    handles = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file)
    return file.getvalue()


def _draw(axes: Axes, networks: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> None:
    """Bars of each mode beside each other, a line at 1, and a dash for the ceiling of each network."""
    thickness = 0.8 / len(_COLOURS)
    for place, found in enumerate(networks.values()):
        speeds = {name: row.get("over_default", 1.0) for name, row in found["arms"].items() if "median" in row}
        if "graph" not in speeds:
            speeds = {name: found["arms"][name]["median"] for name in speeds}
        reference = speeds[found["best_pytorch"]] if found["best_pytorch"] else max(
            [speeds[name] for name in speeds if name in _COLOURS], default=None)
        if reference is None:
            continue
        for number, (name, colour) in enumerate(_COLOURS.items()):
            if name in speeds:
                bar = axes.bar(place - 0.4 + (number + 0.5) * thickness, speeds[name] / reference, thickness,
                               color=colour, edgecolor="black", linewidth=0.4, label=labels[name])
                if name == "graph":
                    axes.bar_label(bar, [f"{speeds[name] / reference:.2f}"], padding=2, fontsize=7)
        if "ceiling" in speeds:
            height = speeds["ceiling"] / reference
            axes.plot([place - 0.42, place + 0.42], [height, height], color="black", linewidth=1.2, linestyle="--",
                      label=labels["ceiling"])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.grid(axis="y", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xticks(range(len(networks)), networks, fontsize=9)
    axes.set_xlim(-0.6, len(networks) - 0.4)
    relative = all(found["best_pytorch"] for found in networks.values())
    axes.set_ylabel(f"speed, 1 is {'the best of PyTorch' if relative else 'the fastest'}", fontsize=9)
