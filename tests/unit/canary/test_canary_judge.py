"""What the judge says about whole rollouts: ten-second windows of simulated traffic, seeds fixed."""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controller.canary.boundaries import choose_boundaries, guessed_rate, no_boundaries
from controller.canary.eprocess import NOTHING, TwoArms, added, block_increments, multiples
from controller.canary.judge import Judge, judge
from controller.canary.weighing import JudgeState, WindowRefused
from controller.domain.counts import ArmCounts, Histogram, WindowCounts
from controller.domain.verdict import (
    Boundaries,
    BoundarySource,
    JudgeConfig,
    Outcome,
    Phi,
    PhiSource,
    PromotionRule,
    Rule,
    Verdict,
)

CONFIG = JudgeConfig()
QUIET = Phi(milli=1000, source=PhiSource.MEASURED, instances=10, minutes=60)
ASSUMED = Phi(milli=2000, source=PhiSource.PRIOR, instances=1, minutes=0)
NOISY = Phi(milli=12_000, source=PhiSource.MEASURED, instances=10, minutes=60)
WINDOW_MS = 10_000
WINDOWS_PER_MINUTE = 6


def window(position: int, canary: ArmCounts, baseline: ArmCounts) -> WindowCounts:
    return WindowCounts(
        start_ms=position * WINDOW_MS, end_ms=(position + 1) * WINDOW_MS, canary=canary, baseline=baseline
    )


def errors(bad: int, requests: int) -> ArmCounts:
    return ArmCounts(requests=requests, errors=bad)


def failing(rng: random.Random, requests: int, rate: float) -> ArmCounts:
    return errors(sum(rng.random() < rate for _ in range(requests)), requests)


def timed(rng: random.Random, requests: int, factor: float) -> ArmCounts:
    """Lognormal latencies with median 60 ms, times `factor`."""
    counts = Counter(
        math.ceil(8 * math.log2(factor * rng.lognormvariate(math.log(60), 0.8))) - 1 for _ in range(requests)
    )
    return ArmCounts(requests=requests, errors=0, latency=Histogram.of(counts))


def verdict_on(
    windows: list[WindowCounts], phi: Phi = QUIET, config: JudgeConfig = CONFIG, boundaries: Boundaries | None = None
) -> Verdict:
    return judge(config, windows, phi, boundaries or no_boundaries(), weight_percent=10)


def history() -> Boundaries:
    return choose_boundaries(timed(random.Random(99), 20_000, 1.0).latency, CONFIG, BoundarySource.HISTORY)


def test_canary_failing_five_times_as_often_is_rolled_back_within_minutes() -> None:
    minutes = []
    for seed in range(20):
        rng = random.Random(seed)
        court = Judge(CONFIG, QUIET, no_boundaries(), weight_percent=10)
        state = court.start()
        while state.first_crossing is None and state.windows < 180:
            state = court.step(state, window(state.windows, failing(rng, 50, 0.01), failing(rng, 450, 0.002)))
        assert court.verdict(state).outcome is Outcome.ROLL_BACK
        minutes.append(state.windows / WINDOWS_PER_MINUTE)
    assert statistics.median(minutes) < 8


def test_broken_canary_is_rolled_back_in_its_first_window() -> None:
    verdict = verdict_on([window(0, errors(5, 5), errors(0, 45))])
    assert (verdict.outcome, verdict.rule, verdict.first_crossing_window) == (Outcome.ROLL_BACK, Rule.ERRORS, 0)
    assert verdict.may_act_alone


def test_incident_that_both_arms_share_is_not_blamed_on_the_canary() -> None:
    for seed in range(15):
        rng = random.Random(seed)
        rates = [0.1 if 20 <= position < 38 else 0.002 for position in range(60)]
        verdict = verdict_on(
            [window(i, failing(rng, 50, rate), failing(rng, 450, rate)) for i, rate in enumerate(rates)]
        )
        assert verdict.outcome is Outcome.HOLD
        assert verdict.first_crossing_window is None


def test_canary_twice_as_slow_is_rolled_back_for_latency_and_an_equal_one_is_not() -> None:
    boundaries, rng = history(), random.Random(5)
    slow = verdict_on([window(i, timed(rng, 50, 2.0), timed(rng, 450, 1.0)) for i in range(12)], boundaries=boundaries)
    same = verdict_on([window(i, timed(rng, 50, 1.0), timed(rng, 450, 1.0)) for i in range(30)], boundaries=boundaries)
    assert (slow.outcome, slow.rule) == (Outcome.ROLL_BACK, Rule.LATENCY)
    assert slow.sentence.startswith("latency: canary ")
    assert same.first_crossing_window is None
    assert sum(entry.weight_ppm for entry in same.evidence) == 1_000_000


def test_tail_of_timeouts_that_leaves_the_median_alone_is_rolled_back() -> None:
    rng, boundaries, windows = random.Random(6), history(), []
    for position in range(60):
        stuck = ArmCounts(requests=2, errors=0, latency=Histogram.of({80: 2}))  # 2 of 50 take a second
        windows.append(window(position, timed(rng, 48, 1.0).merged_with(stuck), timed(rng, 450, 1.0)))
    verdict = verdict_on(windows, boundaries=boundaries)
    assert (verdict.outcome, verdict.rule) == (Outcome.ROLL_BACK, Rule.LATENCY)
    assert verdict.first_crossing_window is not None
    assert verdict.first_crossing_window < 15


def test_guessed_latency_rate_knows_history_and_earlier_windows_but_not_the_one_it_judges() -> None:
    boundaries, sums = history_of_forties(), (0.0,) * CONFIG.grid_points
    court = Judge(CONFIG, QUIET, boundaries, weight_percent=10)
    state, seen = court.start(), NOTHING
    for position, slow in enumerate((3, 9, 0)):
        baseline = ArmCounts(requests=45, errors=0, latency=Histogram.of({40: 45 - slow, 70: slow}))
        canary = ArmCounts(requests=5, errors=0, latency=Histogram.of({40: 4, 70: 1}))
        arms, rate = TwoArms(1, 5, slow, 45), guessed_rate(boundaries, 0, seen, CONFIG)
        sums, seen = added(sums, block_increments(arms, rate, multiples(CONFIG))), seen.plus(arms)
        state = court.step(state, window(position, canary, baseline))
        assert state.scores[1].sums == sums


def test_verdict_keeps_the_numbers_of_its_first_crossing_however_good_the_canary_looks_later() -> None:
    bad = [window(0, errors(31, 508), errors(4, 2_031))]
    recovered = [window(i, errors(0, 500), errors(4, 2_000)) for i in range(1, 100)]
    assert verdict_on(bad + recovered) == verdict_on(bad)


def test_sentence_tells_the_person_on_call_the_counts_the_evidence_and_the_rule() -> None:
    verdict = verdict_on([window(0, errors(31, 508), errors(4, 2_031))])
    assert verdict.sentence == (
        "errors: canary 6.1% (31/508) vs baseline 0.2% (4/2,031); E=10^13.8 >= 10^3 (alpha 0.001); rule canary/errors"
    )
    assert verdict.ratio.lower_milli > 1_250


def test_canary_without_errors_is_promoted_once_enough_requests_were_seen() -> None:
    windows: list[WindowCounts] = []
    while (verdict := verdict_on(windows)).outcome is Outcome.HOLD:
        needed = verdict.promotion.requests_needed
        assert needed is not None
        assert f"about {needed:,} more canary requests" in verdict.sentence
        windows.append(window(len(windows), errors(0, 20), errors(0, 180)))
        assert len(windows) < 40
    assert (verdict.outcome, verdict.may_act_alone) == (Outcome.PROMOTE, True)
    assert verdict.canary.requests in range(300, 400)


def test_new_weight_earns_its_own_requests_before_the_next_promotion() -> None:
    clean = [window(i, errors(0, 20), errors(0, 180)) for i in range(30)]
    judged = [
        judge(CONFIG, clean, QUIET, no_boundaries(), weight_percent=10, step_start_ms=start * WINDOW_MS)
        for start in (0, 28, 30)
    ]
    assert [verdict.outcome for verdict in judged] == [Outcome.PROMOTE, Outcome.HOLD, Outcome.HOLD]
    assert [verdict.promotion.requests_needed for verdict in judged] == [0, 60, 100]


def test_new_judge_at_a_new_weight_goes_on_with_the_old_evidence() -> None:
    clean = [window(i, errors(0, 20), errors(0, 180)) for i in range(30)]
    first = Judge(CONFIG, QUIET, no_boundaries(), weight_percent=10)
    second = Judge(CONFIG, QUIET, no_boundaries(), weight_percent=10, step_start_ms=25 * WINDOW_MS)
    state = first.start()
    for each in clean:
        state = (first if each.start_ms < second.step_start_ms else second).step(state, each)
    whole = judge(CONFIG, clean, QUIET, no_boundaries(), weight_percent=10, step_start_ms=25 * WINDOW_MS)
    assert second.verdict(state) == whole


def test_suspect_canary_is_held_and_paged_but_neither_promoted_nor_rolled_back() -> None:
    config = JudgeConfig(slo_error_ppm=100_000)
    verdict = verdict_on(
        [window(0, errors(0, 900), errors(0, 8_100)), window(1, errors(3, 50), errors(0, 450))], config=config
    )
    assert (verdict.outcome, verdict.rule, verdict.must_page) == (Outcome.HOLD, Rule.SUSPECT, True)
    assert verdict.promotion.requests_needed == 0


def test_silent_canary_is_absent_which_may_not_act_alone() -> None:
    silent = [window(i, errors(0, 0), errors(0, 90)) for i in range(3)]
    verdict = verdict_on(silent)
    assert (verdict.outcome, verdict.may_act_alone, verdict.must_page) == (Outcome.ABSENT, False, True)
    assert verdict.sentence.startswith("canary silent for 3 windows at weight 10% while the baseline had 270 requests")


@pytest.mark.parametrize(
    ("weight_percent", "baseline_requests", "step_start_ms"),
    [(10, 0, 0), (10, 20, 0), (1, 90, 0), (0, 90, 0), (100, 90, 0), (10, 90, 2 * WINDOW_MS)],
)
def test_silence_that_chance_or_the_weight_explains_is_no_absence(
    weight_percent: int, baseline_requests: int, step_start_ms: int
) -> None:
    silent = [window(i, errors(0, 0), errors(0, baseline_requests)) for i in range(3)]
    verdict = judge(CONFIG, silent, QUIET, no_boundaries(), weight_percent=weight_percent, step_start_ms=step_start_ms)
    assert verdict.outcome is Outcome.HOLD


def test_canary_that_answers_again_is_no_longer_absent() -> None:
    silent = [window(i, errors(0, 0), errors(0, 90)) for i in range(5)]
    assert verdict_on([*silent, window(5, errors(0, 10), errors(0, 90))]).outcome is Outcome.HOLD


def test_absent_verdict_that_claims_to_act_alone_cannot_be_written() -> None:
    absent = verdict_on([window(i, errors(0, 0), errors(0, 90)) for i in range(3)])
    with pytest.raises(ValidationError, match="only promote and roll_back act alone"):
        Verdict.model_validate({**absent.model_dump(), "may_act_alone": True})


def test_baseline_too_noisy_only_holds_and_pages_even_when_the_canary_is_on_fire() -> None:
    verdict = verdict_on([window(i, errors(40, 50), errors(1, 450)) for i in range(10)], phi=NOISY)
    assert (verdict.outcome, verdict.rule) == (Outcome.HOLD, Rule.TOO_NOISY)
    assert (verdict.may_act_alone, verdict.must_page) == (False, True)
    assert verdict.first_crossing_window is not None
    assert any("12.0 times" in caveat for caveat in verdict.caveats)


def test_cold_start_says_what_was_assumed() -> None:
    boundaries = choose_boundaries(
        timed(random.Random(1), 200, 1.0).latency, CONFIG, BoundarySource.CONCURRENT_BASELINE
    )
    untimed = [window(0, errors(0, 20), errors(0, 180))]
    caveats = " ".join(verdict_on(untimed, phi=ASSUMED, boundaries=boundaries).caveats)
    assert "phi 2.0 is assumed" in caveats
    assert "200 requests of this rollout's own baseline" in caveats
    assert "The canary has sent no latency so far" in caveats
    assert "Latency is not judged" in " ".join(verdict_on(untimed).caveats)


def test_assumed_noise_asks_for_twice_the_evidence() -> None:
    fire = [window(0, errors(5, 50), errors(0, 450))]
    assert verdict_on(fire).outcome is Outcome.ROLL_BACK
    assert verdict_on(fire, phi=ASSUMED).outcome is Outcome.HOLD


def test_verdict_before_the_first_window_holds_with_an_estimate() -> None:
    verdict = verdict_on([])
    assert (verdict.outcome, verdict.log_e_micro, verdict.windows) == (Outcome.HOLD, 0, 0)
    assert "canary no requests vs baseline no requests" in verdict.sentence


def test_canary_above_the_slo_but_no_worse_than_its_baseline_is_held_and_told_so() -> None:
    shared = [window(i, errors(3, 100), errors(27, 900)) for i in range(20)]
    verdict = verdict_on(shared)
    assert (verdict.outcome, verdict.promotion.requests_needed) == (Outcome.HOLD, None)
    assert "no number of requests allows promotion" in verdict.sentence
    assert verdict_on(shared, config=JudgeConfig(promotion=PromotionRule.EITHER)).outcome is Outcome.PROMOTE


def test_late_window_is_refused_since_evidence_was_already_looked_at() -> None:
    windows = [window(1, errors(0, 5), errors(0, 45)), window(0, errors(0, 5), errors(0, 45))]
    with pytest.raises(WindowRefused, match="Drop and count late windows"):
        verdict_on(windows)


def test_rollout_longer_than_its_bound_is_refused() -> None:
    windows = [window(i, errors(0, 1), errors(0, 9)) for i in range(3)]
    with pytest.raises(WindowRefused, match="max_windows"):
        verdict_on(windows, config=JudgeConfig(max_windows=2))


ARMS = st.builds(
    lambda requests, share, slow: ArmCounts(
        requests=requests, errors=requests * share // 200, latency=Histogram.of({40: requests, 70: slow})
    ),
    st.integers(0, 40),
    st.integers(0, 100),
    st.integers(0, 5),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(ARMS, ARMS), max_size=12))
def test_same_counts_give_the_same_verdict_bit_for_bit_at_once_or_window_by_window(
    arms: list[tuple[ArmCounts, ArmCounts]],
) -> None:
    windows, boundaries = [window(i, *pair) for i, pair in enumerate(arms)], history_of_forties()
    at_once = verdict_on(windows, boundaries=boundaries)
    court = Judge(CONFIG, QUIET, boundaries, weight_percent=10)
    state: JudgeState = court.start()
    crossings = []
    for each in windows:
        state = court.step(state, WindowCounts.model_validate_json(each.model_dump_json()))
        court.verdict(state)  # asking costs nothing
        crossings.append(state.first_crossing)
    assert court.verdict(state).model_dump_json() == at_once.model_dump_json()
    assert Verdict.model_validate_json(at_once.model_dump_json()) == at_once
    assert crossings == sorted(crossings, key=lambda crossing: crossing is not None)


def history_of_forties() -> Boundaries:
    return choose_boundaries(Histogram.of({40: 900, 60: 100}), CONFIG, BoundarySource.HISTORY)
