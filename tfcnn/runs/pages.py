"""The pages of a repository that show its recorded runs: README.md and experiments/README.md."""

from __future__ import annotations

import shlex
from pathlib import Path

from tfcnn import markdown
from tfcnn.runs.folder import CURVES
from tfcnn.runs.published import render_published
from tfcnn.runs.record import recorded_runs
from tfcnn.runs.tables import relative_link, render_table, run_name
from tfcnn.runs.time_to_accuracy import TIMED, render_times

BEGIN = "<!-- results: begin, made by: python -m tfcnn.runs render -->"
END = "<!-- results: end -->"

_TIMES = """\
**Time to accuracy**: the shortest training whose mean test accuracy reaches a goal, or the highest mean so far. Each
length is a run of its own, timed alone, in bfloat16, without its test; beside it is the time at PyTorch's best speed on
that processor [with 128 images](experiments/frameworks_bfloat16/README.md). *Six views*: as in the network's source."""


def stale_pages(root: Path) -> dict[Path, str]:
    """The pages of a repository that do not show its recorded runs as they are, with the text that they should have.

    Raises:
      UsageError: README.md lacks `BEGIN` or `END`, or a recorded run is damaged.
    """
    readme = root / "README.md"
    index = root / "experiments" / "README.md"
    pages = {readme: _rendered_readme(readme), index: _rendered_index(root)}
    return {page: text for page, text in pages.items()
            if not page.is_file() or page.read_text(encoding="utf-8") != text}


def _rendered_readme(readme: Path) -> str:
    root = readme.parent
    runs = recorded_runs(root)
    results = render_published([run for run in runs if not run_name(run).startswith(TIMED)], relative_to=root)
    return markdown.between(readme, BEGIN, END, f"{results}\n{_TIMES}\n\n{render_times(runs, root)}")


def _rendered_index(root: Path) -> str:
    """The text of experiments/README.md: the table of all recorded runs, then the command and the curves of each."""
    folder = root / "experiments"
    runs = recorded_runs(root)
    parts = [
        BEGIN,
        "# Recorded runs",
        "Accuracies are of the last epoch (or of the averaged weights) on the whole test set, each image counted once; "
        "over several seeds: the mean ± the sample standard deviation. Each run's folder has its recipe, its command, "
        "the metrics of every epoch, and its result.",
        "Elsewhere in this folder: the [studies](studies/) with their claims; the speed of each network beside "
        "PyTorch's in [bfloat16](frameworks_bfloat16/README.md) and [float32](frameworks/README.md), of "
        "[augmentation](input_pipeline/README.md), and on [several devices](scaling/README.md).",
        render_table(runs, relative_to=folder).rstrip(),
    ]
    for run in runs:
        experiment = run.read_result()["experiment"]
        command = shlex.join(["python", "-m", f"tfcnn.experiments.{experiment}", *run.read_command()])
        parts += [f"## {experiment}: {run_name(run)}", f"```\n{command}\n```",
                  f"![Loss and accuracy over the epochs]({relative_link(run.path / CURVES, folder)})"]
    return "\n\n".join(parts + [END]) + "\n"
