"""The networks whose weights ship with the package.

`weights/NAME/` holds a network as a recorded run does (recipe.json, result.json, normalization.npz), its weights in
weights.npz, and its card. Names are NETWORK-DATASET, such as `lenet5-mnist`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.runs import NORMALIZATION, RECIPE, RESULT

FOLDER = Path(__file__).parent / "weights"
WEIGHTS = "weights.npz"
CARD = "card.json"

# What the authors of the data sets say about their use.
LICENCES = {
    "mnist": "MNIST, by Yann LeCun, Corinna Cortes and Christopher Burges: CC BY-SA 3.0",
    "fashion_mnist": "Fashion-MNIST, by Zalando: MIT",
    "cifar10": "CIFAR-10, by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton: no licence; its authors ask to cite "
               "Krizhevsky 2009, \"Learning multiple layers of features from tiny images\"",
    "cifar100": "CIFAR-100, as CIFAR-10",
}


def names() -> tuple[str, ...]:
    """The names of the networks, sorted."""
    return tuple(sorted(card.parent.name for card in FOLDER.glob(f"*/{CARD}")))


def card(name: str) -> dict[str, Any]:
    """What is known of a network, at a glance.

    Returns:
      `name`; `network`, `dataset`, `seed` and `commit` of its run; `accuracy` of the weights as shipped, on the test
      set; `accuracy_interval`, 95%; `images`; `parameters`; `sha256` of weights.npz; `licence` of the data.
    """
    return json.loads((FOLDER / name / CARD).read_text(encoding="utf-8"))


def sha256(name: str) -> str:
    """The SHA-256 of a network's weights.npz."""
    return hashlib.sha256((FOLDER / name / WEIGHTS).read_bytes()).hexdigest()


def ship(run: Path, name: str, data_dir: str | None = None) -> dict[str, Any]:
    """Puts a complete run's network into the package, and evaluates it there.

    The weights are rounded to float16 if that leaves the accuracy on the test set as it is, and else kept in float32.
    The network computes in float32. After a run in a narrower precision its accuracy may differ by a few images from
    the run's own; the card has that of the weights as shipped.

    Args:
      run: the run's folder.
      name: NETWORK-DATASET.
      data_dir: folder of the data set that the network was trained on.

    Returns:
      Its card.

    Raises:
      UsageError: the name is malformed or taken, the run cannot be loaded, or its data set's licence is not known.
    """
    from tfcnn.trained import evaluation, network, weights

    if not re.fullmatch(r"[a-z0-9_]+-[a-z0-9_]+", name):
        raise UsageError(f"{name} must be NETWORK-DATASET, such as lenet5-mnist")
    folder = FOLDER / name
    if folder.exists():
        raise UsageError(f"{folder} exists already: remove it first")
    trained = network.load(run)
    if trained.recipe.dataset not in LICENCES:
        raise UsageError(f"{run} was trained on {trained.recipe.dataset}, whose licence is not in {__name__}.LICENCES")
    folder.mkdir(parents=True)
    try:
        for file in (RECIPE, NORMALIZATION, RESULT):
            shutil.copyfile(run / file, folder / file)

        def saved_in(dtype: str) -> dict[str, Any]:
            weights.save(trained.model, folder / WEIGHTS, dtype)
            return evaluation.evaluate([network.load(folder)], data_dir=data_dir).record

        exact, measured = saved_in("float32"), saved_in("float16")
        if measured["accuracy"] != exact["accuracy"]:
            measured = saved_in("float32")
        made = {
            "name": name, "network": trained.recipe.network, "dataset": trained.recipe.dataset,
            "seed": trained.recipe.seed, "commit": trained.result["commit"],
            "accuracy": measured["accuracy"], "accuracy_interval": measured["accuracy_interval"],
            "images": measured["images"], "parameters": trained.result["parameters"], "sha256": sha256(name),
            "licence": LICENCES[trained.recipe.dataset]}
        files.write(folder / CARD, json.dumps(made, indent=2) + "\n")
    except BaseException:
        shutil.rmtree(folder)
        raise
    return made
