"""The ledger of claims: what textbooks and papers say, and the verdict of the recorded runs.

    python -m tfcnn.claims                    print the ledger
    python -m tfcnn.claims record FOLDER ...  copy a study's result to experiments/studies/
    python -m tfcnn.claims render [--check]   render the ledger into README.md, and each recorded study's page

Each verdict is computed anew from the recorded runs, by the rule in `verdict.py`.
"""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfcnn import console, exit_status, files, markdown, studies, study, verdict
from tfcnn.recipe import UsageError
from tfcnn.runs.record import repository_root
from tfcnn.study import FIGURE, RECORD, ROWS, Study
from tfcnn.verdict import Claim

BEGIN = "<!-- claims: begin, made by: python -m tfcnn.claims render -->"
END = "<!-- claims: end -->"
PAGE = "README.md"


def recorded(root: Path) -> dict[str, dict[str, Any]]:
    """The contents of study.json of each recorded study, by the study's name.

    Raises:
      UsageError: a file cannot be read, or is of no study of the suite.
    """
    records = {path.parent.name: _read(path) for path in sorted(root.glob(f"experiments/studies/*/{RECORD}"))}
    for name in records:
        if name not in studies.studies():
            raise UsageError(f"experiments/studies/{name} is of no study of the suite: rename or remove it")
    return records


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise files.usage_error(f"cannot read {path}", error, path) from error
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}: bring back a copy") from error


def ledger(records: Mapping[str, Mapping[str, Any]]) -> list[tuple[Study, Claim, dict[str, Any]]]:
    """Every claim of every study, with what the recorded runs say: an entry as in study.json."""
    return [(one, claim, judged(claim, records.get(one.name))) for one in studies.studies().values()
            for claim in one.claims]


def judged(claim: Claim, record: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the runs of a recorded study say of a claim; nothing if the study is not recorded."""
    return study.judged(claim, record["arms"] if record else [], record["scale"] if record else "")


def render(records: Mapping[str, Mapping[str, Any]], link: str = "") -> str:
    """The ledger as a Markdown table, a line for each claim of a recorded study, and how many others there are.

    Args:
      records: the recorded studies.
      link: what the links to the studies' pages begin with.
    """
    claims = ledger(records)
    rows = [[f"[{claim.statement}]({link}{one.name}/{PAGE})",
             f"{claim.published} ({claim.source})" if claim.published != "none" else f"– ({claim.source})",
             measured(claim, found),
             _epochs(arm for arm in records[one.name]["arms"] if arm["label"] in claim.contrast),
             str(found["n"] or ""), verdict_cell(found)] for one, claim, found in claims if one.name in records]
    titles = ["Claim", "Published", "Here, 95% interval", "Epochs", "n", "Verdict"]
    table = markdown.table(titles, rows, "lllrrl") if rows else ""
    waiting = len(claims) - len(rows)
    note = f"{waiting} of {len(claims)} claims are not yet run; `python -m tfcnn.claims` prints them, too.\n"
    return "\n".join(filter(None, (table, note if waiting else "")))


def measured(claim: Claim, found: Mapping[str, Any]) -> str:
    """The measured difference or factor, with its interval and the smallest one that counts."""
    if found["measured"] is None:
        return "no value" if found["scale"] else "not yet run"
    number, sign = (lambda value: f"{value:.2f}"), "×" if claim.ratio else ""
    interval = f" ({number(found['interval'][0])} to {number(found['interval'][1])})" if found["interval"] else ""
    bound = f"within {sign}{claim.smallest:g}" if not claim.effect else f"threshold {sign}{claim.smallest:g}"
    return f"{sign}{number(found['measured'])}{interval}; {bound}" + ("; sample" if found["scale"] == "sample" else "")


def verdict_cell(found: Mapping[str, Any]) -> str:
    """The verdict; of an unresolved claim with what it would need."""
    if found["verdict"] != verdict.UNRESOLVED:
        return f"**{found['verdict']}**"
    if found["scale"] == "full":
        needed = f"about {found['needed']} seeds" if found["needed"] else "over 1,000 seeds" if found["n"] > 1 else (
            "more seeds")
        return "UNRESOLVED, no value" if found["measured"] is None else f"UNRESOLVED, needs {needed}"
    return "UNRESOLVED, needs the full scale"


def stale_pages(root: Path) -> dict[Path, str]:
    """The pages, and each study.json for its words and verdicts, that are not up to date, with their right text.

    Raises:
      UsageError: a page lacks `BEGIN` or `END`, or a recorded study is damaged or has no page.
    """
    records = recorded(root)
    pages = {root / "README.md": render(records, "experiments/studies/")}
    known, judgements = studies.studies(), {}
    for name, record in records.items():
        folder = root / "experiments" / "studies" / name
        pages[folder / PAGE] = render_study(known[name], record)
        claims = [judged(claim, record) for claim in known[name].claims]
        words = {"question": known[name].question, "source": known[name].source, "claims": claims}
        judgements[folder / RECORD] = study.as_text({**record, **words})
    texts = {page: markdown.between(page, BEGIN, END, text) for page, text in pages.items()} | judgements
    return {page: text for page, text in texts.items() if page.read_text(encoding="utf-8") != text}


def render_study(one: Study, record: Mapping[str, Any]) -> str:
    """The rendered part of a study's page: its figure, what each arm reached, and its claims."""
    arms = [arm for arm in record["arms"] if arm["runs"]]
    names = list(record["measures"])
    rows = [[arm["label"], f"{arm['recipe']['learning_rate']:g}", str(len(arm["runs"])),
             *(_spread([run[name] for run in arm["runs"]]) for name in names)] for arm in arms]
    epochs = _epochs(arms)
    length = epochs + (" epoch" if epochs == "1" else " epochs")
    command = f"python -m tfcnn.studies.{one.name} --scale={record['scale']}"
    claims = [[f"`{claim.name}`", claim.statement, claim.published, measured(claim, found), str(found["n"]),
               verdict_cell(found)] for claim, found in ((claim, judged(claim, record)) for claim in one.claims)]
    parts = [f"![{one.question}]({FIGURE})",
             f"`{command}`: {_data(arms)}, {length} a run; the mean ± standard deviation over n seeds.",
             markdown.table(["Arm", "Learning rate", "n", *(record["measures"][name] for name in names)], rows,
                            "lrr" + "r" * len(names)).rstrip(),
             markdown.table(["Name", "Claim", "Published", "Here, 95% interval", "n", "Verdict"], claims,
                            "llllrl").rstrip()]
    return "\n\n".join(parts) + "\n"


def _epochs(arms: Iterable[Mapping[str, Any]]) -> str:
    """The numbers of epochs of the arms."""
    return " or ".join(map(str, sorted({arm["recipe"]["epochs"] for arm in arms})))


def _data(arms: Sequence[Mapping[str, Any]]) -> str:
    """The data sets of the arms, and the numbers of training images where they are not all."""
    sets = dict.fromkeys(arm["recipe"]["dataset"] for arm in arms)
    sizes = {arm["recipe"]["train_images"] for arm in arms}
    words = [f"{size:,}" for size in sorted(sizes - {0})] + ["all"] * (0 in sizes)
    return " and ".join(sets) + (f", {' or '.join(words)} training images" if words != ["all"] else "")


def _spread(values: Sequence[float | None]) -> str:
    """The mean ± standard deviation, and of how many of the values; values that are all equal have no deviation."""
    from statistics import fmean, stdev

    finite = [value for value in values if value is not None]
    if not finite:
        return "–"
    digits = 0 if abs(fmean(finite)) >= 1000 else 1 if abs(fmean(finite)) >= 100 else 2
    text = f"{fmean(finite):,.{digits}f}" + (f" ± {stdev(finite):,.{digits}f}" if len(set(finite)) > 1 else "")
    return text if len(finite) == len(values) else f"{text} ({len(finite)} of {len(values)})"


def record_study(folder: Path, root: Path) -> Path:
    """Copies a study's result to experiments/studies/NAME/, with a page to fill if it has none; returns that folder.

    Raises:
      UsageError: the folder holds no study's result, or not all of it, or a file cannot be written.
    """
    contents = _read(folder / RECORD)
    known = studies.studies()
    if contents.get("name") not in known:
        raise UsageError(f"{folder / RECORD} is of no study of the suite: {contents.get('name')}")
    one = known[contents["name"]]
    target = root / "experiments" / "studies" / one.name
    if contents["scale"] == "sample" and (target / RECORD).exists() and _read(target / RECORD)["scale"] == "full":
        raise UsageError(f"{folder} is of the sample scale, and {target} of the full one: to replace it, "
                         "remove the recorded one first")
    missing = [name for name in (ROWS, FIGURE) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} cannot be recorded: it lacks {', '.join(missing)}; run the study again")
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in (ROWS, FIGURE, RECORD):
            shutil.copyfile(folder / name, target / name)
    except OSError as error:
        raise files.usage_error(f"cannot record {folder} as {target}", error) from error
    if not (target / PAGE).exists():
        files.write(target / PAGE, f"# {one.question}\n\n{one.source}\n\n{BEGIN}\n{END}\n")
    return target


def _parser() -> console.Parser:
    parser = console.Parser(prog="python -m tfcnn.claims", description="Print the ledger of claims, record studies, "
                                                                       "and render both.")
    parser.set_defaults(command=_print)
    commands = parser.add_subparsers(metavar="COMMAND")
    recording = commands.add_parser("record", help="copy a study's result to experiments/studies/")
    recording.add_argument("folders", nargs="+", type=files.expanded, metavar="FOLDER", help="runs/studies/NAME")
    recording.set_defaults(command=_record)
    rendering = commands.add_parser("render", help="render the ledger into README.md, and the studies' pages")
    rendering.add_argument("--check", action="store_true", help="write nothing; exit with status 1 if a page is stale")
    rendering.set_defaults(command=_render)
    return parser


def _print(arguments: Namespace) -> int:
    for one, claim, found in ledger(recorded(repository_root())):
        print(f"{one.name}/{claim.name}: {verdict_cell(found).replace('*', '')}\n"
              f"    {claim.statement}\n"
              f"    published: {claim.published} ({claim.source})\n"
              f"    here: {measured(claim, found)}, n = {found['n']}")
    return 0


def _record(arguments: Namespace) -> int:
    for folder in arguments.folders:
        print(f"recorded as {record_study(folder, repository_root())}; to show it: python -m tfcnn.claims render")
    return 0


def _render(arguments: Namespace) -> int:
    root = repository_root()
    return markdown.write_stale(stale_pages(root), root, arguments.check, "python -m tfcnn.claims render")


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
