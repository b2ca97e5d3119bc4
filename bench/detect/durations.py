"""How long requests take: lognormal, median 60 ms, sigma 0.8 (p99 386 ms), counted in the cells of a histogram.

A canary's durations are a mixture of scaled and delayed copies of the baseline's. What is counted are cells between
edges in milliseconds; every test here needs no more than that, and any coarser set of edges is drawn directly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from controller.canary.boundaries import choose_boundaries, edge_ms
from controller.domain.counts import Histogram
from controller.domain.verdict import Boundaries, BoundarySource, JudgeConfig

from .traffic import INCIDENT, SHARE, WINDOW_S, WINDOWS, WINDOWS_A_MINUTE, Arms, Counts, Numbers

MEDIAN_MS = 60.0
SIGMA = 0.8
BUCKETS = range(121)  # exponential buckets at scale 3: 1 ms to 33 s
SLO_MS = 500.0  # the peers' limit on p99
EDGES_MS = tuple(sorted({edge_ms(bucket) for bucket in range(8, 105)} | {SLO_MS}))  # 2 ms to 8.2 s
HISTORY_S = 3600
INCIDENT_TIMES = 3.0


class Part(NamedTuple):
    weight: float
    times: float = 1.0
    delay_ms: float = 0.0


Mixture = tuple[Part, ...]
AS_EVER: Mixture = (Part(1.0),)


@dataclass(frozen=True)
class Slowness:
    name: str
    canary: Mixture = AS_EVER
    incident: bool = False  # both arms three times as slow for three minutes


NULLS = (Slowness("null"), Slowness("incident x3", incident=True))
EFFECTS = (
    Slowness("shift 1.1", (Part(1.0, times=1.1),)),
    Slowness("shift 1.25", (Part(1.0, times=1.25),)),
    Slowness("shift 2", (Part(1.0, times=2.0),)),
    Slowness("2 % +1 s", (Part(0.98), Part(0.02, delay_ms=1000.0))),
    Slowness("10 % of calls x3", (Part(0.9), Part(0.1, times=3.0))),
)


@dataclass(frozen=True)
class Cells:
    """Requests per cell: arrays (rollouts, windows, cells); cell `i` ends at edge `i`, the last one is open."""

    edges_ms: tuple[float, ...]
    canary: Counts
    baseline: Counts

    def beyond(self, canary_ms: float, baseline_ms: float) -> Arms:
        """Requests slower than an edge, of all."""
        canary, baseline = self._from_each_on
        canary_cell, baseline_cell = (self.edges_ms.index(edge) + 1 for edge in (canary_ms, baseline_ms))
        return Arms(canary[:, :, canary_cell], canary[:, :, 0], baseline[:, :, baseline_cell], baseline[:, :, 0])

    @cached_property
    def _from_each_on(self) -> tuple[Counts, Counts]:
        canary, baseline = (counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1] for counts in (self.canary, self.baseline))
        return canary, baseline


def slower_than(mixture: Mixture, ms: float) -> float:
    """The fraction of requests that take longer than `ms`."""
    return sum(part.weight * _tail((ms - part.delay_ms) / part.times) for part in mixture)


def _tail(ms: float) -> float:
    return 0.5 * math.erfc(math.log(ms / MEDIAN_MS) / SIGMA / math.sqrt(2)) if ms > 0 else 1.0


def cell_fractions(mixture: Mixture, edges_ms: tuple[float, ...]) -> Numbers:
    beyond = np.array([1.0, *(slower_than(mixture, edge) for edge in edges_ms), 0.0])
    return np.maximum(0.0, -np.diff(beyond))


def draw(
    rng: np.random.Generator, slowness: Slowness, canary_rps: float, runs: int, edges_ms: tuple[float, ...] = EDGES_MS
) -> Cells:
    arrivals = canary_rps * WINDOW_S
    arms = []
    for mixture, requests in ((slowness.canary, arrivals), (AS_EVER, arrivals * (1 - SHARE) / SHARE)):
        fractions = np.tile(cell_fractions(mixture, edges_ms), (WINDOWS, 1))
        if slowness.incident:
            worse = tuple(part._replace(times=part.times * INCIDENT_TIMES) for part in mixture)
            fractions[INCIDENT] = cell_fractions(worse, edges_ms)
        arms.append(rng.poisson(requests * fractions, (runs, *fractions.shape)))
    return Cells(edges_ms, *arms)


def draw_boundaries(rng: np.random.Generator, canary_rps: float, config: JudgeConfig) -> Boundaries:
    """Chosen by the product itself from an hour of all traffic before the canary."""
    edges = tuple(edge_ms(bucket) for bucket in BUCKETS)
    counts = rng.poisson(canary_rps / SHARE * HISTORY_S * cell_fractions(AS_EVER, edges))
    histogram = Histogram.of({bucket - 1: int(count) for bucket, count in zip(BUCKETS, counts, strict=False)})
    return choose_boundaries(histogram, config, BoundarySource.HISTORY)


def edges_of(boundaries: Boundaries, tolerances: tuple[int, ...]) -> tuple[float, ...]:
    """No more edges than these boundaries need, with the given tolerances in buckets."""
    return tuple(sorted({edge_ms(index + more) for index in boundaries.indices for more in (0, *tolerances)}))


def arms_of(cells: Cells, boundaries: Boundaries, tolerance_buckets: int) -> list[Arms]:
    """One test per boundary, the canary's beyond the tolerated edge."""
    return [cells.beyond(edge_ms(index + tolerance_buckets), edge_ms(index)) for index in boundaries.indices]


def p99_a_minute(counts: Counts, edges_ms: tuple[float, ...]) -> Numbers:
    """Of counts (rollouts, windows, cells): (rollouts, minutes)."""
    return p99_ms(counts.reshape(len(counts), -1, WINDOWS_A_MINUTE, counts.shape[2]).sum(axis=2), edges_ms)


def p99_ms(counts: Counts, edges_ms: tuple[float, ...]) -> Numbers:
    """As Prometheus estimates it: linear within the bucket, the last edge where it is open; NaN without requests.

    `counts` is (..., cells).
    """
    total, upto = counts.sum(axis=-1), counts.cumsum(axis=-1)
    rank = 0.99 * total
    cell = np.minimum((upto < rank[..., None]).sum(axis=-1), len(edges_ms))
    bounds = np.array([0.0, *edges_ms, edges_ms[-1]])
    inside = np.take_along_axis(counts, cell[..., None], axis=-1)[..., 0]
    before = np.take_along_axis(upto, cell[..., None], axis=-1)[..., 0] - inside
    part = (rank - before) / np.maximum(inside, 1)
    return np.where(total > 0, bounds[cell] + part * (bounds[cell + 1] - bounds[cell]), np.nan)
