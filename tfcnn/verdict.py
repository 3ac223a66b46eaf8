"""A claim about networks, and the rule by which measured runs decide it.

A claim is data, and is committed before the runs that judge it. The rule: with m the smallest difference that counts,
and the 95% t-interval of the difference over paired seeds,

    a claim of an effect:     REPRODUCED if the interval lies wholly above m, NOT REPRODUCED if wholly below m;
    a claim of no effect:     REPRODUCED if it lies wholly within -m to m, NOT REPRODUCED if wholly outside;
    everything else:          UNRESOLVED.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

REPRODUCED = "REPRODUCED"
NOT_REPRODUCED = "NOT REPRODUCED"
UNRESOLVED = "UNRESOLVED"

_CONFIDENCE = 0.95
_POWER = 0.8


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement about the arms of a study that measured runs can decide.

    Attributes:
      name: its name in the ledger, unique in the suite.
      statement: one sentence that is true or false.
      source: who says so: the note, and the paper with its section or table.
      published: the published figure, as text; "none" if there is none.
      measure: the name of the study's measure that decides.
      contrast: the arms' weights in the difference, by label, such as {"tanh": 1, "relu": -1}: how much more of the
        measure tanh has than ReLU. A difference of differences has four weights; a single arm is
        compared with 0.
      smallest: the smallest difference that counts, in the measure's unit; of a ratio the smallest factor.
      effect: False if the claim is that there is no effect that counts.
      ratio: whether the arms are compared by their ratio instead of their difference. The interval is that of the mean
        logarithm; a claim of no effect then says that the factor lies within 1 / smallest to smallest.
      seeds: the smallest number of paired seeds that may decide it.
    """

    name: str
    statement: str
    source: str
    published: str
    measure: str
    contrast: Mapping[str, float]
    smallest: float
    effect: bool = True
    ratio: bool = False
    seeds: int = 3


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What measured runs say about a claim.

    Attributes:
      verdict: `REPRODUCED`, `NOT_REPRODUCED` or `UNRESOLVED`.
      measured: the mean difference, or the factor; None without a seed that all arms have.
      interval: its 95% interval; None with fewer than two seeds.
      seeds: the number of seeds that all arms of the claim have.
      needed: of an UNRESOLVED claim, the number of seeds with which a study would decide it with a probability of 80%,
        if the mean and the spread so far are the true ones; None if that cannot be told.
    """

    verdict: str
    measured: float | None
    interval: tuple[float, float] | None
    seeds: int
    needed: int | None = None


def decide(claim: Claim, values: Mapping[str, Mapping[int, float]]) -> Verdict:
    """Applies the rule to a claim.

    Args:
      claim: the claim.
      values: what was measured, by arm and then by seed. A seed counts if every arm of the claim has a finite value.

    Returns:
      The verdict.
    """
    differences = paired(claim, values)
    if not differences:
        return Verdict(UNRESOLVED, None, None, 0)
    mean, interval = t_interval(differences)
    back = math.exp if claim.ratio else float
    verdict = _verdict(claim, interval) if interval and len(differences) >= claim.seeds else UNRESOLVED
    return Verdict(verdict, back(mean), (back(interval[0]), back(interval[1])) if interval else None,
                   len(differences), _needed(claim, differences) if verdict == UNRESOLVED else None)


def paired(claim: Claim, values: Mapping[str, Mapping[int, float]]) -> list[float]:
    """The claim's difference for each seed that all of its arms have; of a ratio its natural logarithm."""
    arms = [values.get(label, {}) for label in claim.contrast]
    seeds = sorted(set.intersection(*map(set, arms)))
    usable = [seed for seed in seeds
              if all(math.isfinite(arm[seed]) and (arm[seed] > 0 or not claim.ratio) for arm in arms)]
    transform = math.log if claim.ratio else float
    return [sum(weight * transform(arm[seed]) for weight, arm in zip(claim.contrast.values(), arms))
            for seed in usable]


def t_interval(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """The mean of some values, and its 95% interval by Student's t distribution; None for one value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    half = _half_interval(statistics.stdev(values), len(values))
    return mean, (mean - half, mean + half)


def _half_interval(deviation: float, count: int) -> float:
    """Half of the 95% interval of a mean of that many values, by Student's t distribution."""
    from scipy.stats import t

    return float(t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * deviation / math.sqrt(count)


def _needed(claim: Claim, differences: Sequence[float]) -> int | None:
    """The number of seeds with which a study would decide the claim with a probability of 80%.

    This takes the mean and the spread so far for the true ones, and may be a seed too many for a claim of no effect,
    whose interval may reach both bounds. None if it is more than a thousand, or if there are fewer than two seeds to
    tell the spread.
    """
    if len(differences) < 2:
        return None
    mean, spread = statistics.fmean(differences), statistics.stdev(differences)
    bound = _bound(claim)
    # How far the mean is from the bounds that the interval must not reach.
    distances = [abs(mean - bound)]
    if not claim.effect:
        distances = [bound - mean, bound + mean] if abs(mean) < bound else [abs(mean) - bound]
    return next((count for count in range(max(claim.seeds, len(differences) + 1), 1001)
                 if sum(_missed(distance, spread, count) for distance in distances) < 1 - _POWER), None)


def _missed(distance: float, spread: float, count: int) -> float:
    """The probability that the 95% interval of a mean reaches a bound at a distance from the true mean."""
    from scipy.stats import nct, t

    if spread == 0:
        return 0.0 if distance > 0 else 1.0
    quantile = t.ppf((1 + _CONFIDENCE) / 2, count - 1)
    return float(nct.cdf(quantile, count - 1, distance / (spread / math.sqrt(count))))


def _bound(claim: Claim) -> float:
    """The smallest difference that counts; of a ratio its logarithm."""
    return math.log(claim.smallest) if claim.ratio else claim.smallest


def _verdict(claim: Claim, interval: tuple[float, float]) -> str:
    smallest = _bound(claim)
    low, high = interval
    if claim.effect:
        return REPRODUCED if low > smallest else NOT_REPRODUCED if high < smallest else UNRESOLVED
    if -smallest < low and high < smallest:
        return REPRODUCED
    return NOT_REPRODUCED if low > smallest or high < -smallest else UNRESOLVED
