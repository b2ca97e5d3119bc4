"""Argo Rollouts' analysis: a condition on one number at each interval, and limits on how often it may fail.

What is modelled, after its documentation and sources (v1.8 to v1.10): a measurement is Failed, Successful or
Inconclusive by the conditions given; a metric fails once it failed more than `failureLimit` times (default 0), is
inconclusive once more than `inconclusiveLimit` (0), is in error after more than `consecutiveErrorLimit` (4) errors in
a row. A comparison with NaN is false, so "no data" fails a success condition unless that says `isNaN(result) ||`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .ours import first
from .traffic import Arms, Flags

Condition = Callable[[float], bool]


class Phase(Enum):
    SUCCESSFUL = "Successful"
    FAILED = "Failed"
    INCONCLUSIVE = "Inconclusive"
    ERROR = "Error"


def measured(value: float | None, success: Condition | None = None, failure: Condition | None = None) -> Phase:
    """The phase of one measurement. `value=None`: an empty vector, of which `result[0]` does not exist."""
    if value is None:
        return Phase.ERROR
    failed = failure(value) if failure else (success is not None and not success(value))
    succeeded = success(value) if success else not failed
    if failed:
        return Phase.FAILED
    return Phase.SUCCESSFUL if succeeded else Phase.INCONCLUSIVE


def assessed(
    phases: Sequence[Phase], failure_limit: int = 0, inconclusive_limit: int = 0, consecutive_error_limit: int = 4
) -> tuple[Phase, int | None]:
    """The metric's phase and the 0-based measurement that settled it; None: it ran to its end."""
    failed = inconclusive = errors = 0
    for position, phase in enumerate(phases):
        failed += phase is Phase.FAILED
        inconclusive += phase is Phase.INCONCLUSIVE
        errors = errors + 1 if phase is Phase.ERROR else 0
        if failed > failure_limit:
            return Phase.FAILED, position
        if inconclusive > inconclusive_limit:
            return Phase.INCONCLUSIVE, position
        if errors > consecutive_error_limit:
            return Phase.ERROR, position
    return Phase.SUCCESSFUL, None


def at_most(limit: float, *, guarded: bool) -> Condition:
    """`result[0] <= limit`, with `isNaN(result[0]) ||` before it when guarded."""
    return lambda value: (guarded and math.isnan(value)) or value <= limit


def first_abort(failed: Flags, failure_limit: int) -> NDArray[np.int64]:
    """Per rollout, the measurement at which it is aborted."""
    return first(failed.cumsum(axis=1) > failure_limit)


def too_many_bad(minutes: Arms, limit: float) -> Flags:
    """A guarded `at_most(limit)` on the canary's bad fraction of each minute, failed."""
    return minutes.canary_bad > limit * minutes.canary_total


def worse_than_stable(minutes: Arms, times: float) -> Flags:
    """The canary's rate of errors above `times` the stable version's (#1107); a minute without either passes."""
    canary = minutes.canary_bad * minutes.baseline_total
    return canary > times * minutes.baseline_bad * minutes.canary_total
