"""Converts published PyTorch weights to a trained network of the suite.

    python -m tfcnn.convert FILE --network=resnet --depth=20 --out=FOLDER
        [--mean=0.485,0.456,0.406 --std=0.229,0.224,0.225 --classes=NAME,... --dataset=cifar10 --image_size=N]

FILE holds a state dict, bare or under the key `state_dict`, in either of torch.save's formats. Its tensors have the
names and shapes of:

    --network=resnet --depth=20|32|44|56|110   the networks for CIFAR-10, as commonly published
    --network=resnet --depth=18|34             torchvision's, or with the 3x3 stem kuangliu's
    --network=vgg --variant=A|B|D|E            torchvision's VGG-11, 13, 16 and 19, with batch normalization or without
    --network=vgg --variant=cifar...           chengyangfu's and kuangliu's networks for CIFAR-10

Weights of another network are refused, and the differences named. FOLDER is then a SOURCE of `python -m tfcnn.evaluate`
and the other commands. What a file of weights does not say must be given: the normalization of the images, and the
names of the classes. Without --classes they are numbered, and evaluation gives them the names of its data set.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from tfcnn import console, exit_status, files
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import UsageError
from tfcnn.startup import import_tensorflow

# The option that tells a network's published forms apart.
_CHOICES = {"resnet": "depth", "vgg": "variant"}


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.convert", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, metavar="FILE", help="the weights, of any file name")
    parser.add_argument("--network", required=True, choices=_CHOICES)
    parser.add_argument("--depth", type=int, choices=OPTIONS["resnet"]["depth"].choices, help="of a ResNet")
    parser.add_argument("--variant", choices=OPTIONS["vgg"]["variant"].choices, help="of a VGG")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the converted network's folder")
    parser.add_argument("--mean", type=_numbers, default=(), metavar="R,G,B",
                        help="mean of the pixels, in [0, 1], that is subtracted; by default nothing is")
    parser.add_argument("--std", type=_numbers, default=(), metavar="R,G,B",
                        help="deviation of the pixels that they are divided by")
    parser.add_argument("--classes", type=_names, default=(), metavar="NAME,...",
                        help="names of the classes, in the order of the logits")
    parser.add_argument("--dataset", default="",
                        help="data set that the network was trained on, which evaluation then uses")
    parser.add_argument("--image_size", type=int, default=0, metavar="PIXELS",
                        help="height and width of the network's input; by default those that it was designed for")
    parser.add_argument("--zeros", default="both", choices=("both", "after"),
                        help="where a ResNet for CIFAR-10 adds its channels of zeros, which its weights do not tell: "
                             "half before the given channels and half after them, as is common, or all after them")
    return parser


def _numbers(text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(word) for word in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3 or not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
        raise argparse.ArgumentTypeError(f"{text} must be three numbers in [0, 1], as pixels are, such as "
                                         "0.485,0.456,0.406")
    return values


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError("the names must not be empty or repeated")
    return names


def _check(arguments: argparse.Namespace) -> None:
    """Raises UsageError for arguments that do not go together."""
    chosen = _CHOICES[arguments.network]
    for option in _CHOICES.values():
        if (getattr(arguments, option) is not None) != (option == chosen):
            raise UsageError(f"--network={arguments.network} needs --{chosen}, and nothing else of "
                             f"{', '.join(f'--{name}' for name in _CHOICES.values())}")
    if bool(arguments.mean) != bool(arguments.std):
        raise UsageError("--mean and --std go together: give both or neither")
    if arguments.std and not min(arguments.std):
        raise UsageError("--std must not be 0")


def _convert(arguments: argparse.Namespace) -> int:
    _check(arguments)
    from tfcnn.trained.converting import pytorch_file

    file, folder = files.expanded(arguments.file), files.expanded(arguments.out)
    tensors = pytorch_file.read(file)
    import_tensorflow()
    from tfcnn.trained.converting import conversion

    converted = conversion.convert(tensors, arguments.network, getattr(arguments, _CHOICES[arguments.network]),
                                   arguments.image_size, arguments.zeros)
    conversion.write(converted, folder, file, conversion.normalization(arguments.mean, arguments.std),
                     arguments.classes, arguments.dataset)
    model = converted.model
    print(f"written: {folder}: {arguments.network} with "
          f"{', '.join(f'{name}={value}' for name, value in converted.options.items())}, {model.input_shape[1]}x"
          f"{model.input_shape[2]} pixels, {model.output_shape[-1]:,} classes")
    if not arguments.mean:
        print("no --mean and --std: the network is given pixels in [0, 1] as they are")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error, or weights that were refused.
    """
    return console.run(_parser(), _convert, words)


if __name__ == "__main__":
    exit_status.end_process(main)
