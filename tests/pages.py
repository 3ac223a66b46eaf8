"""The pages of the repository: their headings, links, commands and code blocks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT

MANUAL = ["README.md", "BUILD_NOTES.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
ALL = MANUAL + sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "experiments").rglob("README.md"))


def text(page: str) -> str:
    """The text of a page, named by its path in the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The contents of the fenced code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def prose(page: str) -> str:
    """A page without its fenced code blocks."""
    return re.sub(r"^```.*?^```", "", text(page), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: str) -> list[str]:
    """What stands between single backquotes outside code blocks; a span may be broken over two lines."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


def links(page: str) -> list[str]:
    """The targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def headings(page: str) -> list[tuple[int, str]]:
    """The level and the text of each heading."""
    return [(len(marks), title) for marks, title in re.findall(r"^(#+) (.*)$", prose(page), re.MULTILINE)]


def anchor(title: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-")


def anchors(page: str) -> list[str]:
    """The anchors of a page's headings, in their order."""
    return [anchor(title) for _, title in headings(page)]


def commands(page: str) -> Iterator[list[str]]:
    """The words of each command in the page's shell blocks, and of each Python command in its prose."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                if words := shlex.split(command, comments=True):
                    yield words
    for span in code_spans(page):
        if re.match(r"(\.venv/bin/)?(python|pip) ", span):
            yield shlex.split(span)


def python_files(*folders: str) -> list[Path]:
    """All Python files in some folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))
