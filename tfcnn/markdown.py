"""Markdown: tables, and pages with a rendered part between two marker lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tfcnn import files
from tfcnn.recipe import UsageError


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A Markdown table, with `|` escaped in its cells.

    It is compact: `tabulate` would pad every cell of a column to the width of the longest.

    Args:
      head: the names of the columns.
      rows: the cells of each row.
      align: one letter for each column: `l` (left) or `r` (right, for numbers).

    Returns:
      The table's lines, each with its line end.
    """
    rule = ["---:" if letter == "r" else "---" for letter in align]
    lines = [head, rule, *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def between(page: Path, begin: str, end: str, content: str) -> str:
    """The text of a page with the part between two marker lines replaced.

    Args:
      page: the file as it is.
      begin: the line before the part.
      end: the line after it.
      content: the new part.

    Raises:
      UsageError: the page cannot be read, or lacks one of the lines.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise files.usage_error(f"cannot read {page}", error, page) from error
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise UsageError(f"{page} needs the lines '{begin}' and '{end}' around its rendered part")
    return f"{before}{begin}\n\n{content}\n{end}{after}"


def write_stale(stale: Mapping[Path, str], root: Path, check: bool, command: str) -> int:
    """Writes the pages that are stale, or only names them, and says so.

    Args:
      stale: the text that each of these pages should have.
      root: the folder that their names are relative to.
      check: write nothing.
      command: what renders them.

    Returns:
      The exit status: 1 if `check` finds a stale page, else 0.

    Raises:
      UsageError: a page cannot be written.
    """
    names = ", ".join(page.relative_to(root).as_posix() for page in stale)
    if check:
        if stale:
            print(f"stale: {names}; run: {command}", file=sys.stderr)
        return 1 if stale else 0
    for page, text in stale.items():
        page.parent.mkdir(exist_ok=True)
        files.write(page, text)
    print(f"rendered {names}" if stale else "nothing to render: all pages are up to date")
    return 0
