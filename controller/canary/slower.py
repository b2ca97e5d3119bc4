"""Is a head slower than what has landed? One CI run is one observation, however many samples it took.

A machine's mood lasts for a whole run: samples within a run are much more alike than two runs are, and a t-test that
counted them one by one would see a change in every mood. So a run counts with the median of its samples, and is held
against the runs of landed changes: their level is the mean since the last change point, their noise the spread around
all levels of the series, pooled and relative to each. With m runs on the present level, N in all, L levels and s^2 the
sum of squared residuals over N - L,

    t = (head / level - 1) / (s sqrt(1 + 1/m)),   N - L degrees of freedom,

the t-test of one new observation. Its p is multiplied by the number of benchmarks compared (Bonferroni), so that a
change that is no slower is called slower with probability `alpha`, whatever the number of its benchmarks. This rests on
runs being alike and independent; a machine that is busy for an hour is neither, and all that it can bring about is that
a person is asked.

A slowdown that a person has let land begins a new level at once, so that those who come after are not blamed for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate, pairwise

from controller.canary.changepoints import DEFAULTS, ChangePointConfig, change_points, without_spikes
from controller.canary.student import sample_of, two_sided_p
from controller.domain.benchmark import SMALLEST_P, Benchmark, SlowerBenchmark, less_is_better
from controller.history.benchmarks import Point

TINY = 1e-9  # an equal result is never worse
MIN_DEGREES = 9  # of freedom: with fewer, the noise is not known well enough to accuse anybody


def slower_ones(
    head: Sequence[Benchmark], landed: Mapping[str, Sequence[Point]], config: ChangePointConfig = DEFAULTS
) -> tuple[SlowerBenchmark, ...]:
    """The worst first. Empty: none is, or too little has landed to say."""
    known = [(one, landed[one.name]) for one in head if one.name in landed]
    found = [slower(one, points, len(known), config) for one, points in known]
    return tuple(sorted((one for one in found if one is not None), key=lambda one: (one.p_log10_milli, one.name)))


def slower(
    head: Benchmark, points: Sequence[Point], compared: int, config: ChangePointConfig = DEFAULTS
) -> SlowerBenchmark | None:
    """`compared`: benchmarks that are held against their series in this run, this one included."""
    values = [float(point.value_micro) for point in points]
    if not _could_be(head, values, config):
        return None
    levels = levels_of(values, [at for at, point in enumerate(points) if point.accepted(head.name)], config)
    runs = sum(len(level) for level in levels)
    if runs - len(levels) < MIN_DEGREES:
        return None
    level = sample_of(levels[-1])
    if (worse := _worse(head, level.mean)) < max(config.min_magnitude, TINY):
        return None
    p = min(1.0, compared * _p(worse, levels, level.n))
    if p > config.alpha:
        return None
    return SlowerBenchmark(
        name=head.name,
        before_micro=round(level.mean),
        after_micro=head.value_micro,
        p_log10_milli=round(1000 * math.log10(max(p, SMALLEST_P))),
        landings=runs,
    )


def _worse(head: Benchmark, level: float) -> float:
    """By which part of the level. Negative: it is better."""
    return (head.value_micro / level - 1) * (1 if less_is_better(head.name) else -1)


def _could_be(head: Benchmark, values: Sequence[float], config: ChangePointConfig) -> bool:
    """Wherever the present level begins, it is the mean of a tail of the series: most heads need no closer look."""
    newest_first = [values[at] for at in reversed(without_spikes(values, config.min_magnitude))]
    tails = (total / n for n, total in enumerate(accumulate(newest_first), start=1))
    return any(_worse(head, mean) >= config.min_magnitude for mean in tails)


def _p(worse: float, levels: Sequence[Sequence[float]], on_level: int) -> float:
    squares = math.fsum(sample.squares / sample.mean**2 for sample in map(sample_of, levels))
    df = sum(len(level) for level in levels) - len(levels)
    noise = math.sqrt(squares / df * (1 + 1 / on_level))
    return two_sided_p(worse / noise, df) if noise > 0 else 0.0


def levels_of(values: Sequence[float], accepted: Sequence[int], config: ChangePointConfig) -> list[list[float]]:
    """The series cut at its change points, and where a person has accepted a new level; without its lone spikes."""
    kept = without_spikes(values, config.min_magnitude)
    cuts = {one.index for one in change_points(values, config)}
    # A change point near by is the same change, better placed.
    own = {at for at in accepted if at in kept and all(abs(at - cut) >= config.min_segment for cut in cuts)}
    edges = [0, *sorted((cuts | own) - {0}), len(values)]
    parts = [[values[at] for at in kept if start <= at < end] for start, end in pairwise(edges)]
    return [part for part in parts if part]
