"""A small repository whose tests record benchmarks, through a real run of local CI: worker, sandbox, pytest, plugin."""

from __future__ import annotations

from pathlib import Path

from test_ci import BARE, KEY, WAITING, local_ci, run_through, start, until

from controller.adapters.ci_execute import CiConfig
from controller.domain.benchmark import Benchmark

MEASURED = {
    "test_pricing.py": """
import time

import pytest


def test_pricing_is_quick(record_property):
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        sum(range(10_000))
        taken.append((time.perf_counter() - begun) * 1000)
    record_property("flyball.benchmark.pricing_ms", taken)


@pytest.mark.parametrize("size", ["small", "large"])
def test_carts(record_property, size):
    for value in (3, 1, 2):
        record_property(f"flyball.benchmark.cart_{size}_us", value)


def test_other_properties_are_others_business(record_property):
    record_property("example_key", 1)
    record_property("flyball.benchmark.queries_count", 12.0)
""",
}
ODD = {
    "test_odd.py": """
class Odd:
    def __float__(self):
        raise ValueError("no number")


def test_odd(record_property):
    record_property("flyball.benchmark.huge_ms", 10**400)
    record_property("flyball.benchmark.odd_ms", Odd())
    record_property("flyball.benchmark.nan_ms", float("nan"))
    record_property("flyball.benchmark.latency", 3.0)
    record_property("flyball.benchmark.many_ms", [1.0] * 5_000)
    record_property("flyball.benchmark.good_ms", 3.0)


def test_same_name(record_property):
    record_property("flyball.benchmark.good_ms", 9.0)
""",
}
FAILING = {
    "test_failing.py": "def test_slow(record_property):\n"
    "    record_property('flyball.benchmark.pricing_ms', 3.0)\n    assert False\n\n\n"
    "def test_fine(record_property):\n    record_property('flyball.benchmark.fine_ms', 3.0)\n"
}


async def test_what_tests_measure_comes_with_the_run(tmp_path: Path) -> None:
    run = await run_through(local_ci(tmp_path, MEASURED))
    assert run.state == "passed", run
    pricing, *rest = run.benchmarks
    assert (pricing.name, pricing.samples) == ("pricing_ms", 5)
    assert 1_000 <= pricing.value_micro < 1_000_000_000  # it took something between a microsecond and a second
    assert rest == [
        Benchmark(name="cart_small_us", value_micro=2_000_000, samples=3),
        Benchmark(name="cart_large_us", value_micro=2_000_000, samples=3),
        Benchmark(name="queries_count", value_micro=12_000_000, samples=1),
    ]
    assert "benchmark not taken" not in run.log


async def test_workers_of_xdist_hand_their_benchmarks_over(tmp_path: Path) -> None:
    command = ("python", "-m", "pytest", "-p", "xdist", "-n", "2")
    config = CiConfig(command=command, wall_s=60, environment=BARE)
    run = await run_through(local_ci(tmp_path, MEASURED, config=config))
    assert run.state == "passed", run
    assert {one.name for one in run.benchmarks} == {"pricing_ms", "cart_small_us", "cart_large_us", "queries_count"}


async def test_what_is_no_benchmark_fails_no_test_and_is_said_in_the_log(tmp_path: Path) -> None:
    run = await run_through(local_ci(tmp_path, ODD))
    assert run.state == "passed", run
    assert run.benchmarks == (Benchmark(name="good_ms", value_micro=3_000_000, samples=1),)
    for said in (
        "huge_ms was nan",
        "odd_ms was nan",
        "nan_ms was nan",
        "the name 'latency' must match",
        "many_ms has 1000 samples",
        "good_ms was recorded by two tests",
    ):
        assert f"benchmark not taken: {said}" in run.log


async def test_a_failed_test_measures_nothing(tmp_path: Path) -> None:
    run = await run_through(local_ci(tmp_path, FAILING))
    assert run.state == "failed"
    assert [one.name for one in run.benchmarks] == ["fine_ms"]


async def test_a_run_that_is_still_going_has_none_yet(tmp_path: Path) -> None:
    files = {"test_a.py": MEASURED["test_pricing.py"], **WAITING}
    ci = local_ci(tmp_path, files)
    started = await ci.act(KEY, start())
    early = await until(ci, started.run, lambda run: len(run.tests) >= 4)
    assert early.benchmarks == ()
    (tmp_path / "runs" / started.run / "tree" / "go").touch()
    done = await until(ci, started.run, lambda run: run.finished_at is not None)
    assert len(done.benchmarks) == 4
