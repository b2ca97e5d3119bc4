"""A log that version 1 wrote, with version 1's own schema and statements, opened by this version."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from controller.domain import events as e
from controller.domain.entry import Caller, Draft, decode
from controller.domain.guards import CounterAdd, EffectRow, StreamRow, project
from controller.domain.ids import Digest, StreamId
from controller.errors import Permanent
from controller.ledger.database import Sync, open_writer, to_text
from controller.ledger.merkle import Frontier, fold, leaf_hash, root_of
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tiles import root_at
from controller.ledger.verify import verify
from controller.ports import Clock, Receipt

SCHEMA_1 = Path(__file__).parent / "schema_1.sql"
LEAVES = (Path(__file__).parents[2] / "golden" / "first.jsonl").read_bytes().splitlines()
BY = Caller("service:controller", Digest("sha256:" + "0" * 64))


@pytest.fixture
def old(path: Path) -> Path:
    """What a controller of version 1 left behind: 458 entries, their guards, and the frontier."""
    db, frontier = sqlite3.connect(path, isolation_level=None), Frontier()
    db.execute("PRAGMA journal_mode = WAL")
    db.executescript(SCHEMA_1.read_text())
    db.execute("BEGIN IMMEDIATE")
    for leaf in LEAVES:
        entry = decode(leaf)
        values = (entry.index, entry.stream, entry.version, entry.kind, leaf)
        db.execute("INSERT INTO entries (idx, stream, version, kind, leaf) VALUES (?, ?, ?, ?, ?)", values)
        for row in project(entry):
            put(db, row)
        frontier = frontier.plus(leaf)
    head = (frontier.size, frontier.to_bytes(), to_text(entry.time))
    db.execute("UPDATE head SET size = ?, frontier = ?, last_time = ?", head)
    db.execute("COMMIT")
    db.close()
    return path


def put(db: sqlite3.Connection, row: object) -> None:
    match row:
        case StreamRow():
            waits = (row.waits_on, row.waits_since)
            values = (row.stream, row.version, int(row.terminal), to_text(row.wake_at), *waits)
            db.execute("INSERT OR REPLACE INTO streams VALUES (?, ?, ?, ?, ?, ?)", values)
        case EffectRow():
            effect = (row.key, row.state, row.owner, row.fence, to_text(row.deadline))
            db.execute("INSERT OR REPLACE INTO effects VALUES (?, ?, ?, ?, ?)", effect)
        case CounterAdd():
            db.execute(
                "INSERT INTO counters VALUES (?, ?, ?, ?) ON CONFLICT (scope, window) "
                "DO UPDATE SET reserved = reserved + excluded.reserved, spent = spent + excluded.spent",
                (row.scope, row.window, row.reserved, row.spent),
            )
        case _:
            raise AssertionError(f"the golden log had no {row}")


def version_of(path: Path) -> int:
    db = sqlite3.connect(path)
    (found,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return int(found)


def test_an_old_log_is_whole_before_anybody_migrates_it(old: Path) -> None:
    report = verify(old)
    assert (version_of(old), report.size, report.findings) == (1, 458, ())


async def test_opening_an_old_log_gives_it_its_tiles_and_changes_nothing_else(old: Path, clock: Clock) -> None:
    root = verify(old).root
    log = SqliteLog(old, clock)
    assert version_of(old) == 2
    assert [entry.leaf async for entry in log.scan()] == LEAVES
    head = await log.head()
    log.close()
    assert (head.size, head.root) == (458, root)
    with snapshot(old) as tree:
        tile = tree.full_tile(0, 0)
        assert tile == b"".join(leaf_hash(leaf) for leaf in LEAVES[:256])
        assert tree.tile_roots(0, 0, 1) == fold(tile)
        assert tree.full_tile(0, 1) is None
        assert root_at(tree, 300) == root_of([leaf_hash(leaf) for leaf in LEAVES[:300]])
    assert verify(old).whole


async def test_a_migrated_log_goes_on_where_it_was(old: Path, clock: Clock) -> None:
    log = SqliteLog(old, clock)
    stream = StreamId("session/new/1")
    event = e.SessionResumed(turn=0, from_checkpoint=False, reason="")
    for version in range(512 - 458):
        expected = Receipt(458 + version, 459 + version)
        assert await log.append([Draft(stream, event)], expect={stream: version}, by=BY) == expected
    log.close()
    with snapshot(old) as tree:
        assert tree.full_tile(0, 1) is not None
    assert verify(old).whole


def test_two_processes_that_open_it_at_once_migrate_it_once(old: Path) -> None:
    failures: list[BaseException] = []

    def opened() -> None:
        try:
            open_writer(str(old), Sync.FULL).close()
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    both = [threading.Thread(target=opened) for _ in range(4)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(30)
    assert failures == []
    assert (version_of(old), verify(old).findings) == (2, ())


def test_a_damaged_old_log_stays_as_it_was(old: Path, clock: Clock) -> None:
    db = sqlite3.connect(old)
    with db:
        db.execute("DROP TRIGGER entries_are_never_removed")
        db.execute("DELETE FROM entries WHERE idx = 100")
    db.close()
    with pytest.raises(Permanent, match=r"no tile can be made.*flyball log verify"):
        SqliteLog(old, clock)
    assert version_of(old) == 1
    assert not verify(old).whole


def test_a_new_log_and_a_migrated_one_have_the_same_tables(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    open_writer(str(new), Sync.FULL).close()
    open_writer(str(old), Sync.FULL).close()
    assert shape_of(new) == shape_of(old)


def shape_of(path: Path) -> dict[str, str]:
    db = sqlite3.connect(path)
    found = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    db.close()
    return {name: " ".join(sql.split()) for name, sql in found}
