"""Is it over? After a roll-back, proof that users on the confirmed release fare as before, or that they do not.

What was bad is a rate: errors, or requests beyond a latency boundary. The line between "it goes on" and "it has ended"
lies a quarter of the way from the usual rate to the bad one. Two e-processes on the requests that all users sent since
traffic came back, each a mean of likelihood ratios against the line: lower rates for "it has ended" (null: the rate is
at least the line), higher ones for "it goes on" (null: at most the line). By Ville's inequality each is wrong with
probability at most alpha, however often one looks. Tempered by phi, as the judge is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from controller.canary.eprocess import MICRO, log_e, threshold_micro, to_micro
from controller.domain.blame import Badness
from controller.domain.counts import ArmCounts, WindowCounts
from controller.domain.verdict import Evidence, JudgeConfig, TestKind

LOWER = (0.02, 0.1, 0.2, 0.4, 0.6)  # alternatives, as fractions of the line: as in promotion
HIGHER = (1.5, 2.0, 3.0, 4.0)  # the bad rate itself is below four times the line
LARGEST_LINE = 0.6
SMALLEST_LINE = 0.001


@dataclass(frozen=True, slots=True)
class Recovery:
    """Evidence so far, in micro-nats against `threshold_micro`."""

    requests: int
    bad: int
    ended_micro: int
    lasting_micro: int
    threshold_micro: int

    @property
    def ended(self) -> bool:
        return self.ended_micro >= self.threshold_micro

    @property
    def lasting(self) -> bool:
        return self.lasting_micro >= self.threshold_micro


def badness_of(evidence: Evidence, config: JudgeConfig) -> Badness | None:
    """What the test that found a regression saw. None: silence, whose end nobody can count."""
    if evidence.kind is TestKind.ABSENT or not evidence.canary_total:
        return None
    usual = evidence.baseline_bad * MICRO // evidence.baseline_total if evidence.baseline_total else 0
    boundary = None if evidence.boundary is None else evidence.boundary + config.tolerance_buckets
    return Badness(bad_ppm=evidence.canary_bad * MICRO // evidence.canary_total, usual_ppm=usual, boundary=boundary)


def line(badness: Badness) -> float:
    quarter = (badness.usual_ppm + (max(badness.bad_ppm, badness.usual_ppm) - badness.usual_ppm) / 4) / MICRO
    return min(LARGEST_LINE, max(SMALLEST_LINE, quarter))


def recovery(windows: Iterable[WindowCounts], badness: Badness, phi_milli: int, config: JudgeConfig) -> Recovery:
    """Over windows that began after traffic came back, both arms together: they are all of the users."""
    seen = [_bad_of(arm, badness.boundary) for window in windows for arm in (window.canary, window.baseline)]
    bad, total = sum(x for x, _ in seen), sum(n for _, n in seen)
    at = line(badness)
    return Recovery(
        requests=total,
        bad=bad,
        ended_micro=_log_e(bad, total, at, [at * part for part in LOWER], phi_milli),
        lasting_micro=_log_e(bad, total, at, [min(0.99, at * times) for times in HIGHER], phi_milli),
        threshold_micro=threshold_micro(config.recovery_alpha_ppm),
    )


def _bad_of(arm: ArmCounts, boundary: int | None) -> tuple[int, int]:
    return (arm.errors, arm.requests) if boundary is None else (arm.latency.slower_than(boundary), arm.latency.total)


def _log_e(bad: int, total: int, null: float, rates: list[float], phi_milli: int) -> int:
    sums = tuple(bad * math.log(p / null) + (total - bad) * math.log((1 - p) / (1 - null)) for p in rates)
    return to_micro(log_e(sums, phi_milli))
