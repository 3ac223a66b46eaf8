"""How training speed scales with the devices of a process and with processes, compared with ideal scaling."""

from __future__ import annotations

import json
import socket
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tfcnn import networks, processor
from tfcnn.benchmarks import rates, report, scaling_report
from tfcnn.benchmarks.worker_process import WorkerProcess
from tfcnn.recipe import Recipe
from tfcnn.runs import record
from tfcnn.training import devices
from tfcnn.training.machines import TF_CONFIG

_LIMIT = 300.0  # seconds within which a worker process must answer


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """Splits the cores into `count` equal shares; cores left over are in none."""
    size = len(cores) // count
    return [list(cores[index * size:(index + 1) * size]) for index in range(count)]


@contextmanager
def training_together(recipe: Recipe, shares: Sequence[Sequence[int]], devices: int = 1) -> Iterator[rates.Work]:
    """Within the context there are worker processes that train one network together, whenever they are told to.

    They have already trained for one step, so that everything is compiled.

    Args:
      recipe: what they train.
      shares: the cores of each process. They are set before TensorFlow starts, so that its thread pools fit them.
      devices: the number of logical devices of each process; must be 1 if there are several processes.

    Yields:
      a function that trains for a number of steps in all processes at the same time and returns when all are done.

    Raises:
      WorkerFailed: a process has ended, at the start or within the context.
    """
    addresses = _free_addresses(len(shares))
    with ExitStack() as stack:
        processes = []
        for index, cores in enumerate(shares):
            cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            # Not paused, because a worker that sends no heartbeats counts as lost.
            processes.append(stack.enter_context(WorkerProcess(
                "tfcnn.benchmarks.tensorflow_worker:pipeline_trainer",
                {"recipe": recipe.to_dict(), "devices": devices}, _LIMIT, cores, {TF_CONFIG: json.dumps(cluster)},
                paused=False)))
        # Wait here: starting the next group now would slow these down and could make them miss heartbeats.
        for process in processes:
            process.answer()

        def train(steps: int) -> None:
            for process in processes:
                process.start(steps)
            for process in processes:
                process.answer()

        yield train


def _free_addresses(count: int) -> list[str]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def measure(recipe: Recipe, device_counts: Sequence[int], process_counts: Sequence[int], rounds: int, seconds: float,
            workdir: Path) -> None:
    """Measures everything and writes `result.json`, `README.md` and `scaling.png` into the folder.

    Args:
      recipe: what is trained. Its batch is the global one, over all devices or processes.
      device_counts: numbers of logical devices of one process with all cores; must include 1.
      process_counts: numbers of processes; must include 1. Each process has an equal share of the cores, the same for
        all numbers. A network with batch normalization is measured twice on several processes: with its statistics
        synchronized and without.
      rounds: how often each setting is measured.
      seconds: the approximate duration of each measurement.
      workdir: the folder of the result, created if necessary.
    """
    cores = processor.available_cores()
    each = shares(cores, max(process_counts))
    with ExitStack() as stack:
        def training(*setting: Any) -> tuple[rates.Start, int]:
            work = stack.enter_context(training_together(*setting))
            return lambda: work, recipe.batch_size

        several = [count for count in process_counts if count > 1] if _normalizes(recipe) else []
        not_synchronized = recipe.replace(synchronize=False)
        found = rates.compare(
            {f"{count} devices": training(recipe, [cores], count) for count in device_counts}
            | {f"{count} processes": training(recipe, each[:count]) for count in process_counts}
            | {f"{count} not synchronized": training(not_synchronized, each[:count]) for count in several},
            rounds, seconds)
    whole, one = found["1 devices"], found["1 processes"]

    def of_processes(counts: Sequence[int], kind: str) -> dict[str, Any]:
        return {str(count): _summary(found[f"{count} {kind}"], whole, [count * speed for speed in one])
                for count in counts}

    result = {
        "experiment": "scaling", "machine": processor.description(), "recipe": recipe.to_dict(), "rounds": rounds,
        "cores": len(cores), "cores_of_each_process": len(each[0]),
        "devices": {str(count): _summary(found[f"{count} devices"], whole, whole) for count in device_counts},
        "processes": of_processes(process_counts, "processes"),
        "processes_not_synchronized": of_processes(several, "not synchronized"), **record.environment()}
    page = scaling_report.text(result)
    report.write(workdir, result, page, "scaling.png", lambda: scaling_report.picture(result))
    print(page)


def _normalizes(recipe: Recipe) -> bool:
    """Whether the recipe's network has batch normalization."""
    return bool(devices.batch_normalizations(networks.find(recipe.network).build(**recipe.network_options())))


def _summary(speeds: Sequence[float], whole: Sequence[float], ideal: Sequence[float]) -> dict[str, Any]:
    """Speeds, with their ratios to one process with all cores and to the ideal in the same rounds."""
    def ratio(others: Sequence[float]) -> float:
        return statistics.median(speed / other for speed, other in zip(speeds, others, strict=True))

    return {"images_per_second": statistics.median(speeds), "rounds": list(speeds), "of_one_process": ratio(whole),
            "of_the_ideal": ratio(ideal)}
