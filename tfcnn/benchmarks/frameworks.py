"""How fast networks train in TensorFlow's modes and in PyTorch's, and how near that is to what the machine can do.

Every network, in every mode and precision, is an arm of the comparison, a process of its own; see `arm`. The arms of
one network and precision are alive together, and take turns round after round, so that a machine's moods hit all alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import runs
from tfcnn.benchmarks import framework_report, rates
from tfcnn.benchmarks.arm import Arm, Failed
from tfcnn.recipe import Recipe, UsageError

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
            limit: float, asked: Mapping[str, Mapping[str, Mapping[str, float]]], workdir: Path) -> None:
    """Measures everything, and leaves `result.json`, `README.md` and `frameworks.png` in the folder.

    They are written anew after each network and precision, so that what was measured is there if the rest is not.

    Args:
      recipes: of the networks, by the names that the PyTorch networks have, too.
      modes: names of `MODES`; those of PyTorch are left out if it is not installed.
      precisions: some of `PRECISIONS`.
      rounds: how often each arm has its turn.
      seconds: about how long a turn is; longer if a step takes longer.
      limit: how many seconds an arm may take for its first step, and for any turn; if it takes longer, it has failed.
      asked: "over_pytorch" and "share_of_ceiling" -> precision -> network -> what is asked of the suite's default mode.
      workdir: the folder, made if need be.

    Raises:
      UsageError: the folder cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use {workdir} as the folder of the result: {error.strerror}") from error
    environment, pytorch = runs.environment(), pytorch_version()
    present = [name for name in modes if pytorch or name not in PYTORCH]
    if pytorch:
        environment["versions"]["torch"] = pytorch
    networks: dict[str, Any] = {}
    result = {"experiment": "frameworks", "complete": False, "machine": rates.machine(),
              "batch_size": next(iter(recipes.values())).batch_size, "rounds": rounds, "seconds": seconds,
              "limit": limit, "networks": networks, **environment}
    pairs = [(network, precision) for network in recipes for precision in precisions]
    for number, (network, precision) in enumerate(pairs, 1):
        rows = _compare(network, recipes[network].replace(precision=precision), present, rounds, seconds, limit)
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
    runs.write(workdir / "frameworks.png", framework_report.picture(result, labels))
    runs.write(workdir / "README.md", framework_report.text(result, labels))
    runs.write(workdir / "result.json", json.dumps(result, indent=2, allow_nan=False) + "\n")


def _compare(network: str, recipe: Recipe, modes: Sequence[str], rounds: int, seconds: float,
             limit: float) -> dict[str, dict[str, Any]]:
    """Measures one network in one precision; for each mode a row of what was found, or of why it failed."""
    rows: dict[str, dict[str, Any]] = {}
    arms: dict[str, Arm] = {}

    def start(name: str) -> None:
        arm = arms[name] = stack.enter_context(Arm(*MODES[name].work(network, recipe), limit))
        rows[name] = {key: arm.started[key] for key in ("import_seconds", "first_seconds")}
        rows[name]["steps"] = rates.repetitions(lambda steps: arm.run(steps)["seconds"], seconds)
        rows[name]["images_per_second"] = []

    def take_turn(name: str) -> None:
        arm, row = arms[name], rows[name]
        arm.run(1)  # brings back to the caches what the others have driven out
        answer = arm.run(row["steps"])
        row["images_per_second"].append(recipe.batch_size * row["steps"] / answer["seconds"])
        row["peak_bytes"] = answer["peak_bytes"]
        if name != CEILING:
            row["loss"] = answer["value"]

    def attempt(action: Callable[[str], None], name: str) -> None:
        try:
            action(name)
        except Failed as error:
            rows[name] = {"failed": str(error)}
            if name in arms:
                arms.pop(name).close()
            print(f"{network}, {recipe.precision}, {MODES[name].label}: failed, {error}", flush=True)

    with contextlib.ExitStack() as stack:
        for name in modes:
            attempt(start, name)
        for number in range(rounds):
            names = list(arms)
            first = number % max(1, len(names))  # who comes first and who comes after whom changes
            for name in names[first:] + names[:first]:
                attempt(take_turn, name)
    for name in arms:
        speeds = rows[name]["images_per_second"]
        rows[name] |= {"median": statistics.median(speeds), "smallest": min(speeds), "largest": max(speeds)}
        print(f"{network}, {recipe.precision}, {MODES[name].label}: {rows[name]['median']:,.0f} images/s",
              flush=True)
    return rows


def _judged(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The rows with each arm's share of the ceiling, PyTorch's best mode, and the suite's default beside both."""
    speeds = {name: row["images_per_second"] for name, row in rows.items() if "median" in row}
    best = max((name for name in speeds if name in PYTORCH), key=lambda name: rows[name]["median"], default=None)
    for name in speeds:
        if CEILING in speeds and name != CEILING:
            rows[name]["share_of_ceiling"] = rates.ratio(speeds, name, CEILING)
    return {
        "arms": rows,
        "best_pytorch": best,
        "over_pytorch": rates.ratio(speeds, DEFAULT, best) if best and DEFAULT in speeds else None,
        "share_of_ceiling": rows.get(DEFAULT, {}).get("share_of_ceiling"),
    }
