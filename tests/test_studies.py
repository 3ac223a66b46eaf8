"""Studies: the rule of the verdict, the choice of learning rates, runs in processes of their own, and every study."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import itertools
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.toy_run import result_of
from tests.toy_study import TOY
from tfcnn import claims, console, figures, measures, studies, study, trained, verdict
from tfcnn.data import datasets
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import Recipe, UsageError
from tfcnn.runs import RunFolder
from tfcnn.trained import evaluation
from tfcnn.training.setup import prepare
from tfcnn.trainings import Trainings, code_version
from tfcnn.verdict import NOT_REPRODUCED, REPRODUCED, UNRESOLVED, Claim

ROOT = Path(__file__).parents[1]


def claim(**changes: Any) -> Claim:
    return Claim(**{"name": "name", "statement": "A is larger than B.", "source": "a paper", "published": "none",
                    "measure": "error", "contrast": {"A": 1, "B": -1}, "smallest": 0.5} | changes)


def seeds(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("a, expected", [
    ((3.0, 3.1, 3.2), REPRODUCED),  # differences 2.0, 2.1, 2.2
    ((1.2, 1.1, 1.3), NOT_REPRODUCED),  # 0.2, 0.1, 0.3: an effect, but below the smallest that counts
    ((-1.0, -1.1, -0.9), NOT_REPRODUCED),
    ((1.0, 2.0, 3.0), UNRESOLVED),
])
def test_verdict_on_an_effect(a: tuple[float, ...], expected: str) -> None:
    assert verdict.decide(claim(), {"A": seeds(*a), "B": seeds(1.0, 1.0, 1.0)}).verdict == expected


@pytest.mark.parametrize("a, expected", [
    ((1.1, 1.0, 1.2), REPRODUCED), ((3.0, 3.1, 3.2), NOT_REPRODUCED), ((-3.0, -3.1, -3.2), NOT_REPRODUCED),
    ((1.0, 2.0, 0.0), UNRESOLVED),
])
def test_verdict_on_no_effect(a: tuple[float, ...], expected: str) -> None:
    assert verdict.decide(claim(effect=False), {"A": seeds(*a), "B": seeds(1.0, 1.0, 1.0)}).verdict == expected


def test_interval_is_students_of_paired_differences() -> None:
    # Student's data on the sleep of ten patients under two drugs (1908), a published example: mean 1.58, 0.70 to 2.46.
    first = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
    second = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)
    found = verdict.decide(claim(smallest=0.0), {"A": seeds(*second), "B": seeds(*first)})
    assert found.measured == pytest.approx(1.58) and found.seeds == 10
    assert found.interval == (pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6))


def test_ratio_is_the_geometric_mean_of_paired_ratios() -> None:
    found = verdict.decide(claim(ratio=True, smallest=2.0), {"A": seeds(2.0, 8.0, 4.0), "B": seeds(1.0, 2.0, 1.0)})
    assert found.measured == pytest.approx(32 ** (1 / 3)) and found.interval
    assert found.interval[0] * found.interval[1] == pytest.approx(found.measured ** 2)


def test_seeds_without_a_pair_do_not_count_and_few_decide_nothing() -> None:
    values = {"A": {0: 3.0, 1: 3.1, 2: math.nan, 3: 3.0}, "B": {0: 1.0, 1: 1.0, 2: 1.0}}
    found = verdict.decide(claim(), values)
    assert (found.seeds, found.verdict) == (2, UNRESOLVED)
    assert verdict.decide(claim(seeds=2), values).verdict == REPRODUCED
    assert verdict.decide(claim(), {"A": seeds(1.0)}) == verdict.Verdict(UNRESOLVED, None, None, 0)
    assert verdict.decide(claim(), {"A": seeds(3.0), "B": seeds(1.0)}).interval is None


def _needed(mean: float, deviation: float, **changes: Any) -> int | None:
    """What is needed of a claim whose three differences have this mean and standard deviation."""
    values = {"A": seeds(mean - deviation, mean, mean + deviation), "B": seeds(0.0, 0.0, 0.0)}
    return verdict.decide(claim(**changes), values).needed


@pytest.mark.parametrize("mean, changes", [(0.9, {}), (0.2, {}), (0.1, {"effect": False}), (1.0, {"effect": False})])
def test_needed_seeds_decide_in_four_of_five_repetitions(mean: float, changes: dict[str, Any],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    random, shares = np.random.default_rng(0), {}
    needed = _needed(mean, 0.4, **changes)
    assert needed
    monkeypatch.setattr(verdict, "_needed", lambda claim, differences: None)  # which takes most of the time
    for count in (needed - 1, needed):
        decided = [verdict.decide(claim(**changes), {"A": seeds(*random.normal(mean, 0.4, count)),
                                                     "B": seeds(*[0.0] * count)}).verdict != UNRESOLVED
                   for _ in range(3000)]
        shares[count] = np.mean(decided)
    assert shares[needed] > 0.78 and shares[needed - 1] < 0.82  # three standard errors of 0.007


def test_needed_seeds_are_unknown_of_a_mean_at_the_bound_and_of_one_seed() -> None:
    assert _needed(0.5001, 0.4) is None
    assert verdict.decide(claim(), {"A": seeds(0.9), "B": seeds(0.0)}).needed is None


def test_weights_of_four_arms_are_a_difference_of_differences() -> None:
    four = claim(contrast={"A": 1, "B": -1, "C": -1, "D": 1})
    values = {"A": seeds(5.0, 6.0), "B": seeds(1.0, 1.0), "C": seeds(2.0, 2.5), "D": seeds(1.0, 1.0)}
    assert verdict.decide(four, values).measured == pytest.approx((3.0 + 3.5) / 2)


class _Accuracies:
    """Stands for `Trainings`: the accuracy of a recipe is a function of its learning rate."""

    def __init__(self, peak: float) -> None:
        self.peak, self.trained = peak, []

    def complete(self, recipes: list[Recipe]) -> None:
        self.trained += recipes

    def validation_accuracy(self, recipe: Recipe) -> float:
        return 1 - abs(math.log(recipe.learning_rate / self.peak)) / 10


@pytest.mark.parametrize("peak, tried", [
    (0.01, {0.005, 0.01, 0.02}), (0.08, {0.005, 0.01, 0.02, 0.04, 0.08, 0.16}), (0.004, {0.0025, 0.005, 0.01, 0.02})])
def test_grid_of_learning_rates_grows_until_the_best_is_inside(peak: float, tried: set[float]) -> None:
    trainings = _Accuracies(peak)
    recipe = RECIPE.replace(learning_rate=0.01, epochs=12, warmup_epochs=2.0, schedule="step", decay_epochs="4,8")
    found = study.choose_learning_rates(trainings, {"arm": recipe}, (0.5, 1, 2), 0.25)["arm"]  # type: ignore[arg-type]
    assert set(found) == tried
    assert min(found) < study.best(found) < max(found)
    assert {(trial.epochs, trial.warmup_epochs, trial.decay_epochs) for trial in trainings.trained} == {(3, 0.5, "1,2")}


def test_a_best_learning_rate_that_stays_at_the_edge_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = RECIPE.replace(learning_rate=0.01, epochs=12, schedule="constant")
    study.choose_learning_rates(_Accuracies(10.0), {"arm": recipe}, (0.5, 1, 2), 0.25)  # type: ignore[arg-type]
    assert capsys.readouterr().out == "the best learning rate is still at the edge of its grid: arm (0.32)\n"


def test_crossing_is_interpolated(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_metrics([{"epoch": 1, "step": 10, "loss": 2.0, "accuracy": 0.5},
                       {"epoch": 2, "step": 20, "loss": 1.0, "accuracy": 0.7},
                       {"epoch": 3, "step": 30, "loss": 0.5, "accuracy": 0.9}])
    run.write_timings([{"epoch": 1, "seconds": 10.0}, {"epoch": 2, "seconds": 20.0}, {"epoch": 3, "seconds": 30.0}])
    assert measures.epochs_to(25).of([run], None) == pytest.approx(2.25)
    assert measures.seconds_to(25).of([run], None) == pytest.approx(30 + 0.25 * 30)
    assert measures.steps_to_loss(1.5).of([run], None) == pytest.approx(15)
    for never in (measures.epochs_to(5), measures.seconds_to(5), measures.steps_to_loss(0.1)):
        assert math.isnan(never.of([run], None))


def test_folder_of_a_run_is_named_by_all_that_decides_it_but_the_seed(tmp_path: Path) -> None:
    trainings = Trainings("name", tmp_path)
    name = trainings.folder(RECIPE).path.name
    assert trainings.folder(RECIPE.replace(seed=3)).path.name == name.replace("seed0", "seed3")
    assert trainings.folder(RECIPE.replace(dropout=0.1)).path.name != name
    assert Trainings("other", tmp_path / "elsewhere").folder(RECIPE).path.name == name
    assert Trainings("name", tmp_path, observer="module:function").folder(RECIPE).path.name != name
    start = RECIPE.replace(initial_weights="one/run-seed0")
    assert trainings.folder(start) != trainings.folder(RECIPE)
    assert trainings.folder(start).path == trainings.folder(start.replace(initial_weights="two/run-seed0")).path


def test_code_version_changes_with_the_libraries_and_the_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    before = code_version("lenet")
    assert code_version("lenet", "tfcnn.silent_units") != before != code_version("alexnet")
    code_version.cache_clear()
    monkeypatch.setattr("tfcnn.trainings.metadata.version", lambda name: "another")
    assert code_version("lenet") != before
    code_version.cache_clear()


@dataclasses.dataclass(frozen=True)
class _Toy:
    """The toy study, which was interrupted after its first run and then went on.

    Attributes:
      folder: its --workdir.
      interrupted, done: the two commands.
      first: the results that were there in between, and when they were written.
    """

    folder: Path
    interrupted: subprocess.CompletedProcess
    done: subprocess.CompletedProcess
    first: dict[Path, int]

    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "toy-sample" / study.RECORD).read_text())

    def members(self) -> list[RunFolder]:
        """The two runs that have not diverged."""
        runs = {arm["label"]: arm["runs"] for arm in self.record()["arms"]}
        return [RunFolder(self.folder / "runs" / runs[label][0]["runs"][0]) for label in ("low", "high")]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> _Toy:
    folder = tmp_path_factory.mktemp("toy")
    command = [sys.executable, "-m", "tests.toy_study", f"--workdir={folder}"]
    options: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
        while not list(folder.glob("runs/*/result.json")):
            time.sleep(0.05)
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        interrupted = subprocess.CompletedProcess(command, 0, *process.communicate())
    interrupted.returncode = process.returncode
    first = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/result.json")}
    assert len(first) < 3 and not (folder / "toy-sample").exists()
    with contextlib.ExitStack() as held:  # as if another study were training the runs that are left
        for arm in TOY.chosen_arms("sample"):
            left = Trainings("toy", folder / "runs").folder(TOY.recipe(arm, "sample"))
            if not left.complete:
                held.enter_context(left.locked())
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as process:
            while not any("waiting for it" in log.read_text() for log in folder.glob("runs/*.log")):
                time.sleep(0.05)
                assert process.poll() is None
            held.close()
            done = subprocess.CompletedProcess(command, 0, *process.communicate())
    done.returncode = process.returncode
    return _Toy(folder, interrupted, done, first)


def test_a_study_trains_measures_judges_and_goes_on_where_it_was_interrupted(toy: _Toy) -> None:
    assert toy.interrupted.returncode == 143 and "the same command goes on" in toy.interrupted.stderr
    assert toy.done.returncode == 0, toy.done.stderr
    assert all(path.stat().st_mtime_ns == time_before for path, time_before in toy.first.items())
    record = toy.record()
    runs = {arm["label"]: arm["runs"] for arm in record["arms"]}
    assert [run["seed"] for run in runs["low"]] == [0] == [run["seed"] for run in runs["infinite"]]
    assert runs["infinite"][0]["test_error"] is None
    finite = [*runs["low"], *runs["high"]]
    for run, member in zip(finite, toy.members(), strict=True):
        result = member.read_result()
        assert run["test_error"] == pytest.approx(100 * (1 - result["test"]["accuracy"]), rel=1e-5)
    assert measures.RUN_SECONDS.of(toy.members(), None) >= sum(run["seconds"] for run in finite) - 2
    assert record["claims"][0]["measured"] == pytest.approx(finite[0]["train_loss"] - finite[1]["train_loss"])
    assert record["claims"][0]["verdict"] == UNRESOLVED  # the sample scale decides nothing
    assert study.judged(TOY.claims[0], record["arms"], "full")["verdict"] == UNRESOLVED  # which one seed cannot decide
    assert (toy.folder / "toy-sample" / study.FIGURE).read_bytes()[:4] == b"\x89PNG"
    assert len((toy.folder / "toy-sample" / study.ROWS).read_text().splitlines()) == 1 + 3
    assert "runs done\n" in toy.done.stdout


def test_an_ensemble_with_two_views_is_evaluated_as_by_the_command(toy: _Toy) -> None:
    members = toy.members()
    expected = evaluation.evaluate([trained.load(member.path) for member in members], tta="mirror").record
    found = measures.evaluated(members, None, "mirror")
    assert found["accuracy"] == expected["accuracy"] != measures.evaluated(members[:1], None, "mirror")["accuracy"]
    assert found["calibration"]["ece"] == pytest.approx(expected["calibration"]["ece"])


def _calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Guo et al. 2017, equation 3: the mean of |accuracy - confidence| over 15 bins, weighted by their images."""
    confidences, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for low, high in itertools.pairwise(np.linspace(0, 1, 16)):
        inside = (confidences >= low) & (confidences < high)
        error += abs(right[inside].sum() - confidences[inside].sum())
    return error / len(labels)


def test_measures_of_an_ensemble_are_of_the_mean_of_its_probabilities(toy: _Toy) -> None:
    members, test = toy.members(), datasets.load("sample").test
    networks = [trained.load(member.path) for member in members]
    plain, mirrored = ([network.predict(images).astype(np.float64) for network in networks]
                       for images in (test.images, test.images[:, :, ::-1]))

    def error(*probabilities: np.ndarray) -> float:
        return 100 * float((np.mean(probabilities, axis=0).argmax(axis=1) != test.labels).mean())

    single, together, with_mirror = error(plain[0]), error(*plain), error(*plain, *mirrored)
    assert len({single, error(plain[1]), together, with_mirror}) == 4
    assert measures.ensemble_error().of(members, None) == pytest.approx(together)
    assert measures.ensemble_error().of(members[:1], None) == pytest.approx(single)
    assert measures.test_error_with("mirror").of(members, None) == pytest.approx(with_mirror)
    assert measures.test_error_with("mirror").of(members[:1], None) == pytest.approx(error(plain[0], mirrored[0]))
    assert measures.gain_by("mirror").of(members, None) == pytest.approx(together - with_mirror)
    assert measures.calibration_error().of(members, None) == pytest.approx(
        100 * _calibration_error(np.mean(plain, axis=0), test.labels), rel=1e-4)
    # C1 28 * 28 * 25 * 6, C3 10 * 10 * 25 * 6 * 16, C5 25 * 16 * 120, F6 120 * 84, logits 84 * 10.
    assert measures.multiply_accumulates().of(members, None) == pytest.approx(2 * 0.416520)
    assert measures.PARAMETERS.of(members, None) == networks[0].model.count_params()


def test_a_run_that_fails_ends_the_study_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere = dataclasses.replace(TOY, scales={"full": study.Scale({"dataset": "mnist"}, seeds=1)})
    with pytest.raises(UsageError, match=f"ended with status 2: --data_dir={tmp_path / 'nothing'} ") as error:
        study.run(elsewhere, "full", 1, 1, str(tmp_path / "nothing"), tmp_path / "work")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", studies.studies())
def test_every_arm_of_a_study_has_a_recipe_at_both_scales(name: str) -> None:
    one, path = studies.studies()[name], Path(str(sys.modules[f"tfcnn.studies.{name}"].__file__))
    assert one.name == name and len(path.read_text().splitlines()) <= 80
    for scale in ("sample", "full"):
        recipes = [one.recipe(arm, scale).to_json() for arm in one.chosen_arms(scale)]
        assert {arm.starts_from for arm in one.chosen_arms(scale)} - {""} <= {
            arm.label for arm in one.chosen_arms(scale)}
        assert len(recipes) > 1 and (len(set(recipes)) == len(recipes) or any(
            arm.starts_from or arm.members > 1 for arm in one.arms))
    labels, titles = {arm.label for arm in one.arms}, {measure.name for measure in one.measures}
    assert all(set(claim.contrast) <= labels and claim.measure in titles for claim in one.claims)
    assert all(len(claim.contrast) == 1 or abs(sum(claim.contrast.values())) < 1e-9 for claim in one.claims)
    assert {arm.starts_from for arm in one.arms} - {""} <= labels


@pytest.mark.parametrize("name", [name for name, one in studies.studies().items() if isinstance(one, study.Study)])
def test_an_arm_of_every_study_trains_for_a_step(name: str, class_folders: Path) -> None:
    one = studies.studies()[name]
    arm = one.chosen_arms("sample")[-1 if name != "transfer" else 0]  # the others start from the first one
    recipe = one.recipe(arm, "sample").replace(
        dataset="folder", classes="", train_images=0, decay_epochs="", warmup_epochs=0.0, schedule="constant",
        batch_size=8)
    setup = prepare(recipe, str(class_folders))
    images, labels = next(setup.training_batches(0))
    before = [weight.numpy() for weight in setup.model.trainable_variables]
    with tf.GradientTape() as tape:
        logits, *_ = tf.nest.flatten(setup.model(images, training=True))
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, logits, True))
    setup.optimizer.apply_gradients(zip(tape.gradient(loss, setup.model.trainable_variables),
                                        setup.model.trainable_variables))
    changed = [not np.array_equal(old, new.numpy()) for old, new in zip(before, setup.model.trainable_variables)]
    assert np.isfinite(loss) and any(changed)
    assert all(np.isfinite(weight.numpy()).all() for weight in setup.model.trainable_variables)


def test_arms_of_an_ensemble_share_the_runs_of_their_members(tmp_path: Path) -> None:
    one, trainings = studies.studies()["ensembles"], Trainings("ensembles", tmp_path)
    recipes = {arm.label: one.recipe(arm, "full") for arm in one.arms}
    folders = {(arm.members, seed): [trainings.folder(study._member(trainings, arm, recipes, seed, number)).path
                                     for number in range(arm.members)] for arm in one.arms for seed in (0, 1)}
    for (members, seed), found in folders.items():
        assert found == folders[5, seed][:members] and len(set(found)) == members
    assert not set(folders[5, 0]) & set(folders[5, 1])


class _Untrained(Trainings):
    """Writes the folders of runs without training: their accuracy follows from the recipe.

    The best learning rate is 0.02, of a network that starts from another one 0.005. Seed 1 of the arm `first` diverges.
    """

    trained: list[Recipe]

    def complete(self, recipes: Iterable[Recipe]) -> None:
        for recipe in recipes:
            if self.has_ended(recipe):
                continue
            assert not recipe.initial_weights or RunFolder(recipe.initial_weights).complete
            self.trained.append(recipe)
            run = self.folder(recipe)
            run.path.mkdir(parents=True)
            if recipe.seed == 1 and not recipe.initial_weights and not recipe.l2:
                (run.path / "diverged").touch()
                continue
            accuracy = 1 - abs(math.log(recipe.learning_rate / (0.005 if recipe.initial_weights else 0.02))) / 10
            run.write_metrics([{"epoch": epoch, "step": epoch, "loss": 1.0, "accuracy": accuracy,
                                "validation_accuracy": accuracy} for epoch in range(1, recipe.epochs + 1)])
            run.write_result(result_of(recipe, accuracy=accuracy))


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Recipe], dict[str, list], list[list[str]]]:
    """A study with an arm that starts from another one, and one of three members, over three seeds.

    Returns:
      What was trained, in its order; the runs of study.json, by arm; and the rows of runs.csv.
    """
    monkeypatch.setattr(study, "Trainings", _Untrained)
    monkeypatch.setattr(_Untrained, "trained", [], raising=False)
    mean_seed = measures.Measure("mean_seed", "", lambda runs, data_dir: statistics.fmean(
        run.read_result()["seed"] for run in runs))
    one = study.Study(
        name="followed", question="", source="", base=RECIPE.replace(learning_rate=0.01, epochs=8, schedule="constant"),
        arms=[study.Arm("second", starts_from="first"), study.Arm("first"),
              study.Arm("three", {"l2": 0.1}, members=3)],
        measures=[measures.TEST_ERROR, mean_seed], claims=[], draw=lambda record, figure: None,
        scales={"full": study.Scale({}, seeds=3, grid=(0.5, 1, 2), search=0.25)})
    study.run(one, "full", 3, 1, None, tmp_path)
    record = json.loads((tmp_path / "followed" / study.RECORD).read_text())
    rows = list(csv.reader((tmp_path / "followed" / study.ROWS).read_text().splitlines()))
    return _Untrained.trained, {arm["label"]: arm["runs"] for arm in record["arms"]}, rows


def test_an_arm_starts_from_the_complete_run_of_the_same_seed_of_another(followed) -> None:
    recipes, arms, _ = followed
    assert [run["seed"] for run in arms["first"]] == [0, 1, 2] and arms["first"][1]["test_error"] is None
    assert [run["seed"] for run in arms["second"]] == [0, 2]  # the network diverged that seed 1 would start from
    whole = [recipe for recipe in recipes if recipe.epochs == 8 and not recipe.l2]
    first = {recipe.seed: recipe for recipe in whole if not recipe.initial_weights}
    second = {recipe.seed: recipe for recipe in whole if recipe.initial_weights}
    assert set(first) == {0, 1, 2} and set(second) == {0, 2}
    assert {recipe.learning_rate for recipe in first.values()} == {0.02}
    assert {recipe.learning_rate for recipe in second.values()} == {0.005}
    runs = {run["seed"]: run["runs"] for run in arms["first"]}
    for seed, recipe in second.items():
        assert [Path(recipe.initial_weights).name] == runs[seed] != runs[2 - seed]
    # The short runs that choose its learning rate start from the whole run of seed 0.
    trials = [recipe for recipe in recipes if recipe.epochs == 2 and recipe.initial_weights]
    assert {trial.learning_rate for trial in trials} == {0.0025, 0.005, 0.01, 0.02}
    assert {Path(trial.initial_weights).name for trial in trials} == set(runs[0])
    assert all(run["test_error"] == pytest.approx(0, abs=1e-9) for run in arms["second"])


def test_an_arm_of_several_members_trains_and_measures_them_together(followed) -> None:
    recipes, arms, rows = followed
    own = [recipe for recipe in recipes if recipe.l2 and recipe.epochs == 8]
    assert [recipe.seed for recipe in own] == [0, 1000, 2000, 1, 1001, 2001, 2, 1002, 2002]
    assert {recipe.learning_rate for recipe in own} == {0.02}
    assert [(run["seed"], len(set(run["runs"])), run["mean_seed"]) for run in arms["three"]] == [
        (0, 3, 1000), (1, 3, 1001), (2, 3, 1002)]
    # Each member has a row, and the first one's has what is measured of all.
    head, *body = rows
    written = [row for row in body if row[:2] == ["three", "measure"]]
    assert [(row[head.index("seed")], row[head.index("mean_seed")]) for row in written[:4]] == [
        ("0", "1000.0"), ("1000", ""), ("2000", ""), ("1", "1001.0")] and len(written) == 9
    assert [row[head.index("run")] for row in written] == [name for run in arms["three"] for name in run["runs"]]


def test_what_an_arm_changes_on_one_scale_goes_before_its_own_changes() -> None:
    scale = study.Scale({"epochs": 3}, seeds=1, of_arms={"high": {"epochs": 2, "learning_rate": 0.07}})
    changed = dataclasses.replace(TOY, scales={**TOY.scales, "sample": scale})
    recipes = {arm.label: changed.recipe(arm, "sample") for arm in changed.arms}
    assert (recipes["high"].epochs, recipes["high"].learning_rate) == (2, 0.07)
    assert recipes["low"].epochs == 3 and changed.recipe(changed.arms[1], "full").learning_rate == 0.05


def test_what_a_study_measures_is_kept_apart_from_what_others_measure_by_the_same_name() -> None:
    names = studies.studies()
    assert len({measures.version(name) for name in names}) == len(names)


def test_the_two_stages_of_a_seed_are_drawn_as_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((ROOT / "experiments" / "studies" / "workflow" / study.RECORD).read_text())
    arms = {arm["label"]: arm["runs"] for arm in record["arms"]}
    name = "validation_accuracy"
    expected = [[*first["curves"][name], *then["curves"][name]]
                for first, then in zip(arms["first plain"], arms["then regularized"], strict=True)][1:]
    # The first seed has diverged in its first stage, and has no second one.
    arms["first plain"][0]["curves"] = {}
    del arms["then regularized"][0]
    drawn = []
    monkeypatch.setattr(figures, "curves", lambda record, panel, name, labels: drawn.append(record))
    study.draw(studies.studies()["workflow"], record)
    whole, = (arm["runs"] for arm in drawn[0]["arms"] if arm["label"] == "then regularized")
    assert [run["curves"][name] for run in whole] == expected


def test_an_arm_may_have_fewer_seeds() -> None:
    assert [list(study.Arm("arm", seeds=own).seeds_of(3)) for own in (0, 1, 5)] == [[0, 1, 2], [0], [0, 1, 2]]


def test_claims_have_names_of_their_own() -> None:
    names = [claim.name for one in studies.studies().values() for claim in one.claims]
    assert len(set(names)) == len(names)


def test_page_of_questions_names_every_study_and_every_claim() -> None:
    page = " ".join((ROOT / "docs" / "questions.md").read_text(encoding="utf-8").split())
    for one in studies.studies().values():
        assert f"tfcnn.studies.{one.name} " in page
        assert not [claim.name for claim in one.claims if f"`{claim.name}`" not in page]


def test_pages_show_the_recorded_studies() -> None:
    assert not claims.stale_pages(ROOT)


def test_arguments_that_are_no_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in ((["--seeds=0"], "0 must be a whole number from 1"),
                           (["--jobs=x"], "x must be a whole number from 1"), (["--scale=huge"], "huge")):
        assert console.run(study.parser_of(TOY), lambda arguments: 0, words) == 2
        assert (error := capsys.readouterr().err).startswith("error: ") and message in error
