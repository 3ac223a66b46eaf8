"""Makes the data set `sample`, which ships with tfcnn, from the official files of Fashion-MNIST.

    python -m tfcnn.data.make_sample --data_dir=FOLDER [--output=FOLDER]

The sample has the first 600 training and the first 100 test images of every class, in the order of the official files,
as four gzip-compressed IDX files of the official names. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from tfcnn.data import datasets
from tfcnn.recipe import UsageError


def make_sample(data_dir: Path, output: Path) -> None:
    """Writes the four files of the sample.

    Args:
      data_dir: folder of the official files of Fashion-MNIST.
      output: folder to write to; made if it is missing.

    Raises:
      UsageError: the official files are damaged or missing.
    """
    found = datasets.read_official(datasets.KNOWN["fashion_mnist"], data_dir)
    if found is None:
        raise UsageError(f"{data_dir} has no official files of Fashion-MNIST: name their folder with --data_dir")
    _, _, train, test = found
    sample = datasets.KNOWN["sample"]
    output.mkdir(parents=True, exist_ok=True)
    for names, split, images in ((sample.layouts[0].train, train, sample.train_images),
                                 (sample.layouts[0].test, test, sample.test_images)):
        chosen = _first_of_each_class(split.labels, images // sample.classes)
        for name, values in zip(names, (split.images[chosen, :, :, 0], split.labels[chosen])):
            _write_idx(output / f"{name}.gz", values)


def _first_of_each_class(labels: np.ndarray, count: int) -> np.ndarray:
    """The indices, in order, of the first `count` images of each class."""
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:count] for label in np.unique(labels)]))


def _write_idx(path: Path, values: np.ndarray) -> None:
    """Writes an array of bytes in the format of MNIST."""
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    # Neither the time nor the path, which gzip would store otherwise, may make two copies differ.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(header + values.astype(np.uint8).tobytes())


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes the data set `sample` from the files of Fashion-MNIST.")
    parser.add_argument("--data_dir", type=Path, default=datasets.KNOWN["fashion_mnist"].system_folder,
                        help="folder of the official files of Fashion-MNIST (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=datasets.KNOWN["sample"].system_folder,
                        help="folder to write to (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        make_sample(options.data_dir, options.output)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
