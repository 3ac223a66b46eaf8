"""Speeds measured side by side: in turn and in one process, so that a machine's moods hit all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def compare(measured: Mapping[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, list[float]]:
    """Runs each function once to warm it up, then all of them in turn, round after round.

    Args:
      measured: name -> (function, how many images a call of it handles).
      rounds: how often each is measured.

    Returns:
      name -> images a second in each round.
    """
    for function, _ in measured.values():
        function()
    rates: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, (function, images) in measured.items():
            start = time.perf_counter()
            function()
            rates[name].append(images / (time.perf_counter() - start))
    return rates


def table(rates: Mapping[str, list[float]], reference: str) -> str:
    """Lines of the median, lowest and highest rate of each, and its median as a multiple of the reference's."""
    unit = statistics.median(rates[reference])
    width = max(map(len, rates))
    return "\n".join(
        f"{name:<{width}} {statistics.median(values):>9,.0f} images/s ({min(values):,.0f} to {max(values):,.0f}), "
        f"{statistics.median(values) / unit:.2f} times {'itself' if name == reference else reference}"
        for name, values in rates.items())
