"""How training speed grows with the devices of a process and with processes, beside the ideal."""

from __future__ import annotations

import json
import socket
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tfcnn import files, networks
from tfcnn.benchmarks import rates
from tfcnn.benchmarks.arm import Arm
from tfcnn.recipe import Recipe
from tfcnn.runs.record import environment
from tfcnn.training import devices
from tfcnn.training.machines import TF_CONFIG

TARGET = 0.9
LIMIT = 300.0  # seconds for which a process may not answer


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """So many equal shares of the cores, those that are left over in none."""
    size = len(cores) // count
    return [list(cores[index * size:(index + 1) * size]) for index in range(count)]


@contextmanager
def training_together(recipe: Recipe, shares: Sequence[Sequence[int]], devices: int = 1) -> Iterator[rates.Work]:
    """Within the context there are processes that train one network together. They do nothing until told to.

    They have trained for one step then, so that all is compiled.

    Args:
      recipe: what they train.
      shares: the cores of each process. Thread pools have their size, because they are set before TensorFlow starts.
      devices: into how many logical devices each divides its cores; 1 where there are several processes.

    Yields:
      What trains so many steps, in all of the processes at the same time, and returns when the last of them is done.

    Raises:
      Failed: a process has ended, then or within the context.
    """
    addresses = _free_addresses(len(shares))
    with ExitStack() as stack:
        arms = []
        for index, cores in enumerate(shares):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            arms.append(stack.enter_context(Arm(
                "tfcnn.benchmarks.tensorflow_worker:pipeline_trainer",
                {"recipe": recipe.to_dict(), "devices": devices}, LIMIT, cores, {TF_CONFIG: json.dumps(cluster)},
                stopped=False)))
        # Before the next ones start, whose noise could make these lose sight of each other.
        for arm in arms:
            arm.answer()

        def train(steps: int) -> None:
            for arm in arms:
                arm.tell(steps)
            for arm in arms:
                arm.answer()

        yield train


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def measure(recipe: Recipe, device_counts: Sequence[int], process_counts: Sequence[int], rounds: int, seconds: float,
            workdir: Path) -> None:
    """Measures everything, and leaves `result.json`, `README.md` and `scaling.png` in the folder.

    Args:
      recipe: what is trained; its batch is that of all devices or processes together.
      device_counts: numbers of logical devices of one process that has all cores, 1 among them.
      process_counts: numbers of processes, 1 among them; each has as many cores as when there are the most. With batch
        normalization, several are measured twice, with and without its statistics being exchanged.
      rounds: how often each is measured.
      seconds: about how long in a round.
      workdir: folder of the result, made if need be.
    """
    cores = rates.available()
    each = shares(cores, max(process_counts))
    with ExitStack() as stack:
        def training(*setting: Any) -> tuple[rates.Start, int]:
            work = stack.enter_context(training_together(*setting))
            return lambda: work, recipe.batch_size

        several = [count for count in process_counts if count > 1] if _normalizes(recipe) else []
        apart = recipe.replace(synchronize=False)
        found = rates.compare(
            {f"{count} devices": training(recipe, [cores], count) for count in device_counts}
            | {f"{count} processes": training(recipe, each[:count]) for count in process_counts}
            | {f"{count} processes apart": training(apart, each[:count]) for count in several}, rounds, seconds)
    whole, one = found["1 devices"], found["1 processes"]

    def of_processes(counts: Sequence[int], kind: str) -> dict[str, Any]:
        return {str(count): _summary(found[f"{count} {kind}"], whole, [count * speed for speed in one])
                for count in counts}

    result = {
        "experiment": "scaling", "machine": rates.machine(), "recipe": recipe.to_dict(), "rounds": rounds,
        "cores": len(cores), "cores_of_each_process": len(each[0]),
        "devices": {str(count): _summary(found[f"{count} devices"], whole, whole) for count in device_counts},
        "processes": of_processes(process_counts, "processes"),
        "processes_not_synchronized": of_processes(several, "processes apart"), **environment()}
    workdir.mkdir(parents=True, exist_ok=True)
    _draw(result, workdir / "scaling.png")
    text = _report(result)
    files.write(workdir / "README.md", text)
    files.write(workdir / "result.json", json.dumps(result, indent=2) + "\n")
    print(text)


def _normalizes(recipe: Recipe) -> bool:
    """Whether the recipe's network has batch normalization."""
    return bool(devices.batch_normalizations(networks.find(recipe.network).build(**recipe.network_options())))


def _summary(speeds: Sequence[float], whole: Sequence[float], ideal: Sequence[float]) -> dict[str, Any]:
    """Speeds beside those of one process with all cores, and the ideal ones, of the same rounds."""
    def ratio(others: Sequence[float]) -> float:
        return statistics.median(speed / other for speed, other in zip(speeds, others, strict=True))

    return {"images_per_second": statistics.median(speeds), "rounds": list(speeds), "of_one_process": ratio(whole),
            "of_the_ideal": ratio(ideal)}


def _report(result: Mapping[str, Any]) -> str:
    commit, *dirty = result["commit"].split("-")
    recipe, cores, own = result["recipe"], _cores(result["cores"]), _cores(result["cores_of_each_process"])
    lines = [
        "# How training speed grows with devices and processes", "",
        f"{result['machine']}; the network of the experiment {recipe['experiment']}, {recipe['batch_size']} images a "
        f"step whatever the number of devices, on the CPU; medians of {result['rounds']} rounds, in each of which all "
        "were measured in turn; "
        f"TensorFlow {result['versions']['tensorflow']}, commit {'-'.join([commit[:7], *dirty])}.", "",
        f"The logical devices of one process share its {cores}, so at best their speed stays the same. The processes, "
        f"which speak over the loopback interface, have {own} each, so at best it grows with their number.", "",
        f"| | images/s | lowest to highest | of one process with {cores} | of the ideal |", "|---|---:|---:|---:|---:|"]
    rows = ([(f"1 process, {cores}, {count} device{'s' * (count != '1')}", row)
             for count, row in result["devices"].items()]
            + [(f"{count} process{'es' * (count != '1')}, {own} each", row)
               for count, row in result["processes"].items()]
            + [(f"{count} processes, {own} each, batch normalization not synchronized", row)
               for count, row in result["processes_not_synchronized"].items()])
    for name, row in rows:
        lines.append(f"| {name} | {row['images_per_second']:,.0f} | {min(row['rounds']):,.0f} to "
                     f"{max(row['rounds']):,.0f} | {row['of_one_process']:.3f} | {row['of_the_ideal']:.3f} |")
    return "\n".join([*lines, "", "![Speed against the number of devices and of processes](scaling.png)", ""])


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count > 1)}"


def _draw(result: Mapping[str, Any], path: Path) -> None:
    """Devices on the left, processes on the right, each with the ideal line."""
    figure = Figure(figsize=(10, 4.5), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    whole = result["devices"]["1"]["images_per_second"]
    one = result["processes"]["1"]["images_per_second"]
    cores, own = _cores(result["cores"]), _cores(result["cores_of_each_process"])
    for axes, kind, ideal in ((left, "devices", lambda count: whole), (right, "processes", lambda count: count * one)):
        counts = [int(count) for count in result[kind]]
        axes.plot(counts, list(map(ideal, counts)), color="tab:gray", linestyle="--", label="ideal")
        _draw_speeds(axes, result[kind], "tab:blue", "measured (median, lowest to highest)")
        axes.set_xticks(counts)
        axes.margins(x=0.15)
        axes.grid(alpha=0.3)
    if result["processes_not_synchronized"]:
        _draw_speeds(right, result["processes_not_synchronized"], "tab:green", "batch normalization not synchronized")
    right.axhline(TARGET * whole, color="tab:red", linestyle=":", label=f"{TARGET} of one process with {cores}")
    left.set_title(f"logical devices of one process\nwhich share its {cores}", fontsize=10)
    right.set_title(f"processes on one machine\nwith {own} each", fontsize=10)
    left.set_xlabel("logical devices")
    right.set_xlabel("processes")
    left.set_ylabel(f"images a second ({result['recipe']['experiment']}, {result['recipe']['batch_size']} a step)")
    left.set_ylim(bottom=0)
    for axes in (left, right):
        axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path)


def _draw_speeds(axes: Axes, rows: Mapping[str, Mapping[str, Any]], colour: str, label: str) -> None:
    counts, speeds = [int(count) for count in rows], [row["images_per_second"] for row in rows.values()]
    spread = [[row["images_per_second"] - min(row["rounds"]) for row in rows.values()],
              [max(row["rounds"]) - row["images_per_second"] for row in rows.values()]]
    axes.errorbar(counts, speeds, spread, color=colour, marker="o", capsize=4, label=label)
    for count, speed in zip(counts, speeds):
        axes.annotate(f"{speed:,.0f}", (count, speed), (6, -14), textcoords="offset points", fontsize=8)
