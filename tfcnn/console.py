"""The command line of the suite's tools, such as `python -m tfcnn.describe`: one-line errors and exit statuses.

Experiments have absl flags instead, see `cli.py`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tfcnn import arguments, files
from tfcnn.recipe import UsageError


class Parser(argparse.ArgumentParser):
    """A parser that raises UsageError for a bad argument instead of ending the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def run(parser: Parser | Callable[[Sequence[str]], Parser], command: Callable[[argparse.Namespace], int],
        words: Sequence[str] | None = None) -> int:
    """Parses the arguments and runs the command.

    As for the experiments, `--flagfile=FILE` stands for the arguments that the file holds, one in each line.

    Args:
      parser: the tool's parser, or a function that chooses it by the arguments.
      command: takes the parsed arguments and returns the exit status.
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: the command's own, or 2 after a usage error, which is printed as one line on standard error.
    """
    try:
        words = arguments.expanded(sys.argv[1:] if words is None else words)
        chosen = parser if isinstance(parser, Parser) else parser(words)
        return command(chosen.parse_args(words))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        refused = files.refusal(error)
        if not refused:
            raise
        print(f"error: {refused}", file=sys.stderr)
        return 2
