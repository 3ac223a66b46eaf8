"""Recorded runs: what a run's result was measured with, and a complete run's small files copied to experiments/."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.runs.folder import (
    COMMAND, CURVES, EVALUATED, EVALUATION, METRICS, NORMALIZATION, RECIPE, RESULT, TIMINGS, RunFolder
)

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")

# The files that `record` copies, in this order, the result last. Those of earlier versions lack some of the first ones:
# they have their timings in METRICS.
OPTIONAL = (TIMINGS, NORMALIZATION)
RECORDED = (RECIPE, COMMAND, METRICS, CURVES, RESULT)
# A whitening matrix may have tens of megabytes, and is kept where weights are, which are of no use without it.
_LARGEST = 1_000_000  # bytes


def environment() -> dict[str, Any]:
    """The software that a run's numbers depend on.

    Returns:
      `versions`, of Python and of `PACKAGES`; and `commit`, of the checkout that holds this package, with `-dirty` at
      its end if a tracked file has been changed. What cannot be found out is "unknown".
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "unknown"
    return {"versions": versions, "commit": _commit(_checkout())}


def _checkout() -> Path:
    """The folder that holds this package."""
    return Path(__file__).resolve().parents[2]


def _commit(root: Path) -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()

    try:
        # If the package is installed inside another project's checkout, that project's commit is not the package's.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def repository_root() -> Path:
    """The checkout of tfcnn that contains the current folder, or else the one that contains this package.

    Raises:
      UsageError: there is no checkout.
    """
    current = Path.cwd()
    for folder in (current, *current.parents, _checkout()):
        if (folder / "setup.cfg").is_file() and (folder / "tfcnn" / "__init__.py").is_file():
            return folder
    raise UsageError("no checkout of tfcnn was found (a folder with setup.cfg and tfcnn/); change to one")


def recorded_runs(root: Path) -> list[RunFolder]:
    """The runs recorded in a repository: experiments/<experiment>/<name>/ with a result."""
    return [RunFolder(result.parent) for result in sorted(root.glob(f"experiments/*/*/{RESULT}"))]


def result_of_training(folder: RunFolder) -> dict[str, Any]:
    """The result of a complete run.

    Raises:
      UsageError: the run is not complete, its result is damaged, or it is a converted network, which no run has made.
    """
    result = folder.read_result()
    if "converted" in result:
        raise UsageError(f"{folder.path} is a converted network, not a run: nothing is known of its training")
    return result


def record(folder: RunFolder, root: Path, name: str = "", weights: Mapping[str, bytes] | None = None) -> RunFolder:
    """Copies a complete run's small files to experiments/<experiment>/<name>/, all of them or none.

    In its command, a `--data_dir` with an absolute path is left out. If the run has been evaluated on its own test set,
    by `tfcnn.evaluate` with its folder `evaluation` as `--out` (the default, unless it averages other views of each
    image than the run's own test did), the metrics are copied as well.

    Args:
      folder: the run.
      root: the repository.
      name: the recorded run's name; if empty, that of the run's folder.
      weights: files to add, by name: with them the recorded run is a trained network.

    Returns:
      The recorded run.

    Raises:
      UsageError: the run is incomplete or damaged, `name` cannot name a folder, or a run of that name is recorded.
    """
    name = name or folder.path.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"--name={name} must begin with a letter or digit, followed by letters, digits, '.', '_', '-'")
    experiment = result_of_training(folder)["experiment"]
    for read in (folder.read_recipe, folder.read_command, folder.read_metrics):
        read()
    missing = [file for file in RECORDED if not (folder.path / file).is_file()]
    if missing:
        raise UsageError(f"{folder.path} cannot be recorded: it lacks {', '.join(missing)}")
    recorded = root / "experiments" / experiment / name
    if recorded.exists():
        raise UsageError(f"{recorded} exists already; give another --name, or remove it first")
    unfinished = root / "experiments" / f"{experiment}-{name}.tmp"  # a level too high to be taken for a recorded run
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        recorded.parent.mkdir(exist_ok=True)
        for file in (*_optional(folder, bool(weights)), *RECORDED):
            shutil.copyfile(folder.path / file, unfinished / file)
        flags = [flag for flag in folder.read_command() if not _names_a_place(flag)]
        files.write(unfinished / COMMAND, "".join(f"{flag}\n" for flag in flags))
        for file, content in {**(weights or {}), **_evaluation(folder, name)}.items():
            (unfinished / file).parent.mkdir(exist_ok=True)
            files.write(unfinished / file, content)
        unfinished.rename(recorded)
    except OSError as error:
        raise files.usage_error(f"cannot record {folder.path} as {recorded}", error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return RunFolder(recorded)


def _evaluation(folder: RunFolder, name: str) -> dict[str, bytes]:
    """The file with the metrics of a run's evaluation on its own test set, by its name, if it has been evaluated.

    Args:
      folder: the run.
      name: the recorded run's name, which stands for the path of the run's folder.
    """
    found = folder.read_evaluation()
    if found is None or len(found["sources"]) > 1 or not is_of_own_test_set(found, folder.read_result()):
        return {}
    source, = found["sources"]
    found["sources"] = [name]
    for member in found.get("members", []):
        member["source"] = member["source"].replace(source, name)
    return {f"{EVALUATION}/{EVALUATED}": (json.dumps(found, indent=2) + "\n").encode()}


def is_of_own_test_set(evaluation: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Whether an evaluation is of the test set of the run with this result.

    Class folders are known by their source, which a converted network lacks.
    """
    name = evaluation["dataset"]
    return evaluation["split"] == "test" and name == result["dataset"]["name"] and (
        name != "folder" or result["dataset"]["source"] in ("", evaluation["source"]))


def _names_a_place(flag: str) -> bool:
    """Whether a flag says where the data or the other machines are, which is of no use on another machine."""
    name, _, value = flag.partition("=")
    return name in ("--data_dir", "--cluster") and os.path.isabs(value)


def _optional(folder: RunFolder, with_weights: bool) -> list[str]:
    """Those of `OPTIONAL` that a run has and that are recorded."""
    found = [file for file in OPTIONAL if (folder.path / file).is_file()]
    return [file for file in found if with_weights or (folder.path / file).stat().st_size <= _LARGEST]


def dataset_label(result: Mapping[str, Any]) -> str:
    """The name of a result's data set, for people: with its source, unless that says the same."""
    name, source = result["dataset"]["name"], result["dataset"]["source"]
    return source if name == "folder" else name if source in ("", name) else f"{name} ({source})"


def benchmark_result(folder: Path, name: str) -> dict[str, Any] | None:
    """The result of a benchmark in a folder; None if the folder holds none of this benchmark."""
    try:
        result = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("experiment") == name else None


def unfinished(folder: Path, name: str) -> dict[str, Any] | None:
    """The result that a benchmark left in a folder when it was interrupted.

    Returns:
      The result, whose field `complete` is false; None if the folder holds no such result.
    """
    result = benchmark_result(folder, name)
    return result if result and result.get("complete") is False else None
