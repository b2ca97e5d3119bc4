"""An idle log says that it lives; a machine says whose time it bears."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

from facts_kit import BY, HandClock
from witness_kit import grow

from controller.domain.entry import Entry
from controller.domain.events.ledger import ClockSource, Heartbeat
from controller.ledger.sqlite import SqliteLog
from controller.service.heartbeat import (
    HEARTBEAT,
    LOOKS,
    Pulse,
    beat,
    beat_once,
    clock_source,
    from_chrony,
    from_systemd,
)

EVERY = 300


class Enough(Exception):  # noqa: N818 - ends a loop that has no end
    pass


class SleepingClock(HandClock):
    """Sleeping passes the time, and after so many seconds it is enough."""

    left: float = 2_000

    async def sleep(self, seconds: float) -> None:
        self.pass_(seconds)
        self.left -= seconds
        if self.left <= 0:
            raise Enough


@pytest.fixture
def clock() -> SleepingClock:
    return SleepingClock()


@pytest.fixture
def log(tmp_path: Path, clock: SleepingClock) -> Iterator[SqliteLog]:
    found = SqliteLog(tmp_path / "log.db", clock, inline=True)
    yield found
    found.close()


async def beats(log: SqliteLog) -> list[Entry]:
    return await log.read(HEARTBEAT)


async def test_an_idle_log_is_never_silent_for_long(log: SqliteLog, clock: SleepingClock) -> None:
    with pytest.raises(Enough):
        await beat(log, clock, BY, EVERY)
    found = await beats(log)
    times = [entry.time for entry in found]
    gaps = [(later - one).total_seconds() for one, later in pairwise(times)]
    assert len(found) == 6
    assert max(gaps) <= EVERY + EVERY / LOOKS
    assert found[0].event == Heartbeat(size=0, silent_seconds=EVERY)


async def test_a_log_in_which_something_happens_needs_no_heartbeat(
    log: SqliteLog, clock: SleepingClock, tmp_path: Path
) -> None:
    pulse = Pulse()
    for _ in range(10):
        assert await beat_once(log, clock, BY, pulse, EVERY) < EVERY
        clock.pass_(EVERY - 1)
        await asyncio.to_thread(grow, tmp_path / "log.db", 1, clock)
    assert await beats(log) == []


async def test_of_two_controllers_one_heartbeat_is_enough(log: SqliteLog, clock: SleepingClock) -> None:
    one, other = Pulse(), Pulse()
    for pulse in (one, other):
        await beat_once(log, clock, BY, pulse, EVERY)
    clock.pass_(EVERY)
    for pulse in (one, other):
        assert await beat_once(log, clock, BY, pulse, EVERY) == 0
    assert len(await beats(log)) == 1


# --- whose time -------------------------------------------------------------------------------------------------------


def test_chrony_says_its_reference_and_whether_it_holds() -> None:
    line = "C0A80001,ntp.example,3,1795338000.1,0.0000,0.0,0.0,-1.2,0.0,0.1,0.01,0.001,64.2,{}\n"
    assert from_chrony(line.format("Normal")) == ClockSource(source="chrony: ntp.example", synchronised=True)
    assert from_chrony(line.format("Not synchronised")) == ClockSource(source="chrony: ntp.example", synchronised=False)
    assert from_chrony("506 Cannot talk to daemon\n") is None


def test_systemd_says_whether_the_clock_is_synchronised() -> None:
    assert from_systemd("NTPSynchronized=yes\nNTP=yes\n") == ClockSource(source="systemd-timesyncd", synchronised=True)
    assert from_systemd("NTPSynchronized=no\nNTP=no\n") == ClockSource(source="the kernel's clock", synchronised=False)
    assert from_systemd("") == ClockSource(source="unknown", synchronised=None)


async def test_a_machine_without_either_is_unknown_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert await clock_source() == ClockSource(source="unknown", synchronised=None)


async def test_this_machine_answers_something() -> None:
    assert (await clock_source()).source
