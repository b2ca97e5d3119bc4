"""Overdispersed errors: each instance's error rate is multiplied by gamma noise that it keeps for a while.

Ten baseline instances and one canary instance, each with noise of its own. phi is the variance of an instance's errors
in a minute over their mean, which is what the product measures: 1 + (expected errors in a minute) * (variance of the
noise, averaged over a minute). It is measured from the hour before the canary as the product does it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from controller.canary.dispersion import FEWEST_ERRORS
from controller.domain.verdict import JudgeConfig

from .traffic import BASE_RATE, SHARE, WINDOW_S, WINDOWS, WINDOWS_A_MINUTE, Arms, Counts, Numbers

INSTANCES = 10
HISTORY_MINUTES = 60
MINUTE_S = 60


class Noise(NamedTuple):
    phi: float
    persistence_s: int  # 10 or 60: how long an instance keeps its noise


NOISES = (Noise(1, 60), Noise(3, 10), Noise(3, 60), Noise(10, 10), Noise(10, 60))


def draw(rng: np.random.Generator, noise: Noise, canary_rps: float, runs: int, canary_times: float) -> Arms:
    """Counts of `runs` rollouts with a flat base rate of errors."""
    canary = _instances(rng, noise, canary_rps, canary_times, (runs, 1, WINDOWS))
    each = canary_rps * (1 - SHARE) / SHARE / INSTANCES
    baseline = _instances(rng, noise, each, 1.0, (runs, INSTANCES, WINDOWS))
    return Arms(canary[0][:, 0], canary[1][:, 0], baseline[0].sum(axis=1), baseline[1].sum(axis=1))


def measured_phi(rng: np.random.Generator, noise: Noise, canary_rps: float, runs: int, config: JudgeConfig) -> Numbers:
    """Phi of each rollout, in thousandths, from an hour in which the baseline had all traffic."""
    windows = HISTORY_MINUTES * WINDOWS_A_MINUTE
    bad, total = _instances(rng, noise, canary_rps / SHARE / INSTANCES, 1.0, (runs, INSTANCES, windows))
    return phi_milli(_by_minute(bad), _by_minute(total), config)


def phi_milli(errors: Counts, requests: Counts, config: JudgeConfig) -> Numbers:
    """`estimate_phi` over arrays (rollouts, instances, minutes)."""
    present = requests > 0
    comparable = present.sum(axis=1) > 1
    totals, bad = requests.sum(axis=1), errors.sum(axis=1)
    rate = bad / np.maximum(totals, 1)
    spread = (((errors - requests * rate[:, None]) ** 2).sum(axis=1) * comparable).sum(axis=1)
    evenness = 1 - (requests**2).sum(axis=1) / np.maximum(totals, 1) ** 2
    expected = (bad * (totals - bad) / np.maximum(totals - 1, 1) * evenness * comparable).sum(axis=1)
    enough = ((present & comparable[:, None]).any(axis=2).sum(axis=1) >= config.phi_min_instances) & (expected > 0)
    enough &= comparable.sum(axis=1) >= config.phi_min_minutes
    seen = (bad * comparable).sum(axis=1)
    enough &= seen >= FEWEST_ERRORS
    excess = np.maximum(0.0, spread / np.where(enough, expected, 1.0) - 1)
    margin = 1000 + config.phi_margin_milli / np.sqrt(np.maximum(seen, 1))
    measured = np.minimum(1000 + np.ceil(margin * excess), 1_000_000)
    prior = float(config.phi_prior_milli)
    shown = np.where(seen >= config.phi_min_errors, measured, np.maximum(measured, prior))
    milli: Numbers = np.where(enough, shown, prior)
    return milli


def _instances(
    rng: np.random.Generator, noise: Noise, rps: float, times: float, shape: tuple[int, int, int]
) -> tuple[Counts, Counts]:
    """Bad and all requests per instance and window. The noise is of the healthy rate; an effect multiplies it."""
    mean_bad = rps * WINDOW_S * BASE_RATE
    kept = noise.persistence_s // WINDOW_S
    spread = (noise.phi - 1) / (mean_bad * WINDOWS_A_MINUTE) * (WINDOWS_A_MINUTE // kept)
    drawn = (shape[0], shape[1], shape[2] // kept)
    factors = rng.gamma(1 / spread, spread, drawn) if spread else np.ones(drawn)
    bad = rng.poisson(mean_bad * times * np.repeat(factors, kept, axis=2))
    return bad, bad + rng.poisson(rps * WINDOW_S * (1 - BASE_RATE), shape)


def _by_minute(counts: Counts) -> Counts:
    summed: Counts = counts.reshape(*counts.shape[:2], -1, WINDOWS_A_MINUTE).sum(axis=3)
    return summed
