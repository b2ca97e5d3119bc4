"""Counts of two arms under Poisson traffic: a canary with a fixed share, and the baseline at the same time.

Good and bad requests of a window are independent Poisson counts, which is the same as a Poisson number of requests each
of which fails with the arm's error rate. Arrays are (rollouts, windows).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Numbers = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

WINDOW_S = 10
WINDOWS = 180  # 30 minutes
WINDOWS_A_MINUTE = 60 // WINDOW_S
CANARY_RPS = (0.05, 0.5, 5.0, 50.0)  # canary requests a second
SHARE = 0.1  # the canary's, of all requests
BASE_RATE = 0.002  # of baseline requests fail
INCIDENT_RATE = 0.1  # of requests fail, in both arms, while a shared incident lasts
INCIDENT = slice(60, 78)  # windows: 3 minutes, from minute 10 on
RAMP = 3.0  # diurnal: traffic and error rate grow this many times over the rollout


class Arms(NamedTuple):
    """Bad requests of all, in each arm: arrays (rollouts, windows)."""

    canary_bad: Counts
    canary_total: Counts
    baseline_bad: Counts
    baseline_total: Counts

    def rows(self, chosen: Flags | NDArray[np.intp]) -> Arms:
        return Arms(*(counts[chosen] for counts in self))

    def by_minute(self) -> Arms:
        return Arms(*(counts.reshape(len(counts), -1, WINDOWS_A_MINUTE).sum(axis=2) for counts in self))


class Shape(Enum):
    FLAT = "flat"
    DIURNAL = "diurnal"  # a ramp of traffic and of both error rates
    INCIDENT = "incident"  # both arms fail alike for three minutes


@dataclass(frozen=True)
class Scenario:
    """`canary_times`: the canary's error rate over the baseline's, at most 1 in all."""

    name: str
    canary_times: float = 1.0
    shape: Shape = Shape.FLAT

    def pace(self) -> Numbers:
        """Traffic of each window, over that of the first."""
        return np.linspace(1.0, RAMP, WINDOWS) if self.shape is Shape.DIURNAL else np.ones(WINDOWS)

    def baseline_rate(self) -> Numbers:
        rate: Numbers = BASE_RATE * self.pace()
        if self.shape is Shape.INCIDENT:
            rate[INCIDENT] = INCIDENT_RATE
        return rate

    def canary_rate(self) -> Numbers:
        rate: Numbers = np.minimum(1.0, self.baseline_rate() * self.canary_times)
        return rate


NULLS = (Scenario("null"), Scenario("diurnal", shape=Shape.DIURNAL), Scenario("incident", shape=Shape.INCIDENT))
EDGE = Scenario("edge x1.25", canary_times=1.25)  # just tolerated: the hardest null of the default theta0
EFFECTS = (
    Scenario("x2", canary_times=2),
    Scenario("x5", canary_times=5),
    Scenario("x10", canary_times=10),
    Scenario("10 % errors", canary_times=0.1 / BASE_RATE),
    Scenario("100 %", canary_times=1 / BASE_RATE),
)


def draw(rng: np.random.Generator, scenario: Scenario, canary_rps: float, runs: int, share: float = SHARE) -> Arms:
    """Counts of `runs` rollouts of 30 minutes."""
    arrivals = canary_rps * WINDOW_S * scenario.pace()
    bad, total = _arm(rng, arrivals, scenario.canary_rate(), runs)
    baseline_bad, baseline_total = _arm(rng, arrivals * (1 - share) / share, scenario.baseline_rate(), runs)
    return Arms(bad, total, baseline_bad, baseline_total)


def _arm(rng: np.random.Generator, arrivals: Numbers, rate: Numbers, runs: int) -> tuple[Counts, Counts]:
    bad = rng.poisson(arrivals * rate, (runs, len(arrivals)))
    return bad, bad + rng.poisson(arrivals * (1 - rate), (runs, len(arrivals)))


def batches(runs: int, most: int) -> Iterator[int]:
    """Sizes that add up to `runs`, none above `most`."""
    for begun in range(0, runs, most):
        yield min(most, runs - begun)
