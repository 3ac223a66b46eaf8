"""Speeds measured side by side: in turn and in one process, so that machine noise affects all of them equally."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Mapping

# Does something a given number of times.
Work = Callable[[int], object]
# Prepares the work from scratch, so that nothing prepared ahead while others ran counts for it.
Start = Callable[[], Work]
# Name -> images per second in each round.
Rates = dict[str, list[float]]


def compare(measured: Mapping[str, tuple[Start, int]], rounds: int, seconds: float = 0.5) -> Rates:
    """Times several kinds of work in turn, round after round. Each is started anew and warmed up before it is timed.

    Args:
      measured: name -> (what starts the work, how many images it handles each time).
      rounds: how often each is timed.
      seconds: the approximate duration of each timing; longer if doing the work once takes longer.

    Returns:
      name -> images per second in each round.
    """
    times = {}
    for name, (start, _) in measured.items():
        work = start()
        work(1)
        times[name] = repetitions(functools.partial(_timed, work), seconds)
    rates: Rates = {name: [] for name in measured}
    for _ in range(rounds):
        for name, (start, images) in measured.items():
            work = start()
            work(1)
            rates[name].append(images * times[name] / _timed(work, times[name]))
    return rates


def repetitions(timed: Callable[[int], float], seconds: float) -> int:
    """How many times some work can be done in a given time, at least once. Finds out by doing it.

    Args:
      timed: does the work, already warmed up, a given number of times and returns the seconds it took.
      seconds: the time to fill.
    """
    times = 1
    while (took := timed(times)) < seconds / 4:
        times = math.ceil(times * min(10, max(2, seconds / max(took, 1e-9))))
    return max(1, round(times * seconds / took))


def _timed(work: Work, times: int) -> float:
    begin = time.perf_counter()
    work(times)
    return time.perf_counter() - begin


def median(rates: Rates) -> dict[str, float]:
    """Name -> the median over its rounds."""
    return {name: statistics.median(values) for name, values in rates.items()}


def ratio(rates: Rates, name: str, reference: str) -> float:
    """The speed of `name` relative to that of `reference`: the median over the rounds, in each of which both ran."""
    return statistics.median(_ratios(rates, name, reference))


def cost(rates: Rates, name: str, reference: str) -> float:
    """The fraction by which `name` is slower than `reference`: 1 - `ratio`."""
    return 1 - ratio(rates, name, reference)


def uncertainty(rates: Rates, name: str, reference: str) -> float:
    """The standard error of `cost`, estimated from the quartiles over at least two rounds.

    For n normally distributed values the standard error of the median is sqrt(pi / 2) * sigma / sqrt(n), and the
    distance of their quartiles is 1.349 sigma.
    """
    ratios = _ratios(rates, name, reference)
    lower, _, upper = statistics.quantiles(ratios, n=4)
    return 0.93 * (upper - lower) / math.sqrt(len(ratios))  # 0.93 = sqrt(pi / 2) / 1.349


def _ratios(rates: Rates, name: str, reference: str) -> list[float]:
    return [one / other for one, other in zip(rates[name], rates[reference], strict=True)]
