"""How fast the networks train: TensorFlow eager, as a graph, many steps a call, by XLA; PyTorch eager and compiled.

Each network in each mode and precision is a process of its own; they take turns on one constant batch, so that a
machine's moods hit all alike. Beside them is the ceiling, the time of the network's convolutions and matrix products
alone. PyTorch takes part where it is installed: pip install 'tfcnn[pytorch]'.

Command: python -m tfcnn.experiments.frameworks
Target on two CPU cores, batch 128, the suite's default mode (graph) over PyTorch's best: in float32 1.15 for every
network, 1.25 for ResNet-18 and VGG, 1.4 for ResNet-20; in bfloat16 1.1. Share of the ceiling in float32: 0.85 for VGG,
ResNet-18, Inception and AlexNet, 0.7 for ResNet-20.
Expected time on two CPU cores, with --seconds=1: 50 minutes in float32; in bfloat16, without the mode xla, 26 on a
processor with instructions for it, over two hours on others. Repeated with its --workdir, an interrupted run goes on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import cli
from tfcnn.experiments import alexnet, inception, lenet5, mlp, network_in_network, resnet, vgg
from tfcnn.recipe import Option, UsageError, check

RECIPES = {
    "lenet5": lenet5.RECIPE, "alexnet": alexnet.RECIPE, "vgg": vgg.RECIPE,
    "network_in_network": network_in_network.RECIPE, "inception": inception.RECIPE,
    "resnet20": resnet.RECIPE.replace(depth=20), "resnet18": resnet.RECIPE.replace(depth=18), "mlp": mlp.RECIPE,
}
ASKED = {
    "over_pytorch": {
        "float32": dict.fromkeys(RECIPES, 1.15) | {"resnet18": 1.25, "vgg": 1.25, "resnet20": 1.4},
        "bfloat16": dict.fromkeys(RECIPES, 1.1)},
    "share_of_ceiling": {
        "float32": dict.fromkeys(("vgg", "resnet18", "inception", "alexnet"), 0.85) | {"resnet20": 0.7}},
}
OPTIONS = {
    "networks": Option("", help=f"of {', '.join(RECIPES)}; by default all"),
    "modes": Option("", help="of those in tfcnn/benchmarks/frameworks.py, separated by commas; by default all"),
    "precisions": Option("", help="of float32, bfloat16; by default both"),
    "batch_size": Option(128, help="images a batch"),
    "rounds": Option(5, help="how often each has its turn"),
    "seconds": Option(2.0, help="about how long a turn is"),
    "limit": Option(600.0, help="seconds in which the first step, and each turn, must be done"),
}


def measure(values: Mapping[str, Any], workdir: Path) -> None:
    """Measures, and writes table and picture into the folder."""
    from tfcnn.benchmarks import frameworks

    for name, minimum in (("batch_size", 1), ("rounds", 1), ("seconds", 0), ("limit", 0)):
        check(name, values[name], type(values[name]), minimum=minimum)
    known = {"networks": list(RECIPES), "modes": list(frameworks.MODES), "precisions": list(frameworks.PRECISIONS)}
    chosen = {option: list(dict.fromkeys(values[option].split(",") if values[option] else known[option]))
              for option in known}
    for option, names in chosen.items():
        for name in names:
            if name not in known[option]:
                raise UsageError(f"--{option}={values[option]}: {name} is none of {', '.join(known[option])}")
    recipes = {name: RECIPES[name].replace(dataset="sample", augment="none", batch_size=values["batch_size"])
               for name in chosen["networks"]}
    frameworks.measure(recipes, chosen["modes"], chosen["precisions"], values["rounds"], values["seconds"],
                       values["limit"], ASKED, workdir, values["overwrite"])


if __name__ == "__main__":
    cli.measure("frameworks", OPTIONS, measure)
