"""Chances of counts: Poisson, binomial, and the exact confidence interval of a proportion (Clopper & Pearson 1934)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from .traffic import Numbers

CONFIDENCE = 0.95
HALVINGS = 50  # of an interval of length 1


@cache
def log_factorials(upto: int) -> Numbers:
    """Of 0, 1, ..., `upto`."""
    logs: Numbers = np.concatenate([[0.0], np.log(np.arange(1.0, upto + 1)).cumsum()])
    return logs


def poisson(counts: Numbers, mean: float) -> Numbers:
    """Chance of each of consecutive whole numbers."""
    if mean == 0:
        certain: Numbers = (counts == 0).astype(float)
        return certain
    first, last = int(counts[0]), int(counts[-1])
    chances: Numbers = np.exp(counts * math.log(mean) - mean - log_factorials(last)[first:])
    return chances


def binomial(total: int, chance: float, most: int | None = None) -> Numbers:
    """Chance of 0, 1, ..., `most` of `total`; None: of all numbers. `chance` lies strictly between 0 and 1."""
    counts, logs = np.arange((total if most is None else most) + 1), log_factorials(total)
    ways = logs[total] - logs[counts] - logs[total - counts]
    chances: Numbers = np.exp(ways + counts * math.log(chance) + (total - counts) * math.log1p(-chance))
    return chances


@cache
def interval(hits: int, runs: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Confidence interval of the chance behind `hits` of `runs`; never narrower than it says."""
    if 2 * hits > runs:
        low, high = interval(runs - hits, runs, confidence)
        return 1 - high, 1 - low
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else _last(lambda chance: 1 - _at_most(hits - 1, runs, chance) <= tail)
    return low, _last(lambda chance: _at_most(hits, runs, chance) > tail)


def _at_most(hits: int, runs: int, chance: float) -> float:
    return math.fsum(binomial(runs, chance, hits))


def _last(holds: Callable[[float], bool]) -> float:
    """The largest chance for which it holds, when it holds up to there and not beyond."""
    low, high = 0.0, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high
