"""Counts from a real Prometheus server, into which a service's scrapes are written with chosen times."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import prometheus_kit
from prometheus_kit import BOUNDS_S, METRIC, NEW, OLD, Instance, Server, ShiftedClock, telemetry, until

from controller.adapters.prometheus_counts import NO_COUNT, OTHER_BOUNDS, UNSEEN
from controller.domain.counts import WindowCounts
from controller.domain.ids import Commit, Service
from controller.errors import Permanent, Unavailable

pytestmark = pytest.mark.skipif(prometheus_kit.BINARY is None, reason=prometheus_kit.WITHOUT)
WIDTH_MS, SCRAPE_MS = 2_000, 1_000


numbers = itertools.count(1)


class Past:
    """Half a minute of a service of its own that one server has scraped every second, told in scrapes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.service = Service(f"shop-{next(numbers)}")
        self.start_ms = (prometheus_kit.now_ms() - 60_000) // WIDTH_MS * WIDTH_MS
        self.clock = ShiftedClock(self.start_ms + 30_000)
        self.telemetry = telemetry(server, self.clock, health_route="/health")

    def instance(self, version: Commit = NEW, name: str = "i-1", bounds_s: tuple[float, ...] = BOUNDS_S) -> Instance:
        return Instance(self.service, version, f"{self.service}-{name}", bounds_s)

    async def scraped(self, after_ms: int, *instances: Instance) -> None:
        for one in instances:
            assert await self.server.write(one.scrape(self.start_ms + after_ms)) == 204

    async def windows(self, service: Service | None = None, canary: Commit = NEW) -> list[WindowCounts]:
        """`service=None`: its own."""
        return await self.telemetry.windows(
            service or self.service, canary=canary, baseline=OLD, from_ms=self.start_ms, width_ms=WIDTH_MS
        )

    async def requests(self) -> list[int]:
        """The canary's, window by window, without the empty ones at the end."""
        found = [window.canary.requests for window in await self.windows()]
        while found and not found[-1]:
            found.pop()
        return found


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("prometheus")).begin()
    yield found
    assert found.process is not None
    found.process.kill()
    found.process.wait()


@pytest.fixture
async def past(process: Server) -> AsyncIterator[Past]:
    server = Server(process.folder, url=process.url)
    await until(server.ready, "Prometheus is ready")
    found = Past(server)
    yield found
    await found.telemetry.close()
    await server.down()


# --- what is counted --------------------------------------------------------------------------------------------------


async def test_first_error_of_a_process_counts_though_its_counter_begins_with_it(past: Past) -> None:
    canary = past.instance()
    canary.serve(10)
    await past.scraped(0, canary)
    canary.serve(5, errors=3)
    for after_ms in (1_000, 2_000):
        await past.scraped(after_ms, canary)
    failing = f'sum(increase({METRIC}_count{{job="{past.service}",error_type!=""}}[2s]))'
    end = past.start_ms + WIDTH_MS
    assert await past.server.values(failing, range(end, end + 1, 1_000)) == [0.0]
    first = (await past.windows())[0].canary
    assert (first.requests, first.errors) == (5, 3)


async def test_windows_side_by_side_add_up_to_what_was_served(past: Past) -> None:
    canary = past.instance()
    await past.scraped(-300, canary)
    for second in range(20):
        canary.serve(second % 3)
        await past.scraped(second * 1_000 + 700, canary)
    assert sum(await past.requests()) == sum(second % 3 for second in range(20))


async def test_scrape_on_the_edge_belongs_to_the_window_that_ends_there(past: Past) -> None:
    canary = past.instance()
    await past.scraped(1_000, canary)
    canary.serve(4)
    await past.scraped(2_000, canary)
    canary.serve(2)
    await past.scraped(3_000, canary)
    assert await past.requests() == [4, 2]


async def test_restarted_process_goes_on_from_zero(past: Past) -> None:
    canary = past.instance()
    canary.serve(100)
    await past.scraped(0, canary)
    canary.serve(7)
    await past.scraped(1_000, canary)
    canary.restart()
    canary.serve(5)
    await past.scraped(3_000, canary)
    assert await past.requests() == [7, 5]


async def test_restart_that_one_bucket_betrays_is_a_restart_of_the_whole_histogram(past: Past) -> None:
    canary = past.instance()
    canary.serve(10, latency_ms=10.0)
    await past.scraped(0, canary)
    canary.restart()
    canary.serve(12, latency_ms=300.0)
    await past.scraped(1_000, canary)
    found = (await past.windows())[0].canary
    assert (found.requests, found.latency.total) == (12, 12)


async def test_lost_scrape_moves_counts_and_loses_none(past: Past) -> None:
    canary, confirmed = past.instance(), past.instance(OLD, "i-2")
    await past.scraped(0, canary, confirmed)
    for second in range(1, 9):
        canary.serve(1)
        confirmed.serve(9)
        await past.scraped(second * 1_000, *([confirmed] if second == 4 else [canary, confirmed]))
    found = (await past.windows())[:4]
    assert [window.canary.requests for window in found] == [2, 1, 3, 2]
    assert [window.baseline.requests for window in found] == [18] * 4


async def test_series_that_has_ended_counts_no_more(past: Past) -> None:
    canary = past.instance()
    await past.scraped(0, canary)
    canary.serve(6)
    await past.scraped(1_000, canary)
    assert await past.requests() == [6]


async def test_instance_that_nobody_has_scraped_before_does_not_bring_its_whole_past(past: Past) -> None:
    confirmed = past.instance(OLD)
    confirmed.serve(1_000_000, errors=1_000)
    assert await past.server.write(confirmed.scrape(past.start_ms + 1_000)[1:]) == 204
    confirmed.serve(4)
    await past.scraped(3_000, confirmed)
    assert [window.baseline.requests for window in (await past.windows())[:3]] == [0, 4, 0]
    assert await past.telemetry.excluded(past.service) == {UNSEEN: 1_000_000}


async def test_scrapes_that_come_back_after_a_long_outage_bring_no_burst(past: Past) -> None:
    confirmed = past.instance(OLD)
    confirmed.serve(500)
    await past.scraped(-30 * 60_000, confirmed)
    confirmed.serve(20)
    await past.scraped(1_000, confirmed)
    assert (await past.windows())[0].baseline.requests == 20


async def test_counts_that_are_no_numbers_are_left_out_and_told(past: Past) -> None:
    canary = past.instance()
    canary.serve(3)
    await past.scraped(0, canary)
    canary.serve(2)
    await past.scraped(1_000, canary)
    labels = next(labels for labels, _ in canary.scrape(0) if labels["__name__"] == f"{METRIC}_count")
    for after_ms, odd in ((1_200, float("nan")), (1_300, float("inf")), (1_400, -5.0)):
        assert await past.server.write([(labels, [(past.start_ms + after_ms, odd)])]) == 204
    canary.serve(1)
    await past.scraped(1_500, canary)
    assert await past.requests() == [3]
    assert await past.telemetry.excluded(past.service) == {NO_COUNT: 3}


async def test_fractions_of_requests_are_rounded_half_up(past: Past) -> None:
    canary = past.instance()
    canary.serve(1)
    await past.scraped(0, canary)
    canary.counters = {key: value + 2.5 for key, value in canary.counters.items()}
    await past.scraped(1_000, canary)
    assert await past.requests() == [3]


async def test_series_that_matches_two_ways_to_fail_is_one_failure(past: Past) -> None:
    canary = past.instance()
    await past.scraped(0, canary)
    canary.serve(5, errors=5)
    await past.scraped(1_000, canary)
    found = (await past.windows())[0].canary
    assert (found.requests, found.errors) == (5, 5)


async def test_health_checks_are_no_requests_and_routes_are_told_apart(past: Past) -> None:
    canary, confirmed = past.instance(), past.instance(OLD, "i-2")
    await past.scraped(0, canary, confirmed)
    canary.serve(50, route="/health")
    canary.serve(4, errors=1, route="/pay")
    confirmed.serve(9, route="/look")
    await past.scraped(1_000, canary, confirmed)
    first = (await past.windows())[0]
    assert (first.canary.requests, first.baseline.requests) == (4, 9)
    told = {one.route: (one.canary.requests, one.canary.errors, one.baseline.requests) for one in first.routes}
    assert told == {"/pay": (4, 1, 0), "/look": (0, 0, 9)}


# --- latency ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("latency_ms", "bucket"),
    [(3.0, 18), (5.0, 18), (60.0, 49), (75.0, 49), (9_000.0, 106), (99_000.0, 107)],
)
async def test_latency_stands_where_its_buckets_upper_bound_does(past: Past, latency_ms: float, bucket: int) -> None:
    canary = past.instance()
    await past.scraped(0, canary)
    canary.serve(4, latency_ms=latency_ms)
    await past.scraped(1_000, canary)
    assert (await past.windows())[0].canary.latency.buckets == ((bucket, 4),)


async def test_canary_with_other_buckets_than_the_baseline_is_not_judged_by_latency(past: Past) -> None:
    canary, confirmed = past.instance(bounds_s=(0.1, 1.0)), past.instance(OLD, "i-2")
    await past.scraped(0, canary, confirmed)
    canary.serve(4)
    confirmed.serve(9)
    await past.scraped(1_000, canary, confirmed)
    first = (await past.windows())[0]
    assert (first.canary.requests, first.canary.latency.total) == (4, 0)
    assert (first.baseline.requests, first.baseline.latency.total) == (9, 0)
    assert (await past.telemetry.excluded(past.service))[OTHER_BOUNDS] == 13


async def test_baseline_has_latency_and_errors_by_instance_and_minute(past: Past) -> None:
    one, other = past.instance(OLD, "i-1"), past.instance(OLD, "i-2")
    await past.scraped(0, one, other)
    one.serve(30, errors=3)
    other.serve(20, route="/look")
    await past.scraped(1_000, one, other)
    seen = await past.telemetry.baseline(past.service, OLD, from_ms=past.start_ms, to_ms=past.start_ms + 4_000)
    assert {(m.instance, m.requests, m.errors, m.latency.total) for m in seen.instances} == {
        (one.name, 30, 3, 30),
        (other.name, 20, 0, 20),
    }
    assert (seen.requests, seen.errors, seen.routes) == (50, 3, ("/pay", "/look"))


async def test_long_baseline_is_read_from_minute_to_minute(past: Past) -> None:
    one, newcomer = past.instance(OLD, "i-1"), past.instance(OLD, "i-2")
    to_ms = past.start_ms // 60_000 * 60_000
    series = []
    for number in range(241):  # an hour, every 15 s
        one.serve(2, errors=number % 2)
        series += one.scrape(to_ms - 3_600_000 + number * 15_000)
        if number >= 200:
            newcomer.serve(1_000_000 if number == 200 else 1)
            series += newcomer.scrape(to_ms - 3_600_000 + number * 15_000)
    assert await past.server.write(series) == 204
    seen = await past.telemetry.baseline(past.service, OLD, from_ms=to_ms - 3_600_000, to_ms=to_ms)
    minutes = [m for m in seen.instances if m.instance == one.name]
    assert [m.minute_ms for m in minutes] == list(range(to_ms - 3_600_000, to_ms, 60_000))
    assert [(m.requests, m.errors, m.latency.total) for m in minutes] == [(8, 2, 8)] * 60
    assert sum(m.requests for m in seen.instances if m.instance == newcomer.name) == 40


# --- windows ----------------------------------------------------------------------------------------------------------


async def test_window_is_not_given_before_its_last_scrape_can_have_arrived(past: Past) -> None:
    past.clock.at_ms = past.start_ms + WIDTH_MS + 2 * SCRAPE_MS - 1
    assert await past.windows() == []
    past.clock.at_ms += 1
    assert len(await past.windows()) == 1


async def test_controller_that_begins_again_reads_the_same_windows(past: Past) -> None:
    canary = past.instance()
    await past.scraped(0, canary)
    for second in range(1, 20):
        canary.serve(second)
        await past.scraped(second * 1_000, canary)
    before = await past.windows()
    again = telemetry(past.server, past.clock)
    after = await again.windows(past.service, canary=NEW, baseline=OLD, from_ms=past.start_ms, width_ms=WIDTH_MS)
    await again.close()
    assert after == before


@pytest.mark.parametrize(("width_ms", "off_ms"), [(1_999, 0), (1_000, 0), (2_000, 500)])
async def test_windows_that_scrapes_cannot_fill_are_refused(past: Past, width_ms: int, off_ms: int) -> None:
    from_ms = past.start_ms // width_ms * width_ms + off_ms
    with pytest.raises(Permanent, match=rf"windows of {width_ms} ms .*scrapes of 1000 ms"):
        await past.telemetry.windows(past.service, canary=NEW, baseline=OLD, from_ms=from_ms, width_ms=width_ms)


async def test_windows_of_long_ago_are_refused_and_not_empty(past: Past) -> None:
    with pytest.raises(Permanent, match="longer ago"):
        await past.telemetry.windows(past.service, canary=NEW, baseline=OLD, from_ms=0, width_ms=WIDTH_MS)


async def test_server_that_is_down_is_no_silence(tmp_path: Path) -> None:
    past = Past(await Server(tmp_path / "own").up())
    canary = past.instance()
    await past.scraped(0, canary)
    canary.serve(3)
    await past.scraped(1_000, canary)
    past.clock.at_ms = past.start_ms + 6_000
    before = await past.windows()
    await past.server.stop()
    assert await past.windows() == before  # handed out already
    past.clock.at_ms += WIDTH_MS
    with pytest.raises(Unavailable, match="did not answer"):
        await past.windows()
    await past.server.up()
    canary.serve(4)
    await past.scraped(5_000, canary)
    assert await past.requests() == [3, 0, 4]
    await past.telemetry.close()
    await past.server.down()


# --- names ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    '"} or up{job!="',
    "back\\slash\\",
    "a|b",
    ".*",
    "(",
    "line\nbreak",
    "tab\tand\rreturn",
    "\ufffd",
    "\x01",
    "Grüße 🦆 $1 {{x}}",
    "x" * 500,
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_names_select_themselves_and_nothing_else(past: Past, name: str) -> None:
    honest, hostile = past.instance(), Instance(name, Commit(name), name)
    await past.scraped(0, honest, hostile)
    honest.serve(1_000)
    hostile.serve(3, route=name[:200])
    await past.scraped(1_000, honest, hostile)
    assert (await past.windows(Service(name), Commit(name)))[0].canary.requests == 3
    assert (await past.windows(past.service, Commit(name)))[0].canary.requests == 0
    assert (await past.windows(past.service, NEW))[0].canary.requests == 1_000


async def test_name_that_no_label_can_have_is_refused(past: Past) -> None:
    with pytest.raises(Permanent, match="no text that a label can have"):
        await past.windows(Service("\ud800"))


async def test_matcher_that_is_no_regular_expression_is_refused_with_the_servers_words(past: Past) -> None:
    broken = telemetry(past.server, past.clock, only=("environment=~(",))
    with pytest.raises(Permanent, match=re.compile(r"400.*under \[prometheus\]", re.DOTALL)):
        await broken.windows(past.service, canary=NEW, baseline=OLD, from_ms=past.start_ms, width_ms=WIDTH_MS)
    await broken.close()


async def test_only_the_series_that_match_are_counted(past: Past) -> None:
    canary = past.instance()
    await past.scraped(0, canary)
    canary.serve(5, route="/pay")
    canary.serve(7, route="/look")
    await past.scraped(1_000, canary)
    narrow = telemetry(past.server, past.clock, only=("http_route=~/p.*", "http_route!=/x"))
    found = await narrow.windows(past.service, canary=NEW, baseline=OLD, from_ms=past.start_ms, width_ms=WIDTH_MS)
    await narrow.close()
    assert found[0].canary.requests == 5
