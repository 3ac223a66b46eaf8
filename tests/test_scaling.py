"""Scaling with devices and processes: which process runs on which cores, arithmetic, report. Speed is not tested."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tfcnn import cli, processor
from tfcnn.benchmarks import rates, scaling
from tfcnn.benchmarks.worker_process import WorkerFailed, WorkerProcess
from tfcnn.experiments import scaling as experiment
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import Recipe, UsageError


def _defaults(**changes: Any) -> dict[str, Any]:
    return {name: option.value for name, option in experiment.OPTIONS.items()} | changes


def test_cores_are_shared_equally() -> None:
    assert scaling.shares([0, 1, 4, 5, 6], 2) == [[0, 1], [4, 5]]
    assert scaling.shares([3, 7], 2) == [[3], [7]] and scaling.shares([3, 7], 1) == [[3, 7]]


def test_counts_are_read_from_flags_and_begin_with_one() -> None:
    assert experiment.counts(_defaults(), "devices") == [1, 2, 4]
    assert experiment.counts(_defaults(devices="4,2"), "devices") == [1, 2, 4]
    assert experiment.counts(_defaults(processes="1"), "processes") == [1]


@pytest.mark.parametrize("changes, word", [
    ({"devices": ""}, "--devices"), ({"devices": "0"}, "--devices"), ({"processes": "1;2"}, "--processes"),
    ({"processes": "-2"}, "--processes"), ({"devices": "3"}, "--batch_size"), ({"network": "resnot"}, "--network"),
    ({"rounds": 0}, "--rounds"), ({"seconds": -1.0}, "--seconds"), ({"batch_size": 0}, "--batch_size"),
    ({"processes": "1024", "batch_size": 1024}, "cores")], ids=str)
def test_a_usage_error_comes_before_anything_starts(changes: dict[str, Any], word: str, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(scaling, "training_together")
    monkeypatch.setattr(processor, "available_cores", lambda: [0, 1])
    with pytest.raises(UsageError, match=word) as caught:
        experiment.measure(_defaults(**changes), tmp_path)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_ratios_are_medians_over_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a simulated clock: a step takes 1 s, on a share of the cores 1.6, of two processes 1.1 in odd rounds."""
    clock, ended = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    @contextlib.contextmanager
    def training(recipe: Recipe, shares: Sequence[Sequence[int]], devices: int = 1) -> Iterator[rates.Work]:
        calls = []

        def train(steps: int) -> None:
            calls.append(steps)
            whole = len(shares) == 1 and len(shares[0]) == 4
            clock[0] += steps * (1.0 if whole else 1.6 if len(shares) == 1 else 1.0 + 0.1 * (len(calls) // 2 % 2))
        yield train
        ended.append((shares, devices))

    monkeypatch.setattr(scaling, "training_together", training)
    monkeypatch.setattr(processor, "available_cores", lambda: [0, 1, 2, 3])
    recipe = RECIPE.replace(dataset="sample", batch_size=8)
    scaling.measure(recipe, [1, 2], [1, 2], 4, 1.0, tmp_path)
    assert sorted(ended) == [([[0, 1]], 1), ([[0, 1], [2, 3]], 1), ([[0, 1, 2, 3]], 1), ([[0, 1, 2, 3]], 2)]
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["cores"], result["cores_of_each_process"], result["rounds"]) == (4, 2, 4)
    assert {count: row["of_the_ideal"] for count, row in result["devices"].items()} == {"1": 1.0, "2": 1.0}
    one, two = result["processes"]["1"], result["processes"]["2"]
    assert one["images_per_second"] == pytest.approx(8 / 1.6) and one["of_the_ideal"] == 1.0
    assert one["of_one_process"] == pytest.approx(1 / 1.6)
    assert sorted(two["rounds"]) == pytest.approx([8 / 1.1, 8 / 1.1, 8.0, 8.0])
    assert two["of_one_process"] == pytest.approx((1 + 1 / 1.1) / 2)
    assert two["of_the_ideal"] == pytest.approx((1.6 + 1.6 / 1.1) / 2 / 2)


def test_without_synchronization_only_if_there_is_batch_normalization(tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    seen, clock = [], [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    @contextlib.contextmanager
    def training(recipe: Recipe, shares: Sequence[Sequence[int]], devices: int = 1) -> Iterator[rates.Work]:
        def train(steps: int) -> None:
            clock[0] += steps
        seen.append((recipe.synchronize, len(shares)))
        yield train

    monkeypatch.setattr(scaling, "training_together", training)
    monkeypatch.setattr(processor, "available_cores", lambda: [0, 1])
    for normalization in ("none", "batch"):
        recipe = RECIPE.replace(dataset="sample", normalization=normalization)
        scaling.measure(recipe, [1], [1, 2], 1, 1.0, tmp_path)
        result = json.loads((tmp_path / "result.json").read_text())
        assert list(result["processes"]) == ["1", "2"]
        if normalization == "none":
            assert seen == [(True, 1), (True, 1), (True, 2)] and not result["processes_not_synchronized"]
        else:
            assert seen[3:] == [(True, 1), (True, 1), (True, 2), (False, 2)]
            row = result["processes_not_synchronized"]["2"]
            report = (tmp_path / "README.md").read_text()
            assert f"not synchronized | {row['images_per_second']:,.0f} |" in report


@pytest.mark.skipif(len(processor.available_cores()) < 2, reason="needs two cores, one for each process")
def test_report_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Real processes, each with its own cores. The user's TF_CONFIG has no effect on them."""
    seen: list[tuple[WorkerProcess, set[int]]] = []

    class Watched(WorkerProcess):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            seen.append((self, os.sched_getaffinity(self._process.pid)))

    monkeypatch.setattr(scaling, "WorkerProcess", Watched)
    monkeypatch.setenv("TF_CONFIG", "{")
    flags = ["scaling", "--network=lenet5", "--batch_size=8", "--devices=1", "--processes=2", "--rounds=1",
             "--seconds=0.01", f"--workdir={tmp_path / 'run'}"]
    before = processor.available_cores()
    with pytest.raises(SystemExit) as end:
        cli.measure("scaling", experiment.OPTIONS, experiment.measure, flags)
    assert end.value.code == 0
    half = len(before) // 2
    whole, first, second = set(before), set(before[:half]), set(before[half:2 * half])
    assert [cores for _, cores in seen] == [whole, first, first, second] and processor.available_cores() == before
    assert all(process._process.returncode is not None for process, _ in seen)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["experiment"] == "scaling" and result["recipe"]["batch_size"] == 8
    rows = [result["devices"]["1"], result["processes"]["1"], result["processes"]["2"]]
    assert all(len(row["rounds"]) == 1 and row["images_per_second"] == row["rounds"][0] > 0 for row in rows)
    text = (tmp_path / "run" / "README.md").read_text()
    assert text in capsys.readouterr().out and "2 processes" in text and f"{rows[2]['of_one_process']:.3f}" in text
    assert Image.open(tmp_path / "run" / "scaling.png").size[0] == 1000


@pytest.mark.parametrize("first", ["", "exec 0<&-; echo '{}'", "echo '{}'; read steps"],
                         ids=["starting", "waiting", "training"])
def test_a_process_that_fails_is_reported(first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it fails at its start, before it can be told to train (its standard input is closed), or afterwards."""
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{first}\necho out of luck >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with (pytest.raises(WorkerFailed, match="^the process ended with status 1: out of luck$"),
          scaling.training_together(RECIPE, [processor.available_cores()]) as train):
        train(1)
    with pytest.raises(UsageError, match="^a process could not train: .* out of luck$"):
        experiment.measure(_defaults(network="lenet5", devices="1", processes="1"), tmp_path)
