"""How training speed scales with devices and with processes, compared with ideal scaling.

The settings take turns, so that noise affects all of them equally. 1, 2 and 4 logical devices of one process share all
cores: ideally they lose nothing. 1 and 2 processes have the same number of cores each: ideally the speed is
proportional to their number. The global batch is always the same. Batch normalization is synchronized; as this is most
of what processes communicate, several processes are also measured without it.

Command: python -m tfcnn.experiments.scaling
Target: two processes with one core each train ResNet-20 at 0.9 of the speed of one process with two cores.
Expected time: 7 minutes on two CPU cores, with nothing else running.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import cli, experiments, processor
from tfcnn.recipe import Option, UsageError, check

OPTIONS = {
    "network": Option("resnet", help="the experiment whose network is trained"),
    "batch_size": Option(128, help="images in a step, over all devices or processes"),
    "devices": Option("1,2,4", help="numbers of logical devices in one process, separated by commas"),
    "processes": Option("1,2", help="numbers of processes, with an equal number of cores each, separated by commas"),
    "rounds": Option(5, help="how often everything is measured"),
    "seconds": Option(3.0, help="approximate duration of each measurement"),
}


def counts(values: Mapping[str, Any], name: str) -> list[int]:
    """The numbers that a flag lists, and 1, in ascending order.

    Raises:
      UsageError: the flag is not a list of whole numbers, or one of them does not divide the batch.
    """
    text, batch_size = values[name], values["batch_size"]
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and int(word) for word in words):
        raise UsageError(f"--{name}={text} must be whole numbers from 1, separated by commas, such as 1,2")
    for word in words:
        if batch_size % int(word):
            raise UsageError(f"--batch_size={batch_size} is not divisible by the {word} of --{name}={text}")
    return sorted({1, *map(int, words)})


def measure(values: Mapping[str, Any], workdir: Path) -> None:
    """Measures, and writes the table and the picture into the folder."""
    from tfcnn.benchmarks import scaling, worker_process

    for name in ("batch_size", "rounds", "seconds"):
        check(name, values[name], type(OPTIONS[name].value), minimum=0 if name == "seconds" else 1)
    known = experiments.recipes()
    if values["network"] not in known:
        raise UsageError(f"--network={values['network']} is not one of {', '.join(known)}")
    processes, cores = counts(values, "processes"), len(processor.available_cores())
    if max(processes) > cores:
        raise UsageError(f"--processes={values['processes']}: there are only {cores} cores, and each process needs one")
    recipe = known[values["network"]].replace(dataset="sample", batch_size=values["batch_size"])
    try:
        scaling.measure(recipe, counts(values, "devices"), processes, values["rounds"], values["seconds"], workdir)
    except worker_process.WorkerFailed as error:
        raise UsageError(f"a process could not train: {error}") from error


if __name__ == "__main__":
    cli.measure("scaling", OPTIONS, measure)
