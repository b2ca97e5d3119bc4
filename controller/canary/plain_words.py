"""A verdict in plain words: one sentence for the person on call, and what to read it with.

Every number in it is one of the verdict's integers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from controller.canary.boundaries import edge_ms
from controller.canary.eprocess import MICRO, threshold_micro
from controller.canary.silence import BLOCK_WINDOWS
from controller.domain.verdict import (
    Boundaries,
    BoundarySource,
    Evidence,
    GaugeEvidence,
    JudgeConfig,
    Phi,
    PhiSource,
    Promotion,
    Rule,
    SampleRatio,
    SharedIncident,
    TestKind,
    View,
)

SMALLEST_ONE_DECIMAL_PERCENT = 0.1
SECONDS_READ_WELL = 90
FEW_REQUESTS = 1_000


class Findings(NamedTuple):
    """What a sentence is made of. The silence is the one that lasts now, zero while the canary answers."""

    rule: Rule
    log_e_micro: int
    evidence: tuple[Evidence, ...]
    promotion: Promotion
    noisiest: Phi
    silent_windows: int
    silent_baseline_requests: int
    silent_asked: int | None  # None: nobody tells what the callers saw
    weight_percent: int
    sample_ratio: SampleRatio | None
    incident: SharedIncident | None
    gauges: tuple[GaugeEvidence, ...]


def culprit(evidence: tuple[Evidence, ...]) -> Evidence:
    """The test that contributes most to the combined e-value."""
    return max(evidence, key=lambda entry: entry.log_e_micro + MICRO * math.log(entry.weight_ppm))


def sentence(found: Findings, config: JudgeConfig) -> str:
    seen, level = _compared(culprit(found.evidence), config), _level(found.log_e_micro, config)
    return f"{_said(found, config, seen, level)}; rule {found.rule}"


def _said(found: Findings, config: JudgeConfig, seen: str, level: str) -> str:  # noqa: PLR0911 - one sentence a rule
    match found.rule:
        case Rule.ERRORS | Rule.LATENCY | Rule.ABSENT:
            return f"{seen}; {level}"
        case Rule.TOO_NOISY:
            phi = f"phi {found.noisiest.milli / 1000:.1f}"
            return f"baseline too noisy to act without a person ({phi}): {seen}; {level}"
        case Rule.SILENT:
            return _silent(found)
        case Rule.SUSPECT:
            return f"suspect, not proven: {seen}; {level}, beyond the paging level {config.page_alpha_ppm / MICRO:g}"
        case Rule.SHARED_INCIDENT if found.incident is not None:
            return f"{_incident(found.incident)}; canary and baseline suffer alike: {seen}; {level}"
        case Rule.SAMPLE_RATIO if found.sample_ratio is not None:
            return f"{_split(found.sample_ratio)}; {seen}; {level}"
        case Rule.GAUGE:
            return f"{_gauge(found.gauges)}; a gauge proves nothing by itself: held; {level}"
        case Rule.PROMOTED:
            reached = f"E={power(found.promotion.log_e_micro)} >= {power(found.promotion.threshold_micro)}"
            return f"{seen}; good enough by the {config.promotion} test, {reached}; no regression: {level}"
        case _:
            return f"{seen}; {_missing(found.promotion)}; {level}"


def _silent(found: Findings) -> str:
    asked = f"while the baseline had {found.silent_baseline_requests:,} requests"
    silent = f"canary silent for {found.silent_windows} windows at weight {found.weight_percent}%"
    match found.silent_asked:
        case None:
            known = "nobody tells whether it was asked"
        case 0:
            known = "its callers sent it none: it is starved, not absent"
        case sent:
            known = f"its callers sent it {sent:,}"
    return f"{silent} {asked}; {known}; held, this proves nothing by itself"


def _incident(incident: SharedIncident) -> str:
    seen = "nothing" if incident.seen_ppm is None else f"{incident.seen_ppm / 10_000:.2g} % of requests"
    run = f"a false alarm once in {round(math.exp(incident.threshold_micro / MICRO)):,} windows"
    return f"shared incident: the baseline fails {seen}, {incident.history_ppm / 10_000:.2g} % before it ({run})"


def _split(ratio: SampleRatio) -> str:
    seen = "none" if ratio.seen_ppm is None else f"{ratio.seen_ppm / 10_000:.3g} %"
    return (
        f"the canary gets {seen} of requests and should get {ratio.intended_ppm / 10_000:.3g} %: other users, or lost"
    )


def _gauge(gauges: tuple[GaugeEvidence, ...]) -> str:
    worst = max(gauges, key=lambda one: one.log_e_micro - one.threshold_micro)
    if worst.canary_milli is None or not worst.baseline_milli:
        return f"{worst.name} of the canary is high"
    times = worst.canary_milli / worst.baseline_milli
    return f"{worst.name}: canary {worst.canary_milli / 1000:,.4g}, {times:.2f} times the baseline's"


def _compared(entry: Evidence, config: JudgeConfig) -> str:
    if entry.kind is TestKind.ABSENT:
        usual = f"{entry.baseline_bad:,} of {entry.baseline_total:,}"
        return (
            f"silent: its callers asked it in {entry.canary_total:,} blocks of {BLOCK_WINDOWS} windows and it reported "
            f"nothing in {entry.canary_bad:,}; the baseline leaves {usual} windows empty"
        )
    canary = fraction(entry.canary_bad, entry.canary_total)
    baseline = fraction(entry.baseline_bad, entry.baseline_total)
    by = " as callers saw them" if entry.view is View.CALLERS else ""
    if entry.boundary is None:
        on = f" on {entry.route}" if entry.route else ""
        return f"errors{on}{by}: canary {canary} vs baseline {baseline}"
    edge, allowed = edge_ms(entry.boundary), edge_ms(entry.boundary + config.tolerance_buckets)
    return f"latency{by}: canary {canary} above {allowed:,.0f} ms vs baseline {baseline} above {edge:,.0f} ms"


def _level(log_e_micro: int, config: JudgeConfig) -> str:
    threshold = threshold_micro(config.alpha_ppm)
    sign = ">=" if log_e_micro >= threshold else "<"
    return f"E={power(log_e_micro)} {sign} {power(threshold)} (alpha {config.alpha_ppm / MICRO:g})"


def _missing(promotion: Promotion) -> str:
    if promotion.requests_needed is None:
        return "at the rates seen so far no number of requests allows promotion"
    when = "" if promotion.wait_ms is None else f", in about {duration(promotion.wait_ms)} at this traffic"
    return f"about {promotion.requests_needed:,} more canary requests needed to promote{when}"


def fraction(bad: int, total: int) -> str:
    """Like "6.1% (31/508)"."""
    if not total:
        return "no requests"
    percent = 100 * bad / total
    digits = f"{percent:.1f}" if percent >= SMALLEST_ONE_DECIMAL_PERCENT or not bad else f"{percent:.1g}"
    return f"{digits}% ({bad:,}/{total:,})"


def duration(wait_ms: int) -> str:
    """Like "40 s" or "3 min", rounded up."""
    seconds = -(-wait_ms // 1000)
    return f"{seconds} s" if seconds < SECONDS_READ_WELL else f"{-(-seconds // 60):,} min"


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
    elif boundaries.requests < FEW_REQUESTS:
        found.append(f"Latency boundaries come from no more than {boundaries.requests:,} requests before the canary.")
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
