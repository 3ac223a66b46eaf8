"""A study: several recipes, its arms, under one question; trained over paired seeds, measured, judged and drawn.

    study.main(STUDY)    in a module of `tfcnn.studies`, is its command

It reads from top to bottom: what a study is; `run`, which chooses the learning rates, trains what is missing, measures,
judges and writes; the command. The processes that train, one a run, are in `trainings`.

The protocol is the same for all studies. The learning rate of each arm is chosen on validation images, from a grid that
grows, four times at most, until its best value is not at its edge. All arms have the same seeds. The test set is looked
at once, at the end of a run. Runs that are complete are not repeated: not after an interruption, and not where another
study has trained the same recipe with the same code.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from tfcnn import console, drawing, exit_status, experiments, files, measures, verdict
from tfcnn.measures import Measure
from tfcnn.recipe import Recipe, Scalar
from tfcnn.runs import OBSERVED, RunFolder
from tfcnn.runs.curves import STYLE
from tfcnn.runs.record import environment
from tfcnn.trainings import SAMPLE_SECONDS, Trainings
from tfcnn.verdict import Claim

RECORD, ROWS, FIGURE = "study.json", "runs.csv", "figure.png"
_WORKDIR = "runs/studies"
_EXTENSIONS = 4  # of a grid of learning rates, at most
# The fields and options in which a recipe differs from another.
Changes = Mapping[str, Scalar]

# What several studies train at full scale, so that they share runs.
BUDGET: dict[str, Scalar] = {"dataset": "cifar10", "train_images": 20_000, "epochs": 6}

_CURVES = ("loss", "accuracy", "validation_accuracy")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One of the things that a study compares.

    Attributes:
      label: its name in figures and claims.
      changes: the fields and options in which its recipe differs from the study's.
      base: a recipe to change instead of the study's, with its own grid of learning rates.
      starts_from: the arm whose trained network, of the same seed, it starts from.
      members: how many networks it trains for each seed: those of an ensemble.
      searches: whether its learning rate is chosen where the scale has a grid; otherwise its own is taken.
      seeds: the first so many seeds only, for a network that is too expensive for all; 0 for all.
    """

    label: str
    changes: Changes = dataclasses.field(default_factory=dict)
    base: Recipe | None = None
    starts_from: str = ""
    members: int = 1
    searches: bool = True
    seeds: int = 0

    def seeds_of(self, all_seeds: int) -> range:
        """The seeds that it is trained with, where the study has `all_seeds`."""
        return range(min(all_seeds, self.seeds or all_seeds))


@dataclasses.dataclass(frozen=True)
class Scale:
    """How much is trained.

    Attributes:
      changes: the fields and options that all arms change; an arm's own changes take precedence.
      seeds: number of paired seeds.
      arms: the labels of the arms that are trained; empty for all.
      grid: learning rates to choose from, as multiples of an arm's own, ascending; empty: the arm's own is taken.
      search: the length of the runs that choose the learning rate, as a fraction of the others'.
      of_arms: what single arms change on this scale only, by label; these changes take precedence over all others.
    """

    changes: Changes
    seeds: int
    arms: Sequence[str] = ()
    grid: Sequence[float] = ()
    search: float = 0.25
    of_arms: Mapping[str, Mapping[str, Scalar]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Study:
    """A question, and how it is put to networks.

    Attributes:
      name: the name of its module.
      question: one sentence.
      source: the note, and its day, that asks it; and the papers.
      base: the recipe that the arms change.
      arms: what is compared.
      measures: what is measured of each run.
      claims: the statements that the runs judge.
      scales: `full` and `sample`.
      draw: draws the answer into an empty figure, from the contents of study.json.
      size: width and height of the figure, in inches.
      observer: `MODULE:FUNCTION`, which gives the Keras callbacks of a run, by its folder and that of the data; they
        may write `observed.json` there, lists of numbers by name, which are kept with the run's curves. Empty for none.
    """

    name: str
    question: str
    source: str
    base: Recipe
    arms: Sequence[Arm]
    measures: Sequence[Measure]
    claims: Sequence[Claim]
    scales: Mapping[str, Scale]
    draw: Callable[[Mapping[str, Any], Any], None]
    size: tuple[float, float] = (7.0, 3.2)
    observer: str = ""

    def chosen_arms(self, scale: str) -> list[Arm]:
        """The arms of a scale, those that others start from first."""
        labels = self.scales[scale].arms or [arm.label for arm in self.arms]
        return sorted((arm for arm in self.arms if arm.label in labels), key=lambda arm: bool(arm.starts_from))

    def recipe(self, arm: Arm, scale: str) -> Recipe:
        """An arm's recipe, with seed 0 and its own learning rate."""
        base = arm.base or self.base
        on_sample = {"dataset": "sample", **experiments.samples()[base.experiment]} if scale == "sample" else {}
        of_scale = self.scales[scale]
        return base.replace(**{**on_sample, **of_scale.changes, **arm.changes, **of_scale.of_arms.get(arm.label, {}),
                               "seed": 0})


def run(study: Study, scale: str, seeds: int, jobs: int, data_dir: str | None, workdir: Path) -> None:
    """Trains what is missing, measures, and writes study.json, runs.csv and the figure.

    They go to `workdir/NAME`, at the sample scale to `workdir/NAME-sample`.

    Args:
      study: the study.
      scale: `full` or `sample`.
      seeds: number of paired seeds.
      jobs: number of processes that train at the same time.
      data_dir: folder of the data set, as in `train`.
      workdir: folder of all studies' results and, in `runs/`, of all their runs.

    Raises:
      UsageError: the data is unavailable, a folder cannot be used, or a run ends with an error of its own.
    """
    trainings = Trainings(study.name, workdir / "runs", jobs, data_dir,
                          SAMPLE_SECONDS if scale == "sample" else math.inf, study.observer)
    recipes: dict[str, Recipe] = {}
    searches: dict[str, dict[float, float]] = {}
    runs: dict[tuple[str, int], list[Recipe]] = {}
    for follows in (False, True):  # a network must be complete before another one starts from it
        stage = [arm for arm in study.chosen_arms(scale) if bool(arm.starts_from) is follows]
        recipes |= {arm.label: study.recipe(arm, scale) for arm in stage}
        if study.scales[scale].grid:
            own = {arm.label: _member(trainings, arm, recipes, 0, 0) for arm in stage
                   if arm.searches and _can_start(trainings, arm, recipes, 0)}
            searches |= choose_learning_rates(trainings, own, study.scales[scale].grid, study.scales[scale].search)
            recipes |= {label: recipes[label].replace(learning_rate=best(searches[label])) for label in own}
        new = {(arm.label, seed): [_member(trainings, arm, recipes, seed, number) for number in range(arm.members)]
               for seed in range(seeds) for arm in stage
               if seed in arm.seeds_of(seeds) and _can_start(trainings, arm, recipes, seed)}
        trainings.complete([recipe for members in new.values() for recipe in members])
        runs |= new
    folder = workdir / (study.name if scale == "full" else f"{study.name}-{scale}")
    measured = {key: _measured(study, trainings, members, folder) for key, members in runs.items()
                if all(trainings.has_ended(recipe) for recipe in members)}
    _write(study, scale, folder, trainings, recipes, searches, runs, measured)


def _can_start(trainings: Trainings, arm: Arm, recipes: Mapping[str, Recipe], seed: int) -> bool:
    """Whether the network is there that an arm's network of this seed starts from: its run may have diverged."""
    return not arm.starts_from or trainings.folder(recipes[arm.starts_from].replace(seed=seed)).complete


def _member(trainings: Trainings, arm: Arm, recipes: Mapping[str, Recipe], seed: int, number: int) -> Recipe:
    """The recipe of one of the networks that an arm trains for a seed."""
    recipe = recipes[arm.label].replace(seed=seed + 1000 * number)
    if arm.starts_from:
        source = recipes[arm.starts_from].replace(seed=seed)
        recipe = recipe.replace(initial_weights=str(trainings.folder(source).path))
    return recipe


def choose_learning_rates(trainings: Trainings, recipes: Mapping[str, Recipe], grid: Sequence[float], length: float
                          ) -> dict[str, dict[float, float]]:
    """Tries learning rates for each arm, in short runs with seed 0, until the best is not at the edge of its grid.

    Args:
      trainings: trains.
      recipes: the recipe of each arm, by label.
      grid: the first rates, as multiples of the recipe's own, ascending.
      length: of the runs, as a fraction of the recipe's epochs.

    Returns:
      For each arm the validation accuracy after the last epoch, in [0, 1], by learning rate; -1 of a run that has
      diverged.
    """
    rates = {label: [_rounded(recipe.learning_rate * factor) for factor in grid] for label, recipe in recipes.items()}
    short = {label: shortened(recipe, length) for label, recipe in recipes.items()}
    found: dict[str, dict[float, float]] = {}
    for _ in range(_EXTENSIONS + 1):
        trials = {(label, rate): short[label].replace(learning_rate=rate) for label in rates for rate in rates[label]}
        trainings.complete(list(trials.values()))
        found = {label: {rate: trainings.validation_accuracy(trials[label, rate]) for rate in sorted(rates[label])}
                 for label in rates}
        open_ends = {label: _beyond(values) for label, values in found.items()}
        if not any(open_ends.values()):
            break
        for label, new in open_ends.items():
            rates[label] += new
    else:
        at_edge = ", ".join(f"{label} ({best(found[label]):g})" for label, new in open_ends.items() if new)
        print(f"the best learning rate is still at the edge of its grid: {at_edge}")
    return found


def shortened(recipe: Recipe, length: float) -> Recipe:
    """The recipe with a fraction of its epochs, its schedule compressed with them."""
    epochs = shortened_epochs(recipe.epochs, length)
    ratio = epochs / recipe.epochs
    points = ",".join(f"{ratio * point:g}" for point in recipe.decay_points())
    return recipe.replace(epochs=epochs, warmup_epochs=ratio * recipe.warmup_epochs, decay_epochs=points)


def shortened_epochs(epochs: int, length: float) -> int:
    """A fraction of a number of epochs, at least one."""
    return max(1, round(length * epochs))


def best(values: Mapping[float, float]) -> float:
    """The learning rate with the highest validation accuracy; of several the lowest."""
    return max(sorted(values), key=lambda rate: values[rate])


def _beyond(values: Mapping[float, float]) -> list[float]:
    """The learning rate beyond the edge of the grid at which the best one lies; empty if it does not."""
    rates = sorted(values)
    chosen = best(values)
    if len(rates) < 2 or chosen not in (rates[0], rates[-1]):
        return []
    return [_rounded(rates[0] ** 2 / rates[1] if chosen == rates[0] else rates[-1] ** 2 / rates[-2])]


def _rounded(rate: float) -> float:
    return float(f"{rate:.3g}")


def _measured(study: Study, trainings: Trainings, members: Sequence[Recipe], folder: Path) -> dict[str, float]:
    """What is measured of the networks of one arm and seed, by the measure's name; it is kept in a file."""
    runs = [trainings.folder(recipe) for recipe in members]
    if any(trainings.has_diverged(recipe) for recipe in members):
        return {measure.name: measure.diverged for measure in study.measures}
    kept = folder / "measured" / measures.version(study.name) / f"{'+'.join(run.path.name for run in runs)}.json"
    values: dict[str, float] = json.loads(kept.read_text()) if kept.is_file() else {}
    for measure in study.measures:
        if measure.name not in values:
            values[measure.name] = measure.of(runs, trainings.data_dir)
            kept.parent.mkdir(parents=True, exist_ok=True)
            files.write(kept, json.dumps(values))
    return values


def _write(study: Study, scale: str, folder: Path, trainings: Trainings, recipes: Mapping[str, Recipe],
           searches: Mapping[str, Mapping[float, float]], runs: Mapping[tuple[str, int], Sequence[Recipe]],
           measured: Mapping[tuple[str, int], Mapping[str, float]]) -> None:
    """Writes study.json, runs.csv and the figure."""
    arms = []
    for label, recipe in recipes.items():
        rows = [{"seed": seed, "runs": [trainings.folder(member).path.name for member in runs[label, seed]],
                 **_finite(values), "curves": _curves(trainings.folder(runs[label, seed][0]))}
                for (arm, seed), values in measured.items() if arm == label]
        arms.append({"label": label, "recipe": recipe.to_dict(),
                     "search": {f"{rate:g}": value for rate, value in searches.get(label, {}).items()},
                     "runs": rows})
    record = {"name": study.name, "question": study.question, "source": study.source, "scale": scale,
              "measures": {measure.name: measure.title for measure in study.measures}, "arms": arms,
              "claims": [judged(claim, arms, scale) for claim in study.claims],
              **environment(), "cores": len(os.sched_getaffinity(0)), "written": datetime.now().date().isoformat()}
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / RECORD, as_text(record))
    files.write(folder / ROWS, _rows(study, scale, trainings, arms, runs))
    drawing.warn_if_not(lambda: files.write(folder / FIGURE, draw(study, record)), folder / FIGURE)
    missing = len(runs) - len(measured)
    print(f"{study.name}: {len(measured)} runs measured" + (f", {missing} left out for want of time" if missing else "")
          + f"\nwritten: {folder}")


def as_text(record: Mapping[str, Any]) -> str:
    """The text of study.json."""
    return json.dumps(record, indent=1) + "\n"


def judged(claim: Claim, arms: Sequence[Mapping[str, Any]], scale: str) -> dict[str, Any]:
    """A claim, and what the runs of a study.json's `arms` say of it: an entry of its `claims`."""
    values = {arm["label"]: {run["seed"]: run[claim.measure] for run in arm["runs"]
                             if run.get(claim.measure) is not None} for arm in arms}
    found = verdict.decide(claim, values)
    # Six digits: the last ones differ between versions of the libraries.
    measured, *interval = (None if value is None else float(f"{value:.6g}")
                           for value in (found.measured, *(found.interval or ())))
    return dataclasses.asdict(claim) | {
        "measured": measured, "interval": interval or None, "n": found.seeds, "needed": found.needed,
        "scale": scale, "verdict": found.verdict if scale == "full" else verdict.UNRESOLVED}


def draw(study: Study, record: Mapping[str, Any]) -> bytes:
    """The study's figure, as a PNG, from the contents of its study.json."""
    with drawing.figure(STYLE, figsize=study.size, dpi=200, layout="constrained") as figure:
        study.draw(record, figure)
        return drawing.png(figure)


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """The values as JSON can hold them: null if not finite; whole numbers exactly, the others with six digits."""
    return {key: None if not math.isfinite(x) else x if x == int(x) else float(f"{x:.6g}") for key, x in values.items()}


def _curves(run: RunFolder) -> dict[str, list[float]]:
    """The curves of a run, by the column's name, and what its callbacks have observed; empty if it has diverged."""
    if not run.complete:
        return {}
    rows, observed = run.read_metrics(), run.path / OBSERVED
    curves = {name: [round(float(row[name]), 5) for row in rows] for name in _CURVES if name in rows[0]}
    return curves | (json.loads(observed.read_text()) if observed.is_file() else {})


def _rows(study: Study, scale: str, trainings: Trainings, arms: Sequence[Mapping[str, Any]],
          runs: Mapping[tuple[str, int], Sequence[Recipe]]) -> str:
    """The text of runs.csv: a row for each trial of a learning rate, and for each run."""
    names = [measure.name for measure in study.measures]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["arm", "purpose", "seed", "learning_rate", "epochs", "validation_accuracy", *names, "run",
                     "commit"])
    for arm in arms:
        search_epochs = shortened_epochs(arm["recipe"]["epochs"], study.scales[scale].search)
        for rate, accuracy in arm["search"].items():
            writer.writerow([arm["label"], "search", 0, rate, search_epochs, accuracy, *[""] * len(names), "", ""])
        for row in arm["runs"]:
            for number, recipe in enumerate(runs[arm["label"], row["seed"]]):
                measured = [row[name] if number == 0 else "" for name in names]
                writer.writerow([arm["label"], "measure", recipe.seed, recipe.learning_rate, recipe.epochs,
                                 trainings.validation_accuracy(recipe), *measured, row["runs"][number],
                                 trainings.commit(recipe)])
    return text.getvalue()


def parser_of(study: Study) -> console.Parser:
    """The parser of a study's arguments."""
    parser = console.Parser(
        prog=f"python -m tfcnn.studies.{study.name}", description=sys.modules["__main__"].__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("sample", "full"), default="sample",
                        help="sample: on the images that ship with the package, in at most ten minutes; full: on "
                             "CIFAR-10. By default sample")
    parser.add_argument("--seeds", type=_positive, metavar="N", help="number of paired seeds; by default the scale's")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N",
                        help="runs that train at the same time, each on its share of the cores; by default 1")
    parser.add_argument("--data_dir", default="", metavar="FOLDER", help="folder of the data set")
    parser.add_argument("--workdir", default=_WORKDIR, metavar="FOLDER",
                        help=f"folder of all studies' results and runs; the same command in it goes on where it was "
                             f"interrupted. By default {_WORKDIR}")
    return parser


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word} must be a whole number from 1")
    return int(word)


def command(study: Study, arguments: argparse.Namespace, run: Callable[..., None] = run) -> int:
    """Runs a study, or what else `run` does with the same arguments, and returns the exit status."""
    seeds = arguments.seeds or study.scales[arguments.scale].seeds
    data_dir = str(files.expanded(arguments.data_dir)) if arguments.data_dir else None
    workdir = files.expanded(arguments.workdir).resolve()  # however it is spelled, the recipes of its runs name it so
    try:
        run(study, arguments.scale, seeds, arguments.jobs, data_dir, workdir)
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted; what was trained is in {workdir}, and the same command goes on", file=sys.stderr)
        return exit_status.of_interrupt(interrupt)
    return exit_status.DONE


def main(study: Study) -> None:
    """The command of a study: runs it as the process's arguments say, and ends the process."""
    exit_status.end_process(lambda: console.run(parser_of(study), lambda arguments: command(study, arguments)))
