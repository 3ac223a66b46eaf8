"""Explains a trained network: what it has learnt, and what it looks at in pictures.

    python -m tfcnn.explain SOURCE [PICTURE ...] [--layer=NAME --class=NAME --out=FOLDER --data_dir=FOLDER]

SOURCE is the folder of a run, or the name of a network that ships with the package (`python -m tfcnn.trained` lists
them). Without a PICTURE some images of the test set are explained, one of each class.

The output folder gets `explanation.json` and pictures: the filters of the first layer, the feature maps of each stage,
what matters in each picture (gradient, SmoothGrad, Grad-CAM, occlusion), the test images that activate a unit most, and
images that maximize a class. Each shows beside it what the same method gives for the same network with weights drawn
anew, as before training, and how similar the two are (Adebayo et al. 2018): the rank correlation is 1 for a method that
ignores what was learnt, such as the edge detector that stands among them as a control.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcnn import console, exit_status, files
from tfcnn.recipe import UsageError
from tfcnn.runs.folder import EXPLANATION
from tfcnn.startup import import_tensorflow

_TEST_IMAGES = 8
_RECORD = "explanation.json"
# Pictures that not every explanation has.
_SOMETIMES = ("feature_maps_*.png", "filters.png", "grad_cam.png", "units.png")


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.explain", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="a trained network")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="JPEG or PNG files; by default test images")
    parser.add_argument("--layer", default="", help="layer of feature maps, Grad-CAM and units; by default every stage "
                                                    "for the feature maps, and the last one with 4x4 positions or more "
                                                    "for the others")
    parser.add_argument("--class", default="", dest="chosen_class", metavar="CLASS",
                        help="name or number of the class that is explained; by default the one that is predicted")
    parser.add_argument("--out", default="", metavar="FOLDER",
                        help="by default explanation/ in the run's folder; for a recorded run, or a network that "
                             "ships, a new folder under runs/")
    parser.add_argument("--data_dir", default="", help="folder of the data set that the network was trained on")
    return parser


def _explain(arguments: argparse.Namespace) -> int:
    import_tensorflow()
    from tfcnn import trained
    from tfcnn.trained.explaining import explanation, layers
    from tfcnn.trained.output import output_folder

    network = trained.load(arguments.source)
    if arguments.layer:
        layers.find(network.model, arguments.layer)
    if arguments.chosen_class:
        explanation.find_class(network.class_names, arguments.chosen_class)
    own = [_read(network, file) for file in arguments.pictures]
    with tempfile.TemporaryDirectory(prefix="tfcnn-") as temporary:
        test, test_labels, reason = _test_part(network, arguments.data_dir, Path(temporary, "images"), needed=not own)
        labels: list[Any] = [None] * len(own)
        if own:
            names, images = arguments.pictures, _joined(own)
        else:
            shown = _one_of_each_class(test_labels)
            names = [f"test image {number}" for number in shown]
            images, labels = test[shown], [int(label) for label in test_labels[shown]]
        chosen = explanation.choose(network, images, names, labels, arguments.chosen_class)
        beside = network.folder / EXPLANATION if network.is_run or network.is_converted else None
        folder = output_folder(arguments.out, beside, EXPLANATION)
        found = explanation.explain(network, chosen, test, arguments.layer)
        if reason:
            found.left_out["units"] = reason
        record = _write(network, found, folder)
    _print(record, folder)
    return 0


def _write(network: Any, found: Any, folder: Path) -> dict[str, Any]:
    """Writes pictures and explanation.json; returns what the latter holds."""
    from tfcnn.trained.explaining import pictures, report

    record = report.record(network, found)
    drawn = pictures.draw(found, network.class_names, network.folder.resolve().name)
    for name, picture in drawn.items():
        files.write(folder / name, picture)
    if (folder / _RECORD).exists():  # what an earlier explanation has left, perhaps of other pictures
        for old in (path for pattern in _SOMETIMES for path in folder.glob(pattern) if path.name not in drawn):
            old.unlink()
    files.write(folder / _RECORD, json.dumps(record, indent=2) + "\n")
    return record


def _read(network: Any, file: str) -> Any:
    """A picture of the network's input size, [1, height, width, channels]."""
    try:
        return network.fit(network.read(files.expanded(file))[None])
    except OSError as error:
        raise files.usage_error(f"cannot read {file}", error, Path(file)) from error


def _joined(images: Sequence[Any]) -> Any:
    import numpy as np

    return np.concatenate(images)


def _test_part(network: Any, data_dir: str, file: Path, needed: bool) -> tuple[Any, Any, str]:
    """The test images that the network was trained for, fitted, and labels; or None and the reason why there are none.

    Args:
      network: the network.
      data_dir: the data set's folder.
      file: a temporary file for the images.
      needed: whether there is nothing else to explain.

    Raises:
      UsageError: they are unavailable, and either needed or asked for.
    """
    from tfcnn.trained import data

    try:
        return *data.load(network, data_dir=data_dir or None).test.stored(file), ""
    except UsageError as error:
        if needed or data_dir:
            raise
        return None, None, f"the test images are not there: {error}"


def _one_of_each_class(labels: Any) -> list[int]:
    """The first image of each class in the order of the classes, and if there are few classes, the next ones."""
    import numpy as np

    order = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rounds = (found[number] for number in range(max(map(len, order))) for found in order if number < len(found))
    return [int(index) for index, _ in zip(rounds, range(_TEST_IMAGES))]


def _print(record: dict[str, Any], folder: Path) -> None:
    print("rank correlation of each explanation with that of the same network with weights drawn anew:")
    for entry in record["explanations"]:
        layer = f", {entry['settings']['layer']}" if "layer" in entry["settings"] else ""
        value = entry["rank_correlation"]
        print(f"{'undefined' if value is None else format(value, '9.2f')}  {entry['title']}{layer}")
    for name, reason in record["left_out"].items():
        print(f"left out: {name}: {reason}")
    print(f"written: {folder}")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error.
    """
    return console.run(_parser(), _explain, words)


if __name__ == "__main__":
    exit_status.end_process(main)
