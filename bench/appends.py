"""Durable appends a second, beside what the disk itself can sync, measured in the same run.

`python bench/appends.py [folder]`: the folder's disk is the one measured (default: the current folder). Every append
waits until it is acknowledged, so a writer has one append under way; latencies are what a writer sees.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, MicroUsd, StreamId
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Receipt

SECONDS = 4.0  # per row
WRITERS = (1, 10, 50)
SYNCED_BYTES = 4096  # one WAL frame is a page and its header
NOBODY = Digest("sha256:" + "0" * 64)


@dataclass(frozen=True)
class Row:
    what: str
    latencies_ms: list[float]
    seconds: float

    def cells(self) -> list[str]:
        cut = statistics.quantiles(self.latencies_ms, n=100)
        rate = len(self.latencies_ms) / self.seconds
        return [self.what, f"{len(self.latencies_ms):,}", f"{rate:,.0f}", f"{cut[49]:.2f}", f"{cut[98]:.2f}"]


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def disk(folder: Path) -> Row:
    """Append 4 KiB and fsync, one after the other: no log that syncs once per append can be faster on this disk."""
    latencies, block = [], os.urandom(SYNCED_BYTES)
    with (folder / "plain").open("wb", buffering=0) as file:
        begun = time.perf_counter()
        while (at := time.perf_counter()) < begun + SECONDS:
            file.write(block)
            os.fsync(file.fileno())
            latencies.append((time.perf_counter() - at) * 1000)
    return Row("disk: write 4 KiB, fsync", latencies, time.perf_counter() - begun)


async def appends(folder: Path, writers: int) -> Row:
    path = folder / f"log-{writers}.db"
    log = SqliteLog(path, WallClock())
    latencies: list[float] = []
    begun = time.perf_counter()

    async def write(stream: StreamId) -> None:
        version, by = 0, Caller("service:bench", NOBODY)
        while (at := time.perf_counter()) < begun + SECONDS:
            event = e.ModelCallReserved(turn=version, micro_usd=MicroUsd(1), request_digest=NOBODY)
            outcome = await log.append([Draft(stream, event)], expect={stream: version}, by=by)
            assert isinstance(outcome, Receipt)
            version += 1
            latencies.append((time.perf_counter() - at) * 1000)

    await asyncio.gather(*[write(StreamId(f"session/bench-{number}/1")) for number in range(writers)])
    seconds = time.perf_counter() - begun
    log.close()
    report = verify(path)
    assert (report.whole, report.size) == (True, len(latencies)), report.findings
    return Row(f"log: {writers} writer{'s' if writers > 1 else ''}", latencies, seconds)


def show(rows: Sequence[Row]) -> None:
    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {platform.system()}"
    today = datetime.now(UTC).date()
    table = Table(
        title=f"Durable appends ({today}; {machine}; Python {platform.python_version()})", title_justify="left"
    )
    for name in ("what", "n", "per second", "p50 ms", "p99 ms"):
        table.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        table.add_row(*row.cells())
    Console(width=110).print(table)


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=parent))
    try:
        rows = [disk(folder), *[asyncio.run(appends(folder, writers)) for writers in WRITERS], disk(folder)]
        show(rows)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
