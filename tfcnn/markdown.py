"""Markdown: tables, and pages with a rendered part between two marker lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
