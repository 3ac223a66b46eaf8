"""Lists the commands of the suite: `python -m tfcnn`. Each is a module, and says more with `--help`."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path

from tfcnn import console, exit_status

_PACKAGE = Path(__file__).parent
_TOOLS = ("describe", "evaluate", "predict", "explain", "export", "convert", "trained", "runs", "claims", "report")


def text() -> str:
    """What the command prints: how each kind of command is started, and a line for each command."""
    kinds = [
        ("To train a network, or to measure the suite: python -m tfcnn.experiments.NAME", _modules("experiments")),
        ("To put a question to networks: python -m tfcnn.studies.NAME", _modules("studies")),
        ("To use a trained network, and what was recorded: python -m tfcnn.NAME", [_file(name) for name in _TOOLS])]
    return "\n".join(f"{head}\n{_table(paths)}" for head, paths in kinds)


def _modules(room: str) -> list[Path]:
    return sorted((_PACKAGE / room).glob("[a-z]*.py"))


def _file(tool: str) -> Path:
    """The file that says what a tool is for; of a room it is `__init__.py`."""
    room = _PACKAGE / tool
    return room / "__init__.py" if room.is_dir() else room.with_suffix(".py")


def _table(paths: list[Path]) -> str:
    """A line for each file: the command's name, and the first line of the docstring."""
    rows = [(path.parent.name if path.stem == "__init__" else path.stem,
             str(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))).partition("\n")[0]) for path in paths]
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name:{width}}  {purpose}\n" for name, purpose in rows)


def _print(arguments: argparse.Namespace) -> int:
    print(text(), end="")
    return exit_status.DONE


def main() -> int:
    """Runs the command. Returns the exit status: 0, or 2 if an argument is given."""
    return console.run(console.Parser(prog="python -m tfcnn", description=__doc__), _print)


if __name__ == "__main__":
    exit_status.end_process(main)
