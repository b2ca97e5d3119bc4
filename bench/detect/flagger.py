"""Flagger's analysis: each interval every metric must be within its range, and so many failed checks end the canary.

Modelled after its documentation and scheduler: success rate at least 99 % or p99 at most 500 ms over the last minute,
checked every minute; a query without values is a failed check; failed checks only ever add up, and the canary is
rolled back when there are `threshold` of them (5, as in its issue #1801).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ours import first
from .traffic import Arms, Flags

THRESHOLD = 5
MOST_BAD = 0.01  # success rate of at least 99 %; for p99, at most this part beyond the limit


def failed_checks(minutes: Arms) -> Flags:
    """No data, or more than 1 % bad."""
    failed: Flags = (minutes.canary_total == 0) | (minutes.canary_bad > MOST_BAD * minutes.canary_total)
    return failed


def first_rollback(failed: Flags, threshold: int = THRESHOLD) -> NDArray[np.int64]:
    """Per rollout, the check at which it is rolled back."""
    return first(failed.cumsum(axis=1) >= threshold)
