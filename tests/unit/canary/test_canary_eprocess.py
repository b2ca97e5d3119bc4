"""The promises of the e-values themselves, by exact enumeration where possible and by seeded simulation where not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.eprocess import (
    RATIOS_MILLI,
    Sums,
    TwoArms,
    added,
    block_increments,
    log_e,
    multiples,
    rare_event_increments,
    ratio_interval,
    threshold_micro,
    to_micro,
)
from controller.domain.verdict import JudgeConfig

CONFIG = JudgeConfig()
GRID = multiples(CONFIG)
ARM_SIZES = st.integers(1, 7)
RATES = st.floats(0.001, 0.999)
PHIS = st.sampled_from([1000, 1500, 3000, 10_000])
ROUNDING = 1e-9


def binomial(total: int, rate: float) -> list[float]:
    return [math.comb(total, bad) * rate**bad * (1 - rate) ** (total - bad) for bad in range(total + 1)]


def expectation(e_value: Callable[[TwoArms], float], n: int, m: int, canary_rate: float, baseline_rate: float) -> float:
    return math.fsum(
        px * py * e_value(TwoArms(x, n, y, m))
        for x, px in enumerate(binomial(n, canary_rate))
        for y, py in enumerate(binomial(m, baseline_rate))
    )


def error_increments(arms: TwoArms, tolerated: float) -> Sums:
    return rare_event_increments(arms, tolerated, [tolerated * multiple for multiple in GRID])


@settings(max_examples=60, deadline=None)
@given(n=ARM_SIZES, m=ARM_SIZES, rate=RATES, no_worse=st.floats(0, 1), tolerated=st.floats(1, 3), phi=PHIS)
def test_one_window_of_errors_gains_nothing_on_average_when_the_canary_is_no_worse_than_tolerated(
    *, n: int, m: int, rate: float, no_worse: float, tolerated: float, phi: int
) -> None:
    canary_rate = min(1.0, tolerated * rate) * no_worse
    mean = expectation(lambda arms: math.exp(log_e(error_increments(arms, tolerated), phi)), n, m, canary_rate, rate)
    assert mean <= 1 + ROUNDING


@settings(max_examples=60, deadline=None)
@given(n=ARM_SIZES, m=ARM_SIZES, rate=st.floats(0.001, 0.8), tolerated=st.sampled_from([1.0, 1.25, 2.0]))
def test_every_alternative_holds_its_promise_at_the_very_edge_of_the_tolerated_ratio(
    n: int, m: int, rate: float, tolerated: float
) -> None:
    edge = min(1.0, tolerated * rate)
    for alternative in GRID:

        def one(arms: TwoArms, ratio: float = tolerated * alternative) -> float:
            return math.exp(rare_event_increments(arms, tolerated, [ratio])[0])

        assert expectation(one, n, m, edge, rate) <= 1 + ROUNDING


@settings(max_examples=60, deadline=None)
@given(n=ARM_SIZES, m=ARM_SIZES, rate=RATES, no_worse=st.floats(0, 1), guess=st.floats(0.01, 0.99), phi=PHIS)
def test_one_window_of_latency_gains_nothing_on_average_however_wrong_the_guessed_rate(
    *, n: int, m: int, rate: float, no_worse: float, guess: float, phi: int
) -> None:
    mean = expectation(
        lambda arms: math.exp(log_e(block_increments(arms, guess, GRID), phi)), n, m, rate * no_worse, rate
    )
    assert mean <= 1 + ROUNDING


def sampler(rng: random.Random, total: int, rate: float, size: int) -> list[int]:
    return rng.choices(range(total + 1), cum_weights=list(accumulate(binomial(total, rate))), k=size)


def share_ever_crossing(
    increments: Callable[[int, int], Sums], canary: Sequence[int], baseline: Sequence[int], windows: int, alpha: float
) -> float:
    crossed, runs = 0, len(canary) // windows
    for run in range(runs):
        sums: Sums = (0.0,) * len(GRID)
        for window in range(run * windows, (run + 1) * windows):
            sums = added(sums, increments(canary[window], baseline[window]))
            if log_e(sums, 1000) >= math.log(1 / alpha):
                crossed += 1
                break
    return crossed / runs


def test_looking_after_every_window_at_the_edge_of_the_null_stays_within_the_budget_of_the_whole_rollout() -> None:
    rng, runs, windows, alpha = random.Random(20261122), 2_000, 40, 0.05
    canary = sampler(rng, 10, 0.05 * 1.25, runs * windows)
    baseline = sampler(rng, 40, 0.05, runs * windows)
    increments = cache(lambda x, y: error_increments(TwoArms(x, 10, y, 40), 1.25))
    rate = share_ever_crossing(increments, canary, baseline, windows, alpha)
    assert rate <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


def test_looking_after_every_window_at_equal_latency_stays_within_the_budget_of_the_whole_rollout() -> None:
    rng, runs, windows, alpha = random.Random(7), 2_000, 40, 0.05
    canary, baseline = sampler(rng, 10, 0.25, runs * windows), sampler(rng, 40, 0.25, runs * windows)
    increments = cache(lambda x, y: block_increments(TwoArms(x, 10, y, 40), 0.2, GRID))
    rate = share_ever_crossing(increments, canary, baseline, windows, alpha)
    assert rate <= alpha + 3 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(
    ("tolerated", "share_percent", "errors_at_alpha"),
    [
        (1.0, 50, {50_000: 6, 10_000: 8, 1_000: 12}),
        (1.0, 25, {50_000: 3, 10_000: 4, 1_000: 6}),
        (1.0, 10, {50_000: 2, 10_000: 3, 1_000: 4}),
        (1.0, 5, {50_000: 2, 10_000: 2, 1_000: 3}),
        (1.0, 1, {50_000: 2, 10_000: 2, 1_000: 3}),
        (1.25, 50, {1_000: 14}),
        (1.25, 10, {1_000: 4}),
    ],
)
def test_number_of_canary_errors_that_fires_over_a_clean_baseline_is_the_known_one(
    tolerated: float, share_percent: int, errors_at_alpha: dict[int, int]
) -> None:
    for alpha_ppm, fires_at in errors_at_alpha.items():
        fired = [
            to_micro(
                log_e(error_increments(TwoArms(x, share_percent * 10, 0, 1000 - share_percent * 10), tolerated), 1000)
            )
            >= threshold_micro(alpha_ppm)
            for x in (fires_at - 1, fires_at)
        ]
        assert fired == [False, True]


@given(
    n=st.integers(1, 500),
    m=st.integers(1, 500),
    x=st.integers(0, 400),
    y=st.integers(0, 400),
    guess=st.floats(0.01, 0.9),
)
def test_one_more_canary_error_never_weakens_the_evidence_and_one_more_baseline_error_never_strengthens_it(
    n: int, m: int, x: int, y: int, guess: float
) -> None:
    x, y = min(x, n - 1), min(y, m - 1)
    tests: list[Callable[[TwoArms], Sums]] = [
        lambda arms: error_increments(arms, 1.25),
        lambda arms: block_increments(arms, guess, GRID),
    ]
    for test in tests:
        before = log_e(test(TwoArms(x, n, y, m)), 1000)
        assert log_e(test(TwoArms(x + 1, n, y, m)), 1000) >= before - ROUNDING
        assert log_e(test(TwoArms(x, n, y + 1, m)), 1000) <= before + ROUNDING


def test_window_with_an_idle_arm_is_no_evidence() -> None:
    assert set(error_increments(TwoArms(5, 9, 0, 0), 1.25)) == {0.0}
    assert set(error_increments(TwoArms(0, 0, 3, 9), 1.25)) == {0.0}
    assert set(block_increments(TwoArms(5, 9, 0, 0), 0.1, GRID)) == {0.0}


def test_interval_of_the_ratio_holds_the_truth_and_narrows_with_traffic() -> None:
    few = ratio_interval([TwoArms(5, 500, 5, 2_500)] * 2, 1000, CONFIG)
    many = ratio_interval([TwoArms(5, 500, 5, 2_500)] * 60, 1000, CONFIG)
    assert few.lower_milli < many.lower_milli < 5_000
    assert many.upper_milli is not None
    assert many.upper_milli > 5_000
    assert few.upper_milli is None or few.upper_milli > many.upper_milli


def test_interval_is_unbounded_above_while_the_baseline_has_not_failed() -> None:
    interval = ratio_interval([TwoArms(3, 100, 0, 900)], 1000, CONFIG)
    assert interval.lower_milli > 0
    assert interval.upper_milli is None
    silent = ratio_interval([TwoArms(0, 100, 0, 900)], 1000, CONFIG)
    assert (silent.lower_milli, silent.upper_milli) == (0, None)


def test_interval_excludes_the_tolerated_ratio_whenever_the_test_of_errors_fires() -> None:
    arms = TwoArms(31, 508, 4, 2_031)
    assert to_micro(log_e(error_increments(arms, 1.25), 1000)) >= threshold_micro(1_000)
    assert ratio_interval([arms], 1000, CONFIG).lower_milli > 1_250


def test_limits_of_the_interval_are_ratios_rejected_at_half_of_alpha_and_the_next_inside_are_not() -> None:
    arms, needed = TwoArms(40, 1_000, 80, 9_000), math.log(2 * 1e6 / CONFIG.interval_alpha_ppm)
    interval = ratio_interval([arms], 1000, CONFIG)
    assert interval.upper_milli is not None

    def evidence_against(milli: int, direction: int) -> float:
        return log_e(rare_event_increments(arms, milli / 1000, [milli / 1000 * g**direction for g in GRID]), 1000)

    for limit, direction in ((interval.lower_milli, 1), (interval.upper_milli, -1)):
        inside = RATIOS_MILLI[RATIOS_MILLI.index(limit) + direction]
        assert evidence_against(limit, direction) >= needed > evidence_against(inside, direction)
