"""Writes one page that shows everything: results, claims with their intervals, studies, networks.

    python -m tfcnn.report [--out=report.html]

The page needs no network and no other file: its figures are inside.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import claims, console, exit_status, files, studies, verdict
from tfcnn.description import rendering
from tfcnn.runs.published import render_published
from tfcnn.runs.record import environment, recorded_runs, repository_root
from tfcnn.study import FIGURE
from tfcnn.verdict import Claim

_TEMPLATE = "report.html"


@dataclasses.dataclass(frozen=True)
class Interval:
    """A claim's interval as it is drawn: positions from 0, the left end, to 1.

    Attributes:
      low: where the interval begins.
      high: where it ends.
      measured: the mean.
      bounds: the smallest difference that counts; of a claim of no effect in both directions.
      none: where there is no difference.
    """

    low: float
    high: float
    measured: float
    bounds: tuple[float, ...]
    none: float


def interval(claim: Claim, found: Mapping[str, Any]) -> Interval | None:
    """How a claim's interval is drawn; None if there is none yet."""
    if not found["interval"]:
        return None
    import math

    transform = math.log if claim.ratio else float
    low, high = map(transform, found["interval"])
    measured, smallest = transform(found["measured"]), transform(claim.smallest)
    bounds = (smallest,) if claim.effect else (-smallest, smallest)
    left, right = min(low, 0.0, *bounds), max(high, 0.0, *bounds)
    margin = 0.05 * (right - left)

    def position(value: float) -> float:
        return (value - left + margin) / (right - left + 2 * margin)

    return Interval(position(low), position(high), position(measured), tuple(map(position, bounds)), position(0.0))


def page(root: Path) -> str:
    """The page, as HTML.

    Args:
      root: the repository, whose recorded runs and studies are shown.

    Raises:
      UsageError: a recorded run or study is damaged.
    """
    import jinja2

    records = claims.recorded(root)
    known = studies.studies()
    ledger = [{"study": one.name, "claim": claim, "found": found, "measured": claims.measured(claim, found),
               "verdict": found["verdict"], "needs": claims.verdict_cell(found), "drawn": interval(claim, found)}
              for one, claim, found in claims.ledger(records)]
    judged = [entry["verdict"] for entry in ledger if entry["study"] in records]
    counts = {name: judged.count(name) for name in (verdict.REPRODUCED, verdict.NOT_REPRODUCED, verdict.UNRESOLVED)}
    counts |= {"not yet run": len(ledger) - len(judged)} if len(judged) < len(ledger) else {}
    shown = [_study(root / "experiments" / "studies" / name, known[name].question, record)
             for name, record in records.items()]
    templates = jinja2.Environment(loader=jinja2.PackageLoader("tfcnn", "templates"), autoescape=True,
                                   undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return templates.get_template(_TEMPLATE).render(
        results=_html(render_published(recorded_runs(root), relative_to=root)), ledger=ledger, counts=counts,
        studies=shown, waiting=[one for one in known.values() if one.name not in records],
        networks=_html(_networks(root)), commit=environment()["commit"][:10])


def _networks(root: Path) -> str:
    """The table of all variants, as Markdown: building the networks would take a minute."""
    _, _, rest = (root / "docs" / "networks.md").read_text(encoding="utf-8").partition(rendering.BEGIN)
    return rest.partition(rendering.END)[0]


def _study(folder: Path, question: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the page shows of a recorded study: its question, figure, text and how it was run."""
    text = (folder / claims.PAGE).read_text(encoding="utf-8")
    before, _, rest = text.partition(claims.BEGIN)
    _, _, after = rest.partition(claims.END)
    title, _, before = before.partition("\n")
    figure = base64.b64encode((folder / FIGURE).read_bytes()).decode()
    return {"name": record["name"], "question": question, "scale": record["scale"], "source": record["source"],
            "figure": f"data:image/png;base64,{figure}", "text": _html(f"{before}\n{after}")}


def _html(text: str) -> Any:
    """Markdown as HTML. Links to files of the repository keep their text only: the page stands alone."""
    import re

    import markdown
    import markupsafe

    alone = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]+\)", r"\1", text)
    return markupsafe.Markup(markdown.markdown(alone, extensions=["tables", "fenced_code"]))


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.report", description=__doc__, allow_abbrev=False,
                            formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="report.html", metavar="FILE", help="by default report.html")
    return parser


def _write(arguments: argparse.Namespace) -> int:
    out = files.expanded(arguments.out)
    files.write(out, page(repository_root()))
    print(f"written: {out}")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
      words: the arguments after the program's name; by default those of the process.

    Returns:
      The exit status: 0 done, 2 a usage error.
    """
    return console.run(_parser(), _write, words)


if __name__ == "__main__":
    exit_status.end_process(main)
