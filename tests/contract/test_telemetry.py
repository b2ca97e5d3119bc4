"""What every telemetry keeps: closed windows in order without a gap, that never change once they were handed out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
from platform_worlds import TELEMETRIES, TelemetryWorld, TellingWorld, Tells

from controller.domain.counts import WindowCounts
from controller.domain.ids import Commit

OLD, NEW = Commit("1" * 40), Commit("2" * 40)
WIDTH_MS = 2_000


class Watch:
    """A service since half a minute ago, on the grid of windows."""

    def __init__(self, world: TelemetryWorld) -> None:
        self.world = world
        self.start_ms = (world.now_ms() - 30_000) // WIDTH_MS * WIDTH_MS

    async def served(
        self, version: Commit, after_ms: int, requests: int, errors: int = 0, instance: str = "i-1"
    ) -> None:
        at_ms = self.start_ms + after_ms
        await self.world.served(version, instance, at_ms=at_ms, requests=requests, errors=errors, latency_ms=10.0)

    async def windows(self, from_ms: int | None = None) -> list[WindowCounts]:
        """`from_ms=None`: from the start on."""
        since = self.start_ms if from_ms is None else from_ms
        return await self.world.telemetry.windows(
            self.world.service, canary=NEW, baseline=OLD, from_ms=since, width_ms=WIDTH_MS
        )

    def telling(self, what: Tells) -> TellingWorld:
        if what not in getattr(self.world, "tells", ()):
            pytest.skip(f"this telemetry tells nothing of {what}")
        return cast("TellingWorld", self.world)


@pytest.fixture(params=sorted(TELEMETRIES))
async def watch(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Watch]:
    world = await TELEMETRIES[request.param](tmp_path)
    yield Watch(world)
    await world.close()


async def test_windows_are_closed_in_order_and_without_a_gap(watch: Watch) -> None:
    await watch.served(OLD, 100, 5)
    found = await watch.windows()
    assert len(found) >= 10
    assert [w.start_ms for w in found] == [watch.start_ms + n * WIDTH_MS for n in range(len(found))]
    assert all(w.end_ms == w.start_ms + WIDTH_MS <= watch.world.now_ms() for w in found)
    assert [w.start_ms for w in (await watch.windows(found[3].start_ms))[:2]] == [found[3].start_ms, found[4].start_ms]


async def test_window_counts_both_arms_and_every_instance(watch: Watch) -> None:
    await watch.served(OLD, 100, 40, 2)
    await watch.served(OLD, 1_900, 10, 0, "i-2")
    await watch.served(NEW, 500, 7, 3)
    await watch.served(NEW, 2_100, 1)
    first, second, *rest = await watch.windows()
    assert (first.baseline.requests, first.baseline.errors) == (50, 2)
    assert (first.canary.requests, first.canary.errors, first.canary.latency.total) == (7, 3, 7)
    assert (second.canary.requests, second.baseline.requests) == (1, 0)
    assert all(w.canary.requests == w.baseline.requests == 0 for w in rest)


async def test_latency_is_in_milliseconds_at_scale_three(watch: Watch) -> None:
    await watch.served(NEW, 100, 4)
    await watch.served(OLD, 100, 1)
    histogram = (await watch.windows())[0].canary.latency
    assert (histogram.slower_than(26), histogram.slower_than(27)) == (4, 0)  # base^26 = 9.5 ms, base^27 = 10.4 ms


async def test_window_that_was_handed_out_never_changes(watch: Watch) -> None:
    await watch.served(OLD, 100, 5)
    before = await watch.windows()
    await watch.served(NEW, 200, 9, 9)
    await watch.served(OLD, 300, 9)
    assert (await watch.windows())[: len(before)] == before


async def test_window_that_has_not_ended_is_not_given(watch: Watch) -> None:
    await watch.served(OLD, 100, 5)
    ahead = watch.world.now_ms() // WIDTH_MS * WIDTH_MS + 2 * WIDTH_MS
    assert await watch.windows(ahead) == []


async def test_baseline_is_by_instance_and_minute(watch: Watch) -> None:
    await watch.served(OLD, 0, 30, 3)
    await watch.served(OLD, 10, 20, 0, "i-2")
    await watch.served(OLD, 9_000, 10)
    seen = await watch.world.telemetry.baseline(
        watch.world.service, OLD, from_ms=watch.start_ms, to_ms=watch.start_ms + 4_000
    )
    minute_ms = watch.start_ms // 60_000 * 60_000
    found = {(m.instance, m.minute_ms, m.requests, m.errors) for m in seen.instances}
    assert found == {("i-1", minute_ms, 30, 3), ("i-2", minute_ms, 20, 0)}
    assert (seen.requests, seen.latency.total) == (50, 50)


async def test_unknown_version_has_no_baseline(watch: Watch) -> None:
    seen = await watch.world.telemetry.baseline(
        watch.world.service, OLD, from_ms=watch.start_ms, to_ms=watch.start_ms + 4_000
    )
    assert (seen.requests, seen.instances, seen.latency.total) == (0, (), 0)


async def test_first_failure_is_the_earliest_one_that_was_told(watch: Watch) -> None:
    await watch.served(NEW, 100, 5)
    assert await watch.world.telemetry.first_failure_ms(watch.world.service, NEW) is None
    await watch.served(NEW, 4_000, 5, 1)
    await watch.served(NEW, 3_000, 5, 1, "i-2")
    assert await watch.world.telemetry.first_failure_ms(watch.world.service, NEW) == watch.start_ms + 3_000


async def test_source_says_whose_counts_these_are(watch: Watch) -> None:
    await watch.served(OLD, 100, 5)
    await watch.windows()
    assert watch.world.telemetry.source


async def test_late_requests_are_said_and_nothing_else_is(watch: Watch) -> None:
    watch.telling(Tells.LATE)
    await watch.served(OLD, 100, 5)
    await watch.windows()
    assert await watch.world.telemetry.excluded(watch.world.service) == {}
    await watch.served(OLD, 200, 7)
    assert (await watch.world.telemetry.excluded(watch.world.service))["late requests"] == 7


async def test_baseline_knows_its_failures(watch: Watch) -> None:
    await watch.served(OLD, 0, 30, 3)
    seen = await watch.world.telemetry.baseline(
        watch.world.service, OLD, from_ms=watch.start_ms, to_ms=watch.start_ms + 4_000
    )
    assert (seen.errors, sum(minute.latency.total for minute in seen.instances)) == (3, 30)


async def test_window_and_baseline_tell_the_routes(watch: Watch) -> None:
    world = watch.telling(Tells.ROUTES)
    await world.served_route(OLD, "/b", at_ms=watch.start_ms + 100, requests=9, errors=1)
    await world.served_route(NEW, "/a", at_ms=watch.start_ms + 200, requests=4, errors=2)
    await world.served_route(OLD, "/a", at_ms=watch.start_ms + 300, requests=2, errors=0)
    seen = await world.telemetry.baseline(world.service, OLD, from_ms=watch.start_ms, to_ms=watch.start_ms + 4_000)
    assert seen.routes == ("/b", "/a")
    window = (await watch.windows())[0]
    a, b = window.routes
    assert (a.route, a.canary.requests, a.canary.errors, a.baseline.requests) == ("/a", 4, 2, 2)
    assert (b.route, b.canary.requests, b.baseline.errors) == ("/b", 0, 1)
    assert window.baseline.requests == 11


async def test_callers_tell_what_they_saw_in_the_same_windows(watch: Watch) -> None:
    world = watch.telling(Tells.CALLERS)
    for after_ms in (2_100, 4_100, 6_100):
        await world.called(OLD, at_ms=watch.start_ms + after_ms, requests=10, errors=1)
    await world.called(NEW, at_ms=watch.start_ms + 2_200, requests=3, errors=3)
    await watch.served(OLD, 2_100, 9)
    await watch.served(OLD, 6_100, 9)
    await watch.served(NEW, 2_200, 1)
    seen = await world.telemetry.baseline(
        world.service, OLD, from_ms=watch.start_ms, to_ms=watch.start_ms + 8_000, width_ms=WIDTH_MS
    )
    assert (seen.callers, seen.windows_asked, seen.windows_silent) == (True, 3, 1)
    before, first, second, *_ = await watch.windows()
    assert before.callers is None
    assert first.callers is not None
    assert second.callers is not None
    assert (first.callers.canary.requests, first.callers.canary.errors, first.canary.requests) == (3, 3, 1)
    assert (second.callers.baseline.requests, second.baseline.requests) == (10, 0)
    await world.called(OLD, at_ms=watch.start_ms + 4_200, requests=5, errors=0)
    assert (await watch.windows())[2].callers == second.callers


async def test_window_tells_the_mean_of_a_gauge(watch: Watch) -> None:
    world = watch.telling(Tells.GAUGES)
    for instance, after_ms, value in (("i-1", 100, 5.0), ("i-1", 1_900, 8.0), ("i-2", 500, 2.5)):
        at_ms = watch.start_ms + after_ms
        await world.level(NEW, instance, at_ms=at_ms, name="process.memory.usage", value=value)
    await watch.served(NEW, 100, 1)
    await watch.served(OLD, 100, 1)
    first, second, *_ = await watch.windows()
    (gauge,) = first.gauges
    assert (gauge.name, gauge.canary_milli, gauge.baseline_milli) == ("process.memory.usage", 5_250, None)
    assert second.gauges == ()
