"""The README's second table: the minutes of training after which a network is accurate enough.

Each length of training is a run of its own, whose schedule ends with it. The runs of this table were trained for it,
with the machine to themselves, and are recorded under names that begin with `TIMED`.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import markdown
from tfcnn.runs.folder import RESULT, RunFolder
from tfcnn.runs.published import ROWS, VIEWS, Row
from tfcnn.runs.tables import Run, duration, group_by_seed, mean_and_deviation, run_links, run_name

TIMED = "timed"
# The processor of the runs whose results do not name one.
EARLIER_PROCESSOR = "AMD EPYC (AVX-512 with bfloat16), 2 cores"

# The speedrun has no line in the first table: its result is a time.
SPEEDRUN = Row("The speedrun's network", "CIFAR-10", (), "speedrun", "cifar10",
               {"whitening": (True,), "activation": ("gelu",), "initializer": ("paper",)})


@dataclasses.dataclass(frozen=True)
class Goal:
    """An accuracy on CIFAR-10's test images that a network shall reach soon.

    Attributes:
      network: as its row in `published.ROWS` has it, or `SPEEDRUN`.
      accuracy: in percent.
      benchmarked_as: the network's name in `frameworks`.
      views: the views of each test image, one of `published.VIEWS`, with which a run was evaluated; none: its own test.
    """

    network: str
    accuracy: float
    benchmarked_as: str
    views: str = "none"

    @property
    def row(self) -> Row:
        """The row of the network's published errors, which knows its runs."""
        row, = (row for row in (*ROWS, SPEEDRUN) if (row.network, row.data) == (self.network, "CIFAR-10"))
        return row


GOALS = (
    *(Goal(SPEEDRUN.network, accuracy, "airbench") for accuracy in (90, 92, 93, 94)),
    Goal(SPEEDRUN.network, 94, "airbench", "six"),  # the accuracy that its source reports
    Goal("ResNet-20", 90, "resnet20"),
    Goal("VGG-16, batch normalization", 92, "vgg"),
    Goal("ResNet-18, 3x3 stem", 92, "resnet18"),
)


def render_times(folders: Iterable[RunFolder], root: Path, goals: Sequence[Goal] = GOALS) -> str:
    """A Markdown table: for each goal the shortest training whose mean accuracy over the seeds reaches it.

    A goal has a line for each processor on which it was reached by a training that reaches no higher goal; the fewest
    epochs come first. Where none reaches it, the best mean so far stands in its place.

    Args:
      folders: the recorded runs; only those whose name begins with `TIMED` count, and of several on one processor with
        the same seed only the first.
      root: the repository, which the links are relative to.
      goals: the goals, in their order.

    Raises:
      UsageError: a run is not complete, or its result is damaged.
    """
    timed = [Run.read(folder) for folder in folders if run_name(folder).startswith(TIMED)]
    groups = [group for processor in sorted(set(map(_processor, timed)))
              for group in group_by_seed((run for run in timed if _processor(run) == processor), repetitions=False)]
    speeds = _pytorch_speeds(root)
    head = ("Network", "Accuracy, %", "Reached, %", "Epochs", "Training", "At PyTorch's speed", "Processor", "Run")
    lines = [line for goal in goals for line in _lines(goal, goals, groups, speeds, root)]
    return markdown.table(head, lines, align="lrrrrrll")


def _lines(goal: Goal, goals: Sequence[Goal], groups: Sequence[Sequence[Run]], speeds: Mapping[tuple[str, str], float],
           root: Path) -> list[tuple[str, ...]]:
    views = "" if goal.views == "none" else f", {VIEWS[goal.views]}"
    start = (f"[{goal.network}](tfcnn/experiments/{goal.row.experiment}.py)", f"{goal.accuracy:g}{views}")
    tried = [group for group in groups if goal.row.has(group[0].result) and _accuracies(group, goal.views)]
    if not tried:
        return [(*start, "not yet measured", "", "", "", "", "")]
    shortest: dict[str, Sequence[Run]] = {}
    for group in sorted(tried, key=lambda group: group[0].result["epochs"]):
        if _mean_accuracy(group, goal.views) >= goal.accuracy:
            shortest.setdefault(_processor(group[0]), group)
    if not shortest:
        best = max(tried, key=lambda group: _mean_accuracy(group, goal.views))
        return [(*start, *_cells(goal, best, speeds, root))]
    higher = [other.accuracy for other in goals
              if (other.network, other.views) == (goal.network, goal.views) and other.accuracy > goal.accuracy]
    shown = [group for group in shortest.values() if _mean_accuracy(group, goal.views) < min(higher, default=101)]
    return [(*start, *_cells(goal, group, speeds, root)) for group in shown or shortest.values()]


def _cells(goal: Goal, group: Sequence[Run], speeds: Mapping[tuple[str, str], float], root: Path) -> tuple[str, ...]:
    accuracy = mean_and_deviation(_accuracies(group, goal.views))
    reached = _mean_accuracy(group, goal.views) >= goal.accuracy
    epochs = group[0].result["epochs"]
    images = epochs * group[0].result["dataset"]["train_images"]
    speed = speeds.get((_processor(group[0]), goal.benchmarked_as))
    return (
        f"**{accuracy}** (n = {len(group)})" if reached else f"not yet: {accuracy} (n = {len(group)})",
        str(epochs),
        duration(statistics.median(run.result["train_seconds"] for run in group)),
        f"{duration(images / speed)} ({speed:,.0f} images/s)" if speed else "not measured",
        _processor(group[0]),
        run_links(group, root),
    )


def _processor(run: Run) -> str:
    processor: str = run.result.get("processor", EARLIER_PROCESSOR)
    return processor


def _accuracies(group: Sequence[Run], views: str) -> list[float]:
    """In percent; nothing if not all of the runs were evaluated with these views."""
    if views == "none":
        return [100 * run.result["test"]["accuracy"] for run in group]
    found = [100 * run.evaluation["accuracy"] for run in group if run.evaluation and run.evaluation["tta"] == views]
    return found if len(found) == len(group) else []


def _mean_accuracy(group: Sequence[Run], views: str) -> float:
    # Rounded, so that 0.92 is 92 in spite of binary fractions.
    return round(statistics.fmean(_accuracies(group, views)), 6)


def _pytorch_speeds(root: Path) -> dict[tuple[str, str], float]:
    """The images/s of the fastest of PyTorch's modes, by processor and the network's name in `frameworks`."""
    speeds = {}
    for benchmark in sorted(root.glob(f"experiments/frameworks*/{RESULT}")):
        result: dict[str, Any] = json.loads(benchmark.read_text(encoding="utf-8"))
        for name, measured in result["networks"].items():
            medians = [mode["median"] for label, mode in measured.get("bfloat16", {"arms": {}})["arms"].items()
                       if label.startswith("pytorch") and mode.get("median")]
            if medians:
                speeds[result["machine"], name] = max(medians)
    return speeds
