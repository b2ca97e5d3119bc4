"""A log moves from its file to Postgres with every proof still valid."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fixtures"))

import postgres_kit
from postgres_kit import say

from controller.errors import ConfigError, Permanent
from controller.ledger import move as moving
from controller.ledger import postgres_tree, sqlite_tree
from controller.ledger.lease import SqliteLease
from controller.ledger.merkle import includes
from controller.ledger.move import Moved, move, stay
from controller.ledger.moved import moved_to
from controller.ledger.postgres import PostgresLog
from controller.ledger.postgres_db import named
from controller.ledger.postgres_lease import PostgresLease
from controller.ledger.postgres_verify import verify_postgres
from controller.ledger.sqlite import SqliteLog
from controller.ledger.tiles import consistency, inclusion, root_at
from controller.ledger.verify import verify
from controller.ports import Receipt

SIZE = 700  # two whole tiles and a part of a third
SIGNED = (1, 255, 256, 257, 512, 700)


@pytest.fixture
def clock() -> postgres_kit.HandClock:
    return postgres_kit.HandClock()


@pytest.fixture
def dsn() -> str:
    return postgres_kit.server().database()


@pytest.fixture
async def path(tmp_path: Path, clock: postgres_kit.HandClock) -> Path:
    """A log of 700 entries in a file."""
    found = tmp_path / "log.db"
    log = SqliteLog(found, clock)
    for name in range(7):
        await say(log, f"s{name}", times=100)
        await clock.sleep(1.25)
    log.close()
    return found


@pytest.fixture
def signed(path: Path) -> Iterator[dict[int, bytes]]:
    with sqlite_tree.snapshot(path) as tree:
        yield {size: root_at(tree, size) for size in SIGNED}


async def test_every_entry_root_tile_and_proof_is_the_same_after_the_move(
    path: Path, dsn: str, signed: dict[int, bytes]
) -> None:
    before = verify(path)
    assert move(path, dsn, signed) == Moved(SIZE, before.root, tiles=2, checkpoints=len(SIGNED))
    with sqlite_tree.snapshot(path) as old, postgres_tree.snapshot(dsn) as new:
        assert list(old.leaves(0, SIZE)) == list(new.leaves(0, SIZE))
        assert [old.full_tile(0, number) for number in range(3)] == [new.full_tile(0, number) for number in range(3)]
        assert consistency(old, 257, SIZE) == consistency(new, 257, SIZE)
        receipts = [(index, old.leaf(index), inclusion(old, index, SIZE)) for index in range(0, SIZE, 23)]
        assert all(includes(root_at(new, SIZE), SIZE, index, leaf, proof) for index, leaf, proof in receipts)
    after = verify_postgres(dsn)
    assert (after.root, after.size, after.findings) == (before.root, SIZE, ())


async def test_the_log_goes_on_where_it_was(path: Path, dsn: str, clock: postgres_kit.HandClock) -> None:
    move(path, dsn, {})
    log = PostgresLog(dsn, clock)
    assert await say(log, "s0", at=100, times=100) == Receipt(SIZE, SIZE + 100)
    log.close()
    report = verify_postgres(dsn)
    assert (report.size, report.findings) == (SIZE + 100, ())


async def test_nobody_appends_to_the_file_any_more_and_everybody_can_read_it(
    path: Path, dsn: str, clock: postgres_kit.HandClock
) -> None:
    running = SqliteLog(path, clock)  # a controller that was not stopped
    assert moved_to(path) is None
    move(path, dsn, {})
    assert moved_to(path) == f"log_{dsn.partition('dbname=log_')[2].split()[0]} on {postgres_kit.server().folder}"
    with pytest.raises(Permanent, match="this log has moved to log_"):
        await say(running, "s0", at=100)
    running.close()
    again = SqliteLog(path, clock)
    with pytest.raises(Permanent, match="this log has moved to log_"):
        await say(again, "new")
    assert (await again.head()).size == SIZE
    again.close()
    assert verify(path).whole


async def test_a_second_move_finds_the_first_though_the_log_has_grown(
    path: Path, dsn: str, clock: postgres_kit.HandClock, signed: dict[int, bytes]
) -> None:
    first = move(path, dsn, signed)
    assert move(path, dsn, signed) == first
    log = PostgresLog(dsn, clock)
    await say(log, "new")
    log.close()
    assert move(path, dsn, signed) == first
    assert verify_postgres(dsn).size == SIZE + 1


async def test_a_move_that_was_killed_after_the_seal_goes_on(path: Path, dsn: str) -> None:
    with sqlite3.connect(path, isolation_level=None) as file:
        moving._seal(file, named(dsn))
    file.close()
    assert move(path, dsn, {}).size == SIZE
    with pytest.raises(ConfigError, match="the log is in log_"):
        stay(path, dsn)


async def test_a_move_that_was_killed_and_is_not_wanted_leaves_the_log_in_its_file(
    path: Path, dsn: str, clock: postgres_kit.HandClock
) -> None:
    with sqlite3.connect(path, isolation_level=None) as file:
        moving._seal(file, named(dsn))
    file.close()
    stay(path, dsn)
    log = SqliteLog(path, clock)
    assert await say(log, "new") == Receipt(SIZE, SIZE + 1)
    log.close()


async def test_a_database_with_a_log_is_refused_and_the_file_stays_in_use(
    path: Path, dsn: str, clock: postgres_kit.HandClock
) -> None:
    other = PostgresLog(dsn, clock)
    await say(other)
    other.close()
    with pytest.raises(ConfigError, match="has a log already"):
        move(path, dsn, {})
    assert moved_to(path) is None
    assert verify_postgres(dsn).size == 1


async def test_a_log_that_went_elsewhere_is_not_moved_twice(path: Path, dsn: str) -> None:
    move(path, dsn, {})
    with pytest.raises(ConfigError, match="this log has moved to"):
        move(path, postgres_kit.server().database(), {})


@pytest.mark.parametrize("wrong", [256, 10_000])
async def test_a_root_that_was_signed_otherwise_moves_nothing(path: Path, dsn: str, wrong: int) -> None:
    with pytest.raises(Permanent, match=r"as it was signed|was signed, the log has 700"):
        move(path, dsn, {wrong: bytes(32)})
    assert moved_to(path) is None
    assert verify_postgres(dsn).size == 0
    assert move(path, dsn, {}).size == SIZE


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE tiles SET hashes = zeroblob(8192) WHERE number = 1", "tile 0/1"),
        ("UPDATE streams SET version = 7 WHERE stream = 'session/s3/1'", "streams session/s3/1"),
        ("UPDATE counters SET reserved = reserved + 1 WHERE scope = 'total'", "counters"),
        ("UPDATE head SET frontier = zeroblob(length(frontier))", "the root"),
    ],
)
async def test_a_damaged_file_is_not_moved(path: Path, dsn: str, damage: str, found: str) -> None:
    with sqlite3.connect(path) as file:
        file.execute(damage)
    file.close()
    with pytest.raises(Permanent, match=found):
        move(path, dsn, {})
    assert moved_to(path) is None
    assert verify_postgres(dsn).size == 0


async def test_fences_go_on_above_those_that_the_file_gave(path: Path, dsn: str, clock: postgres_kit.HandClock) -> None:
    old = SqliteLease(path, clock)
    for _ in range(5):
        last = await old.acquire(postgres_kit.stream("s0"), "one", 30)
    old.close()
    move(path, dsn, {})
    new = PostgresLease(dsn, clock)
    held = await new.acquire(postgres_kit.stream("s0"), "two", 30)
    new.close()
    assert last is not None
    assert held is not None
    assert held.fence > last.fence


async def test_an_empty_log_moves_too(tmp_path: Path, dsn: str, clock: postgres_kit.HandClock) -> None:
    SqliteLog(tmp_path / "log.db", clock).close()
    assert move(tmp_path / "log.db", dsn, {}).size == 0
    log = PostgresLog(dsn, clock)
    assert await say(log) == Receipt(0, 1)
    log.close()
