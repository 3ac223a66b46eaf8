"""Exports a trained network to a file that runs without this package, and checks it on the whole test set.

    python -m tfcnn.export SOURCE --format=saved_model|onnx|litert|keras [--quantize=none|float16|int8] [--out=FILE]

What is exported takes uint8 images [batch, height, width, channels] of the network's input size, and gives
probabilities [batch, classes] as its first output: normalization is inside, and so are the names of the classes
(saved_model: the signature `class_names`; onnx: the metadata `class_names`; litert and keras: `labels.txt`, which
`unzip` shows) and how a picture is fitted to the input size (the signature or the metadata `fit`, or `fit.json`).

onnx and litert compute in float32. A network that was trained in bfloat16 is rebuilt in float32 for them, with the same
weights, and the file is compared with that.

The whole test set then goes through the file, in ONNX Runtime, LiteRT's interpreter or TensorFlow, without this
package. If a probability of a float export differs by more than 1e-4, or a quantized one loses more accuracy than
--largest_loss, the export is refused and nothing is written.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tfcnn import console, exit_status, files
from tfcnn.recipe import UsageError
from tfcnn.startup import import_tensorflow
from tfcnn.trained.exporting import packages

_FORMATS = {"saved_model": "", "onnx": ".onnx", "litert": ".tflite", "keras": ".keras"}
_REPRESENTATIVE = 500  # training images at most, from which int8 takes the ranges of activations


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.export", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="a trained network")
    parser.add_argument("--format", required=True, choices=_FORMATS)
    parser.add_argument("--quantize", default="none", choices=("none", "float16", "int8"),
                        help="float16: weights (litert); int8: weights and activations (litert, onnx)")
    parser.add_argument("--out", default="", metavar="FILE",
                        help="the file, or for saved_model the folder; by default next to the network's own file, or, "
                             "for a network that ships, in the current folder")
    parser.add_argument("--data_dir", default="", help="folder of the data set that the network was trained on")
    parser.add_argument("--largest_loss", type=float, default=0.01,
                        help="how much accuracy a quantized export may lose; by default 0.01, one point")
    return parser


def _export(arguments: argparse.Namespace) -> int:
    packages.check(arguments.format)
    import_tensorflow()
    from tfcnn import trained
    from tfcnn.trained import data
    from tfcnn.trained.exporting import check

    network = trained.load(arguments.source)
    suffix, name = _FORMATS[arguments.format], default_name(arguments.format, arguments.quantize)
    run = files.expanded(arguments.source).is_dir()
    path = files.expanded(arguments.out) if arguments.out else (
        (network.folder if run else Path()) / f"{'' if run else network.name + '-'}{name}")
    if suffix and path.suffix != suffix:
        raise UsageError(f"--out={arguments.out} must end in {suffix}")
    loaded = data.load(network, data_dir=arguments.data_dir or None)
    representative = loaded.train.at(spaced(len(loaded.train)))
    with tempfile.TemporaryDirectory(prefix="tfcnn-") as folder:
        images, labels = loaded.test.stored(Path(folder, "images"))
        checked = check.export(network, arguments.format, path, images, labels, arguments.quantize, representative,
                               arguments.largest_loss)
    print(f"{checked.path}: {checked.bytes / 2**20:.2f} MiB\n"
          f"test accuracy ({checked.images:,} images): {checked.before:.4f} before, {checked.after:.4f} after; largest "
          f"difference of a probability: {checked.largest_difference:.2g}\n"
          f"latency: {1000 * checked.latency_1:.2f} ms for 1 image, {1000 * checked.latency_128:.1f} ms for 128")
    return 0


def spaced(count: int) -> range:
    """The numbers of at most 500 of `count` images, evenly spaced to the end: class folders are sorted by class."""
    return range(0, count, math.ceil(count / _REPRESENTATIVE))


def default_name(kind: str, quantize: str) -> str:
    """What an export of a run is called in the run's folder: see `runs.EXPORTED`."""
    return f"{kind}{'' if quantize == 'none' else '-' + quantize}{_FORMATS[kind]}"


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error, or an export that was refused.
    """
    return console.run(_parser(), _export, words)


if __name__ == "__main__":
    exit_status.end_process(main)
