"""Recorded runs: what a run's result was measured with, and a complete run's small files copied to experiments/."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfcnn import files
from tfcnn.recipe import UsageError
from tfcnn.runs.folder import COMMAND, CURVES, METRICS, RECIPE, RESULT, TIMINGS, RunFolder

PACKAGES = ("tensorflow", "keras", "numpy", "tensorflow-datasets")

# The files that `record` copies, in this order, the result last. TIMINGS is copied before them where it exists: runs of
# earlier versions have their timings in METRICS.
RECORDED = (RECIPE, COMMAND, METRICS, CURVES, RESULT)


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


def record(folder: RunFolder, root: Path, name: str = "") -> RunFolder:
    """Copies a complete run's small files (no weights, no events) to experiments/<experiment>/<name>/.

    Args:
      folder: the run.
      root: the repository.
      name: the recorded run's name; if empty, that of the run's folder.

    Returns:
      The recorded run.

    Raises:
      UsageError: the run is incomplete or damaged, `name` cannot name a folder, or a run of that name is recorded.
    """
    name = name or folder.path.resolve().name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise UsageError(f"--name={name} must begin with a letter or digit, followed by letters, digits, '.', '_', '-'")
    experiment = folder.read_result()["experiment"]
    for read in (folder.read_recipe, folder.read_command, folder.read_metrics):
        read()
    missing = [file for file in RECORDED if not (folder.path / file).is_file()]
    if missing:
        raise UsageError(f"{folder.path} cannot be recorded: it lacks {', '.join(missing)}")
    recorded = root / "experiments" / experiment / name
    try:
        recorded.mkdir(parents=True)
        timings = [TIMINGS] if (folder.path / TIMINGS).is_file() else []
        for file in (*timings, *RECORDED):
            shutil.copyfile(folder.path / file, recorded / file)
    except FileExistsError as error:
        raise UsageError(f"{recorded} exists already; give another --name, or remove it first") from error
    except OSError as error:
        raise files.usage_error(f"cannot record {folder.path} as {recorded}", error) from error
    return RunFolder(recorded)


def dataset_label(result: Mapping[str, Any]) -> str:
    """The name of a result's data set, for people: with its source, unless that says the same."""
    name, source = result["dataset"]["name"], result["dataset"]["source"]
    return source if name == "folder" else name if source in ("", name) else f"{name} ({source})"


def unfinished(folder: Path) -> dict[str, Any] | None:
    """The result that an interrupted benchmark left in a folder.

    Returns:
      The result, whose field `complete` is false; None if the folder holds no such result.
    """
    try:
        result = json.loads((folder / RESULT).read_bytes())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("complete") is False else None
