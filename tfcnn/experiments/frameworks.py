"""How fast the networks train: TensorFlow eager, as a graph, many steps a call and by XLA; PyTorch eager and compiled.

Each network runs in each mode and precision in a worker process of its own. The processes take turns on one constant
batch, so that machine noise affects all of them equally. They are compared with the ceiling, the time of the network's
convolutions and matrix products alone. PyTorch takes part if it is installed: pip install -e '.[pytorch]'.
With --device=gpu all of them compute on the first GPU, where float32 means TensorFloat-32 for both frameworks.

Command: python -m tfcnn.experiments.frameworks
Target on two CPU cores, batch 128, for the suite's default mode (graph) relative to PyTorch's best: 1.25 in float32,
1.15 in bfloat16. Share of the ceiling in float32: 0.85 for VGG, ResNet-18, Inception and AlexNet, 0.7 for ResNet-20.
Expected time on two CPU cores with --seconds=1: 50 minutes in float32; in bfloat16, without the mode xla, 28 minutes on
a processor with bfloat16 instructions, over two hours on others. To resume, repeat the command with its --workdir.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import cli, experiments
from tfcnn.recipe import Option, UsageError, check

_KNOWN = experiments.recipes()
RECIPES = {name: _KNOWN[name] for name in ("lenet5", "alexnet", "vgg", "network_in_network", "inception", "mlp")} | {
    f"resnet{depth}": _KNOWN["resnet"].replace(depth=depth) for depth in (20, 18)} | {
    # PyTorch's worker has no Lookahead, and computes a batch at once.
    "airbench": _KNOWN["speedrun"].replace(lookahead=0, accumulate=1)}
TARGETS = {
    "over_pytorch": {"float32": dict.fromkeys(RECIPES, 1.25), "bfloat16": dict.fromkeys(RECIPES, 1.15)},
    "share_of_ceiling": {
        "float32": dict.fromkeys(("vgg", "resnet18", "inception", "alexnet"), 0.85) | {"resnet20": 0.7}}}
GPU_TARGETS = {"over_pytorch": dict.fromkeys(("float32", "bfloat16"), dict.fromkeys(RECIPES, 1.0) | dict.fromkeys(
    ("lenet5", "resnet20"), 1.5)), "share_of_ceiling": {}}
OPTIONS = {
    "networks": Option("", help=f"from {', '.join(RECIPES)}; separated by commas, by default all"),
    "modes": Option("", help="names of tfcnn/benchmarks/frameworks.py, separated by commas; by default all"),
    "precisions": Option("", help="float32, bfloat16; by default both"),
    "device": Option("cpu", choices=("cpu", "gpu"), help="where all modes compute"),
    "batch_size": Option(128, help="images in a batch"),
    "rounds": Option(5, help="how many turns each worker process has"),
    "seconds": Option(2.0, help="approximate length of a turn"),
    "limit": Option(600.0, help="seconds within which the first step, and each turn, must be done"),
}


def measure(values: Mapping[str, Any], workdir: Path) -> None:
    """Measures, and writes the table and the picture into the folder."""
    from tfcnn.benchmarks import frameworks

    for name, minimum in (("batch_size", 1), ("rounds", 1), ("seconds", 0), ("limit", 0)):
        check(name, values[name], type(values[name]), minimum=minimum)
    gpu = values["device"] == "gpu"
    known = {"networks": list(RECIPES), "modes": frameworks.modes_of(gpu), "precisions": list(frameworks.PRECISIONS)}
    chosen = {option: list(dict.fromkeys(values[option].split(",") if values[option] else known[option]))
              for option in known}
    for option, names in chosen.items():
        for name in names:
            if name not in known[option]:
                raise UsageError(f"--{option}={values[option]}: {name} is not one of {', '.join(known[option])}")
    changes = {"dataset": "sample", "augment": "none", "batch_size": values["batch_size"]}
    recipes = {name: RECIPES[name].replace(**changes) for name in chosen["networks"]}
    frameworks.measure(recipes, chosen["modes"], chosen["precisions"], values["rounds"], values["seconds"],
                       values["limit"], GPU_TARGETS if gpu else TARGETS, workdir, values["overwrite"], gpu)


if __name__ == "__main__":
    cli.measure("frameworks", OPTIONS, measure)
