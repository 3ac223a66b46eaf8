"""The benchmark's arithmetic and order; how fast anything is, is no test's business."""

from __future__ import annotations

import time

import pytest

from tfcnn import benchmark


def test_functions_are_run_in_turn_after_one_round_of_warming_up(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def function(name: str, seconds: float):
        def run() -> None:
            calls.append(name)
            clock[0] += seconds
        return run

    rates = benchmark.compare({"slow": (function("slow", 2.0), 100), "fast": (function("fast", 0.5), 100)}, 3)
    assert calls == ["slow", "fast"] * 4
    assert rates == {"slow": [50.0] * 3, "fast": [200.0] * 3}


def test_table_has_medians_and_ratios() -> None:
    lines = benchmark.table({"a": [10.0, 30.0, 20.0], "reference": [40.0, 40.0, 100.0]}, "reference").splitlines()
    assert "20 images/s (10 to 30), 0.50 times reference" in lines[0]
    assert "40 images/s (40 to 100), 1.00 times itself" in lines[1]
