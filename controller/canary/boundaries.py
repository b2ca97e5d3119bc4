"""Latency as yes-or-no: a request is bad when slower than a boundary that was fixed before the canary was judged.

A boundary sits at a quantile of the baseline's histogram, on the upper edge of the bucket that holds it, so counting
beyond it is exact and merging instances needs no raw samples. The canary's boundary lies `tolerance_buckets` higher
than the baseline's: one bucket means "at most 9 % slower at every quantile", whatever the shape of the distribution.
Boundaries, like every guess made here, must come from data seen before the windows that they judge.
"""

from __future__ import annotations

from controller.canary.eprocess import TwoArms
from controller.domain.counts import BUCKETS_PER_DOUBLING, Histogram
from controller.domain.verdict import Boundaries, BoundarySource, JudgeConfig


def choose_boundaries(baseline: Histogram, config: JudgeConfig, source: BoundarySource) -> Boundaries:
    """Boundaries at the quantiles with enough requests beyond them; none at all when the histogram is too small."""
    total = baseline.total
    usable = [q for q in config.quantiles_milli if total * (1000 - q) >= 1000 * config.min_tail_requests]
    indices = [_upper_edge(baseline, quantile_milli) for quantile_milli in usable]
    return Boundaries(
        quantiles_milli=tuple(usable),
        indices=tuple(indices),
        slower=tuple(baseline.slower_than(index) for index in indices),
        source=source,
        requests=total,
    )


def no_boundaries() -> Boundaries:
    """Latency is not judged; the verdict says so."""
    return Boundaries(source=BoundarySource.CONCURRENT_BASELINE, requests=0)


def _upper_edge(histogram: Histogram, quantile_milli: int) -> int:
    seen, wanted = 0, histogram.total * quantile_milli
    for index, count in histogram.buckets:
        seen += count
        if seen * 1000 >= wanted:
            return index + 1
    raise AssertionError("a quantile below 1 lies inside its histogram")


def slower_in(canary: Histogram, baseline: Histogram, boundary: int, config: JudgeConfig) -> TwoArms:
    """Timed requests of a window beyond the boundary, the canary's beyond the tolerated one."""
    return TwoArms(
        canary.slower_than(boundary + config.tolerance_buckets),
        canary.total,
        baseline.slower_than(boundary),
        baseline.total,
    )


def guessed_rate(boundaries: Boundaries, position: int, seen: TwoArms, config: JudgeConfig) -> float:
    """Posterior mean of the baseline's slow fraction, before a window is seen.

    From history, capped so that today can overrule it, and the windows so far (`seen`).
    """
    weight = min(1.0, config.history_weight_requests / max(1, boundaries.requests))
    slow = boundaries.slower[position] * weight + seen.baseline_bad + 0.5
    return slow / (boundaries.requests * weight + seen.baseline_total + 1)


def rate_so_far(seen: TwoArms) -> float:
    """The same where history says nothing, as of what callers wait for: from the windows so far alone."""
    return (seen.baseline_bad + 0.5) / (seen.baseline_total + 1)


def edge_ms(boundary: int) -> float:
    """Milliseconds at a boundary, for people."""
    return float(2 ** (boundary / BUCKETS_PER_DOUBLING))
