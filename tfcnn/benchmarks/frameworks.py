"""How fast networks train in TensorFlow's modes and in PyTorch's, and how close that is to what the machine can do.

Each network in each mode and precision runs in a worker process of its own, see `worker_process`. The processes of one
network and precision take turns, round after round, so that machine noise affects all of them equally.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tfcnn import processor
from tfcnn.benchmarks import frameworks_report, hardware, rates, report
from tfcnn.benchmarks.frameworks_report import ATTEMPTS, FREED_MEMORY, MODE_ROWS, TARGET_FOR
from tfcnn.benchmarks.worker_process import WorkerFailed, WorkerProcess
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import RESULT, record

# The first two arguments of `WorkerProcess`: the work, and its function's arguments.
Work = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to train.

    Attributes:
      label: the name in tables and pictures.
      work: (network, recipe) -> what a worker process does.
    """

    label: str
    work: Callable[[str, Recipe], Work]


def _tensorflow(execution: str, single: bool = False) -> Callable[[str, Recipe], Work]:
    return lambda network, recipe: ("tfcnn.benchmarks.tensorflow_worker:trainer", {
        "recipe": recipe.replace(execution=execution).to_dict(), "single": single})


def _pytorch(compiled: bool, channels_last: bool, cuda_graphs: bool = False) -> Callable[[str, Recipe], Work]:
    return lambda network, recipe: ("tfcnn.benchmarks.pytorch_worker:trainer", {
        "network": network, "recipe": recipe.to_dict(), "compiled": compiled, "channels_last": channels_last,
        "cuda_graphs": cuda_graphs,
        "bfloat16": recipe.precision == "bfloat16", "batch_size": recipe.batch_size,
        "threads": len(processor.available_cores())})


DEFAULT, CEILING = "graph", "ceiling"
MODES = {
    "eager": Mode("TensorFlow, eager", _tensorflow("eager")),
    "graph_single": Mode("TensorFlow, graph, one step a call", _tensorflow("graph", single=True)),
    DEFAULT: Mode("TensorFlow, graph, many steps a call (the suite's default)", _tensorflow("graph")),
    "xla": Mode("TensorFlow, XLA", _tensorflow("xla")),
    "pytorch": Mode("PyTorch, eager", _pytorch(compiled=False, channels_last=False)),
    "pytorch_channels_last": Mode("PyTorch, eager, channels last", _pytorch(compiled=False, channels_last=True)),
    "pytorch_compiled": Mode("PyTorch, compiled, channels last", _pytorch(compiled=True, channels_last=True)),
    "pytorch_cuda_graphs": Mode("PyTorch, compiled, channels last, CUDA graphs", _pytorch(
        compiled=True, channels_last=True, cuda_graphs=True)),
    CEILING: Mode("the ceiling: convolutions and matrix products alone", lambda network, recipe: (
        "tfcnn.benchmarks.ceiling:repeater", {"recipe": recipe.to_dict()})),
}
PYTORCH = [name for name in MODES if name.startswith("pytorch")]
_GPU_ONLY = ("pytorch_cuda_graphs",)
# What a worker process that computes on the first GPU has in its environment. Several take turns on one card.
_ON_GPU = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
PRECISIONS = ("float32", "bfloat16")


def modes_of(gpu: bool) -> list[str]:
    """The names of the modes that there are on a GPU, or on a CPU.

    Raises:
      UsageError: this machine has no GPU.
    """
    if gpu and not hardware.gpus():
        raise UsageError("--device=gpu: nvidia-smi finds no GPU on this machine")
    return [name for name in MODES if gpu or name not in _GPU_ONLY]


def measure(recipes: Mapping[str, Recipe], modes: Sequence[str], precisions: Sequence[str], rounds: int, seconds: float,
            limit: float, targets: Mapping[str, Mapping[str, Mapping[str, float]]], workdir: Path,
            overwrite: bool = False, gpu: bool = False) -> None:
    """Measures everything and writes `result.json`, `README.md` and `frameworks.png` into the folder.

    They are rewritten after each network and precision. If the folder holds an incomplete result, only the rest is
    measured.

    Args:
      recipes: network -> recipe. The names are also those of the PyTorch networks.
      modes: names of `MODES`; PyTorch's are skipped if it is not installed.
      precisions: some of `PRECISIONS`.
      rounds: how many turns each worker process has.
      seconds: the approximate length of a turn; longer if a step takes longer.
      limit: seconds within which a worker process must finish its first step, and any turn; otherwise it has failed.
      targets: "over_pytorch" and "share_of_ceiling" -> precision -> network -> target for the suite's default mode.
      workdir: the folder, created if necessary.
      overwrite: whether to start again if the folder holds an incomplete result.
      gpu: whether all compute on the first GPU of this machine; otherwise on its CPU.

    Raises:
      UsageError: the folder cannot be written, or holds a result that was measured with other settings.
    """
    card = hardware.gpus()[:1] if gpu else []
    device = {"machine": "; ".join([processor.description(), *card]), "device": "gpu" if gpu else "cpu"}
    result = _begin(recipes, modes, precisions, device | {"rounds": rounds, "seconds": seconds, "limit": limit},
                    workdir, overwrite)
    present, networks = result["measured"]["modes"], result["networks"]
    labels = {name: mode.label for name, mode in MODES.items()}
    pairs = [(network, precision) for precision in precisions for network in recipes
             if precision not in networks.get(network, {})]
    for number, (network, precision) in enumerate(pairs, 1):
        recipe = recipes[network].replace(precision=precision, keep_precision=True)
        rows = _compare(network, recipe, present, rounds, seconds, limit, gpu)
        for name, row in rows.items():
            if "median" in row:
                print(f"{network}, {precision}, {MODES[name].label}: {row['median']:,.0f} images/s", flush=True)
        networks.setdefault(network, {})[precision] = _summarize(rows) | {
            TARGET_FOR + what: by_precision.get(precision, {}).get(network) for what, by_precision in targets.items()}
        result["complete"] = number == len(pairs)
        report.write(workdir, result, frameworks_report.text(result, labels), "frameworks.png",
                     lambda: frameworks_report.picture(result, labels))
    print((workdir / "README.md").read_text(encoding="utf-8"))


def _begin(recipes: Mapping[str, Recipe], modes: Sequence[str], precisions: Sequence[str], timing: Mapping[str, Any],
           workdir: Path, overwrite: bool) -> dict[str, Any]:
    """The result so far: that of an interrupted run in the folder, or one without networks.

    Raises:
      UsageError: the folder holds a result that was measured with other settings.
    """
    environment, pytorch = record.environment(), pytorch_version()
    if pytorch:
        environment["versions"]["torch"] = pytorch
    settings = {
        "experiment": "frameworks", "complete": False,
        "measured": {"networks": list(recipes), "precisions": list(precisions),
                     "modes": [name for name in modes if pytorch or name not in PYTORCH]},
        "batch_size": next(iter(recipes.values())).batch_size, FREED_MEMORY: "kept", **timing, **environment}
    if overwrite:
        (workdir / RESULT).unlink(missing_ok=True)  # an interruption shall not go on with it
    earlier = record.unfinished(workdir, "frameworks") or {}
    differing = [key for key in settings if earlier and earlier.get(key) != settings[key]]
    if differing:
        raise UsageError(f"{workdir} holds what was measured with other {', '.join(differing)}: choose another "
                         "--workdir, or give --overwrite")
    return settings | {ATTEMPTS: earlier.get(ATTEMPTS, 0) + 1, "networks": earlier.get("networks", {})}


def pytorch_version() -> str | None:
    """The version of PyTorch, or None if it is not installed. PyTorch is not imported."""
    return importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None


def _compare(network: str, recipe: Recipe, modes: Sequence[str], rounds: int, seconds: float,
             limit: float, gpu: bool = False) -> dict[str, dict[str, Any]]:
    """Measures one network in one precision: mode -> a row with what was measured, or with why it failed.

    All worker processes are alive at the same time if memory allows. Otherwise they run in groups, each with its own
    rounds; the suite's default and the ceiling take part in all of them.
    """
    comparison = _Comparison(network, recipe, seconds, limit, gpu)
    waiting = [name for name in modes if name not in (DEFAULT, CEILING)]
    numbers = itertools.count()
    with contextlib.closing(comparison):
        for name in (DEFAULT, CEILING):
            if name in modes:
                comparison.start(name)
        while True:
            group: list[str] = []
            while waiting and (not group or comparison.has_room()):
                name = waiting.pop(0)
                if comparison.start(name):
                    group.append(name)
            for number in itertools.islice(numbers, rounds):
                comparison.run_round(number)
            for name in group:
                comparison.end(name)
            if not waiting:
                break
    return {name: _with_median(comparison.rows[name]) for name in modes}


class _Comparison:
    """The worker processes of one network in one precision, and what was measured so far.

    Attributes:
      rows: mode -> what was measured, or why it failed.
    """

    def __init__(self, network: str, recipe: Recipe, seconds: float, limit: float, gpu: bool = False) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._network, self._recipe, self._seconds, self._limit = network, recipe, seconds, limit
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
        self._environment = _ON_GPU | {"CUDA_VISIBLE_DEVICES": first} if gpu else {}
        self._processes: dict[str, WorkerProcess] = {}

    def start(self, name: str) -> bool:
        """Starts a worker process and finds the number of steps that fills its turns. Returns whether it succeeded."""
        def action() -> None:
            process = self._processes[name] = WorkerProcess(
                *MODES[name].work(self._network, self._recipe), self._limit, environment=self._environment)
            first = process.answer()
            process.run(2)  # the second step may still compile something, or record it for a GPU
            steps = rates.repetitions(lambda times: process.run(times)["seconds"], self._seconds)
            self.rows[name] = {"import_seconds": first["import_seconds"], "first_seconds": first["first_seconds"],
                               "peak_bytes": first["peak_bytes"], "libraries": first["libraries"], "steps": steps,
                               "rounds": [], "images_per_second": []}
            self._print(name, f"first step after {first['first_seconds']:.1f} s")
        return self._attempt(name, action)

    def run_round(self, number: int) -> None:
        """Gives each worker process its turn. A different one is first in each round."""
        names = list(self._processes)
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            self._attempt(name, functools.partial(self._take_turn, name, number))

    def _take_turn(self, name: str, number: int) -> None:
        process, row = self._processes[name], self.rows[name]
        if row["steps"] > 1:
            process.run(1)  # an untimed step refills the caches that the others have used
        answer = process.run(row["steps"])
        row["rounds"].append(number)
        row["images_per_second"].append(self._recipe.batch_size * row["steps"] / answer["seconds"])
        row["peak_bytes"] = answer["peak_bytes"]
        if name != CEILING:
            row["loss"] = answer["value"]

    def _attempt(self, name: str, action: Callable[[], None]) -> bool:
        """Runs the action. If the worker process fails, records why, ends it and returns False."""
        try:
            action()
        except WorkerFailed as error:
            self.rows[name] = {"failed": str(error)}
            self.end(name)
            self._print(name, f"failed, {error}")
            return False
        return True

    def _print(self, name: str, text: str) -> None:
        print(f"{self._network}, {self._recipe.precision}, {MODES[name].label}: {text}", flush=True)

    def has_room(self) -> bool:
        """Whether there is memory for another process as large as the largest so far, twice in case it grows."""
        peaks = [row["peak_bytes"] for row in self.rows.values() if "peak_bytes" in row]
        return psutil.virtual_memory().available > 2 * max(peaks, default=0)

    def end(self, name: str) -> None:
        """Ends the worker process if it is alive."""
        if name in self._processes:
            self._processes.pop(name).close()

    def close(self) -> None:
        """Ends all worker processes."""
        for name in list(self._processes):
            self.end(name)


def _with_median(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with the median and the range of its speeds."""
    if "failed" in row:
        return row
    speeds = row["images_per_second"]
    return row | {"median": statistics.median(speeds), "smallest": min(speeds), "largest": max(speeds)}


def _summarize(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rows with their ratios to the suite's default and to the ceiling; PyTorch's best mode; the ratio to it."""
    alive = [name for name in rows if "median" in rows[name]]
    for name in alive:
        for reference, key in ((DEFAULT, "over_default"), (CEILING, "share_of_ceiling")):
            if reference in alive and name != reference:
                rows[name][key] = _ratio(rows, name, reference)
    best = max((name for name in alive if name in PYTORCH), default=None,
               key=lambda name: rows[name].get("over_default", rows[name]["median"]))
    return {
        MODE_ROWS: rows,
        "best_pytorch": best,
        "over_pytorch": _ratio(rows, DEFAULT, best) if best and DEFAULT in alive else None,
        "share_of_ceiling": rows.get(DEFAULT, {}).get("share_of_ceiling"),
    }


def _ratio(rows: Mapping[str, Mapping[str, Any]], name: str, reference: str) -> float:
    """The speed of one mode relative to another's, over the rounds in which both had a turn."""
    speeds = {key: dict(zip(rows[key]["rounds"], rows[key]["images_per_second"])) for key in (name, reference)}
    common = [number for number in speeds[name] if number in speeds[reference]]
    return rates.ratio({key: [speeds[key][number] for number in common] for key in speeds}, name, reference)
