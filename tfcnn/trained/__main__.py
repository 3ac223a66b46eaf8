"""The command `python -m tfcnn.trained`.

    python -m tfcnn.trained                        list the networks whose weights ship with the package
    python -m tfcnn.trained ship RUN NAME          put a complete run's network into the package (for maintainers)
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfcnn import console, exit_status, markdown
from tfcnn.startup import import_tensorflow
from tfcnn.trained import shipped


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.trained",
                            description="List the networks whose weights ship with the package.")
    parser.set_defaults(command=_list)
    commands = parser.add_subparsers(metavar="COMMAND")
    shipping = commands.add_parser("ship", help="put a complete run's network into the package (for maintainers)")
    shipping.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    shipping.add_argument("name", metavar="NAME", help="NETWORK-DATASET, such as lenet5-mnist")
    shipping.add_argument("--data_dir", default="", help="folder of the data set that it was trained on")
    shipping.set_defaults(command=_ship)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    rows = [[card["name"], f"{card['parameters']:,}", f"{card['accuracy']:.2%}",
             f"{card['accuracy_interval'][0]:.2%} to {card['accuracy_interval'][1]:.2%}", str(card["seed"]),
             card["commit"][:7], card["licence"]]
            for card in map(shipped.card, shipped.names())]
    head = ["name", "parameters", "test accuracy", "95% interval", "seed", "commit", "data"]
    print(markdown.table(head, rows, "lrrrrll"), end="")
    return 0


def _ship(arguments: argparse.Namespace) -> int:
    import_tensorflow()
    made = shipped.ship(arguments.run, arguments.name, arguments.data_dir or None)
    print(f"{made['name']}: {made['accuracy']:.4f} on the test set with the weights as shipped")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error.
    """
    return console.run(_parser(), lambda arguments: arguments.command(arguments), words)


if __name__ == "__main__":
    exit_status.end_process(main)
