"""How fast networks train in TensorFlow's modes and in PyTorch's, and how near that is to what the machine can do.

Every network, in every mode and precision, is an arm of the comparison, a process of its own; see `arm`. The arms of
one network and precision take turns, round after round, so that a machine's moods hit all alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import itertools
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import files
from tfcnn.benchmarks import framework_report, rates
from tfcnn.benchmarks.arm import Arm, Failed
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import record

# What `Arm` takes: the work, and its function's arguments.
Work = tuple[str, dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Mode:
    """A way to train.

    Attributes:
      label: what it is called in tables and pictures.
      work: (network, recipe) -> what an arm does.
    """

    label: str
    work: Callable[[str, Recipe], Work]


def _tensorflow(execution: str, single: bool = False) -> Callable[[str, Recipe], Work]:
    return lambda network, recipe: ("tfcnn.benchmarks.tensorflow_worker:trainer", {
        "recipe": recipe.replace(execution=execution).to_dict(), "single": single})


def _pytorch(compiled: bool, channels_last: bool) -> Callable[[str, Recipe], Work]:
    return lambda network, recipe: ("tfcnn.benchmarks.pytorch_worker:trainer", {
        "network": network, "recipe": recipe.to_dict(), "compiled": compiled, "channels_last": channels_last,
        "bfloat16": recipe.precision == "bfloat16", "batch_size": recipe.batch_size,
        "threads": len(rates.available())})


DEFAULT, CEILING = "graph", "ceiling"
MODES = {
    "eager": Mode("TensorFlow, eager", _tensorflow("eager")),
    "graph_single": Mode("TensorFlow, graph, one step a call", _tensorflow("graph", single=True)),
    DEFAULT: Mode("TensorFlow, graph, many steps a call (the suite's default)", _tensorflow("graph")),
    "xla": Mode("TensorFlow, XLA", _tensorflow("xla")),
    "pytorch": Mode("PyTorch, eager", _pytorch(compiled=False, channels_last=False)),
    "pytorch_channels_last": Mode("PyTorch, eager, channels last", _pytorch(compiled=False, channels_last=True)),
    "pytorch_compiled": Mode("PyTorch, compiled, channels last", _pytorch(compiled=True, channels_last=True)),
    CEILING: Mode("the ceiling: convolutions and matrix products alone", lambda network, recipe: (
        "tfcnn.benchmarks.ceiling:repeater", {"recipe": recipe.to_dict()})),
}
PYTORCH = [name for name in MODES if name.startswith("pytorch")]
PRECISIONS = ("float32", "bfloat16")


def measure(recipes: Mapping[str, Recipe], modes: Sequence[str], precisions: Sequence[str], rounds: int, seconds: float,
            limit: float, asked: Mapping[str, Mapping[str, Mapping[str, float]]], workdir: Path,
            overwrite: bool = False) -> None:
    """Measures everything, and leaves `result.json`, `README.md` and `frameworks.png` in the folder.

    They are written anew after each network and precision. Where they are not complete, what they lack is measured.

    Args:
      recipes: of the networks, by the names that the PyTorch networks have, too.
      modes: names of `MODES`; those of PyTorch are left out if it is not installed.
      precisions: some of `PRECISIONS`.
      rounds: how often each arm has its turn.
      seconds: about how long a turn is; longer if a step takes longer.
      limit: how many seconds an arm may take for its first step, and for any turn; if it takes longer, it has failed.
      asked: "over_pytorch" and "share_of_ceiling" -> precision -> network -> what is asked of the suite's default mode.
      workdir: the folder, made if need be.
      overwrite: whether to begin anew where the folder has a result that is not complete.

    Raises:
      UsageError: the folder cannot be written, or its result was measured in another way.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use {workdir} as the folder of the result: {error.strerror}") from error
    environment, pytorch = record.environment(), pytorch_version()
    present = [name for name in modes if pytorch or name not in PYTORCH]
    if pytorch:
        environment["versions"]["torch"] = pytorch
    result = {"experiment": "frameworks", "complete": False, "machine": rates.machine(),
              "measured": {"networks": list(recipes), "precisions": list(precisions), "modes": present},
              "batch_size": next(iter(recipes.values())).batch_size, "rounds": rounds, "seconds": seconds,
              "limit": limit, **environment}
    earlier = {} if overwrite else record.unfinished(workdir) or {}
    differing = [key for key in result if earlier and earlier.get(key) != result[key]]
    if differing:
        raise UsageError(f"{workdir} holds what was measured with other {', '.join(differing)}: choose another "
                         "--workdir, or give --overwrite")
    networks = earlier.get("networks", {})
    result |= {"sittings": earlier.get("sittings", 0) + 1, "networks": networks}
    pairs = [(network, precision) for precision in precisions for network in recipes
             if precision not in networks.get(network, {})]
    for number, (network, precision) in enumerate(pairs, 1):
        rows = _compare(network, recipes[network].replace(precision=precision), present, rounds, seconds, limit)
        for name, row in rows.items():
            if "median" in row:
                print(f"{network}, {precision}, {MODES[name].label}: {row['median']:,.0f} images/s", flush=True)
        networks.setdefault(network, {})[precision] = _judged(rows) | {
            f"asked_{what}": figures.get(precision, {}).get(network) for what, figures in asked.items()}
        result["complete"] = number == len(pairs)
        _write(result, workdir)
    print((workdir / "README.md").read_text(encoding="utf-8"))


def pytorch_version() -> str | None:
    """The version of PyTorch if it is installed; it is not imported."""
    return importlib.metadata.version("torch") if importlib.util.find_spec("torch") else None


def _write(result: Mapping[str, Any], workdir: Path) -> None:
    """Writes the picture, the report and the result into the folder, each whole or not at all."""
    labels = {name: mode.label for name, mode in MODES.items()}
    files.write(workdir / "frameworks.png", framework_report.picture(result, labels))
    files.write(workdir / "README.md", framework_report.text(result, labels))
    files.write(workdir / "result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")


def _compare(network: str, recipe: Recipe, modes: Sequence[str], rounds: int, seconds: float,
             limit: float) -> dict[str, dict[str, Any]]:
    """Measures one network in one precision; for each mode a row of what was found, or of why it failed.

    All arms are alive together if there is memory for them. Else they come in groups, with rounds for each group, and
    the suite's default and the ceiling are in all of them.
    """
    comparison = _Comparison(network, recipe, seconds, limit)
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
    return {name: _summed_up(comparison.rows[name]) for name in modes}


class _Comparison:
    """The living arms of one network in one precision, and what was found so far.

    Attributes:
      rows: mode -> what was found, or why it failed.
    """

    def __init__(self, network: str, recipe: Recipe, seconds: float, limit: float) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._network, self._recipe, self._seconds, self._limit = network, recipe, seconds, limit
        self._arms: dict[str, Arm] = {}

    def start(self, name: str) -> bool:
        """Starts the arm and finds out how many steps fill its turns; tells whether it is alive then."""
        def action() -> None:
            arm = self._arms[name] = Arm(*MODES[name].work(self._network, self._recipe), self._limit)
            started = arm.answer()
            steps = rates.repetitions(lambda times: arm.run(times)["seconds"], self._seconds)
            self.rows[name] = {"import_seconds": started["import_seconds"], "first_seconds": started["first_seconds"],
                               "peak_bytes": started["peak_bytes"], "steps": steps, "rounds": [],
                               "images_per_second": []}
            self._print(name, f"first step after {started['first_seconds']:.1f} s")
        return self._attempt(name, action)

    def run_round(self, number: int) -> None:
        """Gives each living arm its turn. Who comes first, and who after whom, changes from round to round."""
        names = list(self._arms)
        first = number % max(1, len(names))
        for name in names[first:] + names[:first]:
            self._attempt(name, functools.partial(self._take_turn, name, number))

    def _take_turn(self, name: str, number: int) -> None:
        arm, row = self._arms[name], self.rows[name]
        if row["steps"] > 1:
            arm.run(1)  # brings back to the caches what the others have driven out
        answer = arm.run(row["steps"])
        row["rounds"].append(number)
        row["images_per_second"].append(self._recipe.batch_size * row["steps"] / answer["seconds"])
        row["peak_bytes"] = answer["peak_bytes"]
        if name != CEILING:
            row["loss"] = answer["value"]

    def _attempt(self, name: str, action: Callable[[], None]) -> bool:
        try:
            action()
        except Failed as error:
            self.rows[name] = {"failed": str(error)}
            self.end(name)
            self._print(name, f"failed, {error}")
            return False
        return True

    def _print(self, name: str, text: str) -> None:
        print(f"{self._network}, {self._recipe.precision}, {MODES[name].label}: {text}", flush=True)

    def has_room(self) -> bool:
        """Whether there is memory for another arm as large as the largest, and for one that grows in its turn."""
        with open("/proc/meminfo", encoding="utf-8") as file:
            kibibytes, = (line.split()[1] for line in file if line.startswith("MemAvailable:"))
        peaks = [row["peak_bytes"] for row in self.rows.values() if "peak_bytes" in row]
        return 1024 * int(kibibytes) > 2 * max(peaks, default=0)

    def end(self, name: str) -> None:
        """Ends the arm if it is alive."""
        if name in self._arms:
            self._arms.pop(name).close()

    def close(self) -> None:
        """Ends all arms."""
        for name in list(self._arms):
            self.end(name)


def _summed_up(row: dict[str, Any]) -> dict[str, Any]:
    if "failed" in row:
        return row
    speeds = row["images_per_second"]
    return row | {"median": statistics.median(speeds), "smallest": min(speeds), "largest": max(speeds)}


def _judged(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rows beside the suite's default and the ceiling, PyTorch's best mode, and the default beside both."""
    alive = [name for name in rows if "median" in rows[name]]
    for name in alive:
        for reference, key in ((DEFAULT, "over_default"), (CEILING, "share_of_ceiling")):
            if reference in alive and name != reference:
                rows[name][key] = _ratio(rows, name, reference)
    best = max((name for name in alive if name in PYTORCH), default=None,
               key=lambda name: rows[name].get("over_default", rows[name]["median"]))
    return {
        "arms": rows,
        "best_pytorch": best,
        "over_pytorch": _ratio(rows, DEFAULT, best) if best and DEFAULT in alive else None,
        "share_of_ceiling": rows.get(DEFAULT, {}).get("share_of_ceiling"),
    }


def _ratio(rows: Mapping[str, Mapping[str, Any]], name: str, reference: str) -> float:
    """How many times as fast one mode is as another, in the rounds in which both had their turn."""
    speeds = {key: dict(zip(rows[key]["rounds"], rows[key]["images_per_second"])) for key in (name, reference)}
    common = [number for number in speeds[name] if number in speeds[reference]]
    return rates.ratio({key: [speeds[key][number] for number in common] for key in speeds}, name, reference)
