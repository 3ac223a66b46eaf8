"""The page and the picture of what `frameworks` measured. Every number comes from the result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfcnn import drawing, markdown
from tfcnn.benchmarks import report

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Keys of result.json that are older than the words used here. They stay, so that recorded results can be read.
ATTEMPTS = "sittings"  # how many times the command ran until the result was complete; results of one run may lack it
MODE_ROWS = "arms"  # mode -> what was measured
TARGET_FOR = "asked_"  # before the name of a ratio: the target for it

FREED_MEMORY = "freed_memory"  # "kept" by all processes for their next step; in results without it by TensorFlow's only

# TensorFlow's modes are blue, the suite's default the darkest; PyTorch's are orange.
_COLOURS = {"eager": "#c6dbef", "graph_single": "#6baed6", "graph": "#08519c", "xla": "#9e9ac8", "pytorch": "#fdd0a2",
            "pytorch_channels_last": "#fd8d3c", "pytorch_compiled": "#a63603", "pytorch_cuda_graphs": "#7f2704"}
_PANEL_INCHES = 8.0, 3.6  # the least width, and the height
_INCHES_PER_NETWORK = 1.5

_MEASURED = """## What was measured

Each mode runs whole training steps on one constant batch: loss, gradients, optimizer and moving averages, and in
TensorFlow also the accuracy and the norms of the gradient. Network, batch, optimizer and number of threads are the same
in all of them. *First step* is the time to build the network, to compile it and to run the first step, in TensorFlow
also to load the sample and to augment a batch; importing the framework is listed separately. *Peak memory* is that of
the whole process, in the host's memory.{airbench}

*The ceiling* is the speed of the network's convolutions and matrix products alone: the forward pass, the gradient of
the weights, and the gradient of the input wherever an earlier layer is trained. Each is TensorFlow's own operation on
the network's shapes; they run one after the other. It is not a strict upper bound: a mode that runs two such operations
at the same time, or has a faster algorithm for them, can exceed 1, and PyTorch has operations of its own."""

# mode -> its strengths and weaknesses: left out if the mode, or one that it is compared with, was not measured
_MODES = {
    "eager": """
**TensorFlow, eager** (`--execution=eager`). Python calls one operation after the other and gets each result at once. A
breakpoint or `print` anywhere in a layer or in the step shows numbers, and an error is raised where it occurs. The
price is Python's overhead for each operation, however small: training ran at {eager} times the speed of the default.
Use this mode to look into a network, not to train it.
""",
    "graph_single": """
**TensorFlow, graph, one step a call.** Python runs once, to build a graph. TensorFlow simplifies it, fuses operations
and runs independent ones in parallel. Python still calls every step: {single} times the speed of the default. Python
code in a layer runs only while the graph is built, so a breakpoint there sees symbolic tensors without values.
`tf.print` and `tf.debugging` become part of the graph and see the values.
""",
    "graph": """
**TensorFlow, graph, many steps a call** (the suite's default). The loop over the steps is part of the graph, so Python
is idle while they run. In return Python sees losses only after each call, so the trainer keeps its calls short. The
first step, before which the graph is built, was done after {first_graph} s{than_eager}.
""",
    "xla": """
**TensorFlow, XLA** (`--execution=xla`). The gradients are compiled into one program for exactly these shapes; other
shapes are compiled again. Consecutive element-wise operations are fused. Training ran at {xla} times the speed of the
default, with the first step done after {first_xla} s{dominated}. It cannot compile every operation, `tf.print` for
example, so it is the hardest of these modes to debug.
""",
    "pytorch": """
**PyTorch, eager.** Define-by-run like TensorFlow's eager mode, as easy to debug, and {pytorch} times as fast as that.
With channels last in memory it ran {channels_last} times as fast as with channels first.
""",
    "pytorch_compiled": """
**PyTorch, compiled** (`torch.compile`). Python code is traced at its first call. Everything between convolutions
becomes generated code (C++ on a CPU, Triton on a GPU), which requires a compiler at run time. The first step was done
after {first_compiled} s, against {first_pytorch} s without compilation, and training then ran {compiled} times as fast.
A batch of another shape is compiled again. To debug, leave out the compilation: the code is the same.
""",
}

_COMPARED_WITH = {"pytorch": ("eager", "pytorch_channels_last"), "pytorch_compiled": ("pytorch_channels_last",)}


def text(result: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """The page, in Markdown.

    Args:
      result: the content of result.json, see `frameworks.measure`.
      labels: mode -> its name in tables.
    """
    parts = ["# How fast the networks train", _introduction(result)]
    if not result["complete"]:
        parts.append("**This run is not complete:** whatever is missing below had not been measured yet.")
    parts += ["## The suite's default mode compared with PyTorch's best mode and with the ceiling",
              _main_table(result, labels),
              "*Times as fast* and *share of the ceiling* are medians over the rounds of the ratio within a round.",
              "![Speed of each mode, for each network](frameworks.png)", "## All modes"]
    for network, precision, found in _pairs(result):
        parts += [f"### {network}, {precision}", _mode_table(found, labels)]
    return "\n\n".join(part.rstrip("\n") for part in [*parts, _prose(result)]) + "\n"


def _introduction(result: Mapping[str, Any]) -> str:
    """The hardware, the versions and how the speeds were measured."""
    versions, attempts = result["versions"], result.get(ATTEMPTS, 1)
    pytorch = f"PyTorch {versions['torch']}" if "torch" in versions else (
        "PyTorch is not installed and was skipped (`pip install -e '.[pytorch]'`)")
    resumed = "" if attempts == 1 else (
        f" The run was interrupted and resumed, {attempts} attempts in all; each network and precision was measured "
        "within one of them.")
    return (f"{result['machine']}; batch {result['batch_size']}; TensorFlow {versions['tensorflow']}, Keras "
            f"{versions['keras']}, {pytorch}; commit {report.short_commit(result)}. Medians of {result['rounds']} "
            f"rounds. In each round every worker process has a turn of about {result['seconds']:g} s (or of one step, "
            "if that takes longer), while the others are paused. Where memory was short, not all modes of a network "
            "ran in the same rounds, but the default and the ceiling ran in all of them."
            f"{_memory(result)}{_on_gpu(result)}{resumed}")


def _memory(result: Mapping[str, Any]) -> str:
    """Which processes keep the memory that they free: see `tfcnn.memory`."""
    if result.get(FREED_MEMORY) == "kept":
        return " All processes keep the memory that they free for their next step."
    return (" TensorFlow's processes kept the memory that they freed for their next step. PyTorch's did not, as is "
            "usual for it; they would have been faster.")


def _on_gpu(result: Mapping[str, Any]) -> str:
    """The libraries and the arithmetic of a GPU; nothing for a run on the CPU. Each framework brings its own."""
    if result.get("device") != "gpu":
        return ""
    found = {}
    for _, _, measured in _pairs(result):
        for name, row in measured[MODE_ROWS].items():
            if "cuda" in row.get("libraries", {}):
                found["PyTorch" if name.startswith("pytorch") else "TensorFlow"] = row["libraries"]
    versions = ", ".join(f"{framework} with CUDA {libraries['cuda']} and cuDNN {libraries.get('cudnn', 'not loaded')}"
                         for framework, libraries in found.items())
    return f" Everything ran on the GPU{': ' * bool(versions)}{versions}; float32 is multiplied in TensorFloat-32."


def _main_table(result: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """A row for each network and precision: the suite's default mode, PyTorch's best, the ratios and their targets."""
    rows = []
    for network, precision, found in _pairs(result):
        modes, best = found[MODE_ROWS], found["best_pytorch"]
        rows.append((
            network, precision, _number(modes.get("graph", {}).get("median")),
            _number(modes[best]["median"] if best else None), labels[best].removeprefix("PyTorch, ") if best else "",
            *(_decimal(found[key]) for ratio in ("over_pytorch", "share_of_ceiling")
              for key in (ratio, TARGET_FOR + ratio))))
    return markdown.table(("network", "precision", "default, images/s", "PyTorch's best, images/s", "", "times as fast",
                           "target", "share of the ceiling", "target"), rows, "llrrlrrrr")


def _mode_table(found: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """A row for each mode of one network and precision."""
    rows = []
    for name, row in found[MODE_ROWS].items():
        cells = (f"failed: {row['failed']}", *[""] * 5) if "failed" in row else (
            _number(row["median"]), f"{_number(row['smallest'])} to {_number(row['largest'])}",
            f"{row['first_seconds']:.1f}", f"{row['import_seconds']:.1f}", f"{row['peak_bytes'] / 2**30:.2f}",
            _decimal(row.get("share_of_ceiling")))
        rows.append((labels[name], *cells))
    return markdown.table(("", "images/s", "smallest to largest", "first step, s", "import, s", "peak memory, GiB",
                           "share of the ceiling"), rows, "lrrrrrr")


def _prose(result: Mapping[str, Any]) -> str:
    """What was measured, and the strengths and weaknesses of each mode."""
    def speed(name: str, reference: str = "graph") -> str:
        # Each mode ran in the same rounds as the default, but perhaps not in the same as the reference.
        return _span(modes[name]["over_default"] / modes[reference].get("over_default", 1.0)
                     for modes in _measured(result, name, reference, "graph"))

    def first(name: str) -> str:
        return _span(modes[name]["first_seconds"] for modes in _measured(result, name))

    found = dict(
        eager=speed("eager"), single=speed("graph_single"), xla=speed("xla"),
        pytorch=speed("pytorch", "eager"), channels_last=speed("pytorch_channels_last", "pytorch"),
        compiled=speed("pytorch_compiled", "pytorch_channels_last"), first_graph=first("graph"),
        first_xla=first("xla"), first_pytorch=first("pytorch_channels_last"), first_compiled=first("pytorch_compiled"),
        dominated="" if result.get("device") == "gpu" else ": on a CPU its convolutions dominate")
    found["than_eager"] = f", against {first('eager')} s in eager mode" if any(_measured(result, "eager")) else ""
    known = " The network `airbench` is that of the experiment `speedrun`." if "airbench" in result["networks"] else ""
    paragraphs = [text.strip().format(**found) for mode, text in _MODES.items()
                  if any(_measured(result, mode, *_COMPARED_WITH.get(mode, ())))]
    return "\n\n".join([_MEASURED.format(airbench=known), "## Strengths and weaknesses of each mode", *paragraphs])


def _pairs(result: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each network and precision, with what was measured."""
    for network, precisions in result["networks"].items():
        for precision, found in precisions.items():
            yield network, precision, found


def _measured(result: Mapping[str, Any], *names: str) -> Iterator[dict[str, Any]]:
    """The rows of each network and precision for which all of these modes were measured."""
    for _, _, found in _pairs(result):
        if all("median" in found[MODE_ROWS].get(name, {}) for name in names):
            yield found[MODE_ROWS]


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
    """The picture, a PNG: for each network and precision the speed of each mode relative to PyTorch's best.

    Args:
      result: the content of result.json, see `frameworks.measure`.
      labels: mode -> its name in the legend.
    """
    precisions = list(dict.fromkeys(precision for _, precision, _ in _pairs(result)))
    width = max(_PANEL_INCHES[0], _INCHES_PER_NETWORK * len(result["networks"]) + 1)
    height = _PANEL_INCHES[1] * len(precisions) + 1
    with drawing.figure(figsize=(width, height), dpi=100, layout="constrained") as figure:
        panels = figure.subplots(len(precisions), 1, squeeze=False)[:, 0]
        for axes, precision in zip(panels, precisions):
            shown = {network: found for network, its_precision, found in _pairs(result) if its_precision == precision}
            _draw(axes, shown, labels)
            axes.set_title(f"{precision}, batch {result['batch_size']}, {result['machine']}", fontsize=9)
        handles = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels())}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=8)
        return drawing.png(figure)


def _draw(axes: Axes, networks: Mapping[str, Mapping[str, Any]], labels: Mapping[str, str]) -> None:
    """For each network a bar per mode and a dashed line at the ceiling; a solid line at 1."""
    thickness = 0.8 / len(_COLOURS)
    for position, found in enumerate(networks.values()):
        speeds = {name: row.get("over_default", 1.0) for name, row in found[MODE_ROWS].items() if "median" in row}
        if "graph" not in speeds:
            speeds = {name: found[MODE_ROWS][name]["median"] for name in speeds}
        reference = speeds[found["best_pytorch"]] if found["best_pytorch"] else max(
            [speeds[name] for name in speeds if name in _COLOURS], default=None)
        if reference is None:
            continue
        for number, (name, colour) in enumerate(_COLOURS.items()):
            if name in speeds:
                bar = axes.bar(position - 0.4 + (number + 0.5) * thickness, speeds[name] / reference, thickness,
                               color=colour, edgecolor="black", linewidth=0.4, label=labels[name])
                if name == "graph":
                    axes.bar_label(bar, [f"{speeds[name] / reference:.2f}"], padding=3, fontsize=7, zorder=4,
                                   bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})  # over the ceiling
        if "ceiling" in speeds:
            height = speeds["ceiling"] / reference
            axes.plot([position - 0.42, position + 0.42], [height, height], color="black", linewidth=1.2,
                      linestyle="--", label=labels["ceiling"])
    axes.axhline(1, color="black", linewidth=0.8)
    axes.grid(axis="y", color="0.88", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xticks(range(len(networks)), networks, fontsize=9)
    axes.set_xlim(-0.6, len(networks) - 0.4)
    relative = all(found["best_pytorch"] for found in networks.values())
    axes.set_ylabel(f"speed, 1 is {'the best of PyTorch' if relative else 'the fastest'}", fontsize=9)
