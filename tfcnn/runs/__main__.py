"""The command `python -m tfcnn.runs`.

    python -m tfcnn.runs show RUN_FOLDER ...     print the table of these runs
    python -m tfcnn.runs record RUN_FOLDER       copy a complete run's small files to experiments/
    python -m tfcnn.runs render [--check]        render the recorded runs into README.md and experiments/README.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tfcnn import console, exit_status, files
from tfcnn.runs.folder import RunFolder
from tfcnn.runs.record import record, repository_root
from tfcnn.runs.pages import stale_pages
from tfcnn.runs.tables import render_table


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.runs", description="Show runs, record them, and render their table.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    show = commands.add_parser("show", help="print the table of some runs")
    show.add_argument("folders", nargs="+", type=_run_folder, metavar="RUN_FOLDER")
    show.set_defaults(command=_show)

    recording = commands.add_parser("record", help="copy a complete run's small files to experiments/")
    recording.add_argument("folder", type=_run_folder, metavar="RUN_FOLDER")
    recording.add_argument("--name", default="", help="name of the recorded run; by default that of its folder")
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


def _record(arguments: argparse.Namespace) -> int:
    recorded = record(arguments.folder, repository_root(), arguments.name)
    print(f"recorded as {recorded.path}; to show it: python -m tfcnn.runs render")
    return 0


def _render(arguments: argparse.Namespace) -> int:
    root = repository_root()
    stale = stale_pages(root)
    names = ", ".join(page.relative_to(root).as_posix() for page in stale)
    if arguments.check:
        if stale:
            print(f"stale: {names}; run: python -m tfcnn.runs render", file=sys.stderr)
        return 1 if stale else 0
    for page, text in stale.items():
        page.parent.mkdir(exist_ok=True)
        files.write(page, text)
    print(f"rendered {names}" if stale else "nothing to render: all pages are up to date")
    return 0


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
