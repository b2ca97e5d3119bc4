"""The bounds are bounds: by brute force where that is possible, and against the tests that they bound."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from bench.detect import bound, counts, spending, traffic
from bench.detect.ours import NEVER, Combined, ErrorsTest
from controller.domain.verdict import JudgeConfig


def best_by_brute_force(null: list[float], other: list[float], alpha: float) -> float:
    """Of all rejection regions of at most `alpha`."""
    best = 0.0
    for region in product([0, 1], repeat=len(null)):
        if sum(p for p, inside in zip(null, region, strict=True) if inside) <= alpha + 1e-12:
            best = max(best, sum(p for p, inside in zip(other, region, strict=True) if inside))
    return best


@pytest.mark.parametrize("seed", range(10))
def test_no_region_beats_the_bound_and_at_a_size_without_coin_one_reaches_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    null, other = rng.dirichlet(np.ones(8)), rng.dirichlet(np.ones(8))
    order = np.argsort(-other / null)
    for size in np.cumsum(null[order])[:-1]:
        exact = bound.most_powerful(null, other, float(size))
        assert exact == pytest.approx(best_by_brute_force(list(null), list(other), float(size)), abs=1e-9)
        between = float(size) * 0.9
        assert (
            bound.most_powerful(null, other, between) >= best_by_brute_force(list(null), list(other), between) - 1e-12
        )


def test_the_split_bound_is_the_sum_over_what_the_errors_can_be() -> None:
    """Written out with whole numbers: errors of both arms Poisson(3), the canary's share 1/4, then 3/4."""
    expected = plain = 0.0
    for total in range(60):
        chance = math.exp(-3) * 3**total / math.factorial(total)
        null, other = (
            [math.comb(total, x) * share**x * (1 - share) ** (total - x) for x in range(total + 1)]
            for share in (0.25, 0.75)
        )
        left, power = 0.05, 0.0
        for x in range(total, -1, -1):  # more canary errors first
            part = min(1.0, left / null[x])
            power += part * other[x]
            plain += chance * other[x] * (part == 1.0)
            left -= part * null[x]
        expected += chance * power
    assert bound.split_power(2.25, 0.75, 1 / 3, 3.0, 0.05) == pytest.approx((expected, plain), rel=1e-9)


def test_whoever_knows_more_finds_more() -> None:
    for rps, times, alpha in product((0.05, 0.5), (2, 5, 10), (0.001, 0.01)):
        best = bound.powers(rps, times, alpha)
        assert alpha < best.plain_split + alpha <= best.split + alpha <= best.oracle + alpha < 1 + alpha
        assert bound.powers(rps, times, alpha, null_times=1.25).oracle < best.oracle


def test_the_oracle_needs_as_many_requests_as_are_said() -> None:
    needed = bound.requests_for(0.9, 10, 0.001)
    rates = (traffic.BASE_RATE, 10 * traffic.BASE_RATE)
    assert bound.oracle_power(needed, *rates, 0.001) >= 0.9 > bound.oracle_power(needed * 0.98, *rates, 0.001)


@pytest.mark.parametrize("times", [5.0, 10.0])
def test_no_test_of_ours_beats_the_bound_that_is_said_to_hold_for_it(times: float) -> None:
    arms = traffic.draw(np.random.default_rng(8), traffic.Scenario("effect", canary_times=times), 0.5, 500)
    best = bound.powers(0.5, times, 0.01, null_times=1.25)
    by_e = Combined([ErrorsTest(arms, JudgeConfig())]).first_crossings([10_000])[10_000]
    by_spending = spending.first_crossings(arms, 1.25, 0.01)
    for found in (by_e, by_spending):
        low, _ = counts.interval(int((found != NEVER).sum()), len(found))
        assert low <= best.oracle
    assert (by_spending != NEVER).sum() > (by_e != NEVER).sum()


def test_spending_keeps_its_budget_at_the_edge_of_the_null() -> None:
    arms = traffic.draw(np.random.default_rng(9), traffic.EDGE, 0.5, 1_000)
    low, _ = counts.interval(int((spending.first_crossings(arms, 1.25, 0.05) != NEVER).sum()), 1_000)
    assert low <= 0.05


@pytest.mark.parametrize(("hits", "runs"), [(0, 100), (3, 100), (50, 100), (100, 100), (2, 100_000)])
def test_the_interval_ends_where_what_was_seen_becomes_improbable(hits: int, runs: int) -> None:
    low, high = counts.interval(hits, runs)
    assert 0 <= low <= hits / runs <= high <= 1
    if hits:
        assert 1 - math.fsum(counts.binomial(runs, low, hits - 1)) == pytest.approx(0.025, rel=1e-6)
    if hits < runs:
        assert math.fsum(counts.binomial(runs, high, hits)) == pytest.approx(0.025, rel=1e-6)
