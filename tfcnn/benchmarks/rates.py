"""Speeds measured side by side: in turn and in one process, so that a machine's moods hit all alike."""

from __future__ import annotations

import functools
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from tfcnn import processor

# What is measured: does its work so many times.
Work = Callable[[int], object]
# Makes it ready anew, so that nothing that was done ahead while others ran counts for it.
Start = Callable[[], Work]
# Name -> images a second in each round.
Rates = dict[str, list[float]]


def compare(measured: Mapping[str, tuple[Start, int]], rounds: int, seconds: float = 0.5) -> Rates:
    """Times all in turn, round after round; each is started anew and warmed up before.

    Args:
      measured: name -> (what starts it, how many images it handles each time).
      rounds: how often each is measured.
      seconds: about how long each is measured in a round; longer if once takes longer.

    Returns:
      name -> images a second in each round.
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
    """How often some work is done in so many seconds, at least once, found by doing it.

    Args:
      timed: does the work, which was done before, so many times, and returns how many seconds that took.
      seconds: what is to be filled.
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
    """Name -> the median of its rounds."""
    return {name: statistics.median(values) for name, values in rates.items()}


def cost(rates: Rates, name: str, reference: str) -> float:
    """By what share `name` is slower than `reference`: the median over the rounds, in each of which both ran."""
    return 1 - ratio(rates, name, reference)


def uncertainty(rates: Rates, name: str, reference: str) -> float:
    """The standard error of `cost`, of the quartiles of at least two rounds, as if these were normally distributed."""
    ratios = [one / other for one, other in zip(rates[name], rates[reference], strict=True)]
    lower, _, upper = statistics.quantiles(ratios, n=4)
    return 0.93 * (upper - lower) / math.sqrt(len(ratios))  # 0.93 = sqrt(pi / 2) / 1.349


def ratio(rates: Rates, name: str, reference: str) -> float:
    """How many times as fast as `reference` `name` is: the median over the rounds, in each of which both ran."""
    return statistics.median(one / other for one, other in zip(rates[name], rates[reference], strict=True))


def available() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Within the context all threads of this process, those of TensorFlow too, share so many cores."""
    allowed = available()
    try:
        _pin(set(allowed[:count]))
        yield
    finally:
        _pin(set(allowed))


def _pin(chosen: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), chosen)


def machine() -> str:
    """The processor, the widest of its instructions that matter here, and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    known = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 with bfloat16", "avx512bw": "AVX-512", "avx2": "AVX2"}
    widest = next((f" ({label})" for flag, label in known.items() if flag in processor.instructions()), "")
    count = len(available())
    return f"{names[0] if names else model}{widest}, {count} core{'s' * (count > 1)}"
