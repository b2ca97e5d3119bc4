"""Kayenta's NetflixACAJudge: a Mann-Whitney interval on per-minute points, a label per metric, a score.

Modelled after its documentation and sources (April 2025), written anew. High: the lower end of the 98 % interval of the
shift exceeds a quarter of the estimated shift, and the ratio of means is at least `allowedIncrease` (1.0, its default).
Interval and estimate are where the tie-corrected, continuity-corrected normal statistic crosses a quantile, as Brent's
method with a tolerance of 1e-4 finds it; the statistic is a step function, so that tolerance shows. Minutes without
data are left out (its default). Identical arms pass; a metric without data fails a canary of which it is the only one.

Many pairs of series are judged at once: arrays (pairs, points), NaN where there is no point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .ours import NEVER
from .traffic import Flags, Numbers

TOLERANCE = 0.25
CONFIDENCE = 0.98
BRENT_TOLERANCE = 1e-4
MOST_STEPS = 1000
NOISE = 1e-5  # of a constant's size, added where both arms are constant
EVERY_MINUTES = 5
PASS_SCORE = 50.0  # a score below it fails an interval: the marginal score of the documentation's examples
Function = Callable[[Numbers], Numbers]  # of one point per pair


class Label(Enum):
    GOOD = "Pass"
    HIGH = "High"
    NODATA = "Nodata"


class Shift(NamedTuple):
    """Of the canary against the baseline, one per pair."""

    lower: Numbers
    estimate: Numbers


@dataclass(frozen=True)
class _Ranks:
    """What the statistic needs of each pair besides the shift: which points exist, and ties within an arm."""

    x: Numbers
    y: Numbers

    def statistic(self, shift: Numbers) -> Numbers:
        """The standardised rank sum of the canary moved down by `shift`, continuity corrected towards 0."""
        moved = self.x - shift[:, None]
        above = (moved[:, :, None] > self.y[:, None, :]).sum(axis=(1, 2))
        across = moved[:, :, None] == self.y[:, None, :]
        sizes_x, sizes_y = _points(self.x), _points(self.y)
        centred = above + across.sum(axis=(1, 2)) / 2 - sizes_x * sizes_y / 2
        both = sizes_x + sizes_y
        tied = _ties(moved, across.sum(axis=2)) + _ties(self.y, across.sum(axis=1))
        variance = sizes_x * sizes_y / 12 * (both + 1 - tied / (both * (both - 1)))
        scored: Numbers = (centred - np.sign(centred) * 0.5) / np.sqrt(variance)
        return scored


def _ties(points: Numbers, elsewhere: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum over points of (size of its group of equals)^2 - 1, which is the sum over groups of t^3 - t."""
    equals = (points[:, :, None] == points[:, None, :]).sum(axis=2) + elsewhere
    summed: NDArray[np.int64] = np.where(np.isnan(points), 0, equals**2 - 1).sum(axis=1)
    return summed


def _points(arm: Numbers) -> NDArray[np.int64]:
    return np.asarray((~np.isnan(arm)).sum(axis=1))


def shift_of(x: Numbers, y: Numbers, confidence: float = CONFIDENCE) -> Shift:
    """Lower end of the two-sided interval, and the estimate, of how far `x` lies above `y`."""
    ranks = _Ranks(x, y)
    lowest, highest = np.nanmin(x, axis=1) - np.nanmax(y, axis=1), np.nanmax(x, axis=1) - np.nanmin(y, axis=1)
    quantile = NormalDist().inv_cdf(0.5 + confidence / 2)

    def beyond(shift: Numbers) -> Numbers:
        return ranks.statistic(shift) - quantile

    at_lowest, at_highest = beyond(lowest), beyond(highest)
    root = brent(lowest, highest, beyond)
    lower = np.where(at_lowest <= 0, lowest, np.where(at_highest >= 0, highest, root))
    return Shift(lower, brent(lowest, highest, ranks.statistic))


def brent(low: Numbers, high: Numbers, function: Function, tolerance: float = BRENT_TOLERANCE) -> Numbers:
    """A zero between `low` and `high`, one per pair, to within half the tolerance (Brent 1973, chapter 4).

    `best` has the smallest value seen, `across` lies on the other side of the zero, `old` is the step before.
    """
    old, best = low.copy(), high.copy()
    f_old, f_best = function(old), function(best)
    across, f_across = old.copy(), f_old.copy()
    found = np.where(f_old == 0, old, best)
    going = (f_old != 0) & (f_best != 0)
    for _ in range(MOST_STEPS):
        previous = best - old
        swap = np.abs(f_across) < np.abs(f_best)
        old, best, across = (
            np.where(swap, best, old),
            np.where(swap, across, best),
            np.where(swap, best, across),
        )
        f_old, f_best, f_across = (
            np.where(swap, f_best, f_old),
            np.where(swap, f_across, f_best),
            np.where(swap, f_best, f_across),
        )
        near = 2 * np.finfo(float).eps * np.abs(best) + tolerance / 2
        halfway = (across - best) / 2
        arrived = going & ((np.abs(halfway) <= near) | (f_best == 0))
        found = np.where(arrived, best, found)
        going &= ~arrived
        if not going.any():
            return found
        step = _next_step((old, best, across), (f_old, f_best, f_across), previous, near)
        step = np.where(np.abs(step) < near, np.where(step > 0, near, -near), step)
        old, f_old = best, f_best
        best = np.where(going, best + step, best)
        f_best = np.where(going, function(best), f_best)
        same_side = np.sign(f_best) * np.sign(f_across) > 0
        across, f_across = np.where(same_side, old, across), np.where(same_side, f_old, f_across)
    return np.where(going, best, found)


def _next_step(
    points: tuple[Numbers, Numbers, Numbers], values: tuple[Numbers, Numbers, Numbers], previous: Numbers, near: Numbers
) -> Numbers:
    """Interpolated where that promises to converge, else half of the interval."""
    (old, best, across), (f_old, f_best, f_across) = points, values
    width = across - best
    with np.errstate(divide="ignore", invalid="ignore"):
        secant, q, r = f_best / f_old, f_old / f_across, f_best / f_across
        linear = old == across
        up = np.where(linear, width * secant, secant * (width * q * (q - r) - (best - old) * (r - 1)))
        down = np.where(linear, 1 - secant, (q - 1) * (r - 1) * (secant - 1))
        down, up = np.where(up > 0, -down, down), np.abs(up)
        trusted = (np.abs(previous) >= near) & (np.abs(f_old) > np.abs(f_best))
        trusted &= up < 0.75 * width * down - np.abs(near * down) / 2
        trusted &= up < np.abs(previous * down / 2)
        return np.where(trusted, up / down, width / 2)


def labels(
    x: Numbers, y: Numbers, *, tolerance: float = TOLERANCE, confidence: float = CONFIDENCE, allowed_increase: float = 1
) -> list[Label]:
    """One label per pair, for a metric that may only not increase."""
    missing = _points(x) * _points(y) == 0
    high = np.zeros(len(x), dtype=bool)
    present = np.flatnonzero(~missing)
    suspects = present[_means_allow(x[present], y[present], allowed_increase) & ~_alike(x[present], y[present])]
    if len(suspects):
        shift = shift_of(*_noisy_constants(x[suspects], y[suspects]), confidence)
        high[suspects] = shift.lower > tolerance * np.abs(shift.estimate)
    return [Label.NODATA if none else Label.HIGH if up else Label.GOOD for none, up in zip(missing, high, strict=True)]


def _means_allow(x: Numbers, y: Numbers, allowed_increase: float) -> Flags:
    """The ratio of means is large enough, or cannot be told since the baseline's mean is 0."""
    mean_x, mean_y = np.nanmean(x, axis=1), np.nanmean(y, axis=1)
    allowed: Flags = (mean_y == 0) | (mean_x >= allowed_increase * mean_y)
    return allowed


def _alike(x: Numbers, y: Numbers) -> Flags:
    """One value everywhere, or the same points in both arms."""
    alike = _constant(np.concatenate([x, y], axis=1))
    if x.shape == y.shape:
        ordered_x, ordered_y = np.sort(x, axis=1), np.sort(y, axis=1)
        alike |= ((ordered_x == ordered_y) | (np.isnan(ordered_x) & np.isnan(ordered_y))).all(axis=1)
    return alike


def _constant(points: Numbers) -> Flags:
    constant: Flags = np.nanmax(points, axis=1) == np.nanmin(points, axis=1)
    return constant


def _noisy_constants(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers]:
    """A little noise where both arms are constant: else every point is tied. The same noise for the same shape."""
    constant = (_constant(x) & _constant(y))[:, None]
    rng = np.random.default_rng(len(x))
    noisy_x, noisy_y = (np.where(constant, arm * (1 + NOISE * rng.standard_normal(arm.shape)), arm) for arm in (x, y))
    return noisy_x, noisy_y


def score(found: list[Label], *, critical: bool = False) -> float:
    """Of one group of metrics: the percentage that passes. A group without data would score 100, were it judged."""
    if critical and any(label is not Label.GOOD for label in found):
        return 0.0
    if sum(label is Label.NODATA for label in found) >= len(found) / 2:
        return 0.0
    judged = [label for label in found if label is not Label.NODATA]
    return 100.0 * sum(label is Label.GOOD for label in judged) / len(judged)


def first_fail(x: Numbers, y: Numbers, every: int = EVERY_MINUTES) -> NDArray[np.int64]:
    """Per rollout, the last minute of the first interval whose score fails, judging all points so far every `every`."""
    failed_at = np.full(len(x), NEVER, dtype=np.int64)
    for end in range(every, x.shape[1] + 1, every):
        left = np.flatnonzero(failed_at == NEVER)
        verdicts = labels(x[left, :end], y[left, :end])
        failed = np.array([score([label]) < PASS_SCORE for label in verdicts], dtype=bool)
        failed_at[left[failed]] = end - 1
    return failed_at
