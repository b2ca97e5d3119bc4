"""How much noisier than independent requests the baseline is, learnt from its instances before the canary starts.

Real errors come in bursts: one bad node, one retry storm. Then phi, the variance of an instance's error count over
that of independent requests, exceeds 1, and an untempered test at 1 % raises false alarms in 8 % of rollouts at phi 3
and in 24 % at phi 10 (3,000 simulated rollouts each, 5 canary requests a second). Dividing evidence by phi brings both
to 1 %.

An hour shows few of the bursts that make phi large, and the fewer errors it has the less it shows. So what is measured
beyond independence is taken 1 + 10/sqrt(errors) times as large (`phi_margin_milli`): 2.7 times by 36 errors, 1.2 times
by 3,600. Without it 0.2 to 0.7 % of sound rollouts were rolled back at alpha 0.1 % where noise lasts a minute at half a
canary request a second; with it at most 0.06 % at phi 10 (20,000 simulated rollouts; bench/detect, docs/detection.md).
Fewer errors than `phi_min_errors` can show that there is noise and not that there is none: what they measure counts
where it exceeds the prior.

Instances are compared within a minute, so drift of the common rate is no dispersion. Pearson's statistic over its
expectation given each minute's totals, Y errors of N requests, is phi = sum (errors - requests * Y/N)^2 / sum Y *
(N-Y)/(N-1) * (1 - sum (requests/N)^2), the variance being hypergeometric. For rare errors and P equal instances the
denominator is sum Y * (1 - 1/P).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from controller.domain.counts import InstanceMinute
from controller.domain.verdict import Boundaries, JudgeConfig, Phi, PhiSource

LARGEST_PHI_MILLI = 1_000_000
FEWEST_ERRORS = 2  # one alone has no spread


def estimate_phi(minutes: Iterable[InstanceMinute], config: JudgeConfig) -> Phi:
    """Phi of baseline instances, at least 1, rounded up; the prior when instances, minutes or errors are too few.

    Give the last hour before the canary starts. For latency, give slow requests as `errors`. Their order does not
    matter.
    """
    by_minute: dict[int, list[InstanceMinute]] = defaultdict(list)
    for entry in minutes:
        if entry.requests:
            by_minute[entry.minute_ms].append(entry)
    comparable = [group for group in by_minute.values() if len(group) > 1]
    instances = len({entry.instance for group in comparable for entry in group})
    errors = sum(entry.errors for group in comparable for entry in group)
    prior = prior_phi(config, instances=instances, minutes=len(comparable))
    if instances < config.phi_min_instances or len(comparable) < config.phi_min_minutes or errors < FEWEST_ERRORS:
        return prior
    seen = math.fsum(spread for group in comparable for spread in _squared_spread(group))
    expected = math.fsum(_expected_spread(group) for group in comparable)
    if not expected:  # every request failed everywhere: no spread to learn from
        return prior
    excess, margin = max(0.0, seen / expected - 1), 1000 + config.phi_margin_milli / math.sqrt(errors)
    milli = min(LARGEST_PHI_MILLI, 1000 + math.ceil(margin * excess))
    if errors < config.phi_min_errors and milli <= prior.milli:
        return prior
    return Phi(milli=milli, source=PhiSource.MEASURED, instances=instances, minutes=len(comparable))


def estimate_latency_phi(minutes: Iterable[InstanceMinute], boundaries: Boundaries, config: JudgeConfig) -> Phi | None:
    """The largest phi of slow requests over the boundaries. None: it could be measured at none of them."""
    timed = [one for one in minutes if one.latency.total]
    found = [estimate_phi((_slow(one, index) for one in timed), config) for index in boundaries.indices]
    measured = [phi for phi in found if phi.source is PhiSource.MEASURED]
    return max(measured, key=lambda phi: phi.milli, default=None)


def _slow(minute: InstanceMinute, index: int) -> InstanceMinute:
    requests, slow = minute.latency.total, minute.latency.slower_than(index)
    return InstanceMinute(instance=minute.instance, minute_ms=minute.minute_ms, requests=requests, errors=slow)


def prior_phi(config: JudgeConfig, *, instances: int = 0, minutes: int = 0) -> Phi:
    return Phi(milli=config.phi_prior_milli, source=PhiSource.PRIOR, instances=instances, minutes=minutes)


def _squared_spread(group: Sequence[InstanceMinute]) -> list[float]:
    requests, errors = sum(entry.requests for entry in group), sum(entry.errors for entry in group)
    return [(entry.errors - entry.requests * errors / requests) ** 2 for entry in group]


def _expected_spread(group: Sequence[InstanceMinute]) -> float:
    requests, errors = sum(entry.requests for entry in group), sum(entry.errors for entry in group)
    evenness = 1 - sum(entry.requests**2 for entry in group) / requests**2
    return errors * (requests - errors) / (requests - 1) * evenness
