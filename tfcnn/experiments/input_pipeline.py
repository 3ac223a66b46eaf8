"""How fast each augmentation is, compared with Keras's layers, and how much augmentation slows down training.

Every augmentation and preset is measured on one core and on all cores; training on one constant batch and on the
pipeline with the presets standard and strong. What stands in one column is measured in turn, and so are a network's
training on a constant batch and on the pipeline, so that machine noise affects these equally.

Command: python -m tfcnn.experiments.input_pipeline
Target: on one core crop and mirror 150,000 images/s, rotation, shear and zoom composed 40,000, elastic 15,000, colour
PCA 300,000, RandAugment 15,000. The preset standard costs at most 3% of training speed; strong costs ResNet-20 and
slower networks at most 15%.
Expected time: 45 minutes on two CPU cores, with nothing else running.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import cli, experiments
from tfcnn.recipe import Option, UsageError

OPTIONS = {
    "networks": Option("", help="experiments whose networks are trained, separated by commas; by default all"),
    "batch_size": Option(128, help="images in a batch"),
    "rounds": Option(5, help="how often everything is measured; training more often"),
    "seconds": Option(0.5, help="approximate duration of a measurement; in training at most four times as long"),
}


def measure(values: Mapping[str, Any], workdir: Path) -> None:
    """Measures, and writes the table and the picture into the folder."""
    from tfcnn.benchmarks import input_pipeline

    if values["rounds"] < 2:
        raise UsageError(f"--rounds={values['rounds']}: an uncertainty needs at least two rounds")
    known = experiments.recipes()
    names = values["networks"].split(",") if values["networks"] else list(known)
    for name in names:
        if name not in known:
            raise UsageError(f"--networks={values['networks']}: {name} is not one of {', '.join(known)}")
    chosen = {name: known[name].replace(dataset="sample", batch_size=values["batch_size"]) for name in names}
    input_pipeline.measure(chosen, ("standard", "strong"), values["rounds"], values["seconds"], workdir)


if __name__ == "__main__":
    cli.measure("input_pipeline", OPTIONS, measure)
