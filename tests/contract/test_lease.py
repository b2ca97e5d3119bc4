"""What every lease keeps. A second backend joins by adding its way to be opened to `BACKENDS`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from controller.domain.ids import StreamId
from controller.ledger.lease import SqliteLease
from controller.ledger.postgres_lease import PostgresLease
from controller.ports import Lease

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit

STREAM = StreamId("delivery/shop-1")
OTHER = StreamId("delivery/shop-2")


@dataclass
class HandClock:
    time: datetime = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class OpenLease(Lease, Protocol):
    def close(self) -> None: ...


Opener = Callable[[HandClock], OpenLease]  # each call opens the same leases once more


def on_postgres(_: Path) -> Opener:
    dsn = postgres_kit.server().database()
    return lambda clock: PostgresLease(dsn, clock)


SHARED: dict[str, Callable[[Path], Opener]] = {
    "file": lambda folder: lambda clock: SqliteLease(folder / "log.db", clock),
    "file-inline": lambda folder: lambda clock: SqliteLease(folder / "log.db", clock, inline=True),
    "postgres": on_postgres,
}
BACKENDS: dict[str, Callable[[Path], Opener]] = {
    **SHARED,
    "memory": lambda _: lambda clock: SqliteLease(":memory:", clock),
}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=list(BACKENDS))
def lease(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Iterator[OpenLease]:
    found = BACKENDS[request.param](tmp_path)(clock)
    yield found
    found.close()


async def test_a_held_stream_is_nobody_elses(lease: OpenLease, clock: HandClock) -> None:
    held = await lease.acquire(STREAM, "one", 30)
    assert held is not None
    assert (held.stream, held.owner, held.until) == (STREAM, "one", clock.now() + timedelta(seconds=30))
    assert await lease.acquire(STREAM, "two", 30) is None
    assert await lease.acquire(OTHER, "two", 30) is not None


async def test_an_expired_lease_can_be_taken_and_its_old_holder_has_lost_it(lease: OpenLease, clock: HandClock) -> None:
    old = await lease.acquire(STREAM, "one", 30)
    await clock.sleep(30)
    new = await lease.acquire(STREAM, "two", 30)
    assert old is not None
    assert new is not None
    assert new.fence > old.fence
    assert await lease.renew(old, 30) is None
    await lease.release(old)
    assert await lease.acquire(STREAM, "one", 30) is None


async def test_a_renewed_lease_lives_on_under_the_same_fence(lease: OpenLease, clock: HandClock) -> None:
    held = await lease.acquire(STREAM, "one", 30)
    assert held is not None
    await clock.sleep(20)
    renewed = await lease.renew(held, 30)
    assert renewed is not None
    assert (renewed.fence, renewed.until) == (held.fence, clock.now() + timedelta(seconds=30))
    await clock.sleep(20)
    assert await lease.acquire(STREAM, "two", 30) is None


async def test_a_lease_that_ran_out_cannot_be_renewed_though_nobody_took_it(lease: OpenLease, clock: HandClock) -> None:
    held = await lease.acquire(STREAM, "one", 30)
    assert held is not None
    await clock.sleep(31)
    assert await lease.renew(held, 30) is None


async def test_the_fence_only_grows_even_after_a_release(lease: OpenLease) -> None:
    fences = []
    for turn in range(6):
        held = await lease.acquire(STREAM if turn % 2 else OTHER, f"worker-{turn}", 30)
        assert held is not None
        fences.append(held.fence)
        await lease.release(held)
    assert fences == sorted(set(fences))


async def test_a_restarted_owner_gets_its_stream_again_and_its_older_self_has_lost_it(lease: OpenLease) -> None:
    before = await lease.acquire(STREAM, "one", 30)
    after = await lease.acquire(STREAM, "one", 30)
    assert before is not None
    assert after is not None
    assert after.fence > before.fence
    assert await lease.renew(before, 30) is None
    assert await lease.renew(after, 30) is not None


@pytest.mark.parametrize("backend", list(SHARED))
async def test_of_many_workers_at_one_store_exactly_one_holds_the_stream(
    backend: str, tmp_path: Path, clock: HandClock
) -> None:
    opened = SHARED[backend](tmp_path)
    leases = [opened(clock), opened(clock)]
    found = await asyncio.gather(*[leases[n % 2].acquire(STREAM, f"worker-{n}", 30) for n in range(20)])
    assert sum(held is not None for held in found) == 1
    for lease in leases:
        lease.close()
