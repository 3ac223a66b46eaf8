"""The architecture: which module imports which, what starts without TensorFlow, what an experiment is."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import tfcnn
from tests.conftest import SLOWEST
from tfcnn import experiments
from tfcnn.recipe import Recipe

PACKAGE = Path(tfcnn.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
EXPERIMENTS = [module.name for module in pkgutil.iter_modules(experiments.__path__)]

# A module may import modules of a smaller level, and those of its own room.
LEVELS = {
    "drawing": 0, "augmentations": 0, "processor": 0, "memory": 0, "nvidia": 0, "_compat": 0,
    "startup": 1, "recipe": 1, "signals": 1, "streams": 1,
    "files": 2, "arguments": 2, "contact_sheet": 2, "event_files": 2,
    "console": 3, "flags": 3, "markdown": 3, "exit_status": 3,
    "networks": 4, "data": 4, "runs": 4,
    "description": 5, "commands": 5,
    "trained": 6,
    "training": 7,
    "cli": 8,
    "benchmarks": 9, "describe": 9, "evaluate": 9, "predict": 9, "explain": 9, "export": 9, "convert": 9,
    "experiments": 10, "silent_units": 10,
    "verdict": 11, "measures": 11, "trainings": 11,
    "study": 12, "figures": 12, "workflow": 12,
    "studies": 13,
    "claims": 14,
    "report": 15,
    "__main__": 16,
}
# A room's command stands above it, beside another command.
COMMANDS = {"runs/__main__.py": "evaluate"}


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> set[str]:
    """The modules of the suite that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("tfcnn.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        assert not _imports(path)
        return
    level = LEVELS[COMMANDS.get(path.relative_to(PACKAGE).as_posix(), own)]
    for name in _imports(path):
        part = _part(name)
        assert part == own or LEVELS[part] < level, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_parts_of_other_libraries_are_in_compat_only(path: Path) -> None:
    words = ("tensorflow.python", "_create_device_dataset", "_all_reduce_sum_gradients", "_get_variable_index",
             "_flatten_layers", "_keras_history", "_inbound_nodes", "_reconstruct", "__getitems__")
    text = path.read_text()
    assert path.name == "_compat.py" or not [word for word in words if word in text]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    """A file has at most 400 lines; a function 50, without its docstring."""
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            docstring = len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert node.end_lineno - node.lineno + 1 - docstring <= 50, node.name


def test_a_network_knows_only_keras_and_layers() -> None:
    for path in (PACKAGE / "networks").glob("*.py"):
        assert {_part(name) for name in _imports(path)} <= {"networks", "recipe"}, path
    for path in (PACKAGE / "networks" / "layers").glob("*.py"):
        assert all(name.startswith("tfcnn.networks.layers") or _part(name) in ("processor", "_compat")
                   for name in _imports(path)), path


def test_trainer_names_no_network_and_no_dataset() -> None:
    names = {path.stem for path in (PACKAGE / "networks").glob("*.py")} - {"__init__", "options"}
    names |= {"cifar10", "cifar100", "mnist", "fashion_mnist", "sample", "folder"}
    for path in (PACKAGE / "training").glob("*.py"):
        words = {node.value for node in ast.walk(ast.parse(path.read_text()))
                 if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        assert not names & words, path


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_is_short_and_has_a_plain_recipe(name: str) -> None:
    module = importlib.import_module(f"tfcnn.experiments.{name}")
    assert len(Path(str(module.__file__)).read_text().splitlines()) <= 66
    assert hasattr(module, "RECIPE") == hasattr(module, "SAMPLE") == (name in experiments.recipes())
    if hasattr(module, "RECIPE"):
        assert Recipe.from_json(module.RECIPE.to_json()) == module.RECIPE == experiments.recipes()[name]
        assert module.RECIPE.experiment == name
        assert module.RECIPE.replace(**module.SAMPLE) and module.SAMPLE == experiments.samples()[name]


def test_order_of_slow_test_files_names_existing_files() -> None:
    assert [name for name in SLOWEST if not Path(__file__).with_name(f"{name}.py").exists()] == []


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_help_needs_no_tensorflow(name: str) -> None:
    program = (f"import runpy, sys; sys.argv = ['{name}', '--help']\n"
               f"try: runpy.run_module('tfcnn.experiments.{name}', run_name='__main__')\n"
               "except SystemExit as end: status = end.code\n"
               "heavy = {'tensorflow', 'keras', 'numpy', 'matplotlib', 'tensorflow_datasets'} & set(sys.modules)\n"
               "sys.exit(status or f'imported {heavy}' if heavy else status)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: python -m" in done.stdout and "--workdir" in done.stdout
    assert ("--learning_rate" in done.stdout) == (name in experiments.recipes())
