"""What `--augment` may say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfcnn.augmentations import KINDS, PRESETS, Operation, describe, parse

from tests.conftest import ROOT


@pytest.mark.parametrize("text, operations", [
    ("mirror,crop:4,rotate:15,elastic:8:4", (Operation("mirror"), Operation("crop", (4,)), Operation("rotate", (15.0,)),
                                             Operation("elastic", (8.0, 4.0)))),
    (" crop : 2 , mirror", (Operation("crop", (2,)), Operation("mirror"))),
    ("elastic:20", (Operation("elastic", (20.0, 4.0)),)),
    ("cutout", (Operation("cutout", (8,)),)),
    ("translate:1e-1", (Operation("translate", (0.1,)),)),
    ("none", ()),
    ("none,mirror", (Operation("mirror"),)),
    ("standard", (Operation("crop", (4,)), Operation("mirror"))),
    ("standard,cutout:6", (Operation("crop", (4,)), Operation("mirror"), Operation("cutout", (6,)))),
    ("alexnet", (Operation("crop", (4,)), Operation("mirror"), Operation("colour_pca", (0.1,)))),
    ("strong,mixup:0.4", (Operation("crop", (4,)), Operation("mirror"), Operation("randaugment", (2, 9.0)),
                          Operation("cutout", (8,)), Operation("mixup", (0.4,)))),
])
def test_a_specification_is_its_operations_in_order(text: str, operations: tuple[Operation, ...]) -> None:
    assert parse(text) == operations


@pytest.mark.parametrize("text", [
    *KINDS, *PRESETS, "elastic:0.1:3", "translate:0.30000000000000004", "zoom:0.123456789"])
def test_what_was_parsed_is_written_so_that_it_parses_to_the_same(text: str) -> None:
    operations = parse(text)
    assert parse(",".join(map(str, operations)) or "none") == operations


@pytest.mark.parametrize("text, message", [
    ("", "write none"),
    ("mirror,", "remove the comma"),
    ("mirror,,crop", "remove the comma"),
    ("rotat:3", "did you mean rotate?.*cutmix, and in first place one of none, standard"),
    ("standart", "did you mean standard?"),
    ("mirror:1", "too many arguments in mirror:1: write mirror$"),
    ("elastic:8:4:1", "write elastic:ALPHA:SIGMA$"),
    ("crop:1.5", "PADDING must be a whole number"),
    ("crop:-1", "PADDING must be at least 0"),
    ("crop:1001", "PADDING must be .* at most 1000"),
    ("rotate:", "DEGREES must be a number"),
    ("rotate:nan", "DEGREES must be a number"),
    ("rotate:inf", "DEGREES must be a number"),
    ("rotate:180.5", "at least 0 and at most 180"),
    ("resized_crop:0", "MIN_SCALE must be more than 0 and at most 1"),
    ("resized_crop:1.1", "MIN_SCALE must be more than 0 and at most 1"),
    ("elastic:8:0", "SIGMA must be more than 0"),
    ("randaugment:0", "OPERATIONS must be at least 1 and at most 8"),
    ("randaugment:2:11", "MAGNITUDE must be at least 0 and at most 10"),
    ("mixup:0", "ALPHA must be more than 0"),
    ("mirror,crop,mirror", "has mirror twice"),
    ("standard,crop:2", "has crop twice"),
    ("mixup,cutmix", "mixed only once"),
    ("standard,alternating_mirror", "mirror and alternating_mirror, which together mirror at random: leave one out"),
    ("mixup,mirror", "put mixup, which mixes finished images, last"),
    ("mirror,standard", "preset standard in the wrong place"),
    ("standard,none", "preset none in the wrong place"),
    ("standard:2", "preset standard in the wrong place"),
])
def test_a_mistake_is_named_in_one_line_with_what_to_do(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(text)
    assert str(caught.value).startswith(f"--augment={text} has ") and "\n" not in str(caught.value)


def test_help_has_every_operation_with_its_arguments_and_every_preset() -> None:
    lines = {line.split(": ")[0]: line for line in describe().splitlines()}
    assert set(lines) == set(PRESETS) | {":".join([name, *(argument.name for argument in kind.arguments)])
                                         for name, kind in KINDS.items()}
    assert "whole" not in lines["mirror"] and "default 8" in lines["cutout:SIZE"]


def test_defaults_are_within_their_ranges() -> None:
    for name, kind in KINDS.items():
        defaults = parse(name)[0].arguments
        assert defaults == tuple(argument.default for argument in kind.arguments)
        assert parse(str(Operation(name, defaults)))[0].arguments == defaults


def test_no_heavy_module_is_imported() -> None:
    program = ("import sys; from tfcnn import augmentations; augmentations.parse('strong')\n"
               "assert not {'tensorflow', 'numpy', 'keras'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
