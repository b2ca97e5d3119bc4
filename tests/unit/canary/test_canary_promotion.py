"""Promotion is proven or not given."""

from __future__ import annotations

import math
import random
from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.eprocess import NOTHING, TwoArms, added, log_e
from controller.canary.promotion import (
    NO_EVIDENCE,
    absolute_increments,
    promotion_log_e,
    relative_increments,
    requests_needed,
)
from controller.domain.verdict import JudgeConfig, PromotionRule

CONFIG = JudgeConfig()
ROUNDING = 1e-9


def binomial(total: int, rate: float) -> list[float]:
    return [math.comb(total, bad) * rate**bad * (1 - rate) ** (total - bad) for bad in range(total + 1)]


@given(
    n=st.integers(1, 60), slo_ppm=st.integers(1_000, 400_000), worse=st.floats(0, 1), phi=st.sampled_from([1000, 3000])
)
def test_canary_at_or_above_the_slo_gains_nothing_on_average(n: int, slo_ppm: int, worse: float, phi: int) -> None:
    config = JudgeConfig(slo_error_ppm=slo_ppm)
    rate = slo_ppm / 1e6 + worse * (1 - slo_ppm / 1e6)
    mean = math.fsum(
        chance * math.exp(log_e(absolute_increments(errors, n, config), phi))
        for errors, chance in enumerate(binomial(n, rate))
    )
    assert mean <= 1 + ROUNDING


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 7), m=st.integers(1, 7), rate=st.floats(0.001, 0.33), worse=st.floats(0, 1))
def test_canary_failing_three_times_as_often_or_more_gains_nothing_on_average(
    n: int, m: int, rate: float, worse: float
) -> None:
    canary_rate = 3 * rate + worse * (1 - 3 * rate)
    mean = math.fsum(
        px * py * math.exp(log_e(relative_increments(TwoArms(x, n, y, m), CONFIG), 1000))
        for x, px in enumerate(binomial(n, canary_rate))
        for y, py in enumerate(binomial(m, rate))
    )
    assert mean <= 1 + ROUNDING


def test_canary_at_the_slo_is_ever_promoted_within_the_budget() -> None:
    rng, runs, windows, beta = random.Random(11), 1_500, 60, 0.05
    increments, crossed = cache(lambda errors: absolute_increments(errors, 20, CONFIG)), 0
    chances = binomial(20, 0.01)
    for _ in range(runs):
        sums = NO_EVIDENCE
        for errors in rng.choices(range(21), weights=chances, k=windows):
            sums = added(sums, increments(errors))
            if log_e(sums, 1000) >= math.log(1 / beta):
                crossed += 1
                break
    assert crossed / runs <= beta + 3 * math.sqrt(beta * (1 - beta) / runs)


def test_estimate_of_missing_requests_is_the_number_that_then_suffices() -> None:
    seen = TwoArms(0, 100, 4, 900)
    absolute = absolute_increments(0, 100, CONFIG)
    needed = requests_needed(absolute, NO_EVIDENCE, seen, 1000, CONFIG)
    assert needed is not None
    for more, proven in ((needed - 1, False), (needed, True)):
        ahead = added(absolute, absolute_increments(0, more, CONFIG))
        assert (log_e(ahead, 1000) >= math.log(20)) is proven


def test_estimate_before_the_first_request_is_the_least_that_it_can_take() -> None:
    needed = requests_needed(NO_EVIDENCE, NO_EVIDENCE, NOTHING, 1000, CONFIG)
    assert needed is not None
    assert 300 <= needed <= 400
    noisy = requests_needed(NO_EVIDENCE, NO_EVIDENCE, NOTHING, 2000, CONFIG)
    assert noisy is not None
    assert noisy > 1.5 * needed


def test_canary_above_the_slo_is_told_that_no_number_of_requests_will_do() -> None:
    seen = TwoArms(30, 1_000, 270, 9_000)
    assert requests_needed(absolute_increments(30, 1_000, CONFIG), NO_EVIDENCE, seen, 1000, CONFIG) is None


def test_relative_rule_promotes_through_a_shared_incident_that_the_slo_alone_would_not_forgive() -> None:
    incident = TwoArms(100, 1_000, 900, 9_000)
    absolute, relative = absolute_increments(100, 1_000, CONFIG), relative_increments(incident, CONFIG)
    assert promotion_log_e(absolute, relative, 1000, PromotionRule.ABSOLUTE) < 0
    assert promotion_log_e(absolute, relative, 1000, PromotionRule.RELATIVE) > math.log(20)
    assert promotion_log_e(absolute, relative, 1000, PromotionRule.EITHER) > math.log(20)
