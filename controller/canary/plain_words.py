"""A verdict in plain words: one sentence for the person on call, and what to read it with.

Every number in it is one of the verdict's integers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from controller.canary.boundaries import edge_ms
from controller.canary.eprocess import MICRO, threshold_micro
from controller.domain.verdict import (
    Boundaries,
    BoundarySource,
    Evidence,
    JudgeConfig,
    Phi,
    PhiSource,
    Promotion,
    Rule,
)

SMALLEST_ONE_DECIMAL_PERCENT = 0.1


class Findings(NamedTuple):
    """What a sentence is made of. The silence is the one that lasts now, zero while the canary answers."""

    rule: Rule
    log_e_micro: int
    evidence: tuple[Evidence, ...]
    promotion: Promotion
    noisiest: Phi
    silent_windows: int
    silent_baseline_requests: int
    weight_percent: int


def culprit(evidence: tuple[Evidence, ...]) -> Evidence:
    """The test that contributes most to the combined e-value."""
    return max(evidence, key=lambda entry: entry.log_e_micro + MICRO * math.log(entry.weight_ppm))


def sentence(found: Findings, config: JudgeConfig) -> str:
    seen, level = _compared(culprit(found.evidence), config), _level(found.log_e_micro, config)
    match found.rule:
        case Rule.ERRORS | Rule.LATENCY:
            text = f"{seen}; {level}"
        case Rule.TOO_NOISY:
            phi = f"phi {found.noisiest.milli / 1000:.1f}"
            text = f"baseline too noisy to act without a person ({phi}): {seen}; {level}"
        case Rule.SILENT:
            asked = f"while the baseline had {found.silent_baseline_requests:,} requests"
            silent = f"canary silent for {found.silent_windows} windows at weight {found.weight_percent}%"
            text = f"{silent} {asked}; held, this proves nothing by itself"
        case Rule.SUSPECT:
            text = f"suspect, not proven: {seen}; {level}, beyond the paging level {config.page_alpha_ppm / MICRO:g}"
        case Rule.PROMOTED:
            reached = f"E={power(found.promotion.log_e_micro)} >= {power(found.promotion.threshold_micro)}"
            text = f"{seen}; good enough by the {config.promotion} test, {reached}; no regression: {level}"
        case Rule.MORE_REQUESTS:
            text = f"{seen}; {_missing(found.promotion)}; {level}"
    return f"{text}; rule {found.rule}"


def _compared(entry: Evidence, config: JudgeConfig) -> str:
    canary = fraction(entry.canary_bad, entry.canary_total)
    baseline = fraction(entry.baseline_bad, entry.baseline_total)
    if entry.boundary is None:
        return f"errors: canary {canary} vs baseline {baseline}"
    edge, allowed = edge_ms(entry.boundary), edge_ms(entry.boundary + config.tolerance_buckets)
    return f"latency: canary {canary} above {allowed:,.0f} ms vs baseline {baseline} above {edge:,.0f} ms"


def _level(log_e_micro: int, config: JudgeConfig) -> str:
    threshold = threshold_micro(config.alpha_ppm)
    sign = ">=" if log_e_micro >= threshold else "<"
    return f"E={power(log_e_micro)} {sign} {power(threshold)} (alpha {config.alpha_ppm / MICRO:g})"


def _missing(promotion: Promotion) -> str:
    if promotion.requests_needed is None:
        return "at the rates seen so far no number of requests allows promotion"
    return f"about {promotion.requests_needed:,} more canary requests needed to promote"


def fraction(bad: int, total: int) -> str:
    """Like "6.1% (31/508)"."""
    if not total:
        return "no requests"
    percent = 100 * bad / total
    digits = f"{percent:.1f}" if percent >= SMALLEST_ONE_DECIMAL_PERCENT or not bad else f"{percent:.1g}"
    return f"{digits}% ({bad:,}/{total:,})"


def power(log_micro: int) -> str:
    """Like "10^5.2", from micro-nats."""
    return f"10^{round(log_micro / MICRO / math.log(10), 1) + 0.0:g}"


def caveats(
    evidence: tuple[Evidence, ...],
    boundaries: Boundaries,
    phi: Phi,
    latency_phi: Phi | None,  # None: the errors' phi serves both
    config: JudgeConfig,
) -> tuple[str, ...]:
    """What a reader must know before trusting the verdict; empty when nothing weakens it."""
    found = _noise(phi, config, "errors")
    if not boundaries.indices:
        found.append(f"Latency is not judged: {boundaries.requests:,} timed requests are too few for boundaries.")
        return tuple(found)
    if latency_phi is None:
        found.append("Noise in latency was not measured; that of errors is used for it.")
    else:
        found += _noise(latency_phi, config, "latency")
    if boundaries.source is BoundarySource.CONCURRENT_BASELINE:
        origin = f"{boundaries.requests:,} requests of this rollout's own baseline"
        found.append(f"Cold start: latency boundaries come from {origin}, not from history.")
    if not all(entry.canary_total for entry in evidence if entry.boundary is not None):
        found.append("The canary has sent no latency so far: only its errors are judged.")
    return tuple(found)


def _noise(phi: Phi, config: JudgeConfig, what: str) -> list[str]:
    times = f"{phi.milli / 1000:.1f}"
    if phi.milli > config.phi_too_noisy_milli:
        return [f"Noise in {what} is {times} times that of independent requests: nothing here acts without a person."]
    if phi.source is PhiSource.PRIOR:
        basis = f"{phi.instances} comparable baseline instances over {phi.minutes} minutes"
        return [f"Cold start: {basis} are too little to measure noise in {what}; phi {times} is assumed."]
    return []
