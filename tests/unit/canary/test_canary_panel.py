"""Several tests share one alpha: what each may do, and that together they keep the promise."""

from __future__ import annotations

import math
import random
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary import panel
from controller.canary.boundaries import choose_boundaries, no_boundaries
from controller.canary.eprocess import MICRO
from controller.canary.judge import judge
from controller.canary.panel import Given
from controller.canary.silence import ALTERNATIVES, ASKED, BLOCK_WINDOWS, NO_SILENCE, silence_increments, silence_of
from controller.domain.counts import ArmCounts, CallerCounts, GaugeMeans, Histogram, RouteCounts, Totals, WindowCounts
from controller.domain.verdict import (
    BoundarySource,
    JudgeConfig,
    Outcome,
    Phi,
    PhiSource,
    Rule,
    Silence,
    TestKind,
    Verdict,
    View,
)

CONFIG = JudgeConfig()
QUIET = Phi(milli=1000, source=PhiSource.MEASURED, instances=10, minutes=60)
WIDTH_MS = 10_000
TELLING = Given(callers=True, silence=Silence(asked=360, silent=0, bound_ppm=50_000))
FORTIES = choose_boundaries(Histogram.of({40: 900, 60: 100}), CONFIG, BoundarySource.HISTORY)


def arm(bad: int, total: int) -> ArmCounts:
    return ArmCounts(requests=total, errors=bad)


def window(position: int, canary: ArmCounts, baseline: ArmCounts, **more: object) -> WindowCounts:
    return WindowCounts(
        start_ms=position * WIDTH_MS,
        end_ms=(position + 1) * WIDTH_MS,
        canary=canary,
        baseline=baseline,
        **more,  # type: ignore[arg-type]
    )


def seen_by_callers(canary: ArmCounts, baseline: ArmCounts) -> CallerCounts:
    return CallerCounts(canary=canary, baseline=baseline)


def verdict_on(windows: list[WindowCounts], given: Given, config: JudgeConfig = CONFIG) -> Verdict:
    return judge(config, windows, QUIET, no_boundaries(), weight_percent=10, given=given)


@pytest.mark.parametrize("callers", [False, True])
@pytest.mark.parametrize("routes", [(), ("/a",), ("/a", "/b", "/c")])
@pytest.mark.parametrize("silence", [None, TELLING.silence])
@pytest.mark.parametrize("boundaries", [no_boundaries(), FORTIES])
def test_no_choice_of_tests_spends_more_than_one_alpha(
    callers: bool, routes: tuple[str, ...], silence: Silence | None, boundaries: object
) -> None:
    tests = panel.tests_of(CONFIG, boundaries, Given(callers=callers, routes=routes, silence=silence))  # type: ignore[arg-type]
    assert MICRO - 50 <= sum(test.weight_ppm for test in tests) <= MICRO
    assert tests[0].kind is TestKind.ERRORS
    assert any(test.kind is TestKind.ABSENT for test in tests) == (callers and silence is not None)


def test_canary_whose_failures_only_its_callers_see_is_rolled_back() -> None:
    windows = [window(i, arm(0, 40), arm(0, 450), callers=seen_by_callers(arm(10, 50), arm(0, 450))) for i in range(3)]
    verdict = verdict_on(windows, Given(callers=True))
    assert (verdict.outcome, verdict.rule) == (Outcome.ROLL_BACK, Rule.ERRORS)
    assert verdict.sentence.startswith("errors as callers saw them: canary 20.0%")
    assert verdict_on(windows, Given()).outcome is not Outcome.ROLL_BACK


def test_route_that_fails_is_found_though_the_others_hide_it() -> None:
    """A common background of failures on a busy route drowns a rare one."""
    routes = tuple(
        RouteCounts(route=name, canary=Totals(requests=n, errors=x), baseline=Totals(requests=m, errors=y))
        for name, n, x, m, y in (("/busy", 480, 24, 4_320, 216), ("/rare", 20, 5, 180, 0))
    )
    windows = [window(i, arm(29, 500), arm(216, 4_500), routes=routes) for i in range(3)]
    apart = verdict_on(windows, Given(routes=("/busy", "/rare")))
    together = verdict_on(windows, Given())
    assert (apart.outcome, apart.rule) == (Outcome.ROLL_BACK, Rule.ERRORS)
    assert "on /rare" in apart.sentence
    assert together.outcome is Outcome.HOLD


def test_asked_and_silent_canary_is_absent_and_acts_alone() -> None:
    silent = [
        window(i, arm(0, 0), arm(0, 90), callers=seen_by_callers(arm(0, 10), arm(0, 90)))
        for i in range(5 * BLOCK_WINDOWS)
    ]
    verdict = verdict_on(silent, TELLING)
    assert (verdict.outcome, verdict.rule, verdict.may_act_alone) == (Outcome.ABSENT, Rule.ABSENT, True)
    assert "its callers asked it in" in verdict.sentence
    assert verdict.first_crossing_window is not None
    assert (verdict.first_crossing_window + 1) % BLOCK_WINDOWS == 0


def test_starved_canary_is_never_called_absent() -> None:
    starved = [window(i, arm(0, 0), arm(0, 90), callers=seen_by_callers(arm(0, 0), arm(0, 90))) for i in range(30)]
    verdict = verdict_on(starved, TELLING)
    assert (verdict.rule, verdict.may_act_alone, verdict.must_page) == (Rule.SILENT, False, True)
    assert "it is starved, not absent" in verdict.sentence


def test_silence_of_everybody_is_an_outage_of_telemetry_and_no_absence() -> None:
    blind = [window(i, arm(0, 0), arm(0, 0), callers=seen_by_callers(arm(0, 50), arm(0, 450))) for i in range(60)]
    verdict = verdict_on(blind, TELLING)
    assert verdict.outcome is Outcome.HOLD
    assert verdict.first_crossing_window is None


def test_canary_that_reports_late_by_a_window_is_not_absent() -> None:
    """Batches: nothing for two windows, then everything at once."""
    windows = [
        window(i, arm(0, 30 if i % 3 == 2 else 0), arm(0, 90), callers=seen_by_callers(arm(0, 10), arm(0, 90)))
        for i in range(90)
    ]
    assert verdict_on(windows, TELLING).first_crossing_window is None


@settings(deadline=None)
@given(st.floats(0, 1), st.integers(1, 999_999))
def test_silence_is_an_e_value_for_every_probability_up_to_its_bound(part: float, bound_ppm: int) -> None:
    p = part * bound_ppm / MICRO
    bad, good = (silence_increments(NO_SILENCE, silent=silent, bound_ppm=bound_ppm) for silent in (True, False))
    for i in range(len(ALTERNATIVES)):
        if ALTERNATIVES[i] >= bound_ppm / MICRO:
            assert p * math.exp(bad[i]) + (1 - p) * math.exp(good[i]) <= 1 + 1e-9


def test_bound_on_silence_is_learnt_upwards_only() -> None:
    assert silence_of(0, 0, CONFIG).bound_ppm == CONFIG.silence_prior_ppm
    assert silence_of(1_000, 0, CONFIG).bound_ppm == CONFIG.silence_prior_ppm
    assert silence_of(1_000, 100, CONFIG).bound_ppm > 2 * 100_000
    assert silence_of(1_000, 1_000, CONFIG).bound_ppm == 500_000


def test_sound_canaries_with_every_test_at_work_are_rolled_back_no_oftener_than_alpha() -> None:
    """At alpha 0.1, looked at after each of 30 windows; 120 rollouts, seeds fixed. Expected at most 12."""
    config = JudgeConfig(alpha_ppm=100_000, page_alpha_ppm=200_000)
    given_all = Given(callers=True, routes=("/a", "/b"), silence=TELLING.silence)
    false = 0
    for seed in range(120):
        rng = random.Random(seed)
        windows = [_sound(rng, i) for i in range(30)]
        false += verdict_on(windows, given_all, config).first_crossing_window is not None
    assert false <= 12


def _sound(rng: random.Random, position: int) -> WindowCounts:
    """Both arms fail alike on each route; callers see what the service reports, and losses of their own."""
    counts = {}
    for name, rate, n in (("/a", 0.02, 12), ("/b", 0.1, 4)):
        counts[name] = [sum(rng.random() < rate for _ in range(m)) for m in (n, 4 * n)], (n, 4 * n)
    routes = tuple(
        RouteCounts(route=name, canary=Totals(requests=n, errors=x), baseline=Totals(requests=m, errors=y))
        for name, ((x, y), (n, m)) in counts.items()
    )
    arms = [
        arm(sum(bad[i] for bad, _ in counts.values()), sum(total[i] for _, total in counts.values())) for i in (0, 1)
    ]
    lost = [sum(rng.random() < 0.01 for _ in range(one.requests - one.errors)) for one in arms]
    callers = [arm(one.errors + more, one.requests) for one, more in zip(arms, lost, strict=True)]
    return window(position, arms[0], arms[1], routes=routes, callers=seen_by_callers(callers[0], callers[1]))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(30, 300), st.integers(0, 30))
def test_more_failures_of_the_canary_never_weaken_the_evidence(n: int, x: int, m: int, y: int) -> None:
    x, y = min(x, n - 1), min(y, m)
    fewer, more = (verdict_on([window(0, arm(bad, n), arm(y, m))], Given()).log_e_micro for bad in (x, x + 1))
    assert more >= fewer or fewer >= verdict_on([], Given()).threshold_micro


@settings(max_examples=30, deadline=None)
@given(st.permutations([("/a", 3), ("/b", 0), ("/c", 7)]))
def test_order_of_what_is_told_within_a_window_changes_nothing(order: list[tuple[str, int]]) -> None:
    routes = tuple(
        RouteCounts(route=name, canary=Totals(requests=20, errors=bad), baseline=Totals(requests=90, errors=1))
        for name, bad in order
    )
    found = verdict_on([window(0, arm(10, 60), arm(3, 270), routes=routes)], Given(routes=("/a", "/b", "/c")))
    straight = tuple(sorted(routes, key=lambda one: one.route))
    assert found == verdict_on([window(0, arm(10, 60), arm(3, 270), routes=straight)], Given(routes=("/a", "/b", "/c")))


def test_traffic_that_is_not_split_as_asked_pages_and_rolls_nothing_back() -> None:
    windows = [window(i, arm(0, 200), arm(0, 300)) for i in range(20)]
    verdict = verdict_on(windows, Given())
    assert (verdict.outcome, verdict.rule, verdict.must_page) == (Outcome.HOLD, Rule.SAMPLE_RATIO, True)
    assert "gets 40 % of requests and should get 10 %" in verdict.sentence


def test_traffic_split_by_chance_pages_no_oftener_than_promised() -> None:
    pages = 0
    for seed in range(100):
        rng = random.Random(seed)
        canaries = [sum(rng.random() < 0.1 for _ in range(50)) for _ in range(30)]
        windows = [window(i, arm(0, n), arm(0, 50 - n)) for i, n in enumerate(canaries)]
        pages += verdict_on(windows, Given()).rule is Rule.SAMPLE_RATIO
    assert pages <= 1  # page_alpha is 1 %, and the evidence is tempered


def test_incident_that_both_arms_share_pages_holds_and_is_over_when_it_is_over() -> None:
    given_history = Given(history=Totals(requests=100_000, errors=100))
    rates = [0.001] * 20 + [0.2] * 20 + [0.001] * 20
    rules, windows, rng = [], [], random.Random(4)
    for i, rate in enumerate(rates):
        bad = [sum(rng.random() < rate for _ in range(n)) for n in (100, 900)]
        windows.append(window(i, arm(bad[0], 100), arm(bad[1], 900)))
        rules.append(verdict_on(windows, given_history).rule)
    assert Rule.SHARED_INCIDENT not in rules[:20]
    assert rules[22:40] == [Rule.SHARED_INCIDENT] * 18
    assert Rule.SHARED_INCIDENT not in rules[45:]
    assert not {Rule.ERRORS, Rule.LATENCY} & set(rules)


def test_outage_that_both_arms_share_does_not_keep_a_sound_canary_from_being_promoted() -> None:
    given_history = Given(history=Totals(requests=100_000, errors=100))
    windows = [window(i, arm(30 if 5 <= i < 25 else 0, 100), arm(270 if 5 <= i < 25 else 0, 900)) for i in range(90)]
    assert verdict_on(windows, given_history).rule is Rule.PROMOTED
    assert verdict_on(windows, Given()).promotion.requests_needed is None


def test_canary_that_fails_in_a_shared_incident_is_still_told_apart() -> None:
    given_history = Given(history=Totals(requests=100_000, errors=100))
    windows = [window(i, arm(60, 100), arm(180, 900)) for i in range(5)]
    assert verdict_on(windows, given_history).rule is Rule.ERRORS


def test_leak_pages_and_never_rolls_back() -> None:
    leaking = [window(i, arm(0, 50), arm(0, 450), gauges=(memory(100_000 + 10_000 * i, 100_000),)) for i in range(40)]
    verdict = verdict_on(leaking, Given(gauges=("process.memory.usage",)))
    assert (verdict.outcome, verdict.rule, verdict.must_page) == (Outcome.HOLD, Rule.GAUGE, True)
    assert "process.memory.usage: canary 490, 4.90 times the baseline's" in verdict.sentence
    steady = [window(i, arm(0, 50), arm(0, 450), gauges=(memory(110_000, 100_000),)) for i in range(400)]
    assert verdict_on(steady, Given(gauges=("process.memory.usage",))).rule is not Rule.GAUGE


def memory(canary_milli: int, baseline_milli: int) -> GaugeMeans:
    return GaugeMeans(name="process.memory.usage", canary_milli=canary_milli, baseline_milli=baseline_milli)


def test_wait_for_promotion_is_told_in_requests_and_in_time() -> None:
    windows = [window(i, arm(0, 10), arm(0, 90)) for i in range(6)]
    verdict = verdict_on(windows, Given())
    needed, wait_ms = verdict.promotion.requests_needed, verdict.promotion.wait_ms
    assert needed is not None
    assert wait_ms == needed * 1_000  # one canary request a second
    assert f"about {needed} more canary requests needed to promote, in about" in verdict.sentence


def test_low_traffic_is_told_what_it_can_find_by_when_and_what_would_help() -> None:
    slow = [window(i, arm(0, i % 2), arm(0, 5)) for i in range(30)]  # one canary request in 20 s
    said = " ".join(verdict_on(slow, Given()).outlook)
    assert "a canary that always fails is found in about" in said
    assert "with 50 % of traffic" in said
    assert "service.probes" in said
    busy = [window(i, arm(0, 500), arm(0, 4_500)) for i in range(2)]
    assert verdict_on(busy, Given()).outlook == ()


def test_what_it_cost_users_is_counted_beyond_the_usual() -> None:
    verdict = verdict_on([window(0, arm(31, 500), arm(9, 4_500))], Given())
    assert verdict.spent is not None
    assert verdict.spent.failed_requests == 30
    assert verdict.spent.budget_ppm == 30 * MICRO // 50  # 1 % of 5,000 requests may fail


def test_silent_blocks_need_requests_to_count() -> None:
    few = [window(i, arm(0, 0), arm(0, 40), callers=seen_by_callers(arm(0, 1), arm(0, 40))) for i in range(60)]
    asked = list(accumulate(one.callers.canary.requests for one in few[:BLOCK_WINDOWS] if one.callers))
    assert asked[-1] < ASKED
    assert verdict_on(few, TELLING).first_crossing_window is None


def test_callers_latency_is_a_test_of_its_own() -> None:
    timed = choose_boundaries(Histogram.of({40: 900, 60: 100}), CONFIG, BoundarySource.HISTORY)
    quick = Histogram.of({40: 45, 60: 5})
    waits = Histogram.of({70: 50})
    windows = [
        window(
            i,
            ArmCounts(requests=50, errors=0, latency=quick),
            ArmCounts(requests=450, errors=0, latency=Histogram.of({40: 405, 60: 45})),
            callers=seen_by_callers(
                ArmCounts(requests=50, errors=0, latency=waits),
                ArmCounts(requests=450, errors=0, latency=Histogram.of({42: 405, 60: 45})),
            ),
        )
        for i in range(6)
    ]
    verdict = judge(CONFIG, windows, QUIET, timed, weight_percent=10, given=Given(callers=True))
    assert (verdict.outcome, verdict.rule) == (Outcome.ROLL_BACK, Rule.LATENCY)
    assert max(verdict.evidence, key=lambda one: one.log_e_micro).view is View.CALLERS
