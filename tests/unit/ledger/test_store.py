"""What is SQLite's own: a full disk, a foreign file, a crash between commit and answer."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller.domain import events as e
from controller.domain.entry import Caller, Draft
from controller.domain.ids import Branch, DeliveryId, Digest, Repository, StreamId
from controller.domain.sealed import Sealed
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ledger import database, sql
from controller.ledger.sqlite import SqliteLog
from controller.ledger.verify import verify
from controller.ports import Clock, Receipt, Rejected

DIGEST = Digest("sha256:" + "0" * 64)
BY = Caller("service:controller", DIGEST)
REQUESTED = e.TaskRequested(
    delivery=DeliveryId("shop-1"),
    repository=Repository("shop"),
    branch=Branch("main"),
    task=Sealed(key_id="local:0", digest=DIGEST, size=4),
    asked_by="person:0123456789ab",
    source="cli",
    event_id="1",
    root=DeliveryId("shop-1"),
    depth=0,
)
Say = Callable[..., Coroutine[None, None, Receipt | Rejected]]


def size_of_wal(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


@contextmanager
def no_file_may_grow_beyond(size_bytes: int) -> Iterator[None]:
    """The kernel refuses longer writes of this process, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- trouble with the disk --------------------------------------------------------------------------------------------


async def test_a_full_database_acknowledges_nothing_and_works_again_with_space(
    log: SqliteLog, path: Path, say: Say
) -> None:
    await say(log)
    (pages,) = log._writer.db.execute("PRAGMA page_count").fetchone()
    log._writer.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Unavailable, match=r"database or disk is full. Free space"):
        await say(log, at=1, size=60_000)
    assert (await log.head()).size == 1
    log._writer.db.execute("PRAGMA max_page_count = 1000000")
    assert await say(log, at=1, size=60_000) == Receipt(1, 2)
    assert verify(path).whole


async def test_when_the_disk_refuses_a_write_the_whole_group_is_told_and_the_appender_lives_on(
    log: SqliteLog, path: Path, say: Say
) -> None:
    await say(log)
    with no_file_may_grow_beyond(size_of_wal(path) + 10_000):
        appends = [say(log, str(n), size=60_000) for n in range(10)]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
    assert {type(found) for found in outcomes} == {Unavailable}
    assert (await log.head()).size == 1
    assert await say(log, at=1) == Receipt(1, 2)
    assert verify(path).whole


async def test_a_state_that_was_never_committed_judges_nobody(
    log: SqliteLog, path: Path, clock: Clock, say: Say
) -> None:
    stream = StreamId("delivery/shop-1")
    other = SqliteLog(path, clock)
    await log.append([Draft(stream, REQUESTED)], expect={stream: 0}, by=BY)
    (pages,) = log._writer.db.execute("PRAGMA page_count").fetchone()
    log._writer.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    withdrawn = log.append([Draft(stream, e.Abandoned(reason="withdrawn"))], expect={stream: 1}, by=BY)
    assert log._line is not None
    with log._line._changed:  # both stand in line before the appender takes them as one group
        group = asyncio.gather(withdrawn, say(log, "big", size=60_000), return_exceptions=True)
        await asyncio.sleep(0)
    assert [type(found) for found in await group] == [Unavailable, Unavailable]
    waits = e.Waited(waits_for=e.WaitsFor.FREEZE, until=clock.now(), reason="frozen")
    await other.append([Draft(stream, waits)], expect={stream: 1}, by=BY)
    assert await log.append([Draft(stream, waits)], expect={stream: 2}, by=BY) == Receipt(2, 3)
    other.close()


async def test_a_file_that_may_not_be_written_is_named_with_the_way_out(log: SqliteLog, say: Say) -> None:
    log._writer.db.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable, match="Make the file and its folder writable"):
        await say(log)
    log._writer.db.execute("PRAGMA query_only = OFF")
    assert await say(log) == Receipt(0, 1)


async def test_a_lock_that_is_never_let_go_costs_seconds_and_no_truth(
    log: SqliteLog, path: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(database, "BUSY_S", 0.02)
    with pytest.raises(Unavailable, match="Another process has held the write lock"):
        await say(log)
    other.rollback()
    other.close()
    assert await say(log) == Receipt(0, 1)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(Unavailable, match="Create the folder"):
        SqliteLog(tmp_path / "nowhere" / "log.db", clock)


def test_a_file_that_is_no_log_is_left_alone(path: Path, clock: Clock) -> None:
    path.write_bytes(b"these are somebody's notes, not a database" * 100)
    with pytest.raises(Permanent, match="damaged or not a log"):
        SqliteLog(path, clock)
    assert path.read_bytes().startswith(b"these are somebody's notes")


def test_a_log_of_a_newer_version_is_left_alone(path: Path, clock: Clock) -> None:
    SqliteLog(path, clock).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {sql.SCHEMA_VERSION + 1}")
    with pytest.raises(Permanent, match="Run a newer Flyball"):
        SqliteLog(path, clock)


def test_a_log_in_memory_is_inline(clock: Clock) -> None:
    with pytest.raises(ConfigError, match="inline=True"):
        SqliteLog(":memory:", clock)


# --- accidents --------------------------------------------------------------------------------------------------------


async def test_entries_cannot_be_changed_or_removed_by_accident(log: SqliteLog, say: Say) -> None:
    await say(log)
    for accident in ("UPDATE entries SET leaf = x'00'", "DELETE FROM entries"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            log._writer.db.execute(accident)


async def test_a_guard_row_that_lags_behind_its_stream_harms_that_stream_only(log: SqliteLog, say: Say) -> None:
    await say(log, "a")
    log._writer.db.execute("DELETE FROM streams")
    outcomes = await asyncio.gather(say(log, "b"), say(log, "a"), say(log, "c"), return_exceptions=True)
    assert [type(found) for found in outcomes] == [Receipt, Permanent, Receipt]
    assert "flyball log verify" in str(outcomes[1])


async def test_who_has_given_up_while_in_line_appends_nothing(path: Path, clock: Clock, say: Say) -> None:
    log = SqliteLog(path, clock)
    assert log._line is not None
    with log._line._changed:  # the appender cannot take anything from the line yet
        patient, gone = asyncio.create_task(say(log, "patient")), asyncio.create_task(say(log, "gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
    assert await patient == Receipt(0, 1)
    assert (await log.head()).size == 1
    log.close()


async def test_what_stands_in_line_is_committed_before_the_log_closes(log: SqliteLog, path: Path, say: Say) -> None:
    appends = [asyncio.create_task(say(log, str(n))) for n in range(20)]
    await asyncio.sleep(0)  # every append has joined the line
    log.close()
    assert {type(found) for found in await asyncio.gather(*appends)} == {Receipt}
    assert verify(path).size == 20


@pytest.mark.parametrize("inline", [True, False])
async def test_a_closed_log_says_so(path: Path, clock: Clock, say: Say, *, inline: bool) -> None:
    log = SqliteLog(path, clock, inline=inline)
    log.close()
    log.close()
    with pytest.raises(Unavailable, match="is closed"):
        await say(log)
    with pytest.raises(Unavailable, match="is closed"):
        await log.head()


# --- crashes of a simulated process -----------------------------------------------------------------------------------


class CrashedError(Exception):
    pass


def crash(_: object) -> None:
    raise CrashedError


@pytest.mark.parametrize("inline", [True, False])
async def test_a_crash_before_the_append_leaves_nothing(path: Path, clock: Clock, say: Say, *, inline: bool) -> None:
    log = SqliteLog(path, clock, inline=inline, before_append=crash)
    with pytest.raises(CrashedError):
        await say(log)
    assert (await log.head()).size == 0
    log.close()


@pytest.mark.parametrize("inline", [True, False])
async def test_a_crash_after_the_append_leaves_an_entry_that_nobody_was_told_of(
    path: Path, clock: Clock, say: Say, *, inline: bool
) -> None:
    log = SqliteLog(path, clock, inline=inline, after_append=crash)
    with pytest.raises(CrashedError):
        await say(log)
    log.close()
    again = SqliteLog(path, clock, inline=inline)
    assert isinstance(await say(again), Rejected)
    assert await say(again, at=1) == Receipt(1, 2)
    again.close()


async def test_the_hooks_see_what_is_asked_and_what_came_of_it(path: Path, clock: Clock, say: Say) -> None:
    seen: list[tuple[Draft, ...] | Receipt | Rejected] = []
    log = SqliteLog(path, clock, inline=True, before_append=seen.append, after_append=seen.append)
    await say(log)
    asked, became = seen
    assert isinstance(asked, tuple)
    assert asked[0].stream == "session/a/1"
    assert became == Receipt(0, 1)
    log.close()
