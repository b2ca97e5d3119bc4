"""Tampering with the tree: each class built by SQL on a real file, and found where it was done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controller.domain import events as e
from controller.domain.entry import Caller, Draft, decode, encode
from controller.domain.guards import project
from controller.domain.ids import Digest, StreamId
from controller.ledger import guard_rows, sql
from controller.ledger.database import Sync, open_writer, to_text, transaction
from controller.ledger.merkle import Frontier, fold, leaf_hash
from controller.ledger.tile_rows import complete_tiles
from controller.ledger.verify import MAX_FINDINGS, verify

BY = Caller("service:controller", Digest("sha256:" + "0" * 64))
SOON = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


def tamper(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    with db:
        db.execute(statement)
    db.close()


def written(path: Path, size: int) -> Path:
    """A whole log of `size` entries of one stream, by the log's own code and SQL, its triggers dropped."""
    db, frontier = open_writer(str(path), Sync.OFF), Frontier()
    event = e.SessionResumed(turn=0, from_checkpoint=False, reason="")
    draft = Draft(StreamId("session/a/1"), event)
    leaves = [encode(index, index + 1, SOON, draft, BY) for index in range(size)]
    with transaction(db):
        rows = [(index, draft.stream, index + 1, event.kind(), leaf) for index, leaf in enumerate(leaves)]
        db.executemany(sql.ADD_ENTRY, rows)
        for leaf in leaves:
            frontier = frontier.plus(leaf)
        guard_rows.apply(db, project(decode(leaves[-1])))
        complete_tiles(db, 0, size)
        db.execute(sql.MOVE_HEAD, (size, frontier.to_bytes(), to_text(SOON)))
    db.close()
    tamper(path, "DROP TRIGGER entries_are_never_changed")
    tamper(path, "DROP TRIGGER entries_are_never_removed")
    return path


def test_a_log_nobody_tampered_with_is_whole(path: Path) -> None:
    report = verify(written(path, 600))
    assert (report.size, report.findings) == (600, ())


def altered_leaf(db: sqlite3.Connection, index: int) -> bytes:
    """Put another leaf into a row, a well-formed one, and give it back."""
    (leaf,) = db.execute("SELECT leaf FROM entries WHERE idx = ?", (index,)).fetchone()
    leaf = leaf.replace(b"service:controller", b"person:0123456789ab")
    db.execute("UPDATE entries SET leaf = ? WHERE idx = ?", (leaf, index))
    return bytes(leaf)


def edit_body(db: sqlite3.Connection) -> None:
    altered_leaf(db, 300)


def edit_body_and_hash(db: sqlite3.Connection) -> None:
    """The leaf, its hash in the tile, and the tile's own root: all that stands below the head."""
    hash_now = leaf_hash(altered_leaf(db, 300))
    (hashes,) = db.execute("SELECT hashes FROM tiles WHERE level = 0 AND number = 1").fetchone()
    at = (300 - 256) * 32
    hashes = hashes[:at] + hash_now + hashes[at + 32 :]
    db.execute("UPDATE tiles SET hashes = ?, root = ? WHERE level = 0 AND number = 1", (hashes, fold(hashes)))


def delete(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM entries WHERE idx = 300")


def swap(db: sqlite3.Connection) -> None:
    """Two entries change places, rows, indices and all."""
    for old, new in ((300, -1), (301, 300), (-1, 301)):
        db.execute("UPDATE entries SET idx = ? WHERE idx = ?", (new, old))


def insert(db: sqlite3.Connection) -> None:
    """All later entries make room."""
    db.execute("UPDATE entries SET idx = -idx - 1 WHERE idx >= 300")
    db.execute("UPDATE entries SET idx = -idx WHERE idx < 0")
    db.execute("INSERT INTO entries SELECT 300, 'session/z/1', 1, kind, leaf FROM entries WHERE idx = 299")


def truncate(db: sqlite3.Connection) -> None:
    """Back to 512 entries, and the guards with them: only tree and head still know better."""
    db.execute("DELETE FROM entries WHERE idx >= 512")
    db.execute("UPDATE streams SET version = 512")


def truncate_with_the_head(db: sqlite3.Connection) -> None:
    """Back to 255 entries with a head that fits them, and the tile that they no longer fill forgotten."""
    db.execute("DELETE FROM entries WHERE idx >= 255")
    db.execute("UPDATE streams SET version = 255")
    frontier = Frontier()
    for (leaf,) in db.execute("SELECT leaf FROM entries ORDER BY idx"):
        frontier = frontier.plus(leaf)
    db.execute("UPDATE head SET size = 255, frontier = ?", (frontier.to_bytes(),))
    db.execute("DELETE FROM tiles WHERE number = 1")


def zero_a_tile(db: sqlite3.Connection) -> None:
    db.execute("UPDATE tiles SET hashes = zeroblob(8192) WHERE level = 0 AND number = 1")


def zero_a_tile_and_its_root(db: sqlite3.Connection) -> None:
    zero_a_tile(db)
    db.execute("UPDATE tiles SET root = ? WHERE level = 0 AND number = 1", (fold(bytes(8192)),))


def remove_a_tile(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM tiles WHERE level = 0 AND number = 0")


def cut_a_tile(db: sqlite3.Connection) -> None:
    db.execute("UPDATE tiles SET hashes = substr(hashes, 1, 8160) WHERE level = 0 AND number = 0")


def replace_a_root(db: sqlite3.Connection) -> None:
    db.execute("UPDATE tiles SET root = zeroblob(32) WHERE level = 0 AND number = 0")


def add_a_tile(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO tiles SELECT 0, 2, root, hashes FROM tiles WHERE number = 0")


def add_a_level(db: sqlite3.Connection) -> None:
    db.execute("INSERT INTO tiles SELECT 1, 0, root, hashes FROM tiles WHERE number = 0")


def replace_the_head(db: sqlite3.Connection) -> None:
    """By the head of another log of the same size: well-formed, and nobody's here."""
    frontier = Frontier()
    for number in range(600):
        frontier = frontier.plus(b"%d" % number)
    db.execute("UPDATE head SET frontier = ?", (frontier.to_bytes(),))


TREE_TAMPERINGS: dict[Callable[[sqlite3.Connection], None], set[str]] = {
    edit_body: {"entry 300", "tile 0/1", "head"},
    edit_body_and_hash: {"head"},
    delete: {"entry 301", "tile 0/1", "head"},
    swap: {"entry 300", "entry 301", "tile 0/1", "head"},
    insert: {"entry 300", "entry 301", "tile 0/1", "head"},
    truncate: {"head"},
    truncate_with_the_head: {"tile 0/0"},
    zero_a_tile: {"tile 0/1"},
    zero_a_tile_and_its_root: {"tile 0/1"},
    remove_a_tile: {"tile 0/0"},
    cut_a_tile: {"tile 0/0"},
    replace_a_root: {"tile 0/0"},
    add_a_tile: {"tile 0/2"},
    add_a_level: {"tile 1/0"},
    replace_the_head: {"head"},
}


@pytest.mark.parametrize("tampering", list(TREE_TAMPERINGS), ids=lambda tampering: tampering.__name__)
def test_tampering_with_the_tree_is_found_where_it_was_done(
    path: Path, tampering: Callable[[sqlite3.Connection], None]
) -> None:
    db = sqlite3.connect(written(path, 600))
    with db:
        tampering(db)
    db.close()
    report = verify(path)
    assert TREE_TAMPERINGS[tampering] <= {finding.where for finding in report.findings}
    assert all(finding.what and finding.way_out for finding in report.findings)


def test_a_tile_of_a_level_above_that_was_replaced_is_found(path: Path) -> None:
    db = sqlite3.connect(written(path, 256 * 256 + 1))
    with db:
        (hashes,) = db.execute("SELECT hashes FROM tiles WHERE level = 1").fetchone()
        other = hashes[:-32] + bytes(32)
        db.execute("UPDATE tiles SET hashes = ?, root = ? WHERE level = 1", (other, fold(other)))
    db.close()
    (finding,) = verify(path).findings
    assert (finding.where, finding.what) == ("tile 1/0", "1 of its hashes are not what lies below it")


def test_an_edited_leaf_is_told_from_an_edited_tile(path: Path) -> None:
    db = sqlite3.connect(written(path, 600))
    with db:
        edit_body(db)
    db.close()
    (told,) = [finding for finding in verify(path).findings if finding.where == "entry 300"]
    assert told.what.startswith("it was altered: when it was appended it hashed to")


def test_a_file_of_the_first_version_has_no_tiles_to_miss(path: Path) -> None:
    db = sqlite3.connect(written(path, 300))
    db.execute("DROP TABLE tiles")
    db.execute("PRAGMA user_version = 1")
    db.close()
    assert verify(path).whole


async def test_guards_read_lightly_are_those_read_in_full(path: Path) -> None:
    """The golden log has every sort of entry: it is whole, though most bodies are never read."""
    db, frontier = open_writer(str(path), Sync.OFF), Frontier()
    with transaction(db):
        for leaf in (Path(__file__).parents[2] / "golden" / "first.jsonl").read_bytes().splitlines():
            entry = decode(leaf)
            db.execute(sql.ADD_ENTRY, (entry.index, entry.stream, entry.version, entry.kind, leaf))
            guard_rows.apply(db, project(entry))
            frontier = frontier.plus(leaf)
        complete_tiles(db, 0, frontier.size)
        db.execute(sql.MOVE_HEAD, (frontier.size, frontier.to_bytes(), to_text(entry.time)))
    db.close()
    report = verify(path)
    assert (report.size, report.findings) == (458, ())
    assert report.root == frontier.root().hex()


def test_hundreds_of_wrong_entries_hide_neither_the_tree_nor_the_guards(path: Path) -> None:
    tamper(written(path, 600), "UPDATE entries SET leaf = CAST(replace(CAST(leaf AS TEXT), '{', '[') AS BLOB)")
    tamper(path, "UPDATE streams SET version = 7")
    findings = verify(path).findings
    assert len(findings) <= MAX_FINDINGS
    sorts = {finding.where.partition(" ")[0] for finding in findings}
    assert sorts == {"entry", "tile", "head", "streams"}
