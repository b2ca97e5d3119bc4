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


def tests_of(cells: Cells, boundaries: Boundaries, tolerance_buckets: int) -> list[Test]:
    config = JudgeConfig(tolerance_buckets=tolerance_buckets)
    arms = durations.arms_of(cells, boundaries, tolerance_buckets)
    return [
        LatencyTest(each, guessed_rates(boundaries, position, each, config), config)
        for position, each in enumerate(arms)
    ]


def judges(rng: np.random.Generator, cells: Cells, boundaries: Boundaries, rps: float, sizes: Sizes) -> Found:
    """E2 over the boundaries alone, without and with tolerance, and the whole judge: errors half, as by default.

    Errors do not change with latency: both arms fail at the base rate.
    """
    config, tests = JudgeConfig(), len(boundaries.indices)
    failing = ErrorsTest(traffic.draw(rng, traffic.NULLS[0], rps, len(cells.canary)), config)
    tolerant = tests_of(cells, boundaries, config.tolerance_buckets)
    halves = [config.errors_weight_ppm, *[(MICRO - config.errors_weight_ppm) // tests] * tests]
    kinds = {
        "E2": Combined(tests_of(cells, boundaries, 0), [MICRO // tests] * tests),
        "E2 tol 9 %": Combined(tolerant, [MICRO // tests] * tests),
        "judge": Combined([failing, *tolerant], halves),
    }
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
            tally = gathered(rng, sizes.null_runs, BATCH, _latency_null(slowness, rps, sizes))
            peers = gathered(rng, sizes.effect_runs, ROOMY_BATCH, _latency_all(slowness, rps, sizes, mine=False))
            tally.minutes |= peers.minutes
            yield from tally.cells("latency", rps, slowness.name, is_null=True)
        for slowness in durations.EFFECTS:
            tell(f"latency, {rps} canary requests a second: {slowness.name}")
            tally = gathered(rng, sizes.effect_runs, ROOMY_BATCH, _latency_all(slowness, rps, sizes, mine=True))
            yield from tally.cells("latency", rps, slowness.name, is_null=False)


def _latency_null(slowness: Slowness, rps: float, sizes: Sizes) -> Judged:
    def judged(rng: np.random.Generator, runs: int) -> Found:
        boundaries = durations.draw_boundaries(rng, rps, JudgeConfig())
        edges = durations.edges_of(boundaries, (1,))
        return judges(rng, durations.draw(rng, slowness, rps, runs, edges), boundaries, rps, sizes)

    return judged


def _latency_all(slowness: Slowness, rps: float, sizes: Sizes, *, mine: bool) -> Judged:
    def judged(rng: np.random.Generator, runs: int) -> Found:
        cells = durations.draw(rng, slowness, rps, runs)
        found = peers(cells)
        if mine:
            found |= judges(rng, cells, durations.draw_boundaries(rng, rps, JudgeConfig()), rps, sizes)
        return found

    return judged
