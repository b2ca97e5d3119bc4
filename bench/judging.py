"""What one look costs: 100,000 (service, route) tests of one 10 s window on one core, and the memory of their sums.

    PYTHONPATH=. .venv/bin/python bench/judging.py [services]

Each service has 8 busy routes, latency boundaries and callers, so that every test of the panel is at work. Counts are
made up by a seeded generator; nothing is received. The limit: all tests of a window within the window, 10 s of CPU.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from datetime import UTC, datetime

from controller.canary.boundaries import choose_boundaries
from controller.canary.judge import Judge
from controller.canary.panel import Given
from controller.canary.silence import silence_of
from controller.canary.weighing import JudgeState
from controller.domain.counts import ArmCounts, CallerCounts, Histogram, RouteCounts, Totals, WindowCounts
from controller.domain.verdict import BoundarySource, JudgeConfig, Phi, PhiSource

ROUTES = tuple(f"/route-{number}" for number in range(8))
CONFIG = JudgeConfig()
PHI = Phi(milli=1_300, source=PhiSource.MEASURED, instances=5, minutes=60)
HISTORY = Histogram.of({40: 900, 50: 80, 60: 20})
LIMIT_S = 10.0
WIDTH_MS = 10_000
LOOKS = 3


def window(rng: random.Random, number: int) -> WindowCounts:
    """50 canary requests and 450 of the baseline, a failure here and there."""
    routes = tuple(
        RouteCounts(
            route=name,
            canary=Totals(requests=6, errors=int(rng.random() < 0.05)),
            baseline=Totals(requests=56, errors=int(rng.random() < 0.3)),
        )
        for name in ROUTES
    )
    arms = [
        ArmCounts(requests=n, errors=errors, latency=Histogram.of({40: n - 9, 50: 7, 60: 2}))
        for n, errors in (
            (50, sum(one.canary.errors for one in routes)),
            (450, sum(one.baseline.errors for one in routes)),
        )
    ]
    return WindowCounts(
        start_ms=number * WIDTH_MS,
        end_ms=(number + 1) * WIDTH_MS,
        canary=arms[0],
        baseline=arms[1],
        callers=CallerCounts(canary=arms[0], baseline=arms[1]),
        routes=routes,
    )


def judge() -> Judge:
    given = Given(
        callers=True,
        routes=ROUTES,
        silence=silence_of(360, 0, CONFIG),
        history=Totals(requests=100_000, errors=600),
    )
    boundaries = choose_boundaries(HISTORY, CONFIG, BoundarySource.HISTORY)
    return Judge(CONFIG, PHI, boundaries, weight_percent=10, given=given)


def main(services: int) -> int:
    rng, court = random.Random(1), judge()  # noqa: S311 - reproducible counts, not secrets
    windows = [[window(rng, number) for _ in range(100)] for number in range(LOOKS)]  # the counts of 100, used by all
    tests = services * len(court.panel)
    states = [court.start() for _ in range(services)]
    spent = []
    for number in range(LOOKS):
        began = time.process_time()
        states = [court.step(state, windows[number][n % 100]) for n, state in enumerate(states)]
        spent.append(time.process_time() - began)
    asked = states[:200]
    began = time.process_time()
    for state in asked:
        court.verdict(state)
    verdict_us = (time.process_time() - began) / len(asked) * 1e6
    seconds = sorted(spent)[LOOKS // 2]
    print(f"{datetime.now(UTC):%Y-%m-%d}, Python {sys.version.split()[0]}, one core, counts made up, n={LOOKS} looks")
    print(f"{tests:,} tests of {services:,} services ({len(court.panel)} each): {seconds:.2f} s CPU a window")
    print(f"  {seconds / tests * 1e6:.1f} us a test; a verdict besides, when asked for: {verdict_us:,.0f} us")
    print(f"  memory: {memory_of(court, windows[0][0]):,} bytes a service after one window, the window's counts apart")
    per_100k = seconds / tests * 100_000
    print(f"100,000 tests: {per_100k:.2f} s, limit {LIMIT_S:g} s: {'met' if per_100k <= LIMIT_S else 'NOT MET'}")
    return 0 if per_100k <= LIMIT_S else 1


def memory_of(court: Judge, seen: WindowCounts) -> int:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept: list[JudgeState] = [court.step(court.start(), seen) for _ in range(200)]
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return (after - before) // len(kept)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000))
