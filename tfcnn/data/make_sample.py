"""Makes the data set `sample`, which is shipped with tfcnn, from the official files of Fashion-MNIST.

    python -m tfcnn.data.make_sample --data_dir=FOLDER [--output=FOLDER]

The sample has the first 600 training and the first 100 test images of every class, in the order of the official files,
in four gzip-compressed IDX files with the official names. The same input always gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
from pathlib import Path

import numpy as np

from tfcnn import console, exit_status, files
from tfcnn.data import official
from tfcnn.recipe import UsageError


def make_sample(data_dir: Path, output: Path) -> None:
    """Writes the four files of the sample.

    Args:
      data_dir: folder of the official files of Fashion-MNIST.
      output: folder to write to; created if it is missing.

    Raises:
      UsageError: the official files are damaged or missing.
      OSError: a file cannot be read or written.
    """
    found = official.read_folder(official.KNOWN["fashion_mnist"], data_dir)
    if found is None:
        raise UsageError(f"{data_dir} has no official files of Fashion-MNIST: name their folder with --data_dir")
    _, contents = found
    sample = official.KNOWN["sample"]
    output.mkdir(parents=True, exist_ok=True)
    for names, split, images in ((sample.layouts[0].train, contents.train, sample.train_images),
                                 (sample.layouts[0].test, contents.test, sample.test_images)):
        chosen = _first_of_each_class(split.labels, images // sample.classes)
        for name, values in zip(names, (split.images[chosen, :, :, 0], split.labels[chosen])):
            _write_idx(output / f"{name}.gz", values)


def _first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """The indices, in order, of the first `count` images of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def _write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an array of bytes in the format of MNIST."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    # gzip would otherwise store the time and the path, and two copies would differ.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(header + values.astype(np.uint8).tobytes())


def main(arguments: list[str] | None = None) -> int:
    parser = console.Parser(prog="python -m tfcnn.data.make_sample",
                            description="Makes the data set `sample` from the files of Fashion-MNIST.")
    parser.add_argument("--data_dir", type=files.expanded, default=official.KNOWN["fashion_mnist"].system_folder,
                        help="folder of the official files of Fashion-MNIST (default: %(default)s)")
    parser.add_argument("--output", type=files.expanded, default=official.KNOWN["sample"].system_folder,
                        help="folder to write to (default: %(default)s)")
    return console.run(parser, _command, arguments)


def _command(options: argparse.Namespace) -> int:
    try:
        make_sample(options.data_dir, options.output)
    except OSError as error:
        raise files.usage_error(f"cannot write {options.output}", error, options.output) from error
    return 0


if __name__ == "__main__":
    exit_status.end_process(main)
