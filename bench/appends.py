"""Durable appends a second on both stores, beside what the disk itself can sync, measured in the same run.

`python bench/appends.py [folder] [dsn]`: the folder's disk is the one measured (default: the current folder). Postgres
is a private server with its data in the same folder, as PostgreSQL ships it, or the empty database of `dsn`. Every
append waits until it is acknowledged, so a writer has one append under way; latencies are what a writer sees. Each log
is verified afterwards.
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
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from rich.console import Console
from rich.table import Table

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, MicroUsd, StreamId
from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_verify import verify_postgres
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Log, Receipt

sys.path.append(str(Path(__file__).parents[1] / "tests" / "fixtures"))

import postgres_kit

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


async def on_file(folder: Path, writers: int) -> Row:
    path = folder / f"log-{writers}.db"
    log = SqliteLog(path, WallClock())
    row = await appends("file", log, writers)
    log.close()
    report = verify(path)
    assert (report.whole, report.size) == (True, len(row.latencies_ms)), report.findings
    return row


async def on_postgres(dsn: str, writers: int) -> Row:
    log = PostgresLog(dsn, WallClock())
    begun = (await log.head()).size
    row = await appends("Postgres", log, writers)
    log.close()
    report = verify_postgres(dsn)
    assert (report.whole, report.size) == (True, begun + len(row.latencies_ms)), report.findings
    return row


async def postgres_sync(dsn: str) -> Row:
    """Commit one row after the other over one connection: what the server and its disk need for the least commit."""
    latencies: list[float] = []
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("CREATE TABLE least (a bytea)")
        begun = time.perf_counter()
        while (at := time.perf_counter()) < begun + SECONDS:
            db.execute("INSERT INTO least VALUES (%s)", [b"x" * 300])
            latencies.append((time.perf_counter() - at) * 1000)
        seconds = time.perf_counter() - begun
        db.execute("DROP TABLE least")
    return Row("Postgres: insert and commit a row", latencies, seconds)


async def appends(store: str, log: Log, writers: int) -> Row:
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

    await asyncio.gather(*[write(StreamId(f"session/bench-{writers}-{number}/1")) for number in range(writers)])
    return Row(f"{store}: {writers} writer{'s' if writers > 1 else ''}", latencies, time.perf_counter() - begun)


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
    folder.chmod(0o755)  # a server of another user finds its data below
    try:
        rows = [disk(folder), *[asyncio.run(on_file(folder, writers)) for writers in WRITERS], disk(folder)]
        if len(sys.argv) > 2:
            rows += measured_on(sys.argv[2])
        elif postgres_kit.program("initdb") is None:
            print(postgres_kit.MISSING)
        else:
            server = postgres_kit.new_server(folder=folder / "pg")
            rows += [*measured_on(server.database()), disk(folder)]
            server.remove()
        show(rows)
    finally:
        shutil.rmtree(folder)


def measured_on(dsn: str) -> list[Row]:
    work: list[Coroutine[None, None, Row]] = [postgres_sync(dsn), *[on_postgres(dsn, writers) for writers in WRITERS]]
    return [asyncio.run(row) for row in work]


if __name__ == "__main__":
    main()
