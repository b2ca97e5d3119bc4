"""What a rollout is watched for besides the comparison that may act: each of these only holds and pages.

The baseline against its own history (an incident that both arms share is nobody's canary), the split of the traffic
against the intended one, gauges of the canary against the baseline's. All are folds over the same windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from controller.canary.alarms import (
    NO_CAPITAL,
    NO_SHARES,
    NOT_BEGUN,
    Detector,
    gauge_increments,
    log_mean,
    ppm,
    share_increments,
    usual_rate,
)
from controller.canary.eprocess import MICRO, Sums, added, threshold_micro, to_micro
from controller.canary.panel import Given
from controller.domain.bounds import EVERYBODY
from controller.domain.counts import ArmCounts, GaugeMeans, WindowCounts
from controller.domain.verdict import GaugeEvidence, JudgeConfig, SampleRatio, SharedIncident


@dataclass(frozen=True, slots=True)
class Watched:
    """Sums over the windows so far."""

    gauges: tuple[Sums, ...]  # one per gauge
    levels: tuple[GaugeMeans | None, ...]  # the newest of each that both arms reported. None: none yet
    incident: Sums = NOT_BEGUN  # logs of the detector's statistics
    newest: tuple[int, int] = (0, 0)  # the baseline's bad of total, in the newest window with requests


def nothing_watched(given: Given) -> Watched:
    return Watched((NO_CAPITAL,) * len(given.gauges), (None,) * len(given.gauges))


def watched(state: Watched, window: WindowCounts, given: Given, config: JudgeConfig, phi_milli: int) -> Watched:
    """With one window more."""
    means = [next((one for one in window.gauges if one.name == name), None) for name in given.gauges]
    told = [one if one and None not in (one.canary_milli, one.baseline_milli) else None for one in means]
    gauges = tuple(
        added(sums, _gauge_step(one, config)) if one else sums for sums, one in zip(state.gauges, told, strict=True)
    )
    levels = tuple(new or old for new, old in zip(told, state.levels, strict=True))
    return _incident(replace(state, gauges=gauges, levels=levels), window.baseline, given, config, phi_milli)


def _gauge_step(means: GaugeMeans, config: JudgeConfig) -> Sums:
    if means.canary_milli is None or means.baseline_milli is None:
        raise TypeError(means)
    return gauge_increments(means.canary_milli, means.baseline_milli, config.gauge_tolerance_milli)


def _incident(state: Watched, arm: ArmCounts, given: Given, config: JudgeConfig, phi_milli: int) -> Watched:
    if given.history is None:
        return state
    null = config.incident_ratio_milli / 1000 * usual_rate(given.history)
    logs = Detector(null, phi_milli, config.watch_run_windows).step(state.incident, arm.errors, arm.requests)
    return replace(state, incident=logs, newest=(arm.errors, arm.requests) if arm.requests else state.newest)


@dataclass(frozen=True, slots=True)
class Split:
    """How requests were split at the present weight, by whoever counts them first: callers, if they tell."""

    sums: Sums = NO_SHARES
    canary: int = 0
    baseline: int = 0

    def plus(self, window: WindowCounts, weight_percent: int) -> Split:
        arms = window.callers or window
        n, m = arms.canary.requests, arms.baseline.requests
        return Split(added(self.sums, share_increments(n, m, weight_percent)), self.canary + n, self.baseline + m)


NOT_SPLIT = Split()


def sample_ratio(seen: Split, config: JudgeConfig, weight_percent: int) -> SampleRatio | None:
    """Tempered by the assumed noise: requests of one user or trace go together. None: all traffic goes one way."""
    if not 0 < weight_percent < EVERYBODY:
        return None
    return SampleRatio(
        intended_ppm=weight_percent * MICRO // EVERYBODY,
        seen_ppm=ppm(seen.canary, seen.canary + seen.baseline),
        log_e_micro=to_micro(log_mean(seen.sums, config.phi_prior_milli)),
        threshold_micro=threshold_micro(config.page_alpha_ppm),
    )


def alarmed(state: Watched, given: Given, config: JudgeConfig) -> bool:
    """Whether the baseline suffers, as of the last window."""
    found = incident(state, given, config)
    return found is not None and found.log_e_micro >= found.threshold_micro


def incident(state: Watched, given: Given, config: JudgeConfig) -> SharedIncident | None:
    """None: there is no history, or no window yet."""
    if given.history is None or state.incident == NOT_BEGUN:
        return None
    return SharedIncident(
        history_ppm=ppm(given.history.errors, given.history.requests) or 0,
        seen_ppm=ppm(*state.newest),
        log_e_micro=to_micro(log_mean(state.incident)),
        threshold_micro=math.ceil(math.log(config.watch_run_windows) * MICRO),
    )


def gauge_evidence(state: Watched, given: Given, config: JudgeConfig) -> tuple[GaugeEvidence, ...]:
    """Each held against its part of the paging level, so that more gauges page no oftener."""
    if not given.gauges:
        return ()
    needed = threshold_micro(max(1, config.page_alpha_ppm // len(given.gauges)))
    return tuple(
        GaugeEvidence(
            name=name,
            log_e_micro=to_micro(log_mean(sums)),
            threshold_micro=needed,
            canary_milli=level.canary_milli if level else None,
            baseline_milli=level.baseline_milli if level else None,
        )
        for name, sums, level in zip(given.gauges, state.gauges, state.levels, strict=True)
    )
