"""Where a series of benchmark results changed its level for good. Pure and deterministic.

E-divisive (Matteson & James, JASA 109, 2014, arXiv 1306.4933): the energy distance between the two sides of a place,

    q = nm/(n+m) * ( 2/(nm) sum |x-y|  -  1/C(n,2) sum |x-x'|  -  1/C(m,2) sum |y-y'| ),

is highest at the likeliest change. Both the place and the end of the stretch behind it vary, so that a slow patch
between two good ones is not averaged away. Significance is Student's t-test instead of permutations, as in Hunter
(arXiv 2301.03034; Apache Otava): the same series always gives the same answer.

1. Lone spikes are set aside first: one or two results in a row that stand out from what is before and after alike.
2. Candidates come from overlapping windows at a lax level. A window's edges decide nothing: in step 3 a candidate is
   held against everything between its neighbours, whichever window it came from.
3. The worst candidate is dropped until each remaining one passes: p, multiplied by the number of places looked at
   (Bonferroni: the series as a whole has `alpha` to spend, once), and size.
4. Each side of a change point has `min_segment` results at least. So a series' first and last few results are never
   one: a change is known `min_segment` results after it came, and a bad start is part of the first level. Nor is the
   nearest allowed place taken for one that would lie nearer to the edge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

from controller.canary.student import Sample, same_mean_p, sample_of

FEWEST = 2  # results on a side: the least of which a distance within can be told
LAX_P = 0.05  # of a candidate; step 3 is the test
SPIKE_NEIGHBOURS = 3  # on each side: their median outvotes one more spike
SPIKE_SIGMAS = 5.0
SIGMA_OF_STEPS = 1.0484  # 1 / (0.6745 sqrt 2): a normal series' deviation over the median size of its steps


@dataclass(frozen=True, slots=True)
class ChangePointConfig:
    min_segment: int = 5  # results on each side, at least 2
    min_magnitude: float = 0.05  # of the level before; 0: any
    alpha: float = 0.001  # for the series as a whole
    window: int = 100  # results looked at together; overlapping by half

    def __post_init__(self) -> None:
        if self.min_segment < FEWEST or self.window < 4 * self.min_segment:
            raise ValueError(f"min_segment {self.min_segment} must be 2 or more and window {self.window} 4 times that")
        if not 0 < self.alpha < 1 or self.min_magnitude < 0:
            raise ValueError(
                f"alpha {self.alpha} must lie in (0, 1) and min_magnitude {self.min_magnitude} not below 0"
            )


DEFAULTS = ChangePointConfig()


@dataclass(frozen=True, slots=True)
class ChangePoint:
    index: int  # of the first result on the new level, in the series as given
    before_mean: float
    after_mean: float
    relative_change: float  # +0.1: the level rose by 10 %
    p: float  # times the places looked at, at most 1


def change_points(series: Sequence[float], config: ChangePointConfig = DEFAULTS) -> tuple[ChangePoint, ...]:
    """In order. The series is positive and finite; one that is too short has none."""
    kept = without_spikes(series, config.min_magnitude)
    values = [series[at] for at in kept]
    rough = _pruned(values, _candidates(values, config), config)
    exact = _pruned(values, _relocated(values, rough, config), config)
    return tuple(
        ChangePoint(
            kept[one.place], one.left.mean, one.right.mean, one.change, min(1.0, one.p * _looks(values, config))
        )
        for one in _spots(values, exact)
    )


# --- 1. spikes -------------------------------------------------------------------------------------------------------


def without_spikes(series: Sequence[float], min_magnitude: float) -> list[int]:
    """The indices that are left. The newest result is never set aside: nobody knows yet what it is the start of."""
    sigma = SIGMA_OF_STEPS * median([abs(b - a) for a, b in pairwise(series)]) if len(series) > 1 else 0.0
    return [at for at in range(len(series)) if not _is_spike(series, at, sigma, min_magnitude)]


def _is_spike(series: Sequence[float], at: int, sigma: float, min_magnitude: float) -> bool:
    before, after = series[max(0, at - SPIKE_NEIGHBOURS) : at], series[at + 1 : at + 1 + SPIKE_NEIGHBOURS]
    if not after:
        return False
    levels = [median(side) for side in (before, after) if side]
    apart = [series[at] - level for level in levels]
    if not (all(one > 0 for one in apart) or all(one < 0 for one in apart)):
        return False
    return all(
        abs(one) > max(SPIKE_SIGMAS * sigma, min_magnitude * abs(level))
        for one, level in zip(apart, levels, strict=True)
    )


# --- 2. candidates ---------------------------------------------------------------------------------------------------


def _candidates(values: Sequence[float], config: ChangePointConfig) -> set[int]:
    found: set[int] = set()
    step = config.window // 2
    for start in range(0, max(1, len(values) - step), step):
        window = values[start : start + config.window]
        found.update(start + at for at in _split(window, config.min_segment))
    return found


def _split(values: Sequence[float], least: int) -> list[int]:
    """Bisect until no side holds another likely place. Unordered."""
    found, open_ = [], [(0, len(values))]
    while open_:
        start, end = open_.pop()
        spot = _best(values[start:end], least)
        if spot is None:
            continue
        place, until = spot
        left, right = values[start : start + place], values[start + place : start + until]
        if same_mean_p(sample_of(left), sample_of(right)) <= LAX_P:
            found.append(start + place)
            open_ += [(start, start + place), (start + place, end)]
    return found


def _best(values: Sequence[float], least: int) -> tuple[int, int] | None:
    """(place, end of the stretch behind it) of the highest q. None: too short for two sides."""
    if len(values) < 2 * least:
        return None
    apart = _Distances(values)
    highest = (apart.highest(end, least) for end in range(2 * least, len(values) + 1))
    _, place, end = max(highest, key=lambda one: one[0])
    return place, end


class _Distances:
    """Sums of |x - y| over the pairs of a stretch, each in constant time."""

    def __init__(self, values: Sequence[float]) -> None:
        rows = [[0.0, *accumulate(abs(a - b) for b in values)] for a in values]
        self.sums = [[0.0] * (len(values) + 1)]  # [i][j]: over pairs of one of the first i with one of the first j
        for row in rows:
            self.sums.append([above + here for above, here in zip(self.sums[-1], row, strict=True)])

    def highest(self, end: int, least: int) -> tuple[float, int, int]:
        """(q, place, end) of the best place, the first of equals, with at least `least` results on each side."""
        whole, best = self.sums[end][end], (-math.inf, 0, end)
        for n in range(least, end - least + 1):
            row, m = self.sums[n], end - n
            left, between = row[n], row[end] - row[n]
            right = whole - left - 2 * between
            q = n * m / end * (2 * between / (n * m) - left / (n * (n - 1)) - right / (m * (m - 1)))
            if q > best[0]:
                best = (q, n, end)
        return best


# --- 3. pruning ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Spot:
    """A place between the levels of its two neighbours."""

    place: int
    left: Sample
    right: Sample

    @property
    def p(self) -> float:
        return same_mean_p(self.left, self.right)

    @property
    def change(self) -> float:
        return self.right.mean / self.left.mean - 1


def _spots(values: Sequence[float], places: Sequence[int]) -> list[_Spot]:
    sides = [sample_of(values[start:end]) for start, end in pairwise([0, *places, len(values)])] if places else []
    return [_Spot(place, left, right) for place, (left, right) in zip(places, pairwise(sides), strict=True)]


def _looks(values: Sequence[float], config: ChangePointConfig) -> int:
    return len(values) - 2 * config.min_segment + 1


def _pruned(values: Sequence[float], places: Iterable[int], config: ChangePointConfig) -> list[int]:
    left = sorted(places)
    while left and (worst := _worst(_spots(values, left), _looks(values, config), config)) is not None:
        left.remove(worst.place)
    return left


def _worst(spots: list[_Spot], looks: int, config: ChangePointConfig) -> _Spot | None:
    """Of those that do not pass, the one least likely to be there. None: all pass."""
    crowded = [one for one in spots if min(one.left.n, one.right.n) < config.min_segment]
    small = [one for one in spots if abs(one.change) < config.min_magnitude]
    doubtful = [one for one in spots if one.p * looks > config.alpha]
    failed = {one.place: one for one in (*crowded, *small, *doubtful)}.values()
    return max(failed, key=lambda one: (one.p, -abs(one.change), one.place), default=None)


def _relocated(values: Sequence[float], places: list[int], config: ChangePointConfig) -> set[int]:
    """Each one where q is highest between its neighbours: a window may have ended too soon to see that.

    Where that is too near an edge, the few results there are another matter than the rest, and no level yet.
    """
    found, half = set(), config.window // 2
    for before, place, after in zip([0, *places], places, [*places[1:], len(values)], strict=False):
        start, end = max(before, place - half), min(after, place + half)
        _, best, _ = _Distances(values[start:end]).highest(end - start, FEWEST)
        if config.min_segment <= best <= end - start - config.min_segment:
            found.add(start + best)
    return found
