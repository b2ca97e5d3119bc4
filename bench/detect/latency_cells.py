"""Latency: the same for how long requests take. All methods see the same histograms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from controller.canary.eprocess import MICRO
from controller.domain.verdict import Boundaries, JudgeConfig

from . import argo, durations, flagger, kayenta, traffic
from .cells import BATCH, ROOMY_BATCH, Cell, Found, Judged, Sizes, gathered, minutes, tell
from .durations import Cells, Slowness
from .error_cells import named
from .ours import Combined, ErrorsTest, LatencyTest, Test, guessed_rates

NULL_PART = 5  # one in so many null rollouts, where the null is no edge or is a shared incident


def tests_of(cells: Cells, boundaries: Boundaries, tolerance_buckets: int) -> list[Test]:
    config = JudgeConfig(tolerance_buckets=tolerance_buckets)
    arms = durations.arms_of(cells, boundaries, tolerance_buckets)
    return [
        LatencyTest(each, guessed_rates(boundaries, position, each, config), config)
        for position, each in enumerate(arms)
    ]


def strict(cells: Cells, boundaries: Boundaries, sizes: Sizes) -> Found:
    """E2 over the boundaries alone and without tolerance: of equals, the hardest null."""
    tests = tests_of(cells, boundaries, 0)
    return named({"E2": Combined(tests, [MICRO // len(tests)] * len(tests))}, sizes.alphas_ppm)


def tolerant(rng: np.random.Generator, cells: Cells, boundaries: Boundaries, rps: float, sizes: Sizes) -> Found:
    """E2 with tolerance, and the whole judge as it is by default: errors half.

    Errors do not change with latency: both arms fail at the base rate.
    """
    config, count = JudgeConfig(), len(boundaries.indices)
    failing = ErrorsTest(traffic.draw(rng, traffic.NULLS[0], rps, len(cells.canary)), config)
    tests = tests_of(cells, boundaries, config.tolerance_buckets)
    halves = [config.errors_weight_ppm, *[(MICRO - config.errors_weight_ppm) // count] * count]
    kinds = {"E2 tol 9 %": Combined(tests, [MICRO // count] * count), "judge": Combined([failing, *tests], halves)}
    return named(kinds, sizes.alphas_ppm)


def peers(cells: Cells) -> Found:
    slow = cells.beyond(durations.SLO_MS, durations.SLO_MS).by_minute()
    too_slow = argo.too_many_bad(slow, 0.01)
    found = {
        "Argo p99 >500 ms, fl=0": argo.first_abort(too_slow, 0),
        "Argo p99 >500 ms, fl=3": argo.first_abort(too_slow, 3),
        "Flagger": flagger.first_rollback(flagger.failed_checks(slow)),
    }
    canary, baseline = (durations.p99_a_minute(arm, cells.edges_ms) for arm in (cells.canary, cells.baseline))
    found["Kayenta"] = kayenta.first_fail(canary, baseline)
    return {name: minutes(each, 60) for name, each in found.items()}


def latency(rng: np.random.Generator, sizes: Sizes) -> Iterator[Cell]:
    for rps in sizes.rates:
        for slowness in durations.NULLS:
            tell(f"latency, {rps} canary requests a second: {slowness.name}")
            many = sizes.null_runs if slowness is durations.NULLS[0] else max(1, sizes.null_runs // NULL_PART)
            tally = gathered(rng, many, BATCH, _strict(slowness, rps, sizes))
            few = gathered(rng, max(1, sizes.null_runs // NULL_PART), BATCH, _tolerant(slowness, rps, sizes))
            others = gathered(rng, sizes.effect_runs, ROOMY_BATCH, _all(slowness, rps, sizes, mine=False))
            tally.minutes |= few.minutes | others.minutes
            yield from tally.cells("latency", rps, slowness.name, is_null=True)
        for slowness in durations.EFFECTS:
            tell(f"latency, {rps} canary requests a second: {slowness.name}")
            tally = gathered(rng, sizes.effect_runs, ROOMY_BATCH, _all(slowness, rps, sizes, mine=True))
            yield from tally.cells("latency", rps, slowness.name, is_null=False)


def _strict(slowness: Slowness, rps: float, sizes: Sizes) -> Judged:
    def judged(rng: np.random.Generator, runs: int) -> Found:
        boundaries = durations.draw_boundaries(rng, rps, JudgeConfig())
        cells = durations.draw(rng, slowness, rps, runs, durations.edges_of(boundaries, ()))
        return strict(cells, boundaries, sizes)

    return judged


def _tolerant(slowness: Slowness, rps: float, sizes: Sizes) -> Judged:
    config = JudgeConfig()

    def judged(rng: np.random.Generator, runs: int) -> Found:
        boundaries = durations.draw_boundaries(rng, rps, config)
        edges = durations.edges_of(boundaries, (config.tolerance_buckets,))
        return tolerant(rng, durations.draw(rng, slowness, rps, runs, edges), boundaries, rps, sizes)

    return judged


def _all(slowness: Slowness, rps: float, sizes: Sizes, *, mine: bool) -> Judged:
    def judged(rng: np.random.Generator, runs: int) -> Found:
        cells = durations.draw(rng, slowness, rps, runs)
        found = peers(cells)
        if mine:
            boundaries = durations.draw_boundaries(rng, rps, JudgeConfig())
            found |= strict(cells, boundaries, sizes) | tolerant(rng, cells, boundaries, rps, sizes)
        return found

    return judged
