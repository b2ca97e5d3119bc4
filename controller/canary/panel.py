"""The tests that a rollout is judged by, and how they share alpha.

Each test is an e-process of its own; the judge acts on their weighted mean. Weights are fixed before the first judged
window and add up to at most one, so the mean is an e-process whatever the dependence between the tests, and
everything that may act alone lives off the one alpha of the rollout: a test added is paid for by the others.

Errors and latency are read in up to two views: what the service reports of itself, and what its callers saw of the
same requests. A canary that dies under a request reports nothing of it; its callers do. Busy routes are tested apart
as well, since a route that fails is diluted by those that do not. ABSENT counts silence (`silence`).
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.canary.boundaries import guessed_rate, rate_so_far, slower_in
from controller.canary.eprocess import (
    MICRO,
    NOTHING,
    Sums,
    TwoArms,
    added,
    block_increments,
    rare_event_increments,
)
from controller.domain.counts import ArmCounts, Totals, WindowCounts
from controller.domain.verdict import Boundaries, JudgeConfig, Silence, TestKind, View


@dataclass(frozen=True, slots=True)
class Given:
    """What was known of the confirmed release before the first judged window. The default: nothing but its counts."""

    callers: bool = False  # whether callers tell what they saw
    routes: tuple[str, ...] = ()
    gauges: tuple[str, ...] = ()
    silence: Silence | None = None  # None: nobody can say whether a silent canary was asked
    history: Totals | None = None  # None: not counted


NOTHING_MORE = Given()


@dataclass(frozen=True, slots=True)
class Test:
    __test__ = False
    kind: TestKind
    weight_ppm: int
    view: View = View.SERVER
    route: str | None = None  # None: all of them together
    position: int | None = None  # among the boundaries. None: no test of latency


@dataclass(frozen=True, slots=True)
class Score:
    """What a test has seen and how far it got: log likelihood ratios by alternative, not tempered."""

    sums: Sums
    seen: TwoArms = NOTHING


def tests_of(config: JudgeConfig, boundaries: Boundaries, given: Given) -> tuple[Test, ...]:
    """In a fixed order: the service's errors first. Weights are rounded down."""
    absent = config.absent_weight_ppm if _absence_is_provable(given) else 0
    timed = len(boundaries.indices)
    errors = _part(MICRO - absent, config.errors_weight_ppm if timed else MICRO)
    latency = MICRO - absent - errors
    told = _part(errors, config.callers_weight_ppm if given.callers else 0)
    apart = _part(errors - told, config.routes_weight_ppm if given.routes else 0)
    found = [Test(TestKind.ERRORS, errors - told - apart)]
    found += [Test(TestKind.LATENCY, w, position=i) for i, w in enumerate(_spread(latency, timed, config, given))]
    if given.callers:
        found.append(Test(TestKind.ERRORS, told, View.CALLERS))
        share = _part(latency, config.callers_weight_ppm) // max(1, timed)
        found += [Test(TestKind.LATENCY, share, View.CALLERS, position=i) for i in range(timed)]
    found += [Test(TestKind.ERRORS, apart // len(given.routes), route=route) for route in given.routes]
    if absent:
        found.append(Test(TestKind.ABSENT, absent, View.CALLERS))
    return tuple(one for one in found if one.weight_ppm)


def _absence_is_provable(given: Given) -> bool:
    return given.callers and given.silence is not None


def _spread(latency_ppm: int, boundaries: int, config: JudgeConfig, given: Given) -> list[int]:
    told = _part(latency_ppm, config.callers_weight_ppm) if given.callers else 0
    return [(latency_ppm - told) // boundaries] * boundaries if boundaries else []


def _part(whole_ppm: int, share_ppm: int) -> int:
    return whole_ppm * share_ppm // MICRO


def arms_of(test: Test, window: WindowCounts, boundaries: Boundaries, config: JudgeConfig) -> TwoArms:
    """Bad of total in each arm, as this test counts them. Nothing in either: the window does not tell it."""
    canary, baseline = _arms(test, window)
    if test.position is None:
        return TwoArms(canary.errors, canary.requests, baseline.errors, baseline.requests)
    if not (isinstance(canary, ArmCounts) and isinstance(baseline, ArmCounts)):
        raise TypeError(test)
    return slower_in(canary.latency, baseline.latency, boundaries.indices[test.position], config)


def _arms(test: Test, window: WindowCounts) -> tuple[Totals | ArmCounts, Totals | ArmCounts]:
    if test.view is View.CALLERS:
        callers = window.callers
        return (callers.canary, callers.baseline) if callers is not None else (NO_REQUEST, NO_REQUEST)
    if test.route is None:
        return window.canary, window.baseline
    found = next((one for one in window.routes if one.route == test.route), None)
    return (found.canary, found.baseline) if found is not None else (NO_REQUEST, NO_REQUEST)


NO_REQUEST = ArmCounts(requests=0, errors=0)


def scored(  # noqa: PLR0913, PLR0917 - a test, what it sees, and what was fixed before
    test: Test,
    score: Score,
    window: WindowCounts,
    boundaries: Boundaries,
    config: JudgeConfig,
    ratios: tuple[float, ...],
) -> Score:
    """With one window more. `ratios` are the alternatives, as multiples of what is tolerated."""
    arms = arms_of(test, window, boundaries, config)
    if test.position is None:
        tolerated = config.theta0_milli / 1000
        steps = rare_event_increments(arms, tolerated, [tolerated * ratio for ratio in ratios])
    else:
        reported = test.view is View.SERVER
        rate = guessed_rate(boundaries, test.position, score.seen, config) if reported else rate_so_far(score.seen)
        steps = block_increments(arms, rate, ratios)
    return Score(added(score.sums, steps), score.seen.plus(arms))
