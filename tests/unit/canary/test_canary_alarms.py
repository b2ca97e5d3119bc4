"""Detectors without a control: how long they run before they cry wolf, and how soon they cry in earnest."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.alarms import (
    NOT_BEGUN,
    SHARES,
    STAKES,
    Detector,
    gauge_increments,
    log_mean,
    share_increments,
    usual_rate,
)
from controller.canary.eprocess import MICRO
from controller.canary.recovery import badness_of, line, recovery
from controller.canary.watching import detector, ran
from controller.domain.blame import Badness
from controller.domain.counts import ArmCounts, Histogram, Totals, WindowCounts
from controller.domain.verdict import Evidence, JudgeConfig, TestKind

CONFIG = JudgeConfig()


def window(position: int, bad: int, total: int, latency: Histogram | None = None) -> WindowCounts:
    return WindowCounts(
        start_ms=position * 10_000,
        end_ms=(position + 1) * 10_000,
        canary=ArmCounts(requests=total, errors=bad, latency=latency or Histogram()),
        baseline=ArmCounts(requests=0, errors=0),
    )


def drawn(rng: random.Random, total: int, rate: float) -> int:
    return sum(rng.random() < rate for _ in range(total))


@settings(deadline=None)
@given(st.integers(0, 40), st.floats(0.001, 0.3), st.floats(0, 1))
def test_each_window_is_an_e_value_for_every_rate_up_to_the_null(total: int, null: float, part: float) -> None:
    by, p = Detector(null, 1000, 1_000), null * part
    expected = sum(
        math.comb(total, x) * p**x * (1 - p) ** (total - x) * math.exp(log_mean(by.step(NOT_BEGUN, x, total)))
        for x in range(total + 1)
    )
    assert expected <= 1 + 1e-9


def test_run_length_to_a_false_alarm_is_at_least_what_is_promised() -> None:
    """100 runs of a detector promised to run 100 windows, at the edge of its null. Seeds fixed."""
    by, lengths = Detector(0.02, 1000, 100), []
    for seed in range(100):
        rng, logs, windows = random.Random(seed), NOT_BEGUN, 0
        while windows < 1_000 and (not windows or log_mean(logs) < math.log(by.run_windows)):
            logs, windows = by.step(logs, drawn(rng, 30, 0.02), 30), windows + 1
        lengths.append(windows)
    assert sum(lengths) / len(lengths) >= by.run_windows


@pytest.mark.parametrize(("times", "within_minutes"), [(5, 12), (10, 4)])
def test_live_release_that_fails_more_than_its_history_raises_an_alarm_in_minutes(
    times: int, within_minutes: int
) -> None:
    """Five requests a second, usual rate 0.2 % over 100,000 requests."""
    by, found = detector(Totals(requests=100_000, errors=200), 1000, CONFIG), []
    for seed in range(20):
        rng, logs, windows = random.Random(seed), NOT_BEGUN, 0
        while not windows or log_mean(logs) < math.log(by.run_windows):
            logs, windows = by.step(logs, drawn(rng, 50, 0.002 * times), 50), windows + 1
        found.append(windows / 6)
    assert sorted(found)[10] <= within_minutes


def test_alarm_ends_soon_after_what_it_saw() -> None:
    by = detector(Totals(requests=100_000, errors=200), 1000, CONFIG)
    outage = ran([window(i, 25, 50) for i in range(100)], by)
    assert log_mean(outage) >= math.log(by.run_windows)
    after = ran([window(i, 0, 500) for i in range(6)], by, outage)
    assert log_mean(after) < math.log(by.run_windows)


def test_history_without_errors_is_not_taken_for_a_promise() -> None:
    assert usual_rate(Totals(requests=1_000, errors=0)) == 0.003
    assert usual_rate(Totals(requests=0, errors=0)) == 0.95


@settings(deadline=None)
@given(st.floats(-1, 1), st.sampled_from(STAKES))
def test_bets_on_a_gauge_never_go_bankrupt_and_lose_when_it_is_as_tolerated(excess: float, stake: float) -> None:
    capital = [
        math.exp(gauge_increments(round(1000 * (1.25 + side)), 1000, 1250)[STAKES.index(stake)])
        for side in (excess, -excess)
    ]
    assert min(capital) > 0
    assert sum(capital) / 2 <= 1 + 1e-9


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 99))
def test_share_of_requests_is_an_e_value_at_the_intended_weight(total: int, percent: int) -> None:
    p = percent / 100
    expected = [0.0] * len(SHARES)
    for n in range(total + 1):
        chance = math.comb(total, n) * p**n * (1 - p) ** (total - n)
        for i, log in enumerate(share_increments(n, total - n, percent)):
            expected[i] += chance * math.exp(log)
    assert all(value == pytest.approx(1, abs=1e-6) for value in expected)
    assert log_mean(share_increments(0, 0, percent)) == pytest.approx(0)


BAD = Badness(bad_ppm=110_000, usual_ppm=1_000)


def test_return_to_the_usual_rate_is_seen_within_a_few_hundred_requests() -> None:
    rng, windows = random.Random(1), list[WindowCounts]()
    while not recovery(windows, BAD, 1000, CONFIG).ended:
        windows.append(window(len(windows), drawn(rng, 50, 0.001), 50))
    assert 50 * len(windows) <= 400


def test_badness_that_goes_on_is_told_and_never_called_over() -> None:
    rng, windows = random.Random(2), list[WindowCounts]()
    while not (seen := recovery(windows, BAD, 1000, CONFIG)).lasting:
        windows.append(window(len(windows), drawn(rng, 50, 0.11), 50))
    assert not seen.ended
    assert len(windows) <= 12


def test_recovery_is_wrongly_declared_no_oftener_than_promised() -> None:
    """At the line itself, looked at after each of 40 windows; 100 roll-backs. Expected at most 1."""
    at, wrong = line(BAD), 0
    for seed in range(100):
        rng = random.Random(seed)
        windows: list[WindowCounts] = []
        for i in range(40):
            windows.append(window(i, drawn(rng, 50, at), 50))
            if recovery(windows, BAD, 1000, CONFIG).ended:
                wrong += 1
                break
    assert wrong <= 3  # 1 expected at the most, and chance


def test_slowness_is_over_when_requests_are_quick_again() -> None:
    bad = Badness(bad_ppm=600_000, usual_ppm=50_000, boundary=48)
    quick = [window(i, 0, 20, Histogram.of({40: 19, 60: 1})) for i in range(20)]
    slow = [window(i, 0, 20, Histogram.of({40: 8, 60: 12})) for i in range(20)]
    assert recovery(quick, bad, 1000, CONFIG).ended
    assert recovery(slow, bad, 1000, CONFIG).lasting


def test_what_must_have_ended_is_what_was_found() -> None:
    found = badness_of(_found(TestKind.ERRORS, None), CONFIG)
    assert found == Badness(bad_ppm=110_000, usual_ppm=1_000)
    timed = badness_of(_found(TestKind.LATENCY, 40), CONFIG)
    assert timed is not None
    assert timed.boundary == 40 + CONFIG.tolerance_buckets
    assert badness_of(_found(TestKind.ABSENT, None), CONFIG) is None


def _found(kind: TestKind, boundary: int | None) -> Evidence:
    return Evidence(
        boundary=boundary,
        weight_ppm=MICRO,
        log_e_micro=7_000_000,
        canary_bad=11,
        canary_total=100,
        baseline_bad=1,
        baseline_total=1_000,
        kind=kind,
    )
