"""The benchmarks' arithmetic, order and reports. Speed is not tested."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcnn import processor
from tfcnn.augmentations import KINDS, PRESETS, parse
from tfcnn.benchmarks import contact_sheet, frameworks, hardware, input_pipeline, rates
from tfcnn.experiments import augmentations
from tfcnn.experiments import input_pipeline as experiment
from tfcnn.experiments.lenet5 import RECIPE
from tfcnn.recipe import UsageError


RECORDED = [path.parent for name in ("frameworks*", "input_pipeline", "scaling")
            for path in sorted(Path(__file__).parents[1].glob(f"experiments/{name}/result.json"))]


def test_each_is_started_anew_and_timed_in_turn_for_the_given_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def started(name: str, seconds: float) -> rates.Start:
        def start() -> rates.Work:
            calls.append((name, 0))
            clock[0] += 100.0  # starting does not count

            def work(times: int) -> None:
                calls.append((name, times))
                clock[0] += seconds * times
            return work
        return start

    found = rates.compare({"slow": (started("slow", 20.0), 100), "fast": (started("fast", 0.5), 100)}, 3, 10.0)
    assert found == {"slow": [5.0] * 3, "fast": [200.0] * 3}
    assert calls[-12:] == [("slow", 0), ("slow", 1), ("slow", 1), ("fast", 0), ("fast", 1), ("fast", 20)] * 2


def test_cost_is_the_median_fraction_of_speed_lost() -> None:
    found = {"constant": [100.0, 200.0, 400.0], "fed": [90.0, 190.0, 200.0]}
    assert rates.median(found) == {"constant": 200.0, "fed": 190.0}
    assert rates.cost(found, "fed", "constant") == pytest.approx(0.1)


def test_uncertainty_is_the_standard_deviation_of_the_cost_over_repeated_runs() -> None:
    speeds = np.random.default_rng(0).normal(95, 4, (2000, 41))
    runs = [{"constant": [100.0] * 41, "fed": list(row)} for row in speeds]
    deviation = np.std([rates.cost(run, "fed", "constant") for run in runs])
    assert np.mean([rates.uncertainty(run, "fed", "constant") for run in runs]) == pytest.approx(deviation, rel=0.1)


def test_all_threads_are_limited_to_the_cores() -> None:
    before, seen, go = processor.available_cores(), [], threading.Event()

    def look() -> None:
        go.wait()
        seen.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=look)
    thread.start()
    with hardware.limited_to(1):
        assert processor.available_cores() == before[:1]
        go.set()
        thread.join()
    assert seen == [set(before[:1])] and processor.available_cores() == before


def test_report_has_every_augmentation_and_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert {operation.name for text in input_pipeline.KERAS_LAYERS for operation in parse(text)} == set(KINDS)
    assert set(input_pipeline.KERAS_LAYERS) >= {"standard", "alexnet", "strong"}
    chosen = {name: input_pipeline.KERAS_LAYERS[name] for name in ("crop:4,mirror", "mixup:0.2", "standard")}
    monkeypatch.setattr(input_pipeline, "KERAS_LAYERS", chosen)
    recipe = RECIPE.replace(dataset="sample", variant="modern")
    input_pipeline.measure({"lenet5": recipe}, ("standard",), 2, 0.01, tmp_path / "speeds")
    result = json.loads((tmp_path / "speeds" / "result.json").read_text())
    speeds = result["images_per_second"]
    assert list(speeds) == list(chosen) and all(speed > 0 for row in speeds.values() for speed in row.values())
    assert [len(row) for row in speeds.values()] == [4, 4, 2]
    trained = result["training"]["lenet5"]
    assert set(trained) == {"constant batch", "rounds", "cost of standard", "uncertainty of standard"}
    assert trained["rounds"] >= 2
    text = (tmp_path / "speeds" / "README.md").read_text()
    assert text in capsys.readouterr().out and f"{speeds['standard']['one core']:,.0f}" in text and "| lenet5 |" in text
    assert Image.open(tmp_path / "speeds" / "speeds.png").size[0] == 1000


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: folder.name)
def test_recorded_page_is_rendered_from_its_result(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    report = importlib.import_module(f"tfcnn.benchmarks.{result['experiment']}_report")
    labels = [{name: mode.label for name, mode in frameworks.MODES.items()}]
    assert (folder / "README.md").read_text() == report.text(
        result, *(labels if result["experiment"] == "frameworks" else []))


@pytest.mark.parametrize(("flag", "value"), [("rounds", 1), ("networks", "lenet5,lenet6")])
def test_what_cannot_be_measured_is_a_usage_error(flag: str, value: int | str, tmp_path: Path) -> None:
    values = {name: option.value for name, option in experiment.OPTIONS.items()}
    with pytest.raises(UsageError, match=f"--{flag}={value}: "):
        experiment.measure(values | {flag: value}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("images", [0, -1, 6001])
def test_a_contact_sheet_of_no_or_too_many_images_is_a_usage_error(images: int, tmp_path: Path) -> None:
    values = {name: option.value for name, option in augmentations.OPTIONS.items()}
    with pytest.raises(UsageError, match=f"--images={images}"):
        augmentations.draw(values | {"images": images}, tmp_path)


def test_contact_sheet_shows_every_augmentation(tmp_path: Path) -> None:
    shown = [text for texts in augmentations.SHOWN.values() for text in texts]
    assert {operation.name for text in shown for operation in parse(text)} == set(KINDS)
    assert set(augmentations.SHOWN["presets"]) <= set(PRESETS)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    path = contact_sheet.draw(images, {"mirror": [parse("mirror")], "none": [parse("none")]}, 0, tmp_path / "sheet")
    pixels = np.asarray(Image.open(path).convert("RGB"))
    enlarged = images[0].repeat(3, 0).repeat(3, 1)
    windows = np.lib.stride_tricks.sliding_window_view(pixels[..., 0], enlarged.shape[:2])
    positions = np.argwhere((windows[:, :, 0, 0] == enlarged[0, 0, 0]) & (windows[:, :, 50, 50] == enlarged[50, 50, 0]))
    same = [position for position in positions if np.array_equal(windows[tuple(position)], enlarged[..., 0])]
    assert len(same) >= 3  # unchanged in both rows, and after no operation


@pytest.mark.skipif(not shutil.which("lscpu"), reason="lscpu is not installed")
def test_the_processor_is_described_as_lscpu_does() -> None:
    lscpu = subprocess.run(["lscpu"], check=True, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    fields = dict(line.strip().split(":", 1) for line in lscpu.stdout.splitlines() if ":" in line)
    assert processor.model() == fields["Model name"].strip()
    assert processor.instructions() == set(fields["Flags"].split())
    cores = subprocess.run(["nproc"], check=True, capture_output=True, text=True,  # of those that we may use
                           env={name: value for name, value in os.environ.items() if not name.startswith("OMP_")})
    assert processor.description().startswith(processor.model())
    assert processor.description().split(", ")[-1].split()[0] == cores.stdout.strip()
