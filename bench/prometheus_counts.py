"""How far `increase()` is from what was served, beside differences of samples, on a real Prometheus server.

`PYTHONPATH=. python bench/prometheus_counts.py`: an hour of seeded traffic, scraped every 5 s and cut into windows of
10 s, is written into the server with chosen times. Each row asks for the same windows in three ways: `increase()`,
summed over series and rounded half up; the counters' values at the edges of windows, subtracted; and Flyball's
differences of all samples. "off" is the sum over all windows less what was served. Then what reading costs: a look at
one new window, and an hour of a baseline of 3 instances and 10 routes, each with failures and 14 bounds of latency.
"""

from __future__ import annotations

import asyncio
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise, product
from pathlib import Path

from rich.console import Console
from rich.table import Table

from controller.domain.ids import Service

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fixtures"))

import prometheus_kit
from prometheus_kit import METRIC, NEW, OLD, Instance, Server, ShiftedClock

SCRAPE_MS, WIDTH_MS, WINDOWS = 5_000, 10_000, 360
SEED = 7


@dataclass(frozen=True)
class Traffic:
    name: str
    per_s: float
    error_share: float
    offset_ms: int = 2_300  # of the scrapes from the windows' grid
    restart_s: tuple[int, ...] = ()
    lost: float = 0.0  # share of scrapes that fail


ROWS = (
    Traffic("20 rps, 1 % errors", 20, 0.01),
    Traffic("2 rps, 1 % errors", 2, 0.01),
    Traffic("0.2 rps, 5 % errors", 0.2, 0.05),
    Traffic("0.02 rps, 10 % errors", 0.02, 0.1),
    Traffic("2 rps, scraped on the edge", 2, 0.01, offset_ms=0),
    Traffic("2 rps, 5 restarts", 2, 0.01, restart_s=(600, 1200, 1800, 2400, 3000)),
    Traffic("2 rps, 3 % of scrapes lost", 2, 0.01, lost=0.03),
)


@dataclass
class Served:
    requests: int = 0
    errors: int = 0


async def written(server: Server, traffic: Traffic, service: str, start_ms: int) -> Served:
    """The hour, scrape by scrape; what fell between the last scrape and a restart is lost to everybody."""
    chance, served = random.Random(SEED), Served()  # noqa: S311 - traffic, no secret
    instance = Instance(service, NEW, f"{service}:8080")
    series = instance.scrape(start_ms - SCRAPE_MS + traffic.offset_ms)
    last = WINDOWS * WIDTH_MS // SCRAPE_MS
    for number in range(last):
        requests = sum(chance.random() < traffic.per_s / 1000 for _ in range(SCRAPE_MS))
        errors = sum(chance.random() < traffic.error_share for _ in range(requests))
        instance.serve(requests, errors)
        served = Served(served.requests + requests, served.errors + errors)
        missed = chance.random() < traffic.lost and number < last - 1
        if not missed:
            series += instance.scrape(start_ms + number * SCRAPE_MS + (traffic.offset_ms or SCRAPE_MS))
        if not missed and number * SCRAPE_MS // 1000 in traffic.restart_s:
            instance.restart()
    assert await server.write(series) == 204
    return served


async def by_increase(server: Server, selector: str, start_ms: int) -> int:
    ends = range(start_ms + WIDTH_MS, start_ms + WINDOWS * WIDTH_MS + 1, WIDTH_MS)
    values = await server.values(f"sum(increase({selector}[{WIDTH_MS}ms]))", ends)
    return sum(int(value + 0.5) for value in values)


async def by_edges(server: Server, selector: str, start_ms: int) -> int:
    edges = range(start_ms, start_ms + WINDOWS * WIDTH_MS + 1, WIDTH_MS)
    values = await server.values(f"sum({selector})", edges)
    return int(sum(b - a if b >= a else b for a, b in pairwise(values)))


async def row(server: Server, number: int, traffic: Traffic, start_ms: int) -> Sequence[str]:
    service = f"shop-{number}"
    served = await written(server, traffic, service, start_ms)
    metric = f'{METRIC}_count{{job="{service}"}}'
    failing = f'{METRIC}_count{{job="{service}",error_type!=""}}'
    telemetry = prometheus_kit.telemetry(
        server, ShiftedClock(start_ms + WINDOWS * WIDTH_MS + 60_000), scrape_seconds=SCRAPE_MS // 1000
    )
    windows = await telemetry.windows(Service(service), canary=NEW, baseline=OLD, from_ms=start_ms, width_ms=WIDTH_MS)
    windows = windows[:WINDOWS]
    await telemetry.close()
    ways = [
        (await by_increase(server, metric, start_ms), await by_increase(server, failing, start_ms)),
        (await by_edges(server, metric, start_ms), await by_edges(server, failing, start_ms)),
        (sum(w.canary.requests for w in windows), sum(w.canary.errors for w in windows)),
    ]
    cells = [f"{requests - served.requests:+d} / {errors - served.errors:+d}" for requests, errors in ways]
    return [traffic.name, f"{served.requests} / {served.errors}", *cells]


async def cost(server: Server, start_ms: int) -> list[str]:
    """Wall time and this process's CPU time."""
    instances = [Instance("wide", OLD, f"wide-{number}") for number in range(3)]
    hour = range(start_ms, start_ms + WINDOWS * WIDTH_MS + 1, SCRAPE_MS)
    for at_ms in hour:
        for one, route in product(instances, range(10)):
            one.serve(4, errors=1, latency_ms=30.0, route=f"/route/{route}")
        assert await server.write([series for one in instances for series in one.scrape(at_ms)]) == 204
    service, end_ms = Service("wide"), start_ms + WINDOWS * WIDTH_MS
    telemetry = prometheus_kit.telemetry(server, ShiftedClock(end_ms + 2 * SCRAPE_MS), scrape_seconds=SCRAPE_MS // 1000)
    said = []
    for what, read in (
        ("a look", telemetry.windows(service, canary=NEW, baseline=OLD, from_ms=end_ms - WIDTH_MS, width_ms=WIDTH_MS)),
        ("an hour of baseline", telemetry.baseline(service, OLD, from_ms=start_ms, to_ms=end_ms)),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        await read
        said.append(f"{what}: {time.perf_counter() - wall:.2f} s, {time.process_time() - cpu:.2f} s of CPU")
    await telemetry.close()
    samples = sum(len(one.scrape(0)) - 1 for one in instances) * len(hour)
    return [f"{samples:,} samples an hour", *said]


async def main() -> None:
    start_ms = (prometheus_kit.now_ms() - 2 * 3_600_000) // WIDTH_MS * WIDTH_MS
    table = Table("traffic", "served / failed", "increase() off", "edges off", "samples off")
    with tempfile.TemporaryDirectory() as folder:
        server = await Server(Path(folder)).up()
        try:
            for number, traffic in enumerate(ROWS):
                table.add_row(*await row(server, number, traffic, start_ms))
            costs = await cost(server, start_ms)
        finally:
            await server.down()
    console = Console(width=120)
    console.print(f"{platform.machine()}, {datetime.now(UTC):%Y-%m-%d}, seed {SEED}, {WINDOWS} windows a row")
    console.print(table)
    for line in costs:
        console.print(line)


if __name__ == "__main__":
    asyncio.run(main())
