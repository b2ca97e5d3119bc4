"""How far `increase()` is from what was served, beside differences of samples, on a real Prometheus server.

`PYTHONPATH=. python bench/prometheus_counts.py`: an hour of seeded traffic, scraped every 5 s and cut into windows of
10 s, is written into the server with chosen times. Each row asks for the same windows in three ways: `increase()`,
summed over series and rounded half up; the counters' values at the edges of windows, subtracted; and Flyball's
differences of all samples. "off" is the sum over all windows less what was served.
"""

from __future__ import annotations

import asyncio
import platform
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

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
    windows = await telemetry.windows(
        prometheus_kit.Service(service), canary=NEW, baseline=OLD, from_ms=start_ms, width_ms=WIDTH_MS
    )
    windows = windows[:WINDOWS]
    await telemetry.close()
    ways = [
        (await by_increase(server, metric, start_ms), await by_increase(server, failing, start_ms)),
        (await by_edges(server, metric, start_ms), await by_edges(server, failing, start_ms)),
        (sum(w.canary.requests for w in windows), sum(w.canary.errors for w in windows)),
    ]
    cells = [f"{requests - served.requests:+d} / {errors - served.errors:+d}" for requests, errors in ways]
    return [traffic.name, f"{served.requests} / {served.errors}", *cells]


async def main() -> None:
    start_ms = (prometheus_kit.now_ms() - 2 * 3_600_000) // WIDTH_MS * WIDTH_MS
    table = Table("traffic", "served / failed", "increase() off", "edges off", "samples off")
    with tempfile.TemporaryDirectory() as folder:
        server = await Server(Path(folder)).up()
        try:
            for number, traffic in enumerate(ROWS):
                table.add_row(*await row(server, number, traffic, start_ms))
        finally:
            await server.down()
    console = Console(width=120)
    console.print(f"{platform.machine()}, {datetime.now(UTC):%Y-%m-%d}, seed {SEED}, {WINDOWS} windows a row")
    console.print(table)


if __name__ == "__main__":
    asyncio.run(main())
