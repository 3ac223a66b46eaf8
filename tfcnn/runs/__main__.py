"""The command `python -m tfcnn.runs`.

    python -m tfcnn.runs show RUN_FOLDER ...     print the table of these runs
    python -m tfcnn.runs compare RUN_FOLDER ...  draw these runs' curves over each other, and print how they differ
    python -m tfcnn.runs record RUN_FOLDER       copy a complete run's small files to experiments/
    python -m tfcnn.runs render [--check]        render the recorded runs into README.md and experiments/README.md
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tfcnn import console, exit_status, files, markdown
from tfcnn.runs import compare
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.record import record, repository_root
from tfcnn.runs.pages import stale_pages
from tfcnn.runs.tables import render_table
from tfcnn.startup import import_tensorflow


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.runs", description="Show runs, record them, and render their table.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="print the table of some runs")
    show.add_argument("folders", nargs="+", type=_run_folder, metavar="RUN_FOLDER")
    show.set_defaults(command=_show)

    comparing = commands.add_parser("compare", help="draw the curves of some runs over each other, and print the "
                                                    "settings in which they differ and what they reached")
    comparing.add_argument("folders", nargs="+", type=_run_folder, metavar="RUN_FOLDER",
                           help="runs that differ only in their seed are shown as mean and band")
    comparing.add_argument("--out", type=Path, default=Path("compare.png"), metavar="FILE",
                           help="the picture; by default compare.png")
    comparing.set_defaults(command=_compare)

    recording = commands.add_parser("record", help="copy a complete run's small files to experiments/")
    recording.add_argument("folder", type=_run_folder, metavar="RUN_FOLDER")
    recording.add_argument("--name", default="", help="name of the recorded run; by default that of its folder")
    recording.add_argument("--weights", action="store_true",
                           help="add the weights, in float16: the recorded run is then a trained network, as for "
                                "python -m tfcnn.evaluate")
    recording.set_defaults(command=_record)

    rendering = commands.add_parser("render", help="render the recorded runs' table into README.md and experiments/")
    rendering.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a page is stale")
    rendering.set_defaults(command=_render)
    return parser


def _run_folder(word: str) -> RunFolder:
    return RunFolder(files.expanded(word))


def _show(arguments: argparse.Namespace) -> int:
    print(render_table(arguments.folders), end="")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    groups = compare.groups_of(arguments.folders)
    compare.draw(groups, files.expanded(arguments.out))
    print(compare.render(groups), end="")
    print(f"written: {arguments.out}")
    return 0


def _record(arguments: argparse.Namespace) -> int:
    weights = _weights(arguments.folder) if arguments.weights else None
    recorded = record(arguments.folder, repository_root(), arguments.name, weights)
    print(f"recorded as {recorded.path}; to show it: python -m tfcnn.runs render")
    return 0


def _weights(folder: RunFolder) -> dict[str, bytes]:
    """The file with the weights of a run's network, by its name.

    Raises:
      UsageError: the run's network cannot be loaded.
    """
    import_tensorflow()
    from tfcnn import trained
    from tfcnn.trained import weights

    return {weights.WEIGHTS: weights.to_bytes(trained.load(folder.path).model)}


def _render(arguments: argparse.Namespace) -> int:
    root = repository_root()
    return markdown.write_stale(stale_pages(root), root, arguments.check, "python -m tfcnn.runs render")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 1 a page is stale, 2 a usage error.
    """
    return console.run(_parser(), lambda arguments: arguments.command(arguments), words)


if __name__ == "__main__":
    exit_status.end_process(main)
