"""ABSENT: a canary that was asked and reports nothing, while the release beside it reports as ever.

The unit of evidence is a block of `BLOCK_WINDOWS` windows, since a service reports in batches: an export that is late
by a window must not look like silence. A block counts when callers sent the canary at least `ASKED` requests in it and
the baseline reported some of its own: this is the check that neither routing nor a failure of all telemetry starves it.
It is bad when the canary reported nothing of them.

Null: given the past, a block of a sound canary is bad with probability at most q, `Silence.bound_ppm`, learnt from how
often the confirmed release leaves a window empty. A bad block multiplies the e-value of an alternative a by a/q, a good
one by (1-a)/(1-q); the expectation under any probability up to q is at most 1. The mean over alternatives is the test.

Without callers nobody knows whether the canary was asked. Then so many baseline requests in a row without one for the
canary are merely improbable at its weight, and silence only holds and pages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.canary.eprocess import MICRO, Sums, added, threshold_micro, to_micro
from controller.domain.counts import WindowCounts
from controller.domain.verdict import JudgeConfig, Silence

BLOCK_WINDOWS = 3
ASKED = 5  # requests in a block: fewer may all fall into the last export that is still on its way
ALTERNATIVES = (0.5, 0.9, 0.999)  # probabilities that a block of a silent canary is empty
LEARNT_WINDOWS = 100  # of a confirmed release, before its own share of empty ones counts


@dataclass(frozen=True, slots=True)
class Block:
    """The block under way."""

    windows: int = 0
    asked: int = 0
    reported: int = 0
    baseline: int = 0

    def plus(self, window: WindowCounts) -> Block:
        asked = window.callers.canary.requests if window.callers is not None else 0
        return Block(
            self.windows + 1,
            self.asked + asked,
            self.reported + window.canary.requests,
            self.baseline + window.baseline.requests,
        )

    @property
    def whole(self) -> bool:
        return self.windows >= BLOCK_WINDOWS

    @property
    def silent(self) -> bool | None:
        """None: it counts for nothing, for nobody asked the canary or nothing was reported at all."""
        return None if self.asked < ASKED or not self.baseline else self.reported == 0


NEW_BLOCK = Block()
NO_SILENCE: Sums = (0.0,) * len(ALTERNATIVES)


def silence_increments(sums: Sums, *, silent: bool, bound_ppm: int) -> Sums:
    q = bound_ppm / MICRO
    return added(sums, tuple(math.log(a / q if silent else (1 - a) / (1 - q)) for a in ALTERNATIVES))


def silence_of(asked: int, silent: int, config: JudgeConfig) -> Silence:
    """The bound on a sound canary's empty windows: twice what the confirmed release does, and never below the prior.

    Twice, since a small canary reports less often than the whole of what it is compared with.
    """
    seen_ppm = 2 * MICRO * (silent + 1) // (asked + 1) if asked >= LEARNT_WINDOWS else 0
    return Silence(asked=asked, silent=silent, bound_ppm=min(MICRO // 2, max(config.silence_prior_ppm, seen_ppm)))


def improbable(weight_percent: int, baseline_requests: int, config: JudgeConfig) -> bool:
    """Of m requests none went to a canary of share w with probability (1-w)^m, if routing draws for each anew."""
    share = weight_percent / 100
    if not 0 < share < 1 or baseline_requests < config.absent_min_baseline_requests:
        return False
    return to_micro(-baseline_requests * math.log1p(-share)) >= threshold_micro(config.absent_ppm)
