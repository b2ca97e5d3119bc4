"""Noise learnt from the baseline's own instances."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.canary.dispersion import estimate_phi
from controller.domain.counts import InstanceMinute
from controller.domain.verdict import JudgeConfig, PhiSource

CONFIG = JudgeConfig()


def hour(rng: random.Random, noise_gamma_shape: float | None, requests: int, rate: float) -> list[InstanceMinute]:
    """An hour of ten instances. `noise_gamma_shape` None: independent requests; else their rates vary by minute."""
    entries = []
    for minute in range(60):
        for instance in range(10):
            factor = rng.gammavariate(noise_gamma_shape, 1 / noise_gamma_shape) if noise_gamma_shape else 1.0
            errors = sum(rng.random() < min(1.0, rate * factor) for _ in range(requests))
            entries.append(
                InstanceMinute(instance=f"i{instance}", minute_ms=minute * 60_000, requests=requests, errors=errors)
            )
    return entries


def test_independent_requests_measure_a_phi_near_one() -> None:
    phi = estimate_phi(hour(random.Random(1), None, 100, 0.02), CONFIG)
    assert phi.source is PhiSource.MEASURED
    assert (phi.instances, phi.minutes) == (10, 60)
    assert 1000 <= phi.milli < 1_375


def test_independent_slow_requests_at_the_median_measure_a_phi_near_one_too() -> None:
    assert 1000 <= estimate_phi(hour(random.Random(2), None, 100, 0.5), CONFIG).milli < 1_375


def test_rate_that_varies_between_instances_measures_the_phi_it_was_made_with() -> None:
    plain = JudgeConfig(phi_margin_milli=0)
    phi = estimate_phi(hour(random.Random(3), 1.0, 100, 0.02), plain)  # variance/mean = 1 + mean/shape = 3
    assert 2_400 < phi.milli < 3_600


def test_what_exceeds_independence_is_taken_larger_the_fewer_errors_have_shown_it() -> None:
    noisy, plain = hour(random.Random(3), 1.0, 100, 0.02), JudgeConfig(phi_margin_milli=0)
    errors = sum(one.errors for one in noisy)
    measured, taken = estimate_phi(noisy, plain).milli, estimate_phi(noisy, CONFIG).milli
    assert taken - 1000 == pytest.approx((1 + 10 / errors**0.5) * (measured - 1000), abs=3)


def test_drift_shared_by_all_instances_is_no_noise() -> None:
    rng = random.Random(4)
    entries = [
        InstanceMinute(
            instance=f"i{instance}",
            minute_ms=minute * 60_000,
            requests=100,
            errors=sum(rng.random() < (0.3 if 20 <= minute < 30 else 0.01) for _ in range(100)),
        )
        for minute in range(60)
        for instance in range(10)
    ]
    assert estimate_phi(entries, CONFIG).milli < 1_300


def test_too_few_instances_minutes_or_errors_give_the_stated_prior() -> None:
    entries = hour(random.Random(5), None, 100, 0.02)
    two_instances = [entry for entry in entries if entry.instance in ("i0", "i1")]
    short = [entry for entry in entries if entry.minute_ms < 5 * 60_000]
    clean = [entry.model_copy(update={"errors": 0}) for entry in entries]
    down = [entry.model_copy(update={"errors": entry.requests}) for entry in entries]
    for poor in (two_instances, short, clean, down, []):
        phi = estimate_phi(poor, CONFIG)
        assert (phi.source, phi.milli) == (PhiSource.PRIOR, CONFIG.phi_prior_milli)


def test_few_errors_can_show_noise_and_never_that_there_is_none() -> None:
    """Ten errors in an hour: all in one minute of one instance, or each for itself."""
    clean = [one.model_copy(update={"errors": 0}) for one in hour(random.Random(7), None, 100, 0.02)]
    burst = [one.model_copy(update={"errors": 10}) if number == 77 else one for number, one in enumerate(clean)]
    alone = [one.model_copy(update={"errors": int(number % 61 == 0)}) for number, one in enumerate(clean)]
    shown = estimate_phi(burst, CONFIG)
    assert shown.source is PhiSource.MEASURED
    assert shown.milli > CONFIG.phi_too_noisy_milli
    assert sum(one.errors for one in alone) < CONFIG.phi_min_errors
    assert estimate_phi(alone, CONFIG).source is PhiSource.PRIOR


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_the_minutes_does_not_matter(rng: random.Random) -> None:
    entries = hour(random.Random(6), 2.0, 10, 0.1)[:200]
    shuffled = list(entries)
    rng.shuffle(shuffled)
    assert estimate_phi(shuffled, CONFIG) == estimate_phi(entries, CONFIG)
