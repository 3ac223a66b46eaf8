"""The pages do what they say: commands parse, code runs, links and anchors lead somewhere, rendered parts are fresh."""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

from tests import pages
from tests.conftest import ROOT, environment
from tests.forked import Forked
from tfcnn import describe, flags, studies, study
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.networks.options import OPTIONS
from tfcnn.recipe import settings
from tfcnn.runs import __main__ as runs_command

EXAMPLES = [words[1:] for words in pages.commands("docs/training.md") if words[0] == "alexnet"]
NOTES = "BUILD_NOTES.md"


# Links and anchors.

@pytest.mark.parametrize("page", pages.ALL)
def test_links_lead_somewhere(page: str) -> None:
    for link in pages.links(page):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("page", pages.MANUAL)
def test_anchors_are_unique(page: str) -> None:
    found = pages.anchors(page)
    assert len(set(found)) == len(found)


def test_readme_links_to_every_page() -> None:
    assert set(pages.MANUAL) - {"README.md"} <= {link.partition("#")[0] for link in pages.links("README.md")}


def test_anchors_are_those_of_github() -> None:
    assert pages.anchor("A run's state is its checkpoint") == "a-runs-state-is-its-checkpoint"
    assert pages.anchor("No autotuning in tf.data") == "no-autotuning-in-tfdata"
    assert pages.anchor("AVX-512 and `bfloat16`") == "avx-512-and-bfloat16"


def test_build_notes_have_a_table_of_contents() -> None:
    titles = [(level, title) for level, title in pages.headings(NOTES) if level > 1 and title != "Contents"]
    contents = pages.text(NOTES).split("## Contents\n\n")[1].split("\n\n")[0].splitlines()
    assert contents == [f"{'  ' * (level - 2)}- [{title}](#{pages.anchor(title)})" for level, title in titles]


@pytest.mark.parametrize("path", pages.python_files("tfcnn", "tests"), ids=lambda path: str(path.relative_to(ROOT)))
def test_code_refers_to_headings_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for page, anchor in re.findall(r"\b(BUILD_NOTES\.md|docs/\w+\.md)#([\w-]+)", text):
        assert anchor in pages.anchors(page), f"{page}#{anchor}"
    if path.parent.name != "tests" or path.stem not in ("test_docs", "pages"):
        assert not re.findall(r"BUILD_NOTES(?!\.md#\w)", text), "name an anchor: BUILD_NOTES.md#..."


@pytest.mark.parametrize("page", pages.MANUAL)
def test_lines_are_at_most_120_characters(page: str) -> None:
    lines = [line for line in pages.prose(page).splitlines() if not line.startswith(("|", "!["))]
    assert [line for line in lines if len(line) > 120] == []


# Commands and code.

@pytest.mark.parametrize("page, words", [(page, words) for page in pages.MANUAL for words in pages.commands(page)],
                         ids=lambda value: value if isinstance(value, str) else " ".join(value)[:80])
def test_commands_parse(page: str, words: list[str]) -> None:
    _parse(words)


def _parse(words: list[str]) -> None:
    """Parses a command by its own parser; a command that is not known here fails."""
    program, *arguments = words
    if program == "alexnet":
        words = ["python", "-m", "tfcnn.experiments.alexnet", *arguments]
    elif program == "srun":
        words = arguments[next(index for index, word in enumerate(arguments) if not word.startswith("--")):]
    elif program in ("alias", "export") or words == "python3 -m venv .venv".split():
        return
    if words[0].removeprefix(".venv/bin/") == "pip":
        return _parse_pip(*words[1:])
    assert words[0].removeprefix(".venv/bin/") == "python" and words[1] == "-m", words
    _parse_module(words[2], words[3:])


def _parse_pip(command: str, *arguments: str) -> None:
    assert (command, arguments[0]) == ("install", "-e")
    extra, = re.findall(r"\.\[(\w+)\]", arguments[1])
    configuration = configparser.ConfigParser()
    configuration.read(ROOT / "setup.cfg")
    assert extra in configuration["options.extras_require"]


def _parse_module(module: str, arguments: list[str]) -> None:
    if module.startswith("tfcnn.experiments."):
        _parse_experiment(module, arguments)
    elif module == "tfcnn.describe":
        network = arguments.pop(0) if not arguments[0].startswith("--") else None
        if arguments != ["--help"]:
            describe._parser(network).parse_args([network, *arguments] if network else arguments)
    elif module == "tfcnn.runs":
        runs_command._parser().parse_args(arguments)
    elif module in ("tfcnn.evaluate", "tfcnn.export", "tfcnn.predict", "tfcnn.trained", "tfcnn.convert",
                    "tfcnn.explain"):
        importlib.import_module("tfcnn.trained.__main__" if module == "tfcnn.trained" else module)._parser().parse_args(
            arguments)
    elif module.startswith("tfcnn.studies."):
        name = module.rpartition(".")[2]
        one = studies.studies()["relu_against_tanh" if name == "NAME" else name]
        own = getattr(importlib.import_module(f"tfcnn.studies.{one.name}"), "_parser", lambda: study.parser_of(one))
        own().parse_args(arguments)
    elif module in ("tfcnn.claims", "tfcnn.report"):
        importlib.import_module(module)._parser().parse_args(arguments)
    elif module == "tfcnn.data.streaming":
        assert all(re.fullmatch(r"--(images|batch_size|size)=\d+", argument) for argument in arguments)
    else:
        assert importlib.util.find_spec(module), module
        assert module in ("pytest", "tests.interruptions", "tfcnn") or re.fullmatch(r"--logdir=\S+", arguments.pop())
        assert not arguments


def _parse_experiment(module: str, arguments: list[str]) -> None:
    experiment = importlib.import_module(module)
    words = [module, *(word for word in arguments if not word.startswith("--flagfile=runs/"))]
    if words[1:] == ["--help"]:
        return
    if hasattr(experiment, "RECIPE"):
        flags.parse(experiment.RECIPE, words)
        return
    flags.parse_options(module.rpartition(".")[2], experiment.OPTIONS, words)


@pytest.mark.parametrize("words", EXAMPLES, ids=" ".join)
def test_examples_of_flags_are_right(words: list[str]) -> None:
    arguments = ["alexnet", *(word for word in words if not word.startswith("--flagfile"))]
    recipe, values = flags.parse(RECIPE, arguments)
    of_run = values.flags_by_module_dict()["run"]
    assert len(arguments) == 1 or recipe != RECIPE or any(flag.present for flag in of_run)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 8


@pytest.mark.parametrize("page", pages.MANUAL)
def test_flags_named_in_prose_exist(page: str) -> None:
    known = {name for options in OPTIONS.values() for name in options} | {field.name for field in settings()}
    known |= set(flags.of_recipe(RECIPE, {"any": {}})) | {"all", "format", "readme", "diagram", "check"}  # describe
    known |= {"rounds", "seconds", "precisions", "modes", "networks", "processes", "device"}  # benchmarks
    known |= {"tta", "split", "layer", "quantize", "largest_loss", "mean", "std", "classes", "zeros"}  # trained
    known |= {"name", "weights", "network"}  # runs, and their conversion
    known |= {"scale", "seeds", "jobs", "experiment", "out"}  # studies, and the page of everything
    known |= {"images", "logdir", "help", "flagfile", "gpus-per-task"}  # streaming, TensorBoard, absl, Slurm
    known |= {"xla_cpu_use_fusion_emitters"}  # XLA
    for span in pages.code_spans(page):
        for flag in re.findall(r"(?<!\S)--(?:no(?=[a-z]))?([\w-]+)", span):
            assert flag in known or f"no{flag}" in known, span


def test_python_blocks_run(tmp_path: Path) -> None:
    train, = pages.blocks("README.md", "python")
    assert len(train.splitlines()) == 6
    load, _ = pages.blocks("docs/trained.md", "python")  # test_exporting.py runs the second one
    program = tmp_path / "notebook.py"
    # An epoch of a few steps instead of one of the whole sample: what is tested is the code, not the accuracy.
    train = train.replace("epochs=1", "epochs=1, validation=0.95, batch_size=100")
    program.write_text(f"{train}{load}print(tuple(probabilities.shape), probabilities.sum())\n")
    done = Forked(runpy.run_path, str(program), cwd=tmp_path, env=environment(tmp_path)).completed()
    assert done.returncode == 0, done.stderr
    assert "1,756,426" in done.stdout
    accuracy, loaded = re.findall(r"^(?:[\d.]+|\(1, 10\) .*)$", done.stdout, re.MULTILINE)
    assert 0 < float(accuracy) < 1
    assert loaded.startswith("(1, 10) ") and abs(float(loaded.split()[-1]) - 1) < 1e-5
    assert (tmp_path / "runs" / "notebook" / "result.json").exists()


# Rendered parts, and tables of measurements.

def test_speeds_are_those_of_the_recorded_runs() -> None:
    """Of every network in both precisions: the default mode, PyTorch's best, the ratios, bold below their target."""
    in_float32, in_bfloat16 = (json.loads((ROOT / "experiments" / name / "result.json").read_text())["networks"]
                               for name in ("frameworks", "frameworks_bfloat16"))

    def cells(found: dict[str, Any], target: float, share: float) -> list[str]:
        speeds = [f"{found['arms'][mode]['median']:,.0f}" for mode in ("graph", found["best_pytorch"])]
        return speeds + [f"**{found[name]:.2f}**" if found[name] < least else f"{found[name]:.2f}"
                         for name, least in (("over_pytorch", target), ("share_of_ceiling", share))]

    table = pages.text("docs/performance.md").split("whose page also says what each mode is good for:\n\n")[1]
    lines = table.split("\n\n")[0].splitlines()[2:]
    names = [*in_float32, "airbench"]
    assert len(lines) == len(names) == len(in_bfloat16) == 9
    for line, name in zip(lines, names):
        share = 0.85 if name in ("vgg", "resnet18", "inception", "alexnet") else 0.7 if name == "resnet20" else 0.0
        expected = cells(in_bfloat16[name]["bfloat16"], 1.15, 0.0)
        expected += cells(in_float32[name]["float32"], 1.25, share) if name in in_float32 else [""] * 4
        assert [cell.strip() for cell in line.split("|")][2:-1] == expected


def test_build_notes_list_every_private_part() -> None:
    functions = re.findall(r"^def ([a-z]\w*)\(", (ROOT / "tfcnn" / "_compat.py").read_text(), re.MULTILINE)
    section = pages.text(NOTES).split("## Private parts of other libraries")[1]
    listed = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert functions and listed == functions
