"""The cells of the tables: each a method, a scenario and a traffic rate, with how many rollouts it flagged and when.

A cell of a null scenario counts false alarms; one of an effect counts detections, and there all methods judge the same
simulated rollouts. The judge promises per rollout: alpha is its default (0.001) and, as effects are compared, 0.01.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from . import ours, traffic
from .counts import interval

BATCH = 500  # rollouts at once: arrays of theirs fit a core's cache
ROOMY_BATCH = 100  # where a whole histogram, or every instance, is drawn for each
Found = dict[str, NDArray[np.float64]]  # "method" or "method@alpha_ppm" -> minutes until each is flagged, or inf


@dataclass(frozen=True)
class Sizes:
    effect_runs: int = 2_000
    null_runs: int = 100_000
    peer_null_runs: int = 20_000
    alphas_ppm: tuple[int, ...] = (1_000, 10_000)
    rates: tuple[float, ...] = traffic.CANARY_RPS


@dataclass(frozen=True)
class Cell:
    section: str
    canary_rps: float
    scenario: str
    method: str
    is_null: bool
    runs: int
    flagged: int
    median_minutes: float | None  # over all rollouts; None: fewer than half were flagged
    alpha_ppm: int | None = None  # None: the method promises none

    @property
    def percent(self) -> float:
        return 100 * self.flagged / self.runs

    @property
    def interval_percent(self) -> tuple[float, float]:
        low, high = interval(self.flagged, self.runs)
        return 100 * low, 100 * high


@dataclass
class Tally:
    """Minutes to the flag of each rollout, batch after batch."""

    minutes: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(self, found: Found) -> None:
        for method, each in found.items():
            self.minutes.setdefault(method, []).append(each)

    def cells(self, section: str, canary_rps: float, scenario: str, *, is_null: bool) -> Iterator[Cell]:
        for label, parts in self.minutes.items():
            method, _, alpha = label.partition("@")
            each = np.concatenate(parts)
            middle = float(np.quantile(each, 0.5, method="higher")) if len(each) else np.inf
            yield Cell(
                section=section,
                canary_rps=canary_rps,
                scenario=scenario,
                method=method,
                is_null=is_null,
                runs=len(each),
                flagged=int(np.isfinite(each).sum()),
                median_minutes=middle if np.isfinite(middle) else None,
                alpha_ppm=int(alpha) if alpha else None,
            )


Judged = Callable[[np.random.Generator, int], Found]


def gathered(rng: np.random.Generator, runs: int, most: int, *judged: Judged) -> Tally:
    tally = Tally()
    for size in traffic.batches(runs, most):
        for one in judged:
            tally.add(one(rng, size))
    return tally


def minutes(first: NDArray[np.int64], unit_s: float) -> NDArray[np.float64]:
    """0-based units to the minutes after which a flag is up."""
    return np.where(first == ours.NEVER, np.inf, (first + 1) * unit_s / 60)


def tell(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {words}\n")
