"""A verdict's other numbers in plain words, for the page and the terminal alike.

One phrase for each: what it cost users, how much worse it is, how noisy the counts are, who else was looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from controller.canary.boundaries import edge_ms
from controller.canary.eprocess import MICRO
from controller.canary.plain_words import culprit, power
from controller.domain.blame import Blame, Rival, Share
from controller.domain.events import RecoveryFailed, RecoveryVerified
from controller.domain.verdict import (
    Boundaries,
    BoundarySource,
    Evidence,
    Exemplars,
    GaugeEvidence,
    Outcome,
    Phi,
    PhiSource,
    RatioInterval,
    SampleRatio,
    SharedIncident,
    Spent,
    TestKind,
    Verdict,
)

FEW_TRACES = 3  # named on a line; all of them stand in the entry
OLD_KINDS = {True: TestKind.ERRORS, False: TestKind.LATENCY}  # of tests that do not name theirs, by "has no boundary"


def kind_of_test(entry: Evidence) -> TestKind:
    return entry.kind or OLD_KINDS[entry.boundary is None]


def plain_sentence(verdict: Verdict, tolerance_buckets: int | None) -> str:
    """The verdict for somebody who knows nothing of E. `tolerance_buckets` None: the parameters are not at hand."""
    seen = _seen(culprit(verdict.evidence), tolerance_buckets)
    match verdict.outcome:
        case Outcome.ROLL_BACK:
            chance = _once_in(verdict.threshold_micro)
            return f"{seen}. A canary no worse than tolerated gets this far in at most one of {chance} rollouts."
        case Outcome.PROMOTE:
            chance = _once_in(verdict.promotion.threshold_micro)
            return f"{seen}. It is good enough; a bad one is called that in at most one of {chance} rollouts."
        case _:
            return f"{seen}. It is shown neither to be worse nor to be good enough."


def _seen(test: Evidence, tolerance_buckets: int | None) -> str:
    canary, baseline = (
        f"{test.canary_bad:,} of {test.canary_total:,}",
        f"{test.baseline_bad:,} of {test.baseline_total:,}",
    )
    if test.kind is TestKind.ABSENT:
        return f"The canary reported nothing in {canary} stretches of time in which its callers asked it"
    if test.boundary is None:
        on = f" on {test.route}" if test.route else ""
        return f"The canary failed {canary} requests{on}, the confirmed release beside it {baseline}"
    edge = f"{edge_ms(test.boundary):,.3g} ms"
    if tolerance_buckets is None:
        return f"{canary} requests to the canary were slow, {baseline} to the confirmed release beside it"
    allowed = f"{edge_ms(test.boundary + tolerance_buckets):,.3g} ms"
    return (
        f"The canary took longer than {allowed} for {canary} requests, the confirmed release than {edge} for {baseline}"
    )


def _once_in(threshold_micro: int) -> str:
    """Like "1,000": one over the error probability whose line this is."""
    return f"{round(math.exp(threshold_micro / MICRO)):,}"


def spent_words(spent: Spent) -> str:
    """Like "30 failed requests beyond the usual, 0.6 of the budget of these requests"."""
    many = f"{spent.failed_requests:,} failed {plural(spent.failed_requests, 'request')} beyond the usual"
    if spent.budget_ppm is None:
        return many
    return f"{many}, {spent.budget_ppm / MICRO:.2g} of the budget of these requests"


def interval_words(ratio: RatioInterval) -> str:
    """Like "5.4 to 31 times the baseline's error rate, 95 % sure at every look"."""
    sure = f"{100 - ratio.alpha_ppm / 10_000:g} % sure at every look"
    low = f"{ratio.lower_milli / 1000:.3g}"
    if ratio.upper_milli is not None:
        return f"{low} to {ratio.upper_milli / 1000:,.4g} times the baseline's error rate, {sure}"
    if ratio.lower_milli:
        return f"at least {low} times the baseline's error rate, {sure}"
    return "how many times the baseline's error rate cannot be told yet"


def phi_words(phi: Phi) -> str:
    """Like "1.5 times the noise of independent requests, assumed: 1 instance over 0 minutes is too little"."""
    times = f"{phi.milli / 1000:g} times the noise of independent requests"
    over = f"{phi.instances} {plural(phi.instances, 'instance')} over {phi.minutes} {plural(phi.minutes, 'minute')}"
    if phi.source is PhiSource.MEASURED:
        return f"{times}, measured on {over}"
    return f"{times}, assumed: {over} are too little to measure it"


def boundaries_words(boundaries: Boundaries, tolerance_buckets: int) -> str:
    if not boundaries.indices:
        return f"none: {boundaries.requests:,} timed requests are too few, latency is not judged"
    each = ", ".join(
        f"p{quantile / 10:g} {edge_ms(index):,.4g} ms"
        for quantile, index in zip(boundaries.quantiles_milli, boundaries.indices, strict=True)
    )
    source = "before it" if boundaries.source is BoundarySource.HISTORY else "beside it"
    allowed = f"the canary's lie {edge_ms(tolerance_buckets):.3g} times as high"
    return f"{each}, from {boundaries.requests:,} requests of the baseline {source}; {allowed}"


def sample_ratio_words(ratio: SampleRatio) -> str:
    seen = "no request was seen" if ratio.seen_ppm is None else f"{ratio.seen_ppm / 10_000:.3g} % of requests"
    against = f"E={power(ratio.log_e_micro)} of {power(ratio.threshold_micro)} that it is another share"
    return f"{seen}, given {ratio.intended_ppm / 10_000:.3g} %; {against}"


def incident_words(incident: SharedIncident) -> str:
    seen = "no request" if incident.seen_ppm is None else f"{incident.seen_ppm / 10_000:.3g} % of requests"
    against = f"E={power(incident.log_e_micro)} of {power(incident.threshold_micro)} that both arms suffer"
    return f"the baseline failed {seen} at the end, {incident.history_ppm / 10_000:.3g} % before it; {against}"


def gauge_words(gauge: GaugeEvidence) -> str:
    arms = ["nothing" if one is None else f"{one / 1000:,.6g}" for one in (gauge.canary_milli, gauge.baseline_milli)]
    against = f"E={power(gauge.log_e_micro)} of {power(gauge.threshold_micro)} that it is too high"
    return f"{gauge.name}: canary {arms[0]}, baseline {arms[1]}; {against}"


def excluded_words(excluded: Mapping[str, int]) -> str:
    """Empty mapping: nothing was left out."""
    if not any(excluded.values()):
        return "nothing"
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(excluded.items()) if count)


def exemplar_words(exemplars: Exemplars) -> str:
    """A few of each, the newest first. Empty: the service sends no traces."""
    sides = (("failed on the canary", exemplars.bad), ("served by the baseline", exemplars.good))
    return "; ".join(f"{words}: {', '.join(reversed(ids[-FEW_TRACES:]))}" for words, ids in sides if ids)


def rival_words(rival: Rival) -> str:
    return f"{rival.name} {'HOLDS' if rival.held else 'ruled out'}: {rival.reason}"


def share_words(blame: Blame) -> str:
    match blame.share:
        case Share.CLEAR:
            return f"{blame.culprit} stands out"
        case Share.SPLIT:
            return "none stands out: they go out again in parts"
        case Share.SHARED:
            return "none explains it"


def recovery_words(event: RecoveryVerified | RecoveryFailed) -> str:
    """How sure it is. What was seen is the event's reason."""
    null = "it goes on" if isinstance(event, RecoveryVerified) else "it has ended"
    level = f"E={power(event.log_e_micro)} of {power(event.threshold_micro)}"
    return f'{level} against "{null}", phi {event.phi_milli / 1000:g}'


def plural(number: int, word: str) -> str:
    """The word as it stands beside that number."""
    return word if number == 1 else f"{word}s"
