"""E-processes on 2x2 counts: evidence that may be looked at after every window without spending anything.

An e-value is a non-negative statistic whose expectation under the null is at most 1. The product of one per window,
each valid given the past, is a supermartingale, so by Ville's inequality P(it ever reaches 1/alpha) <= alpha: the
budget is per rollout, however often one looks. Averages of e-values are e-values under any dependence, which is how
alternatives of unknown size (a grid of ratios) and several tests (errors, latency) are combined.

Canary and baseline are compared within one window only, so the error rate itself may drift from window to window: a
ramp, a shared incident.

Both increments below factor over the arms, and both proofs are one line: a request that fails with probability p
multiplies the e-value by 1 + p(a-1) on average, 1 + u <= e^u, and the exponents of the two arms cancel at the edge of
the null. They hold for independent requests of any error rate and are monotone in both rates, so "canary no worse than
tolerated" is covered whole. Overdispersed counts are tempered: e-values are raised to 1/phi, which keeps them valid
for independent requests (Jensen) and is calibrated by simulation (`dispersion`).

Sources: Lindon & Malek, NeurIPS 2022 (arXiv 2011.03567); Turner, Ly & Grünwald, JSPI 230, 2024 (arXiv 2106.02693);
Ville 1939.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from controller.domain.verdict import JudgeConfig, RatioInterval

MICRO = 1_000_000
RATIOS_MILLI = tuple(
    sorted({round(1000 * 1.01**step) for step in range(-694, 927)})
)  # 0.001 to 10,000, where limits lie


class TwoArms(NamedTuple):
    """What happened in one window: bad of total, in each arm."""

    canary_bad: int
    canary_total: int
    baseline_bad: int
    baseline_total: int

    def plus(self, other: TwoArms) -> TwoArms:
        return TwoArms(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


NOTHING = TwoArms(0, 0, 0, 0)
Sums = tuple[float, ...]  # one natural log of a likelihood ratio per alternative, summed over windows, not tempered


def multiples(config: JudgeConfig) -> tuple[float, ...]:
    """The grid of alternatives, as multiples of what is tolerated: log-spaced, equally weighted."""
    first, last = math.log(config.grid_first_milli / 1000), math.log(config.grid_last_milli / 1000)
    pace = (last - first) / (config.grid_points - 1)
    return tuple(math.exp(first + pace * point) for point in range(config.grid_points))


def rare_event_increments(arms: TwoArms, null_ratio: float, ratios: Sequence[float]) -> Sums:
    """E1 (Lindon & Malek): log LR of each ratio of error rates against `null_ratio`, for one window.

    Each bad request is the canary's with odds share*ratio : (1 - share). Ratios above `null_ratio` test "ratio <=
    null_ratio", ratios below test "ratio >= null_ratio". A window in which either arm is idle says nothing: zeros.
    """
    telling = _telling([arms])
    return _rare_event_sums(telling, null_ratio, ratios) if telling else (0.0,) * len(ratios)


def _telling(windows: Sequence[TwoArms]) -> list[TwoArms]:
    return [
        arms for arms in windows if arms.canary_total and arms.baseline_total and arms.canary_bad + arms.baseline_bad
    ]


def _rare_event_sums(telling: Sequence[TwoArms], null_ratio: float, ratios: Sequence[float]) -> Sums:
    canary_bad = sum(x for x, _, _, _ in telling)
    weighed = [(x + y, n / (n + m)) for x, n, y, m in telling]  # bad requests, and the canary's share of all

    def expected(ratio: float) -> float:
        return sum(bad * math.log1p(share * (ratio - 1)) for bad, share in weighed)

    at_null = expected(null_ratio)
    return tuple(canary_bad * math.log(ratio / null_ratio) - (expected(ratio) - at_null) for ratio in ratios)


def block_increments(arms: TwoArms, baseline_rate: float, odds_ratios: Sequence[float]) -> Sums:
    """E2 (Turner, Ly & Grünwald): log e-value against "canary rate <= baseline rate", for one window.

    It has power for bad fractions of any size. `baseline_rate` in (0, 1) must be guessed before the window is seen; a
    poor guess costs power, never validity.
    """
    x, n, y, m = arms
    if not (n and m):
        return (0.0,) * len(odds_ratios)
    odds = baseline_rate / (1 - baseline_rate)
    logs = []
    for ratio in odds_ratios:
        canary_rate = odds * ratio / (1 + odds * ratio)
        pooled = (n * canary_rate + m * baseline_rate) / (n + m)
        canary = x * math.log(canary_rate / pooled) + (n - x) * math.log((1 - canary_rate) / (1 - pooled))
        baseline = y * math.log(baseline_rate / pooled) + (m - y) * math.log((1 - baseline_rate) / (1 - pooled))
        logs.append(canary + baseline)
    return tuple(logs)


def added(sums: Sums, increments: Sums) -> Sums:
    return tuple(total + step for total, step in zip(sums, increments, strict=True))


def log_e(sums: Sums, phi_milli: int) -> float:
    """Natural log of the tempered e-value: the mean over alternatives of (likelihood ratio)^(1/phi)."""
    tempered = [total * 1000 / phi_milli for total in sums]
    return log_weighted_mean(tempered, [1 / len(tempered)] * len(tempered))


def log_weighted_mean(logs: Sequence[float], weights: Sequence[float]) -> float:
    """log(sum of weight * exp(log)), weights summing to at most 1; the order of the terms does not matter."""
    top = max(logs)
    return top + math.log(math.fsum(weight * math.exp(log - top) for log, weight in zip(logs, weights, strict=True)))


def to_micro(log: float) -> int:
    """Evidence is rounded down, thresholds up; decisions compare these integers, so what is logged is what decided."""
    return math.floor(log * MICRO)


def threshold_micro(error_ppm: int) -> int:
    """ln(1/error probability), in micro-nats, rounded up."""
    return math.ceil(math.log(MICRO / error_ppm) * MICRO)


def ratio_interval(windows: Sequence[TwoArms], phi_milli: int, config: JudgeConfig) -> RatioInterval:
    """Every ratio that neither one-sided E1 rejects at half of alpha: the test inverted, by bisection in steps of 1 %.

    E1 against "ratio <= r" falls as r grows and E1 against "ratio >= r" rises, so each limit is one crossing. The
    limits are the nearest rejected ratios, so the interval errs towards wide.
    """
    grid, telling = multiples(config), _telling(windows)
    needed = threshold_micro(config.interval_alpha_ppm) + math.ceil(math.log(2) * MICRO)

    def rejects(milli: int, *, upwards: bool) -> bool:
        null = milli / 1000
        ratios = [null * multiple if upwards else null / multiple for multiple in grid]
        return to_micro(log_e(_rare_event_sums(telling, null, ratios), phi_milli)) >= needed

    kept = bisect_left(RATIOS_MILLI, True, key=lambda milli: not rejects(milli, upwards=True))
    too_high = bisect_left(RATIOS_MILLI, True, key=lambda milli: rejects(milli, upwards=False))
    return RatioInterval(
        lower_milli=RATIOS_MILLI[kept - 1] if kept else 0,
        upper_milli=RATIOS_MILLI[too_high] if too_high < len(RATIOS_MILLI) else None,
        alpha_ppm=config.interval_alpha_ppm,
    )
