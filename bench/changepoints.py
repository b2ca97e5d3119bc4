"""How often change points and the check of a head are wrong, and how soon they are right, on simulated noise.

`PYTHONPATH=. python bench/changepoints.py [repeats]`. Noise is normal and independent from run to run. In "moods" each
run has a mood of its own that all its samples share (2 % between runs, 0.5 % within), as a machine has; beside the
judgement of runs stands what counting every sample by itself would say.
"""

from __future__ import annotations

import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from controller.canary.changepoints import change_points
from controller.canary.slower import slower
from controller.canary.student import same_mean_p, sample_of
from controller.domain.benchmark import Benchmark
from controller.domain.ids import Commit, DeliveryId
from controller.history.benchmarks import Landing, Point

LEVEL = 100.0
MICRO = 1_000_000
SAMPLES = 10


def noise(rng: random.Random, n: int, level: float = LEVEL, share: float = 0.02) -> list[float]:
    return [rng.gauss(level, share * level) for _ in range(n)]


def points(values: list[float]) -> list[Point]:
    landing = Landing(DeliveryId("d"), Commit("c"), datetime.now(UTC), 0, (), frozenset())
    return [Point(landing, round(value * MICRO)) for value in values]


def blamed(values: list[float], head: float) -> bool:
    one = Benchmark(name="pricing_ms", value_micro=round(head * MICRO), samples=1)
    return slower(one, points(values), 1) is not None


def share(repeats: int, once: Callable[[], bool]) -> str:
    hits = sum(once() for _ in range(repeats))
    return f"{100 * hits / repeats:6.2f} %  ({hits}/{repeats})"


def mood(rng: random.Random, level: float = LEVEL) -> list[float]:
    own = rng.gauss(level, 0.02 * level)
    return [rng.gauss(own, 0.005 * level) for _ in range(SAMPLES)]


def sample_by_sample(rng: random.Random) -> bool:
    before = [one for _ in range(60) for one in mood(rng)]
    return same_mean_p(sample_of(before), sample_of(mood(rng))) <= 0.001


def run_by_run(rng: random.Random) -> bool:
    before = [statistics.median(mood(rng)) for _ in range(60)]
    return same_mean_p(sample_of(before), sample_of([statistics.median(mood(rng))])) <= 0.001


def main(repeats: int) -> None:
    rng = random.Random(20261130)  # noqa: S311 - noise, repeatable
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {datetime.now(UTC):%F}, {repeats} repeats a row\n"
    )
    print("a series without a change that has a change point")
    for n in (30, 60, 200):
        for noisy in (0.02, 0.1):
            rate = share(repeats, lambda n=n, noisy=noisy: bool(change_points(noise(rng, n, share=noisy))))  # type: ignore[misc]
            print(f"  {n:3} results, noise {noisy:4.0%}   {rate}")
    print("\na shift of 10 % in noise of 2 %, after 60 results, found so many results later / exactly in place")
    for after in (4, 5, 6, 8, 10):
        seen = [change_points([*noise(rng, 60), *noise(rng, after, 1.1 * LEVEL)]) for _ in range(repeats)]
        exact = sum(len(one) == 1 and one[0].index == 60 for one in seen)
        print(f"  {after:2} results   {100 * sum(map(bool, seen)) / repeats:6.2f} %   {100 * exact / repeats:6.2f} %")
    print("\na head held against 60 landings in noise of 2 %, called slower when it is so much slower")
    for more in (0.0, 0.05, 0.07, 0.1, 0.15, 0.2):
        rate = share(repeats, lambda more=more: blamed(noise(rng, 60), rng.gauss((1 + more) * LEVEL, 2)))  # type: ignore[misc]
        print(f"  {more:4.0%}   {rate}")
    print("\nthe same, no slower, in noise of 10 %")
    for n in (12, 30, 60):
        rate = share(10 * repeats, lambda n=n: blamed(noise(rng, n, share=0.1), rng.gauss(LEVEL, 10)))  # type: ignore[misc]
        print(f"  {n:3} landings   {rate}")
    print(f"\na head that is no slower nor faster, {SAMPLES} samples a run, moods; p <= 0.001")
    print(f"  every sample by itself   {share(repeats, lambda: sample_by_sample(rng))}")
    print(f"  the median of each run   {share(10 * repeats, lambda: run_by_run(rng))}")
    begin = time.process_time()
    for _ in range(20):
        blamed(noise(rng, 200), LEVEL * 1.3)
    print(f"\nCPU of one head against 200 landings: {(time.process_time() - begin) / 20 * 1000:.0f} ms a benchmark")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2_000)
