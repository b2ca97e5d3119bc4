"""Detectors that compare with nothing beside them, or with nothing that can be counted. They hold and page.

History without a control: is this version failing more than it was known to? An e-SR detector (Shin, Ramdas & Rinaldo,
arXiv 2203.03532): M = (M + 1) * e for one e-value e a window; M reaching T happens on average no sooner than after T
windows if nothing is wrong, for any T, so its run length is a promise and it may run for ever. M is capped, which keeps
the promise and lets an alarm end soon after what it saw.

A gauge has no trials to count. Its e-process bets on the canary's mean exceeding what is tolerated: with
X = canary/baseline - tolerance, cut to [-1, 1], each window multiplies a stake l's capital by 1 + l X (Waudby-Smith &
Ramdas, arXiv 2010.09686). Null: E[X | past] <= 0. No window adds more than ln 2, so it is slow by design.

The share of requests that the canary gets is a binomial with known probability: the likelihood ratio of other shares
against the intended one is an e-value (as in Lindon & Malek, arXiv 2011.03567). It pages when traffic is not split as
was asked, and then a comparison of the arms may compare different users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from controller.canary.eprocess import MICRO, Sums, log_weighted_mean
from controller.domain.counts import Totals

EXCESS = (1.5, 2.0, 4.0, 8.0, 32.0, 128.0)  # alternatives, as multiples of the highest rate that passes for usual
MOST_RATE = 0.95
LEAST_RATE = 1e-9
CAP_NATS = math.log(100)  # above the threshold: how far an alarm may run ahead, and so how soon it ends
STAKES = (0.05, 0.2, 0.5, 0.95)
SHARES = (1 / 8, 1 / 4, 1 / 2, 2 / 3, 3 / 2, 2.0, 4.0, 8.0)  # alternatives, as odds against the intended ones
LARGE = 30.0  # e^30 + 1 is e^30
NOT_BEGUN: Sums = (-math.inf,) * len(EXCESS)
NO_CAPITAL: Sums = (0.0,) * len(STAKES)
NO_SHARES: Sums = (0.0,) * len(SHARES)
UNSEEN_ERRORS = 3  # added to a history's errors: of n requests without one, 3/n is the 95 % upper bound


def usual_rate(history: Totals) -> float:
    """The highest rate that history does not rule out, roughly at 95 %."""
    return min(MOST_RATE, (history.errors + UNSEEN_ERRORS) / max(1, history.requests))


@dataclass(frozen=True, slots=True)
class Detector:
    """Null: a request is bad with probability at most `null_rate`.

    One e-SR statistic an alternative; their mean is one too, as the bound on each is linear.
    """

    null_rate: float
    phi_milli: int
    run_windows: int  # to a false alarm, on average and at the least

    def step(self, logs: Sums, bad: int, total: int) -> Sums:
        """Natural logs of the statistics after one window more; `NOT_BEGUN` before the first.

        A window without requests multiplies by 1, and time still passes.
        """
        p = min(MOST_RATE / EXCESS[0], max(self.null_rate, LEAST_RATE))
        cap = math.log(self.run_windows) + CAP_NATS
        return tuple(
            min(cap, _log1p_exp(log) + _log_ratio(bad, total, p, min(MOST_RATE, p * excess)) * 1000 / self.phi_milli)
            for log, excess in zip(logs, EXCESS, strict=True)
        )

    @property
    def threshold_micro(self) -> int:
        return math.ceil(math.log(self.run_windows) * MICRO)


def _log1p_exp(log: float) -> float:
    """ln(1 + e^log)."""
    return math.log1p(math.exp(log)) if log < LARGE else log


def _log_ratio(bad: int, total: int, null: float, rate: float) -> float:
    return bad * math.log(rate / null) + (total - bad) * math.log((1 - rate) / (1 - null))


def gauge_increments(canary_milli: int, baseline_milli: int, tolerance_milli: int) -> Sums:
    """Zeros where the baseline's mean is not positive: a ratio says nothing then."""
    if baseline_milli <= 0:
        return NO_CAPITAL
    excess = max(-1.0, min(1.0, canary_milli / baseline_milli - tolerance_milli / 1000))
    return tuple(math.log1p(stake * excess) for stake in STAKES)


def share_increments(canary: int, baseline: int, weight_percent: int) -> Sums:
    """Log LR of each other share of requests against the intended one, for one window."""
    p = weight_percent / 100
    if not 0 < p < 1:
        return NO_SHARES
    shares = [p * odds / (1 - p + p * odds) for odds in SHARES]
    return tuple(canary * math.log(s / p) + baseline * math.log((1 - s) / (1 - p)) for s in shares)


def log_mean(sums: Sequence[float], phi_milli: int = 1000) -> float:
    tempered = [total * 1000 / phi_milli for total in sums]
    return log_weighted_mean(tempered, [1 / len(tempered)] * len(tempered))


def ppm(bad: int, total: int) -> int | None:
    """None: nothing was seen."""
    return bad * MICRO // total if total else None
