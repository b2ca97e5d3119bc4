"""A real Prometheus server that scrapes real processes' /metrics, and a judge that reads what it has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import prometheus_kit
from prometheus_kit import METRIC, NEW, OLD, SERVICE, Instance, Server, ShiftedClock, telemetry, until

from controller.canary.boundaries import choose_boundaries
from controller.canary.dispersion import estimate_phi
from controller.canary.judge import judge
from controller.domain.counts import WindowCounts
from controller.domain.verdict import BoundarySource, JudgeConfig, Outcome, Verdict

pytestmark = pytest.mark.skipif(prometheus_kit.BINARY is None, reason=prometheus_kit.WITHOUT)
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Exposed:
    """A process of the service as Prometheus sees it: an address that answers /metrics with its counters."""

    def __init__(self, instance: Instance) -> None:
        self.instance, self.scrapes, self.exemplar = instance, 0, ""
        exposed = self

        class Metrics(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exposed.told().encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """A scrape is no news."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def told(self) -> str:
        self.scrapes += 1
        lines = self.instance.exposition().splitlines()
        told = [f"{line} # {self.exemplar}" if self.exemplar and "_bucket" in line else line for line in lines]
        return "\n".join([f"# TYPE {METRIC} histogram", *told, "# EOF\n"])

    async def scraped_again(self) -> None:
        """Twice: the first of them may have begun before the latest change."""
        before = self.scrapes

        async def look() -> bool:
            return self.scrapes >= before + 2

        await until(look, f"{self.address} is scraped")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[tuple[Server, Exposed, Exposed]]:
    canary, confirmed = (Exposed(Instance(SERVICE, version, "")) for version in (NEW, OLD))
    server = await Server(tmp_path / "prometheus", scraped=(canary.address, confirmed.address)).up()
    yield server, canary, confirmed
    await server.down()
    canary.close()
    confirmed.close()


async def test_what_is_scraped_is_counted_through_a_restart(live: tuple[Server, Exposed, Exposed]) -> None:
    server, canary, confirmed = live
    start_ms = prometheus_kit.now_ms() // 2_000 * 2_000
    await asyncio.gather(canary.scraped_again(), confirmed.scraped_again())  # they have nothing to tell yet
    canary.exemplar = f'{{trace_id="{TRACE}"}} 0.004'
    canary.instance.serve(10, errors=4)
    confirmed.instance.serve(90)
    await asyncio.gather(canary.scraped_again(), confirmed.scraped_again())
    canary.instance.restart()
    canary.instance.serve(3, errors=1)
    await canary.scraped_again()
    found = telemetry(server, ShiftedClock(prometheus_kit.now_ms() + 4_000))  # as if the hold were over
    windows = await found.windows(SERVICE, canary=NEW, baseline=OLD, from_ms=start_ms, width_ms=2_000)
    first_ms = await found.first_failure_ms(SERVICE, NEW)
    exemplars = await found.exemplars(SERVICE, canary=NEW, baseline=OLD)
    await found.close()
    assert sum(window.canary.requests for window in windows) == 13
    assert sum(window.canary.errors for window in windows) == 5
    assert sum(window.canary.latency.total for window in windows) == 13
    assert sum(window.baseline.requests for window in windows) == 90
    assert first_ms is not None
    assert start_ms - 1_000 <= first_ms <= prometheus_kit.now_ms()
    assert exemplars.bad == (TRACE,)


# --- a judge's whole run ----------------------------------------------------------------------------------------------

WIDTH_MS, SCRAPE_S, WINDOWS = 10_000, 5, 60
LOST_S = 155  # a scrape of the canary, in the middle of the run


class Rollout:
    """Twenty minutes of the confirmed version, then ten minutes with a canary beside it, scraped every five seconds."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.start_ms = (prometheus_kit.now_ms() - 900_000) // WIDTH_MS * WIDTH_MS
        self.clock = ShiftedClock(self.start_ms + WINDOWS * WIDTH_MS + 60_000)

    async def written(self, canary_errors_of_ten: int, lost_s: frozenset[int] = frozenset()) -> None:
        confirmed = [Instance(SERVICE, OLD, f"old-{number}") for number in range(3)]
        canary = Instance(SERVICE, NEW, "new-1")
        series = []
        for second in range(-1_200, WINDOWS * WIDTH_MS // 1000 + 1, SCRAPE_S):
            for number, one in enumerate(confirmed):
                one.serve(30, errors=int(second % 100 == 0 and number == 0), latency_ms=20.0)
                series += one.scrape(self.start_ms + second * 1_000)
            if second >= -30:
                canary.serve(10 if second > 0 else 0, canary_errors_of_ten if second > 0 else 0, latency_ms=20.0)
                series += [] if second in lost_s else canary.scrape(self.start_ms + second * 1_000)
        assert await self._server.write(series) == 204

    async def judged(self) -> tuple[Verdict, list[WindowCounts]]:
        config, source = JudgeConfig(), telemetry(self._server, self.clock, scrape_seconds=SCRAPE_S)
        seen = await source.baseline(SERVICE, OLD, from_ms=self.start_ms - 1_200_000, to_ms=self.start_ms)
        windows = await source.windows(SERVICE, canary=NEW, baseline=OLD, from_ms=self.start_ms, width_ms=WIDTH_MS)
        await source.close()
        boundaries = choose_boundaries(seen.latency, config, BoundarySource.CONCURRENT_BASELINE)
        phi = estimate_phi(seen.instances, config)
        return judge(config, windows[:WINDOWS], phi, boundaries, weight_percent=10), windows[:WINDOWS]


@pytest.fixture
async def rollout(tmp_path: Path) -> AsyncIterator[Rollout]:
    server = await Server(tmp_path / "prometheus").up()
    yield Rollout(server)
    await server.down()


async def test_bad_canarys_counts_roll_it_back(rollout: Rollout) -> None:
    await rollout.written(canary_errors_of_ten=2)
    verdict, _ = await rollout.judged()
    assert verdict.outcome is Outcome.ROLL_BACK, verdict.sentence


async def test_good_canarys_counts_promote_it(rollout: Rollout) -> None:
    await rollout.written(canary_errors_of_ten=0)
    verdict, windows = await rollout.judged()
    assert verdict.outcome is Outcome.PROMOTE, verdict.sentence
    assert sum(window.canary.requests for window in windows) == 10 * WINDOWS * 2


@pytest.mark.parametrize(("errors", "outcome"), [(2, Outcome.ROLL_BACK), (0, Outcome.PROMOTE)])
async def test_lost_scrape_changes_no_verdict(rollout: Rollout, errors: int, outcome: Outcome) -> None:
    await rollout.written(errors, lost_s=frozenset({LOST_S}))
    verdict, windows = await rollout.judged()
    assert verdict.outcome is outcome, verdict.sentence
    assert sum(window.canary.requests for window in windows) == 10 * WINDOWS * 2
    assert all(window.canary.requests for window in windows)  # none of them looks like silence
