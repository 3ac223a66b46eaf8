"""What course notes work out by hand: a network's shapes, parameters, cost and receptive field, layer by layer.

    python -m tfcnn.describe NETWORK [--option=value ...] [--format=table|json|markdown] [--diagram=FILE.png]
    python -m tfcnn.describe NETWORK --help          the options of that network
    python -m tfcnn.describe --all [--format=...]    one row for each published variant of every network
    python -m tfcnn.describe --readme [--check]      write that table into docs/networks.md; or check it

*Multiply-accumulates* are counted for one image at inference: the products of weights and activations in convolutions
and dense layers. Biases, activations, normalizations, poolings, and products of two activations are not counted.

*The receptive field* is the part of the image, as rows x columns, that one position of a layer's output depends on. It
is the theoretical field: the smallest rectangle around all pixels that can have an influence. Where it reaches over the
edge of the image it includes padding, so it can be larger than the image. Its *stride* is the number of pixels between
the fields of neighbouring positions. After a flattening or a global pooling there are no positions: the field is then
everything that the layer sees of the image. A layer without a kernel that keeps height and width is assumed to work on
each position separately. `?` marks a field that cannot be determined: after a layer that enlarges its input, or where
branches with different strides meet.

*The receptive field of a network* is that of its last feature map, before flattening or global pooling. A network
without any window, such as a multilayer perceptron, sees the whole image at once. *Depth* is the number of layers with
multiply-accumulates, that is, convolutions and dense layers, on the longest path from the input to an output.

If you write a layer of your own: its attributes `kernel_size` or `pool_size`, `strides`, `padding` and `dilation_rate`,
with their meaning in Keras, define its window (`strides` alone: it sub-samples). A weight with four axes, or one whose
first two axes are the layer's `kernel_size`, is taken for the kernel of a convolution; one with two axes, as long as
the input and the output have channels, for that of a dense layer. If the layer has other weights, or uses these in
another way, give it a method `multiply_accumulates(input_shape, output_shape)` that returns the number for one image;
the shapes are as in Keras's `compute_output_shape`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from tfcnn import console, exit_status, files, networks
from tfcnn.description.analysis import describe
from tfcnn.description.rendering import (FORMATS, build_without_memory, check_drawing, draw, render, rendered_page,
                                         variants_table)
from tfcnn.networks.options import OPTIONS, Declaration, check_choice
from tfcnn.recipe import PRECISIONS, UsageError
from tfcnn.runs.record import repository_root
from tfcnn.startup import import_tensorflow

# The arguments that the `build` of every network has.
_COMMON_OPTIONS = {
    "classes": Declaration(None, help="number of logits", none="that of the variant"),
    "image_size": Declaration(0, help="height and width of the images, in pixels; 0: those of the variant"),
}


def _parser_for(words: Sequence[str]) -> console.Parser:
    """The parser of these arguments: the network decides which options there are."""
    return _parser(next((word for word in words if word in networks.names()), None))


def _parser(network: str | None) -> console.Parser:
    """The parser of the arguments that go with a network; of those that go without one for None."""
    parser = console.Parser(prog=f"python -m tfcnn.describe {network or ''}".rstrip(), allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--format", default="table", choices=FORMATS, help="how to print it; by default a table")
    if network:
        parser.add_argument("network", help=argparse.SUPPRESS)
        parser.add_argument("--diagram", default="", metavar="FILE.png",
                            help="draw the layers into this PNG file; needs pydot and Graphviz")
        parser.add_argument("--precision", default="float32", choices=PRECISIONS,
                            help="say in which precision a run with this --precision computes on this machine")
        options = parser.add_argument_group(f"options of {network}")
        for name, declared in (_COMMON_OPTIONS | dict(OPTIONS[network])).items():
            _add_option(options, name, declared)
        return parser
    parser.description = f"{(__doc__ or '').strip()}\n\nThe networks: {', '.join(networks.names())}."
    parser.add_argument("network", nargs="?", metavar="NETWORK", type=_known_network, help="the network to describe")
    parser.add_argument("--all", action="store_true", help="print one row for each variant of every network")
    parser.add_argument("--readme", action="store_true", help="write that table into docs/networks.md")
    parser.add_argument("--check", action="store_true",
                        help="with --readme: write nothing; exit with status 1 if the table is stale")
    return parser


def _add_option(group: Any, name: str, declared: Declaration) -> None:
    """Adds an option of a network; its value is absent if it is not given, so that `build` uses its own default."""
    text = declared.full_help
    if declared.choices:
        text = f"one of {', '.join(map(str, declared.choices))}. {text}"
    if declared.default is not None:
        text = f"{text} (default: {declared.default})"
    text = text.replace("%", "%%")
    if isinstance(declared.default, bool):
        group.add_argument(f"--{name}", nargs="?", const=True, type=_truth, default=argparse.SUPPRESS, help=text)
        group.add_argument(f"--no{name}", dest=name, action="store_const", const=False, default=argparse.SUPPRESS,
                           help=argparse.SUPPRESS)
    else:
        group.add_argument(f"--{name}", type=_type(name, declared), default=argparse.SUPPRESS, help=text)


def _type(name: str, declared: Declaration) -> Callable[[str], Any]:
    """The type of an option: that of its default or, if this is None, of its choices; numbers have none."""
    if declared.default is not None:
        return type(declared.default)
    if declared.choices:
        return type(declared.choices[0])
    return int if name == "classes" else float


def _truth(word: str) -> bool:
    values = {"true": True, "1": True, "false": False, "0": False}
    if word.lower() not in values:
        raise argparse.ArgumentTypeError(f"{word} must be true or false")
    return values[word.lower()]


def _known_network(word: str) -> str:
    check_choice("network", word, networks.names())
    return word


def _describe(arguments: argparse.Namespace) -> int:
    return _describe_all(arguments) if "all" in arguments else _describe_network(arguments)


def _describe_all(arguments: argparse.Namespace) -> int:
    """Does what the arguments without a network ask for."""
    if arguments.check and not arguments.readme:
        raise UsageError("--check goes with --readme")
    if arguments.readme:
        return _render_page(arguments.check)
    if not arguments.all:
        raise UsageError(f"name a network, one of {', '.join(networks.names())}, or give --all; --help says more")
    import_tensorflow()
    print(variants_table(arguments.format), end="")
    return 0


def _describe_network(arguments: argparse.Namespace) -> int:
    options = {name: value for name, value in vars(arguments).items()
               if name not in ("network", "format", "diagram", "precision")}
    diagram = files.expanded(arguments.diagram)
    if arguments.diagram:
        check_drawing(diagram)
    import_tensorflow()
    model = build_without_memory(arguments.network, options)
    print(render(describe(model), arguments.format), end="")
    if arguments.precision != "float32":
        from tfcnn.networks.layers.precision import computed_in

        computed = computed_in(arguments.precision)
        why = "" if computed == arguments.precision else f", since this machine is slower in {arguments.precision}"
        print(f"precision: {computed}{why}", file=sys.stderr)
    if arguments.diagram:
        draw(model, diagram)
        print(f"diagram: {diagram}", file=sys.stderr)
    return 0


def _render_page(check: bool) -> int:
    page = repository_root() / "docs" / "networks.md"
    import_tensorflow()
    text = rendered_page(page)
    stale = text != page.read_text(encoding="utf-8")
    if check:
        if stale:
            print(f"stale: {page.name}; run: python -m tfcnn.describe --readme", file=sys.stderr)
        return int(stale)
    if stale:
        files.write(page, text)
    print(f"rendered {page.name}" if stale else "nothing to render: the table is up to date")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command `python -m tfcnn.describe`.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 1 the table in docs/networks.md is stale, 2 a usage error.
    """
    return console.run(_parser_for, _describe, words)


if __name__ == "__main__":
    exit_status.end_process(main)
