"""Shows pictures to a trained network, which says what it sees.

    python -m tfcnn.predict SOURCE PICTURE_OR_FOLDER ... [--top=5] [--format=table|csv|json]

SOURCE is the folder of a run, or the name of a network that ships with the package (`python -m tfcnn.trained` lists
them). A folder stands for all JPEG and PNG files in it and in its folders. Pictures may have any size: they are resized
to cover the size of the training images, and cropped around the centre.

A picture that cannot be read is reported on standard error; the others are still answered, and the exit status is 2.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfcnn import console, exit_status, files
from tfcnn.recipe import UsageError
from tfcnn.startup import import_tensorflow

_SUFFIXES = (".jpg", ".jpeg", ".png")
_FORMATS = ("table", "csv", "json")

# A class and its probability.
Prediction = tuple[str, float]


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.predict", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="a trained network")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE_OR_FOLDER", help="JPEG or PNG files, or folders")
    parser.add_argument("--top", type=int, default=5, help="how many classes to print; by default 5")
    parser.add_argument("--format", default="table", choices=_FORMATS,
                        help="by default a table; json: one line a picture")
    return parser


def _predict(arguments: argparse.Namespace) -> int:
    if arguments.top < 1:
        raise UsageError(f"--top={arguments.top} must be at least 1")
    pictures = list(_files(arguments.pictures))
    import_tensorflow()
    from tfcnn import trained

    network = trained.load(arguments.source)
    if arguments.format == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerow(["file", "rank", "class", "probability"])
    status = 0
    for file in pictures:
        try:
            image = network.read(file)
        except (UsageError, OSError) as error:
            if isinstance(error, OSError):
                error = files.usage_error(f"cannot read {file}", error, Path(file))
            print(f"error: {error}", file=sys.stderr)
            status = 2
            continue
        probabilities = network.predict(image[None], batch_size=1)[0]
        best = (-probabilities).argsort(kind="stable")[:arguments.top]
        _print(file, [(network.class_names[index], float(probabilities[index])) for index in best], arguments.format)
    return status


def _files(names: Sequence[str]) -> Iterator[str]:
    """The files that the arguments stand for.

    Raises:
      UsageError: a folder holds no picture.
    """
    for name in names:
        path = files.expanded(name)
        if not path.is_dir():
            yield str(path)
            continue
        found = sorted(str(file) for file in path.rglob("*")
                       if file.suffix.lower() in _SUFFIXES and file.is_file() and not file.name.startswith("."))
        if not found:
            raise UsageError(f"{name} has no JPEG or PNG files")
        yield from found


def _print(file: str, predictions: Sequence[Prediction], layout: str) -> None:
    if layout == "json":
        print(json.dumps({"file": file, "predictions": [
            {"class": name, "probability": probability} for name, probability in predictions]}), flush=True)
    elif layout == "csv":
        csv.writer(sys.stdout, lineterminator="\n").writerows(
            (file, rank, name, f"{probability:.6f}") for rank, (name, probability) in enumerate(predictions, 1))
    else:
        print(f"{file}: " + ", ".join(f"{name} {probability:.1%}" for name, probability in predictions), flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error, or a picture that could not be read.
    """
    return console.run(_parser(), _predict, words)


if __name__ == "__main__":
    exit_status.end_process(main)
