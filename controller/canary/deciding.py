"""From the judge's state to a verdict: which rule applies, in words and numbers.

In order: a crossing acts, unless the noise forbids it; silence; what only holds and pages; the proof for promotion.
"""

from __future__ import annotations

from controller.canary.bystanders import gauge_evidence, incident, sample_ratio
from controller.canary.eprocess import MICRO, log_e, ratio_interval, threshold_micro, to_micro
from controller.canary.outlook import Traffic, outlook
from controller.canary.plain_words import Findings, caveats, culprit, sentence
from controller.canary.promotion import promotion_log_e, requests_needed
from controller.canary.silence import improbable
from controller.canary.weighing import JudgeState, Weighing, combined_micro
from controller.domain.counts import Totals
from controller.domain.verdict import (
    Evidence,
    GaugeEvidence,
    Outcome,
    Phi,
    Promotion,
    Rule,
    SampleRatio,
    SharedIncident,
    Spent,
    TestKind,
    Verdict,
)

JUDGE = 2
PAGES = frozenset(
    {
        Rule.TOO_NOISY,
        Rule.SILENT,
        Rule.ABSENT,
        Rule.SUSPECT,
        Rule.SAMPLE_RATIO,
        Rule.SHARED_INCIDENT,
        Rule.GAUGE,
    }
)
ACTS = frozenset({Rule.ERRORS, Rule.LATENCY, Rule.ABSENT, Rule.PROMOTED})
OUTCOMES = {
    Rule.ERRORS: Outcome.ROLL_BACK,
    Rule.LATENCY: Outcome.ROLL_BACK,
    Rule.ABSENT: Outcome.ABSENT,
    Rule.SILENT: Outcome.ABSENT,
    Rule.PROMOTED: Outcome.PROMOTE,
}  # any other rule holds
BY_KIND = {TestKind.ERRORS: Rule.ERRORS, TestKind.LATENCY: Rule.LATENCY, TestKind.ABSENT: Rule.ABSENT}


def verdict_of(judge: Weighing, state: JudgeState) -> Verdict:
    config, evidence, step = judge.config, judge.evidence(state), judge.present_step(state)
    combined, promotion = combined_micro(evidence), _promotion(judge, state)
    ratio = sample_ratio(step.split, config, judge.weight_percent)
    shared = incident(state.watched, judge.given, config)
    gauges = gauge_evidence(state.watched, judge.given, config)
    rule = _rule(judge, state, evidence, combined, promotion, (ratio, shared, gauges))
    findings = Findings(
        rule=rule,
        log_e_micro=combined,
        evidence=evidence,
        promotion=promotion,
        noisiest=_noisiest(judge),
        silent_windows=step.silent_windows,
        silent_baseline_requests=step.silent_baseline_requests,
        silent_asked=step.silent_asked if judge.given.callers else None,
        weight_percent=judge.weight_percent,
        sample_ratio=ratio,
        incident=shared,
        gauges=gauges,
    )
    return Verdict(
        outcome=OUTCOMES.get(rule, Outcome.HOLD),
        rule=rule,
        may_act_alone=rule in ACTS,
        must_page=rule in PAGES,
        log_e_micro=combined,
        threshold_micro=threshold_micro(config.alpha_ppm),
        first_crossing_window=state.first_crossing,
        windows=state.windows,
        evidence=evidence,
        canary=Totals(requests=state.failed.canary_total, errors=state.failed.canary_bad),
        baseline=Totals(requests=state.failed.baseline_total, errors=state.failed.baseline_bad),
        ratio=ratio_interval(state.by_window, judge.phi.milli, config),
        promotion=promotion,
        phi=judge.phi,
        latency_phi=judge.latency_phi,
        caveats=caveats(evidence, judge.boundaries, judge.phi, judge.latency_phi, config),
        sentence=sentence(findings, config),
        judge=JUDGE,
        sample_ratio=ratio,
        incident=shared,
        gauges=gauges,
        spent=_spent(judge, state),
        outlook=_outlook(judge, state, evidence) if rule is Rule.MORE_REQUESTS else (),
    )


Bystanders = tuple[SampleRatio | None, SharedIncident | None, tuple[GaugeEvidence, ...]]


def _rule(  # noqa: PLR0911, PLR0913, PLR0917 - one list of rules, the first that applies
    judge: Weighing,
    state: JudgeState,
    evidence: tuple[Evidence, ...],
    combined: int,
    promotion: Promotion,
    bystanders: Bystanders,
) -> Rule:
    config, step = judge.config, judge.present_step(state)
    if state.first_crossing is not None:
        crossed = BY_KIND[culprit(evidence).kind or TestKind.ERRORS]
        if crossed is Rule.ABSENT:
            return crossed  # its trials are windows, which no noise between requests concerns
        return Rule.TOO_NOISY if _too_noisy(judge) else crossed
    if _too_noisy(judge):
        return Rule.TOO_NOISY
    if improbable(judge.weight_percent, step.silent_baseline_requests, config):
        return Rule.SILENT
    if combined >= threshold_micro(config.page_alpha_ppm):
        return Rule.SUSPECT
    if (paging := _paging(bystanders)) is not None:
        return paging
    return Rule.PROMOTED if promotion.requests_needed == 0 else Rule.MORE_REQUESTS


def _paging(bystanders: Bystanders) -> Rule | None:
    """None: nothing else looks wrong."""
    ratio, shared, gauges = bystanders
    if shared is not None and shared.log_e_micro >= shared.threshold_micro:
        return Rule.SHARED_INCIDENT
    if ratio is not None and ratio.log_e_micro >= ratio.threshold_micro:
        return Rule.SAMPLE_RATIO
    return Rule.GAUGE if any(one.log_e_micro >= one.threshold_micro for one in gauges) else None


def _promotion(judge: Weighing, state: JudgeState) -> Promotion:
    config, phi, step = judge.config, judge.phi.milli, judge.present_step(state)
    reached = to_micro(promotion_log_e(state.absolute, state.relative, phi, config.promotion))
    needed = threshold_micro(config.beta_ppm)
    missing = 0 if reached >= needed else requests_needed(state.absolute, state.relative, state.calm, phi, config)
    more = None if missing is None else max(missing, config.min_step_requests - step.canary_requests, 0)
    return Promotion(
        absolute_log_e_micro=to_micro(log_e(state.absolute, phi)),
        relative_log_e_micro=to_micro(log_e(state.relative, phi)),
        log_e_micro=reached,
        threshold_micro=needed,
        step_requests=step.canary_requests,
        requests_needed=more,
        wait_ms=_wait_ms(more, step.canary_requests, state.end_ms - judge.step_start_ms),
    )


def _wait_ms(more: int | None, requests: int, during_ms: int) -> int | None:
    """At the present weight's traffic so far."""
    if more == 0:
        return 0
    return -(-more * during_ms // requests) if more is not None and requests and during_ms > 0 else None


def _spent(judge: Weighing, state: JudgeState) -> Spent:
    x, n, y, m = state.failed
    extra = max(0, round(x - n * y / m)) if m else x
    allowed = (n + m) * judge.config.slo_error_ppm
    return Spent(failed_requests=extra, budget_ppm=extra * MICRO * MICRO // allowed if allowed else None)


def _outlook(judge: Weighing, state: JudgeState, evidence: tuple[Evidence, ...]) -> tuple[str, ...]:
    _, n, y, m = state.failed
    seconds = (state.end_ms - state.start_ms) / 1000
    if not (n and m and seconds > 0):
        return ()
    traffic = Traffic(all_rps=(n + m) / seconds, share=n / (n + m), usual_rate=y / m)
    return outlook(traffic, judge.phi.milli, evidence[0].weight_ppm, judge.config)


def _too_noisy(judge: Weighing) -> bool:
    return _noisiest(judge).milli > judge.config.phi_too_noisy_milli


def _noisiest(judge: Weighing) -> Phi:
    return max(judge.phi, judge.latency_phi or judge.phi, key=lambda phi: phi.milli)
