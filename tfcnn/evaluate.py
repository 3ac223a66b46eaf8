"""Evaluates trained networks: accuracy with its interval, classes, calibration, and what they get wrong.

    python -m tfcnn.evaluate SOURCE [SOURCE ...] [--dataset=NAME --data_dir=FOLDER --split=test --tta=none --out=FOLDER]

A SOURCE is the folder of a complete run, of a recorded or converted network with weights, or the name of a network that
ships with the package (`python -m tfcnn.trained` lists them). Several are an ensemble: the mean of their probabilities,
beside each of them.

The output folder gets `evaluation.json`, `predictions.npz` (`logits` and `labels`, in the data set's order) and the
pictures `confusion.png`, `calibration.png` and `mistakes.png`.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfcnn import console, exit_status, files
from tfcnn.startup import import_tensorflow

_SPLITS = ("test", "validation", "train")
_VIEWS = ("none", "mirror", "shift", "ten_crop")


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.evaluate", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a trained network; several are an ensemble")
    parser.add_argument("--dataset", default="", help="data set; by default the one the network was trained on")
    parser.add_argument("--data_dir", default="", help="the data set's folder")
    parser.add_argument("--split", default="test", choices=_SPLITS, help="by default test")
    parser.add_argument("--tta", default="none", choices=_VIEWS,
                        help="views of each image whose probabilities are averaged; by default the image alone")
    parser.add_argument("--out", default="", metavar="FOLDER",
                        help="by default evaluation/ in the run's folder; for several sources, or another data set, "
                             "split or views, a new folder under runs/")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    import_tensorflow()
    from tfcnn import trained
    from tfcnn.trained import evaluation, pictures
    from tfcnn.trained.output import output_folder

    networks = [trained.load(source) for source in arguments.sources]
    result = evaluation.evaluate(networks, arguments.dataset, arguments.data_dir or None, arguments.split,
                                 arguments.tta)
    folder = output_folder(arguments.out, _own_folder(arguments, networks[0]), "evaluation")
    stream = io.BytesIO()
    import numpy as np
    np.savez_compressed(stream, logits=result.logits.astype(np.float32), labels=result.labels)
    for name, picture in pictures.draw(result).items():
        files.write(folder / name, picture)
    files.write(folder / "predictions.npz", stream.getvalue())
    files.write(folder / "evaluation.json", json.dumps(result.record, indent=2) + "\n")
    _print(result.record, folder)
    return 0


def _own_folder(arguments: argparse.Namespace, first: Any) -> Path | None:
    """The folder in the run's own, for the evaluation of one run on its own test set."""
    plain = (len(arguments.sources) == 1 and arguments.dataset in ("", first.recipe.dataset)
             and arguments.split == "test" and arguments.tta == "none")
    return first.folder / "evaluation" if plain and files.expanded(arguments.sources[0]).is_dir() else None


def _print(record: dict[str, Any], folder: Path) -> None:
    low, high = record["accuracy_interval"]
    print(f"{record['split']} accuracy: {record['accuracy']:.4f} ({low:.4f} to {high:.4f}, {record['images']:,} images "
          f"of {record['source']})\n"
          f"top-5 accuracy: {record['top5_accuracy']:.4f}\nloss: {record['loss']:.4f}")
    calibration = record["calibration"]
    after = (f"; {calibration['ece_after']:.4f} at temperature {calibration['temperature']:.2f}"
             if calibration["temperature"] else "")
    print(f"calibration error: {calibration['ece']:.4f}{after}")
    for member in record.get("members", []):
        low, high = member["interval"]
        print(f"{member['source']}: {member['accuracy']:.4f}; together {100 * member['difference']:+.2f} points "
              f"({100 * low:+.2f} to {100 * high:+.2f})")
    print(f"written: {folder}")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error.
    """
    return console.run(_parser(), _evaluate, words)


if __name__ == "__main__":
    exit_status.end_process(main)
