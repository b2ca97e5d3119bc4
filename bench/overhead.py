"""What the controller itself costs: the whole loop against a simulated world whose answers are instant.

`python bench/overhead.py [folder [deliveries]]`: the folder's disk is the one measured (default: the current folder);
`deliveries` (default 1,000, which takes minutes to set up) wait in line for the last two rows.
The log is a file, every commit waits for the disk (synchronous=FULL); only the world is simulated, so what remains is
the loop, LangGraph, the gate, Cedar and the log.
"""

from __future__ import annotations

import asyncio
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from controller.adapters.grants import RbacGrants
from controller.adapters.grants_paths import paths_by
from controller.adapters.policy_table import PolicyTable, TableParameters
from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Digest, MicroUsd, StreamId
from controller.intake import Intake
from controller.ledger.blobs import FileBlobs
from controller.ledger.database import Sync
from controller.ledger.lease import SqliteLease
from controller.ledger.seals import LocalSeals
from controller.ledger.sqlite import SqliteLog
from controller.loop import Loop
from controller.service.sweep import Pace, Sweep
from controller.sim.assembly import Shared, wire
from controller.sim.process import Process
from controller.sim.world import MAIN, PRODUCTION, SHOP, SimWorld
from rbac.decide import Authority
from rbac.model import Served

DELIVERIES = 30
IN_FLIGHT = 1_000
LOOKS = 3
APPENDS_S = 3.0
TURNS = 20_000
NOBODY = Digest("sha256:" + "0" * 64)


class Everyone:
    digest = NOBODY

    def may_person(self, person: str, act: str, repository: str | None) -> bool:
        del person, act, repository
        return True


@dataclass
class Bench:
    world: SimWorld
    log: SqliteLog
    sweep: Sweep
    intake: Intake

    async def ask(self, number: int) -> None:
        title = f"Task number {number}."
        self.world.plays(title, {f"file{number}.py": "1\n", f"tests/test_file{number}.py": "1\n"})
        await self.intake.ask("ann", title, repository=SHOP, branch=MAIN, source="cli", event_id=title)

    async def turn(self) -> None:
        """Everything that is due now, and then the clock goes to whatever is due next."""
        await self.sweep.tick()
        await self.sweep.settle()
        now = self.world.clock.now()
        size = (await self.log.head()).size
        if self.sweep.position < size:
            self.world.clock.advance(0.001)
            return
        soonest = min((*self.sweep.due.values(), self.sweep.next_sweep or now), default=now)
        self.world.clock.advance_to(max(soonest, now + timedelta(milliseconds=1)))


def open_bench(folder: Path, name: str, sync: Sync, *, with_service: bool = True) -> Bench:
    world = SimWorld(1, with_service=with_service)
    path = folder / f"{name}.db"
    log = SqliteLog(path, world.clock, sync=sync)
    blobs = FileBlobs(folder / name, durable=sync is Sync.FULL)
    seals = LocalSeals(folder / "keys", blobs)
    authority = Authority([Served(repository=SHOP, branch=MAIN, environments=(PRODUCTION,))])
    policy = PolicyTable(TableParameters(owner="olga", protected=()))
    lease = SqliteLease(path, world.clock)
    shared = Shared(log, lease, blobs, seals, policy, RbacGrants(authority), authority, paths_by(authority))
    wired = wire(world, shared, Process("bench", world.clock))
    sweep = Sweep(wired.ports, Loop(wired.ports), wired.lease, wired.runner.run, Pace())
    return Bench(world, log, sweep, Intake(log=log, seals=seals, standing=Everyone()))


async def events_per_second(folder: Path) -> list[tuple[str, str, str]]:
    """All deliveries at once, through CI, queue and rollout, until every one is confirmed."""
    bench = open_bench(folder, "loop", Sync.FULL)
    for number in range(DELIVERIES):
        await bench.ask(number)
    begun, used = time.perf_counter(), time.process_time()
    for _ in range(TURNS):
        await bench.turn()
        if not await bench.log.live("delivery/"):
            break
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    size = (await bench.log.head()).size
    assert not await bench.log.live("delivery/"), "deliveries are left over"
    bench.log.close()
    return [
        (
            "whole loop, file log, synchronous=FULL",
            f"{size:,} entries of {DELIVERIES} deliveries",
            f"{size / seconds:,.0f} entries/s",
        ),
        ("  CPU of it", f"{cpu:.1f} s", f"{1000 * cpu / size:.2f} ms/entry"),
        ("  wall time of a delivery (all at once, the world instant)", "", f"{seconds / DELIVERIES:.2f} s"),
    ]


async def appends_per_second(folder: Path) -> tuple[str, str, str]:
    """One writer, one entry an append: what the same disk would allow if the controller cost nothing."""
    log = SqliteLog(folder / "appends.db", SimWorld(1).clock, sync=Sync.FULL)
    stream, version, begun = StreamId("session/bench/1"), 0, time.perf_counter()
    while time.perf_counter() < begun + APPENDS_S:
        event = e.ModelCallReserved(turn=version, micro_usd=MicroUsd(1), request_digest=NOBODY)
        await log.append([Draft(stream, event)], expect={stream: version}, by=Caller("service:bench", NOBODY))
        version += 1
    seconds = time.perf_counter() - begun
    log.close()
    return (
        "limit: durable appends, same disk, one writer",
        f"{version:,} appends",
        f"{version / seconds:,.0f} entries/s",
    )


async def idle_and_memory(folder: Path, in_flight: int) -> list[tuple[str, str, str]]:
    """Deliveries that wait in line while landing is stopped: what each costs per look, and what all of them hold."""
    bench = open_bench(folder, "idle", Sync.OFF, with_service=False)
    await bench.intake.stop("olga", "agent:merger", "bench", event_id="stop")
    before = _resident_mib()
    for number in range(in_flight):
        await bench.ask(number)
    while await _busy(bench, in_flight):
        await bench.turn()
    held = _resident_mib() - before
    used = time.process_time()
    over = bench.world.clock.now() + timedelta(seconds=LOOKS * bench.sweep.pace.patient)
    while bench.world.clock.now() < over:
        await bench.turn()
    cpu = time.process_time() - used
    bench.log.close()
    return [
        (
            "CPU per idle delivery per look (every 15 s)",
            f"{in_flight:,} deliveries, {LOOKS} looks each",
            f"{1e6 * cpu / in_flight / LOOKS:,.0f} µs",
        ),
        (
            f"memory with {in_flight:,} deliveries in flight",
            "resident, the simulated world included",
            f"{held:,.0f} MiB",
        ),
    ]


async def _busy(bench: Bench, in_flight: int) -> bool:
    rows = await bench.log.live("delivery/")
    waiting = sum(row.waits_on is not None and row.waits_on.startswith("queue/") for row in rows)
    return waiting < in_flight


def _resident_mib() -> float:
    """The most this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1024 if sys.platform != "darwin" else 1024**2)


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    in_flight = int(sys.argv[2]) if len(sys.argv) > 2 else IN_FLIGHT
    folder = Path(tempfile.mkdtemp(prefix=".bench-", dir=parent))
    try:
        waiting = asyncio.run(idle_and_memory(folder, in_flight))  # first: a peak of another row would hide its own
        rows = [*asyncio.run(events_per_second(folder)), asyncio.run(appends_per_second(folder)), *waiting]
        machine = f"{platform.machine()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, {platform.system()}"
        python = f"Python {platform.python_version()}; python bench/overhead.py"
        title = f"Controller overhead ({datetime.now(UTC).date()}; {machine}; {python})"
        table = Table(title=title, title_justify="left")
        for name in ("what", "n", "result"):
            table.add_column(name)
        for row in rows:
            table.add_row(*row)
        Console(width=130).print(table)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
