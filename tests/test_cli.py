"""Flags: derived from the recipe, wholly; and what a mistake gets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, command, environment
from tfcnn import cli
from tfcnn.experiments.alexnet import RECIPE
from tfcnn.recipe import UsageError, settings

RUN_FLAGS = {"workdir", "data_dir", "devices", "overwrite", "histograms", "checkpoint_every", "cluster"}


def _parse(*arguments: str):
    return cli.parse(RECIPE, ["alexnet", *arguments])


def test_every_field_and_option_is_a_flag_with_the_experiments_value() -> None:
    values = cli.flag_values(RECIPE)
    names = {field.name for field in settings()} | set(RECIPE.options) | RUN_FLAGS
    assert names | {"flagfile", "undefok"} >= set(values) >= names
    for field in settings():
        assert values[field.name].default == getattr(RECIPE, field.name)
        assert values[field.name].help.endswith(field.metadata["help"])
    assert values["variant"].parser.enum_values == ["cifar", "paper", "one_tower"]
    assert _parse()[0] == RECIPE


def test_flags_change_the_recipe() -> None:
    recipe, values = _parse("--epochs=3", "--noaugment", "--learning_rate=1", "--normalization=none", "--nomirror",
                            "--overwrite", "--decay_epochs=3,4", "--schedule=step", "--workdir=w")
    assert recipe == RECIPE.replace(epochs=3, augment="none", learning_rate=1.0, normalization="none", mirror=False,
                                    decay_epochs="3,4", schedule="step")
    assert values["overwrite"].value and values["workdir"].value == "w"


@pytest.mark.parametrize("argument, augment", [
    ("--noaugment", "none"), ("--augment", "standard"), ("--augment=true", "standard"), ("--augment=false", "none"),
    ("--augment=mirror,crop:4,rotate:15,elastic:8:4", "mirror,crop:4,rotate:15,elastic:8:4")])
def test_augmentation_is_a_list_or_a_switch(argument: str, augment: str) -> None:
    assert _parse("--augment=strong", argument)[0] == RECIPE.replace(augment=augment)


def test_command_flags_give_the_recipe_again(tmp_path: Path) -> None:
    recipe, values = _parse("--epochs=3", "--noaugment", "--learning_rate=0.1", "--activation=tanh", "--data_dir=d d")
    file = tmp_path / "command.flags"
    file.write_text("".join(f"{flag}\n" for flag in cli._command_flags(recipe, values)))
    again, values = _parse(f"--flagfile={file}")
    assert again == recipe and again != RECIPE
    assert values["data_dir"].value == "d d"
    assert _parse(f"--flagfile={file}", "--epochs=5")[0] == recipe.replace(epochs=5)


@pytest.mark.parametrize("argument, word", [
    ("--epoch=3", "epoch"), ("--epochs=many", "epochs"), ("--epochs=0", "epochs"), ("--epochs", "epochs"),
    ("--learning_rate=fast", "learning_rate"), ("--learning_rate=nan", "learning_rate"), ("--optimizer=lion", "lion"),
    ("--variant=googlenet", "googlenet"), ("--augment=perhaps", "perhaps"), ("--precision=int8", "int8"),
    ("epochs=3", "epochs=3"), ("--flagfile=/nowhere/x", "/nowhere/x"), ("--validation=1.5", "validation"),
    ("--batch_size=-3", "batch_size"), ("--devices=-1", "devices")])
def test_a_mistake_is_one_line_and_status_2(argument: str, word: str, tmp_path: Path, run_command) -> None:
    done = run_command(argument, "--dataset=sample")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and word in lines[0]
    assert not list(tmp_path.iterdir())


def test_flags_of_the_run_that_a_resumed_run_needs_are_kept() -> None:
    recipe, values = _parse("--devices=2", "--checkpoint_every=5m", "--histograms", "--workdir=w", "--overwrite")
    assert set(cli._command_flags(recipe, values)) - set(cli._command_flags(*_parse())) == {
        "--devices=2", "--checkpoint_every=5m", "--histograms=true"}


def test_output_that_nobody_reads_is_no_error() -> None:
    program = subprocess.Popen(command("--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(ROOT))
    assert program.stdout and program.stderr
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 141  # what a shell says of a program that SIGPIPE ended
    program.stderr.close()


def test_usage_errors_are_raised_in_python() -> None:
    with pytest.raises(UsageError, match="Did you mean: augment"):
        _parse("--no_augment")
