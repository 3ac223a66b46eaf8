"""The command line of the suite's tools, such as `python -m tfcnn.describe`: one-line errors and exit statuses.

Experiments have absl flags instead, see `cli.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tfcnn.recipe import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError for a bad argument instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def run(parser: argparse.ArgumentParser, command: Callable[[argparse.Namespace], int],
        words: Sequence[str] | None = None) -> int:
    """Parses the arguments and runs the command.

    Args:
      parser: the tool's parser, a `Parser`.
      command: takes the parsed arguments and returns the exit status.
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: the command's own, or 2 after a usage error, which is printed as one line on standard error.
    """
    try:
        return command(parser.parse_args(words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
