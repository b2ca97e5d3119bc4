"""The judge of a canary: a fold over windows of counts, and a verdict read from its state.

Integers in, integers out; no clock, no chance, no I/O.

Rollback: one e-process for errors (E1, weight 1/2 by default) and one for each latency boundary (E2, the rest spread
evenly), combined as their weighted mean, which is an e-process whatever their dependence. Its null is "the canary's
error ratio is at most theta0 and it is no slower than tolerated". The weights are fixed by the configuration; without
boundaries errors weigh 1. The first crossing of 1/alpha is final and the fold stops there, so the verdict keeps the
numbers that it rests on. Promotion must be proven too (`promotion`). What is neither is held, with the number of
requests missing.

Silence is judged apart and promises nothing: so many baseline requests in a row without one for the canary would be
improbable at its weight, if routing were independent and nothing upstream starved it. It may only hold and page.

The caller discards warm-up windows, sends windows in order, and fixes phi and the boundaries before the first of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from controller.canary.boundaries import guessed_rate, slower_in
from controller.canary.eprocess import (
    MICRO,
    NOTHING,
    Sums,
    TwoArms,
    added,
    block_increments,
    log_e,
    log_weighted_mean,
    multiples,
    rare_event_increments,
    ratio_interval,
    threshold_micro,
    to_micro,
)
from controller.canary.plain_words import Findings, caveats, culprit, sentence
from controller.canary.promotion import (
    NO_EVIDENCE,
    absolute_increments,
    promotion_log_e,
    relative_increments,
    requests_needed,
)
from controller.domain.counts import Totals, WindowCounts
from controller.domain.verdict import Boundaries, Evidence, JudgeConfig, Outcome, Phi, Promotion, Rule, Verdict
from controller.errors import Permanent


class WindowRefused(Permanent):
    """A window overlaps what was already judged, or there are more of them than one rollout may have."""


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What the present weight has seen: all zero again when the weight changes."""

    start_ms: int
    canary_requests: int = 0
    silent_windows: int = 0  # trailing windows with baseline requests and none for the canary
    silent_baseline_requests: int = 0  # baseline requests in those windows


@dataclass(frozen=True, slots=True)
class JudgeState:
    """Sums over the windows so far. Never stored: folding the same windows gives the same bits."""

    errors: Sums
    latency: tuple[Sums, ...]  # one per boundary
    slow: tuple[TwoArms, ...]  # totals per boundary
    step: StepSeen
    absolute: Sums = NO_EVIDENCE
    relative: Sums = NO_EVIDENCE
    failed: TwoArms = NOTHING  # totals of errors
    by_window: tuple[TwoArms, ...] = ()  # errors per window, for the interval
    windows: int = 0
    end_ms: int = 0  # where the last window ended
    first_crossing: int | None = None  # 0-based window; None: never crossed


@dataclass(frozen=True)
class Judge:
    """Fixed inputs of one rollout at its present weight. A new weight takes a new judge, going on with the old state.

    `weight_percent` is the canary's intended share of requests; `step_start_ms` is when it was set: earlier windows
    stay evidence, but count neither for `min_step_requests` nor for silence.
    """

    config: JudgeConfig
    phi: Phi
    boundaries: Boundaries
    weight_percent: int
    step_start_ms: int = 0
    latency_phi: Phi | None = None  # None: latency is tempered by the errors' phi, and a caveat says so

    def start(self) -> JudgeState:
        zeros, tests = (0.0,) * self.config.grid_points, len(self.boundaries.indices)
        return JudgeState(zeros, (zeros,) * tests, (NOTHING,) * tests, StepSeen(self.step_start_ms))

    def step(self, state: JudgeState, window: WindowCounts) -> JudgeState:
        """Fold one window in. After the first crossing the state no longer changes. Raises WindowRefused."""
        if state.first_crossing is not None:
            return state
        self._refuse_misplaced(state, window)
        config, ratios, tolerated = self.config, multiples(self.config), self.config.theta0_milli / 1000
        failed = TwoArms(window.canary.errors, window.canary.requests, window.baseline.errors, window.baseline.requests)
        slow = tuple(slower_in(window, index, config) for index in self.boundaries.indices)
        rates = [guessed_rate(self.boundaries, position, seen, config) for position, seen in enumerate(state.slow)]
        error_steps = rare_event_increments(failed, tolerated, [tolerated * ratio for ratio in ratios])
        folded = replace(
            state,
            errors=added(state.errors, error_steps),
            latency=tuple(
                added(sums, block_increments(arms, rate, ratios))
                for sums, arms, rate in zip(state.latency, slow, rates, strict=True)
            ),
            slow=tuple(seen.plus(arms) for seen, arms in zip(state.slow, slow, strict=True)),
            step=self._step_seen(state, window),
            absolute=added(state.absolute, absolute_increments(failed.canary_bad, failed.canary_total, config)),
            relative=added(state.relative, relative_increments(failed, config)),
            failed=state.failed.plus(failed),
            by_window=(*state.by_window, failed),
            windows=state.windows + 1,
            end_ms=window.end_ms,
        )
        crossed = _combined_micro(self._evidence(folded)) >= threshold_micro(config.alpha_ppm)
        return replace(folded, first_crossing=state.windows) if crossed else folded

    def verdict(self, state: JudgeState) -> Verdict:
        """What the state says now, with its reasons. Pure and repeatable: no window is spent by asking."""
        config, evidence, step = self.config, self._evidence(state), self._present_step(state)
        combined, promotion = _combined_micro(evidence), self._promotion(state, step)
        outcome, rule = self._decide(state, evidence, promotion)
        silence = (step.silent_windows, step.silent_baseline_requests, self.weight_percent)
        findings = Findings(rule, combined, evidence, promotion, self._noisiest_phi(), *silence)
        return Verdict(
            outcome=outcome,
            rule=rule,
            may_act_alone=outcome in (Outcome.PROMOTE, Outcome.ROLL_BACK),
            must_page=rule in (Rule.TOO_NOISY, Rule.SILENT, Rule.SUSPECT),
            log_e_micro=combined,
            threshold_micro=threshold_micro(config.alpha_ppm),
            first_crossing_window=state.first_crossing,
            windows=state.windows,
            evidence=evidence,
            canary=Totals(requests=state.failed.canary_total, errors=state.failed.canary_bad),
            baseline=Totals(requests=state.failed.baseline_total, errors=state.failed.baseline_bad),
            ratio=ratio_interval(state.by_window, self.phi.milli, config),
            promotion=promotion,
            phi=self.phi,
            latency_phi=self.latency_phi,
            caveats=caveats(evidence, self.boundaries, self.phi, self.latency_phi, config),
            sentence=sentence(findings, config),
        )

    def _refuse_misplaced(self, state: JudgeState, window: WindowCounts) -> None:
        if window.start_ms < state.end_ms:
            raise WindowRefused(
                f"window starts at {window.start_ms} ms, before the last judged one ended at {state.end_ms} ms",
                "Drop and count late windows: evidence that was looked at cannot be rewritten.",
            )
        if state.windows >= self.config.max_windows:
            raise WindowRefused(
                f"rollout has {state.windows} windows, the most that max_windows allows",
                "End the rollout, or use longer windows.",
            )

    def _present_step(self, state: JudgeState) -> StepSeen:
        return state.step if state.step.start_ms == self.step_start_ms else StepSeen(self.step_start_ms)

    def _step_seen(self, state: JudgeState, window: WindowCounts) -> StepSeen:
        step, arrived = self._present_step(state), window.canary.requests
        if window.start_ms < self.step_start_ms:
            return step
        if arrived:
            return StepSeen(step.start_ms, step.canary_requests + arrived)
        idle = not window.baseline.requests
        return replace(
            step,
            silent_windows=step.silent_windows + (0 if idle else 1),
            silent_baseline_requests=step.silent_baseline_requests + window.baseline.requests,
        )

    def _evidence(self, state: JudgeState) -> tuple[Evidence, ...]:
        tests, latency_phi = len(self.boundaries.indices), self.latency_phi or self.phi
        errors_ppm = self.config.errors_weight_ppm if tests else MICRO
        entries = [_evidence(None, errors_ppm, log_e(state.errors, self.phi.milli), state.failed)]
        for boundary, sums, slow in zip(self.boundaries.indices, state.latency, state.slow, strict=True):
            entries.append(_evidence(boundary, (MICRO - errors_ppm) // tests, log_e(sums, latency_phi.milli), slow))
        return tuple(entries)

    def _promotion(self, state: JudgeState, step: StepSeen) -> Promotion:
        config, phi = self.config, self.phi.milli
        reached = to_micro(promotion_log_e(state.absolute, state.relative, phi, config.promotion))
        needed = threshold_micro(config.beta_ppm)
        missing = 0 if reached >= needed else requests_needed(state.absolute, state.relative, state.failed, phi, config)
        here = max(0, config.min_step_requests - step.canary_requests)
        return Promotion(
            absolute_log_e_micro=to_micro(log_e(state.absolute, phi)),
            relative_log_e_micro=to_micro(log_e(state.relative, phi)),
            log_e_micro=reached,
            threshold_micro=needed,
            step_requests=step.canary_requests,
            requests_needed=None if missing is None else max(missing, here),
        )

    def _decide(self, state: JudgeState, evidence: tuple[Evidence, ...], promotion: Promotion) -> tuple[Outcome, Rule]:
        if self._noisiest_phi().milli > self.config.phi_too_noisy_milli:
            return Outcome.HOLD, Rule.TOO_NOISY
        if state.first_crossing is not None:
            return Outcome.ROLL_BACK, Rule.ERRORS if culprit(evidence).boundary is None else Rule.LATENCY
        if self._silent(self._present_step(state)):
            return Outcome.ABSENT, Rule.SILENT
        if _combined_micro(evidence) >= threshold_micro(self.config.page_alpha_ppm):
            return Outcome.HOLD, Rule.SUSPECT
        if promotion.requests_needed == 0:
            return Outcome.PROMOTE, Rule.PROMOTED
        return Outcome.HOLD, Rule.MORE_REQUESTS

    def _noisiest_phi(self) -> Phi:
        return max(self.phi, self.latency_phi or self.phi, key=lambda phi: phi.milli)

    def _silent(self, step: StepSeen) -> bool:
        """Of m requests none went to a canary of share w with probability (1-w)^m."""
        share, baseline_requests = self.weight_percent / 100, step.silent_baseline_requests
        if not 0 < share < 1 or baseline_requests < self.config.absent_min_baseline_requests:
            return False
        return to_micro(-baseline_requests * math.log1p(-share)) >= threshold_micro(self.config.absent_ppm)


def _evidence(boundary: int | None, weight_ppm: int, log: float, seen: TwoArms) -> Evidence:
    return Evidence(boundary=boundary, weight_ppm=weight_ppm, log_e_micro=to_micro(log), **seen._asdict())


def _combined_micro(evidence: tuple[Evidence, ...]) -> int:
    logs = [entry.log_e_micro / MICRO for entry in evidence]
    return to_micro(log_weighted_mean(logs, [entry.weight_ppm / MICRO for entry in evidence]))


def judge(
    config: JudgeConfig,
    windows: Iterable[WindowCounts],
    phi: Phi,
    boundaries: Boundaries,
    *,
    weight_percent: int,
    step_start_ms: int = 0,
    latency_phi: Phi | None = None,  # None: latency is tempered by the errors' phi, and a caveat says so
) -> Verdict:
    """The verdict over all windows of a rollout, in order of time, warm-up left out.

    The same inputs give the same verdict, bit for bit, under one C library; another one's logarithms may differ in the
    last of the logged micro-nats. Raises WindowRefused where windows overlap, run backwards or
    exceed `max_windows`.
    """
    court = Judge(config, phi, boundaries, weight_percent, step_start_ms, latency_phi)
    state = court.start()
    for window in windows:
        state = court.step(state, window)
    return court.verdict(state)
