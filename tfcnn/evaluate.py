"""Evaluates trained networks: accuracy with its interval, classes, calibration, and what they get wrong.

    python -m tfcnn.evaluate SOURCE [SOURCE ...] [--dataset=NAME --data_dir=FOLDER --split=test --tta=none --out=FOLDER]

A SOURCE is the folder of a complete run, of a recorded or converted network with weights, or the name of a network that
ships with the package (`python -m tfcnn.trained` lists them). Several are an ensemble: the mean of their probabilities,
beside each of them.

The output folder gets `evaluation.json`, `predictions.npz` (`logits` and `labels`, in the data set's order) and the
pictures `confusion.png`, `calibration.png` and `mistakes.png`. In the run's own folder, TensorBoard shows the pictures
as well.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import console, exit_status, files
from tfcnn.runs.folder import EVALUATED, EVALUATION, VALIDATION_EVENTS
from tfcnn.runs.published import VIEWS
from tfcnn.startup import import_tensorflow

# After the trainer's own files in alphabetical order, in which TensorBoard reads them.
_EVENTS = "events.out.tfevents.evaluation"
_SPLITS = ("test", "validation", "train")


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.evaluate", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="a trained network; several are an ensemble")
    parser.add_argument("--dataset", default="", help="data set; by default the one the network was trained on")
    parser.add_argument("--data_dir", default="", help="the data set's folder")
    parser.add_argument("--split", default="test", choices=_SPLITS, help="by default test")
    parser.add_argument("--tta", default="", choices=tuple(VIEWS),
                        help="views of each image whose probabilities are averaged; none: the image alone; by default "
                             "as in the network's own test, which is ten_crop after --test_crops=10")
    parser.add_argument("--out", default="", metavar="FOLDER",
                        help="by default evaluation/ in the run's folder; for several sources, another data set, split "
                             "or views, a recorded run, or a network that ships, a new folder under runs/")
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    import_tensorflow()
    from tfcnn import trained
    from tfcnn.trained import evaluation, pictures
    from tfcnn.trained.output import output_folder

    networks = [trained.load(source) for source in arguments.sources]
    result = evaluation.evaluate(networks, arguments.dataset, arguments.data_dir or None, arguments.split,
                                 arguments.tta)
    own = _own_folder(arguments, networks[0], result.record)
    folder = output_folder(arguments.out, own, EVALUATION)
    stream = io.BytesIO()
    import numpy as np
    np.savez_compressed(stream, logits=result.logits.astype(np.float32), labels=result.labels)
    files.write(folder / "predictions.npz", stream.getvalue())
    files.write(folder / EVALUATED, _as_text(result.record))
    _print(result.record, folder)
    drawn = pictures.draw(result)
    for name, picture in drawn.items():
        files.write(folder / name, picture)
    if own and not arguments.out and (networks[0].folder / VALIDATION_EVENTS).is_dir():
        _show_in_tensorboard(networks[0], drawn)
    return 0


def _as_text(record: Mapping[str, Any]) -> str:
    """The record as JSON, each list of numbers in one line: the rows of a confusion matrix, for example."""
    text = json.dumps(record, indent=2) + "\n"
    return re.sub(r"\[\n[-+.\deE,\s]*\]", lambda numbers: " ".join(numbers[0].split()), text)


def _own_folder(arguments: argparse.Namespace, first: Any, record: Mapping[str, Any]) -> Path | None:
    """The folder in the run's own, for the evaluation of one run on its own test set, as in its test.

    None for a network that ships, and for a recorded run, which stays as it is.
    """
    from tfcnn.runs.record import is_of_own_test_set
    from tfcnn.trained.evaluation import own_views

    plain = (len(arguments.sources) == 1 and is_of_own_test_set(record, first.result)
             and record["tta"] == own_views(first))
    return first.folder / EVALUATION if plain and (first.is_run or first.is_converted) else None


def _show_in_tensorboard(network: Any, drawn: Mapping[str, bytes]) -> None:
    """Adds the pictures to the run's event files, in place of those of an earlier evaluation.

    A TensorBoard that is open reads on in a later file only, so the name says when it was written.
    """
    from PIL import Image

    from tfcnn import event_files

    folder = network.folder / VALIDATION_EVENTS
    before = sorted(folder.glob(f"{_EVENTS}.*"))
    events = [event_files.version()]
    for name, png in drawn.items():
        with Image.open(io.BytesIO(png)) as picture:
            summary = event_files.picture(f"{EVALUATION}/{Path(name).stem}", png, *picture.size)
        events.append(event_files.event(network.result["epochs"] - 1, summary))
    files.write(folder / f"{_EVENTS}.{time.time_ns():020}", event_files.to_bytes(events))
    for old in before:
        old.unlink(missing_ok=True)


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
