"""What is Postgres's own: who may do what, how a schema came about, and what `verify` finds."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit
from postgres_kit import BY, HandClock, say, stream

from controller.domain import events as e
from controller.domain.entry import Draft
from controller.domain.ids import CONTROL, MicroUsd
from controller.errors import ConfigError, Permanent
from controller.ledger import postgres_guards, postgres_sql, rebuild
from controller.ledger.merkle import Frontier, leaf_hash
from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_lease import PostgresLease
from controller.ledger.postgres_schema import migrate
from controller.ledger.postgres_tree import TileGrowth, snapshot
from controller.ledger.postgres_verify import verify_postgres
from controller.ledger.tiles import root_at, tile
from controller.ports import Receipt


@pytest.fixture
def dsn() -> str:
    return postgres_kit.server().database()


@pytest.fixture
def log(dsn: str) -> Iterator[PostgresLog]:
    found = PostgresLog(dsn, HandClock())
    yield found
    found.close()


def run(dsn: str, statement: str) -> None:
    postgres_kit.server().run(statement, dsn)


# --- who may do what --------------------------------------------------------------------------------------------------


@pytest.fixture
def appender(dsn: str) -> Iterator[str]:
    """A DSN of a role that may append and owns nothing."""
    role = f"appender_{dsn.partition('dbname=')[2].split()[0]}"
    run(dsn, f"CREATE ROLE {role} LOGIN")
    migrate(dsn, grant=role)
    yield f"{dsn} user={role}"
    run(dsn, f"DROP OWNED BY {role}; DROP ROLE {role}")


FORBIDDEN = (
    "UPDATE flyball.entries SET leaf = ''",
    "DELETE FROM flyball.entries",
    "TRUNCATE flyball.entries",
    "UPDATE flyball.tiles SET hashes = hashes",
    "DELETE FROM flyball.tiles",
    "DELETE FROM flyball.head",
    "INSERT INTO flyball.migrations VALUES (99, 'mine')",
    "ALTER TABLE flyball.entries DISABLE TRIGGER ALL",
    "DROP TRIGGER entries_are_never_changed ON flyball.entries",
    "DROP TABLE flyball.entries CASCADE",
    "DROP SCHEMA flyball CASCADE",
    "ALTER TABLE flyball.entries OWNER TO CURRENT_USER",
    "CREATE TABLE flyball.mine (a int)",
    "SET session_replication_role = replica",
)


@pytest.mark.parametrize("statement", FORBIDDEN)
async def test_the_role_that_appends_cannot_change_history(appender: str, statement: str) -> None:
    log = PostgresLog(appender, HandClock())
    assert await say(log, times=300) == Receipt(0, 300)
    log.close()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(appender, statement)
    assert verify_postgres(appender).findings == ()


async def test_the_role_that_appends_can_do_all_that_a_controller_does(appender: str) -> None:
    log, lease = PostgresLog(appender, HandClock()), PostgresLease(appender, HandClock())
    await say(log, times=2)
    stopped = e.Stopped(scope="all", by="person:0123456789ab", reason="smoke", event_id="1")
    assert await log.append([Draft(CONTROL, stopped)], expect={CONTROL: 0}, by=BY) == Receipt(2, 3)
    held = await lease.acquire(stream("a"), "one", 30)
    assert held is not None
    assert await lease.renew(held, 30) is not None
    await lease.release(held)
    log.close()
    lease.close()


async def test_the_head_goes_neither_back_nor_aside_for_the_role_that_appends(appender: str) -> None:
    log = PostgresLog(appender, HandClock())
    await say(log, times=3)
    log.close()
    for rewrite in ("UPDATE flyball.head SET size = 2", "UPDATE flyball.head SET frontier = ''"):
        with pytest.raises(psycopg.errors.RestrictViolation, match="the log only grows"):
            run(appender, rewrite)


@pytest.mark.parametrize(
    "accident", ["UPDATE flyball.entries SET leaf = ''", "DELETE FROM flyball.entries", "TRUNCATE flyball.entries"]
)
async def test_even_the_owner_changes_no_entry_by_accident(log: PostgresLog, dsn: str, accident: str) -> None:
    await say(log)
    with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
        run(dsn, accident)


# --- schema -----------------------------------------------------------------------------------------------------------


async def version_1(dsn: str, entries: int) -> None:
    """A log as the first version wrote it: without tiles."""
    newer = postgres_kit.server().database()
    log = PostgresLog(newer, HandClock())
    for at in range(0, entries, 100):
        await say(log, at=at, times=min(100, entries - at))
    found = [entry async for entry in log.scan()]
    log.close()
    migrate(dsn, to=1)
    with psycopg.connect(f"{dsn} options='-c search_path=flyball'") as db:
        rows = [(entry.index, entry.stream, entry.version, entry.kind, entry.leaf) for entry in found]
        db.execute(postgres_sql.ADD_ENTRIES, [list(column) for column in zip(*rows, strict=True)])
        postgres_guards.write(db, rebuild.rebuilt(found))
        frontier = Frontier()
        for entry in found:
            frontier = frontier.plus(entry.leaf)
        db.execute(postgres_sql.MOVE_HEAD, [frontier.size, frontier.to_bytes(), found[-1].time])


async def test_a_log_of_the_first_version_gets_its_tiles_and_goes_on(dsn: str) -> None:
    await version_1(dsn, 600)
    log = PostgresLog(dsn, HandClock())
    with snapshot(dsn) as tree:
        assert [tree.full_tile(0, number) is not None for number in range(3)] == [True, True, False]
    assert await say(log, at=600, times=200) == Receipt(600, 800)
    log.close()
    report = verify_postgres(dsn)
    assert (report.size, report.findings) == (800, ())


async def test_of_many_controllers_that_start_at_once_one_migrates(dsn: str) -> None:
    await version_1(dsn, 300)
    with ThreadPoolExecutor(8) as threads:
        logs = list(threads.map(lambda _: PostgresLog(dsn, HandClock()), range(8)))
    outcomes = await asyncio.gather(*[say(log, f"new{number}") for number, log in enumerate(logs)])
    assert all(isinstance(outcome, Receipt) for outcome in outcomes)
    for log in logs:
        log.close()
    with psycopg.connect(dsn) as db:
        assert db.execute("SELECT number FROM flyball.migrations ORDER BY number").fetchall() == [(1,), (2,)]
    assert verify_postgres(dsn).findings == ()


async def test_the_role_that_appends_asks_for_its_owner_where_the_schema_is_old(dsn: str, appender: str) -> None:
    run(dsn, "DELETE FROM flyball.migrations WHERE number = 2")
    with pytest.raises(ConfigError, match="Let the owner run `flyball log migrate"):
        PostgresLog(appender, HandClock())


async def test_a_log_of_a_newer_version_is_left_alone(log: PostgresLog, dsn: str) -> None:
    run(dsn, "INSERT INTO flyball.migrations VALUES (99, 'from the future')")
    with pytest.raises(Permanent, match="Run a newer Flyball"):
        PostgresLog(dsn, HandClock())


async def test_a_server_that_does_not_wait_for_its_disk_is_refused() -> None:
    careless = postgres_kit.new_server("fsync=off")
    with pytest.raises(ConfigError, match="fsync off and full_page_writes on"):
        PostgresLog(careless.dsn(), HandClock())
    careless.remove()


async def test_a_database_that_cannot_hold_every_text_is_refused() -> None:
    dsn = postgres_kit.server().database(options="ENCODING 'SQL_ASCII' TEMPLATE template0")
    with pytest.raises(ConfigError, match="encoded in SQL_ASCII"):
        PostgresLog(dsn, HandClock())


async def test_a_commit_waits_for_the_disk_whatever_the_servers_default_is(dsn: str) -> None:
    run(dsn, "ALTER ROLE postgres SET synchronous_commit = off")
    log = PostgresLog(dsn, HandClock())
    assert log._writer._db.execute("SHOW synchronous_commit").fetchone() == ("on",)
    log.close()
    run(dsn, "ALTER ROLE postgres RESET synchronous_commit")


@pytest.mark.parametrize("wrong", ["dbname=nowhere", "user=nobody_here", "port=1"])
async def test_what_cannot_be_reached_is_named_with_a_way_out_and_no_password(dsn: str, wrong: str) -> None:
    with pytest.raises(Exception, match=r"log at \w+ on /tmp") as caught:  # noqa: PT011 - either class
        PostgresLog(f"{dsn} {wrong} password=hunter2", HandClock())
    assert getattr(caught.value, "way_out", "")
    assert "hunter2" not in str(caught.value)


# --- one draft's fault ------------------------------------------------------------------------------------------------


async def test_a_guard_row_that_lags_behind_its_stream_harms_that_stream_only(log: PostgresLog, dsn: str) -> None:
    await say(log, "a")
    run(dsn, "DELETE FROM flyball.streams")
    outcomes = await asyncio.gather(say(log, "b"), say(log, "a"), say(log, "c"), return_exceptions=True)
    assert [type(found) for found in outcomes] == [Receipt, Permanent, Receipt]


async def test_text_that_postgres_cannot_hold_harms_its_own_append_only(log: PostgresLog, dsn: str) -> None:
    outcomes = await asyncio.gather(
        say(log, "b"),
        say(log, "nul\0"),
        say(log, "half of a pair \ud800"),
        say(log, "c"),
        return_exceptions=True,
    )
    assert [type(found) for found in outcomes] == [Receipt, Permanent, UnicodeEncodeError, Receipt]
    assert verify_postgres(dsn).size == 2


async def test_a_sum_that_does_not_fit_harms_its_own_append_only(log: PostgresLog, dsn: str) -> None:
    huge = e.ModelCallReserved(turn=0, micro_usd=MicroUsd(2**62), request_digest=postgres_kit.NOBODY)
    twice = log.append([Draft(stream("rich"), huge)] * 2, expect={stream("rich"): 0}, by=BY)
    outcomes = await asyncio.gather(say(log, "b"), twice, say(log, "c"), return_exceptions=True)
    assert [type(found) for found in outcomes] == [Receipt, Permanent, Receipt]
    assert verify_postgres(dsn).findings == ()


# --- news -------------------------------------------------------------------------------------------------------------


async def test_who_listens_hears_that_another_controller_appended(log: PostgresLog, dsn: str) -> None:
    other, listens, loop = PostgresLog(dsn, HandClock()), asyncio.Event(), asyncio.get_running_loop()

    def now_it_listens() -> None:
        loop.call_soon_threadsafe(listens.set)

    heard = asyncio.create_task(log.news(30, heard=now_it_listens))
    await listens.wait()
    await say(other)
    assert await heard is True
    assert await log.news(0.01) is False
    other.close()


# --- the tree ---------------------------------------------------------------------------------------------------------


def test_tiles_become_whole_as_the_specification_counts_them() -> None:
    """c2sp.org/tlog-tiles: a tree of 70,000 has 273 whole tiles at level 0 and one at level 1."""
    chance, growth, frontier, whole = random.Random(7), TileGrowth(), Frontier(), []
    for _ in range(70_000):
        leaf = chance.randbytes(8)
        frontier = frontier.plus(leaf)
        whole += growth.plus([leaf])
    assert [sum(tile.level == level for tile in whole) for level in range(3)] == [273, 1, 0]
    assert [tile.number for tile in whole if tile.level == 0] == list(range(273))
    assert (len(growth.edge[0]), len(growth.edge[1]), len(growth.edge[2])) == (112, 17, 1)
    assert growth.frontier() == frontier


async def test_a_stored_tile_is_the_one_that_its_leaves_give(log: PostgresLog, dsn: str) -> None:
    await say(log, times=600)
    with snapshot(dsn) as tree:
        stored = tree.full_tile(0, 1)
        assert b"".join(leaf_hash(leaf) for leaf in tree.leaves(256, 512)) == stored
        assert tree.tile_roots(0, 0, 2) == tile(tree, 1, 0, width=2)
        assert tree.tile_roots(0, 0, 3) is None
        assert root_at(tree, 600) == tree.frontier().root()


TAMPERED = {
    "a body edited": (
        "UPDATE entries SET leaf = convert_to(replace(convert_from(leaf, 'UTF8'), 'turn', 'tarn'), 'UTF8') "
        "WHERE idx = 4"
    ),
    "an entry removed": "DELETE FROM entries WHERE idx = 4",
    "the end cut off": "DELETE FROM entries WHERE idx > 590",
    "two entries swapped": "UPDATE entries a SET leaf = b.leaf FROM entries b WHERE (a.idx, b.idx) IN ((4, 6), (6, 4))",
    "an entry added": "INSERT INTO entries SELECT 600, stream, 601, kind, leaf FROM entries WHERE idx = 599",
    "a tile zeroed": "UPDATE tiles SET hashes = decode(repeat('00', 8192), 'hex') WHERE number = 1",
    "a tile's root replaced": "UPDATE tiles SET root = sha256('') WHERE number = 0",
    "a tile removed": "DELETE FROM tiles WHERE number = 1",
    "a tile invented": "INSERT INTO tiles SELECT 0, 2, hashes, root FROM tiles WHERE number = 1",
    "the head replaced": "UPDATE head SET frontier = sha256('') || sha256('') || sha256('') || sha256('')",
    "money forgotten": "UPDATE counters SET reserved = 0 WHERE scope = 'total'",
    "a version moved": "UPDATE streams SET version = 7",
}


@pytest.mark.parametrize("how", list(TAMPERED))
async def test_whoever_owns_the_tables_is_found_out(log: PostgresLog, dsn: str, how: str) -> None:
    await say(log, times=600, size=20)
    assert verify_postgres(dsn).whole
    run(f"{dsn} options='-c search_path=flyball'", f"SET session_replication_role = replica; {TAMPERED[how]}")
    assert not verify_postgres(dsn).whole
