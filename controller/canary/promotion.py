"""Proof that a canary is good: the null is "the canary is bad", so promotion is earned and never the default.

Absolute: H0 "the canary fails at least as often as the SLO allows". The likelihood ratio of a lower rate against the
SLO falls with the true rate and has expectation 1 at the SLO, so it is an e-value for the whole null. Relative: H0
"the canary fails at least `worst_ratio` times as often as the concurrent baseline", E1 turned around. By Ville's
inequality a bad canary is ever promoted with probability at most beta.

Absolute needs some 300 to 700 canary requests at a 1 % SLO and phi 1; relative needs errors in the baseline to compare
with, hence high traffic. Neither looks at latency: there, the standing rollback evidence must stay below the paging
threshold. While a shared incident lasts the absolute test does not bet (`weighing`): both arms fail then, and that says
nothing of the canary.
"""

from __future__ import annotations

import math
from bisect import bisect_left

from controller.canary.eprocess import (
    MICRO,
    Sums,
    TwoArms,
    log_e,
    log_weighted_mean,
    rare_event_increments,
    threshold_micro,
    to_micro,
)
from controller.domain.verdict import JudgeConfig, PromotionRule

SLO_FRACTIONS = (0.02, 0.1, 0.2, 0.4, 0.6)  # alternatives of the absolute test: error rates as fractions of the SLO
GOOD_RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5)  # alternatives of the relative test
NO_EVIDENCE: Sums = (0.0,) * 5
FARTHEST_REQUESTS = 10_000_000  # an estimate beyond this is reported as out of reach


def absolute_increments(errors: int, requests: int, config: JudgeConfig) -> Sums:
    """Log LR of each lower error rate against the SLO, for one window of the canary alone."""
    return _absolute(float(errors), float(requests), config)


def _absolute(errors: float, requests: float, config: JudgeConfig) -> Sums:
    slo = config.slo_error_ppm / MICRO
    return tuple(
        errors * math.log(part) + (requests - errors) * math.log((1 - part * slo) / (1 - slo)) for part in SLO_FRACTIONS
    )


def relative_increments(arms: TwoArms, config: JudgeConfig) -> Sums:
    return rare_event_increments(arms, config.worst_ratio_milli / 1000, GOOD_RATIOS)


def promotion_log_e(absolute: Sums, relative: Sums, phi_milli: int, rule: PromotionRule) -> float:
    """Evidence under the rule in force. EITHER is the mean of both, an e-value where both nulls hold."""
    logs = {PromotionRule.ABSOLUTE: log_e(absolute, phi_milli), PromotionRule.RELATIVE: log_e(relative, phi_milli)}
    return logs[rule] if rule in logs else log_weighted_mean(list(logs.values()), (0.5, 0.5))


def requests_needed(absolute: Sums, relative: Sums, seen: TwoArms, phi_milli: int, config: JudgeConfig) -> int | None:
    """More canary requests until promotion if both arms go on failing at the rates seen; 0 when proven.

    None when these rates never get there. `seen` are the rollout's totals of errors. Before the first canary request
    the absolute test assumes that none will fail: the least that it can take.
    """
    needed = threshold_micro(config.beta_ppm) + (
        math.ceil(math.log(2) * MICRO) if config.promotion is PromotionRule.EITHER else 0
    )
    rate = seen.canary_bad / seen.canary_total if seen.canary_total else 0.0
    estimates = []
    if config.promotion is not PromotionRule.RELATIVE:
        estimates.append(_until(absolute, _absolute(rate, 1.0, config), phi_milli, needed))
    if config.promotion is not PromotionRule.ABSOLUTE and seen.canary_total:
        pace = tuple(step / seen.canary_total for step in relative_increments(seen, config))
        estimates.append(_until(relative, pace, phi_milli, needed))
    reachable = [estimate for estimate in estimates if estimate is not None]
    return min(reachable, default=None)


def _until(sums: Sums, per_request: Sums, phi_milli: int, needed_micro: int) -> int | None:
    """A mean of exponentials is convex in the number of requests, so from below the threshold it is crossed once."""

    def proven(more: int) -> bool:
        ahead = tuple(total + more * pace for total, pace in zip(sums, per_request, strict=True))
        return to_micro(log_e(ahead, phi_milli)) >= needed_micro

    if not proven(0) and max(per_request) <= 0:
        return None
    more = 0 if proven(0) else bisect_left(range(FARTHEST_REQUESTS + 1), 1, key=lambda requests: int(proven(requests)))
    return more if more <= FARTHEST_REQUESTS else None
