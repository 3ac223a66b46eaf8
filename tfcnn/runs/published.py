"""The README's first table: each network's published test error beside the one of the runs recorded here.

`ROWS` is the data: a row for each network and data set, with the published errors, and the recorded runs that it is
compared with.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import augmentations, markdown
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.tables import Run, augmentation, group_by_seed, mean_and_deviation, run_links, span


@dataclasses.dataclass(frozen=True)
class Published:
    """A published test error.

    Attributes:
      error: in percent; a range as text, such as `6.0 to 7.4`.
      source: the paper, with its section or table, or the repository.
      epochs: how many it took; None if the source does not say.
    """

    error: float | str
    source: str
    epochs: int | None = None


@dataclasses.dataclass(frozen=True)
class Row:
    """A network on a data set: what was published, and which recorded runs belong beside it.

    Attributes:
      network: its name, for people.
      data: the data set's name, for people.
      published: the published errors; empty if there are none.
      experiment: the experiment of the runs.
      dataset: the data set of the runs, as `--dataset` names it.
      options: the values that the network's options may have; an option that is not named may have any.
      augmented: whether the runs' training images are augmented; None if either will do.
      source: how the description of the data set's source begins, for class folders.
    """

    network: str
    data: str
    published: tuple[Published, ...]
    experiment: str
    dataset: str
    options: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    augmented: bool | None = None
    source: str = ""

    def has(self, result: Mapping[str, Any]) -> bool:
        """Whether a run belongs in this row, by the contents of its result.json."""
        recipe, dataset = result["recipe"], result["dataset"]
        return (not any(recipe.get(setting) for setting in _ANOTHER_TASK)
                and result["experiment"] == self.experiment
                and dataset["name"] == self.dataset
                and dataset["source"].startswith(self.source)
                and all(recipe["options"].get(option) in values for option, values in self.options.items())
                and self.augmented in (None, _is_augmented(recipe)))


# Settings with which a run does not learn its network's usual task, on all images, from random weights.
_ANOTHER_TASK = ("initial_weights", "classes", "random_labels", "train_images")
# What the error is called that is measured with other views of each test image than the run's own test.
VIEWS = {"none": "one view", "mirror": "with mirror images", "shift": "nine shifts", "six": "six views",
         "ten_crop": "ten crops"}
_BOTTLENECKS = {"variant": ("bottleneck", "bottleneck_short")}
_LIN_2015 = "Lin, Memisevic, Konda 2015, after unsupervised pre-training"


def _resnet(depth: int, shortcuts: tuple[str, ...] = ("paper", "A")) -> dict[str, tuple[Any, ...]]:
    """The options of the residual networks for CIFAR-10, by default those of He et al. 2016, section 4.2."""
    return {"depth": (depth,), "stem": ("3x3",), "shortcut": shortcuts, "normalization": ("batch",)}


ROWS = (
    Row("LeNet-5 of 1998", "MNIST", (Published(0.95, "LeCun et al. 1998, section III.B", 20),),
        "lenet5", "mnist", {"variant": ("original",)}, augmented=False),
    Row("LeNet-5 of 1998, distorted images (here elastic, too)", "MNIST", (Published(0.8, "LeCun et al. 1998"),),
        "lenet5", "mnist", {"variant": ("original",)}, augmented=True),
    Row("MLP 256-128-100", "Fashion-MNIST", (Published(11.67, "benchmark table of the data set"),),
        "mlp", "fashion_mnist", {"variant": ("fashion",)}),
    Row("MLP with bottlenecks", "CIFAR-10", (Published(30.4, _LIN_2015),),
        "mlp", "cifar10", _BOTTLENECKS, augmented=False),
    Row("MLP with bottlenecks, deformed images", "CIFAR-10", (Published(21.4, _LIN_2015),),
        "mlp", "cifar10", _BOTTLENECKS, augmented=True),
    Row("AlexNet for CIFAR, response normalization", "CIFAR-10", (
        Published(14, "TensorFlow's tutorial", 256),
        Published(11, "Krizhevsky et al. 2012, section 3.3, several crops a test image")),
        "alexnet", "cifar10", {"variant": ("cifar",), "normalization": ("local_response",)}, augmented=True),
    Row("AlexNet for CIFAR", "Fashion-MNIST", (
        Published(10.1, "benchmark table of the data set, AlexNet with triplet loss"),),
        "alexnet", "fashion_mnist", {"variant": ("cifar",)}),
    Row("Network in Network, here with batch normalization", "CIFAR-10", (Published(8.81, "Lin et al. 2014, table 1"),),
        "network_in_network", "cifar10", {"normalization": ("batch",)}, augmented=True),
    Row("VGG-16, batch normalization", "CIFAR-10", (Published("6.0 to 7.4", "kuangliu, geifmany, huyvnphan"),),
        "vgg", "cifar10", {"variant": ("cifar16",), "normalization": ("paper", "batch")}, augmented=True),
    Row("ResNet-20", "CIFAR-10", (Published(8.75, "He et al. 2016, table 6", 182),),
        "resnet", "cifar10", _resnet(20), augmented=True),
    Row("ResNet-56", "CIFAR-10", (Published(6.97, "He et al. 2016, table 6", 182),),
        "resnet", "cifar10", _resnet(56), augmented=True),
    Row("ResNet-18, 3x3 stem", "CIFAR-10", (Published("4.3 to 7.0", "kuangliu, README and issue 149"),),
        "resnet", "cifar10", _resnet(18, shortcuts=("paper", "A", "B", "C")), augmented=True),
    Row("Inception for CIFAR", "CIFAR-10", (Published(7.15, "huyvnphan", 100),),
        "inception", "cifar10", {"variant": ("cifar",)}, augmented=True),
    Row("ResNet-20", "CIFAR-100", (Published("about 31", "third-party implementations"),),
        "resnet", "cifar100", _resnet(20), augmented=True),
    Row("AlexNet of 2012, ten crops", "Imagenette (part)", (),
        "alexnet", "folder", {"variant": ("paper",)}, source="Imagenette (part)"),
)


def render_published(folders: Iterable[RunFolder], relative_to: Path, rows: Sequence[Row] = ROWS) -> str:
    """A Markdown table of published test errors, and beside them those of recorded runs, for the README.

    Each network leads to its experiment, whose docstring has the command and the time that it takes. Runs that differ
    only in their seed share a line. A row of several recipes has a line for each of them.

    Args:
      folders: the recorded runs.
      relative_to: the folder that the links to the runs are relative to.
      rows: the rows, in their order.

    Raises:
      UsageError: a run is not complete, or its result is damaged.
    """
    head = ("Network", "Data", "Published error, %", "Error here, %", "Epochs there", "Epochs here", "Trained on",
            "Hours", "Run")
    groups = group_by_seed(map(Run.read, folders))
    lines = []
    for row in rows:
        found = [group for group in groups if row.has(group[0].result)]
        lines += [_line(row, group, relative_to) for group in found or [[]]]
    return markdown.table(head, lines, align="lllrrrrrl")


def _line(row: Row, group: Sequence[Run], relative_to: Path) -> tuple[str, ...]:
    """The cells of a line: a row, and one group of runs that differ in their seed, or none."""
    published = "; ".join(f"{entry.error} ({entry.source})" for entry in row.published) or "none"
    epochs = ", ".join(str(entry.epochs) for entry in row.published if entry.epochs is not None) or "–"
    start = (f"[{row.network}](tfcnn/experiments/{row.experiment}.py)", row.data, published)
    if not group:
        return *start, "not yet run", epochs, "", "", "", ""
    error = _mean_error([run.result["test"]["accuracy"] for run in group])
    hours = statistics.median(run.result["train_seconds"] for run in group) / 3600
    return (
        *start,
        f"**{error}** (n = {len(group)}){_other_views(group)}",
        epochs,
        span([run.result["epochs"] for run in group]),
        f"{group[0].result['dataset']['train_images']:,} images",
        f"{hours:.1f}" if hours >= 1 else f"{hours:.2f}",
        run_links(group, relative_to),
    )


def _mean_error(accuracies: Sequence[float]) -> str:
    return mean_and_deviation([100 * (1 - accuracy) for accuracy in accuracies])


def _other_views(group: Sequence[Run]) -> str:
    """The error with other views of each test image than in the runs' own test, if all runs were evaluated so."""
    found = [run.evaluation for run in group if run.evaluation and run.evaluation["tta"] != "none"]
    if len(found) < len(group) or len({evaluation["tta"] for evaluation in found}) > 1:
        return ""
    views = found[0]["tta"]
    if group[0].result["recipe"].get("test_crops", 1) > 1 and views == "ten_crop":
        views, accuracies = "none", [evaluation["members"][0]["accuracy"] for evaluation in found]
    else:
        accuracies = [evaluation["accuracy"] for evaluation in found]
    return f"; {VIEWS[views]} **{_mean_error(accuracies)}**"


def _is_augmented(recipe: Mapping[str, Any]) -> bool:
    """Whether a recipe has any operation on its training images."""
    left_out = () if recipe.get("mirror", True) else augmentations.MIRRORS
    return any(operation.name not in left_out for operation in augmentations.parse(augmentation(recipe["augment"])))
