"""Makes the kept evidence of tampering: `python tests/evidence/make_tampering.py`. Real files, changed by real SQL.

Every class is a folder of tests/evidence/tampering: `how.txt` says what was done; `log.db.xz` is a log as the one who
did it left it; `export` and `earlier` are what a reader was given; `request.txt` is what a witness is asked to cosign.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from evidence_kit import (
    AT,
    EARLIER_SIZE,
    HONEST_SIZE,
    TAMPERING,
    WITNESS,
    checkpoint_of,
    emptied,
    export_of,
    honest_words,
    log_key,
    make_log,
    packed,
    standing_at,
)

from controller.ledger.merkle import fold, leaf_hash
from controller.ledger.sqlite_tree import snapshot
from controller.ledger.tiles import consistency
from controller.ledger.witness_wire import AddCheckpoint

Sql = Callable[[sqlite3.Connection], None]
UNGUARDED = "DROP TRIGGER entries_are_never_changed; DROP TRIGGER entries_are_never_removed;"


def edit_body(db: sqlite3.Connection) -> None:
    (leaf,) = db.execute("SELECT leaf FROM entries WHERE idx = 17").fetchone()
    db.execute("UPDATE entries SET leaf = ? WHERE idx = 17", (leaf.replace(b"note 17", b"note 71"),))


def edit_body_and_leaf(db: sqlite3.Connection) -> None:
    edit_body(db)
    hashes = b"".join(leaf_hash(leaf) for (leaf,) in db.execute("SELECT leaf FROM entries ORDER BY idx LIMIT 256"))
    db.execute("UPDATE tiles SET hashes = ?, root = ? WHERE level = 0 AND number = 0", (hashes, fold(hashes)))


def swap(db: sqlite3.Connection) -> None:
    rows = db.execute("SELECT idx, leaf FROM entries WHERE idx IN (40, 41) ORDER BY idx").fetchall()
    db.executemany("UPDATE entries SET leaf = ? WHERE idx = ?", [(rows[1][1], 40), (rows[0][1], 41)])


def insert(db: sqlite3.Connection) -> None:
    stream, version, kind, leaf = db.execute(
        "SELECT stream, version, kind, leaf FROM entries WHERE idx = 299"
    ).fetchone()
    entry = json.loads(leaf) | {"index": HONEST_SIZE, "version": version + 1}
    added = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
    db.execute("INSERT INTO entries VALUES (300, ?, ?, ?, ?)", (stream, version + 1, kind, added))


IN_THE_FILE: dict[str, tuple[str, Sql]] = {
    "01-edit-body": ("one word of entry 17 was changed", edit_body),
    "02-edit-body-and-leaf": ("entry 17 was changed, and its hash in the tile with it", edit_body_and_leaf),
    "03-delete": ("entry 50 was deleted", lambda db: _run(db, "DELETE FROM entries WHERE idx = 50")),
    "04-swap": ("entries 40 and 41 were exchanged", swap),
    "05-insert": ("an entry was added behind the log's back", insert),
    "06-truncate": ("the last ten entries were cut off", lambda db: _run(db, "DELETE FROM entries WHERE idx >= 290")),
    "09-zero-a-tile": ("a tile was filled with zeros", lambda db: _run(db, "UPDATE tiles SET hashes = zeroblob(8192)")),
}


def _run(db: sqlite3.Connection, statement: str) -> None:
    db.execute(statement)


def tampered_file(honest: Path, name: str, how: str, change: Sql, work: Path) -> None:
    path = work / f"{name}.db"
    path.write_bytes(honest.read_bytes())
    with closing(sqlite3.connect(path)) as db:
        db.executescript(UNGUARDED)
        change(db)
        db.commit()
        db.execute("PRAGMA journal_mode = DELETE")
    keep(name, how, path)


def keep(name: str, how: str, log: Path | None = None) -> Path:
    folder = emptied(TAMPERING / name)
    folder.mkdir(parents=True)
    (folder / "how.txt").write_text(f"{how}\n")
    if log is not None:
        packed(log, folder / "log.db.xz")
    return folder


def request(path: Path, old: int, size: int | None = None) -> str:
    """What a witness is asked, with a proof that the log itself would give."""
    standing = standing_at(path, size)
    with snapshot(path) as tree:
        proof = tuple(consistency(tree, old, standing.checkpoint.size)) if old <= standing.checkpoint.size else ()
    return AddCheckpoint(old, proof, standing.note).text()


async def rolled_back(honest: Path, work: Path) -> None:
    """All but the last thirty entries, then others: every tile, guard and head fits."""
    path = work / "rolled-back.db"
    await make_log(path, [*honest_words(270), *(f"another note {number}" for number in range(20))])
    folder = keep("07-roll-back-with-rebuilt-tiles", "the last thirty entries were replaced by twenty others", path)
    export_of(path, folder / "export")
    export_of(honest, folder / "earlier")
    (folder / "request.txt").write_text(request(path, EARLIER_SIZE))


async def rewritten(honest: Path, work: Path) -> None:
    words = honest_words(HONEST_SIZE + 10)
    words[17] = "note 71"
    path = work / "rewritten.db"
    await make_log(path, words)
    folder = keep("08-rewrite-with-the-stolen-log-key", "entry 17 was never what it was, and all is signed anew", path)
    export_of(path, folder / "export", earlier=HONEST_SIZE)
    export_of(honest, folder / "earlier")
    (folder / "request.txt").write_text(request(path, HONEST_SIZE))


async def forked(honest: Path, work: Path) -> None:
    path = work / "forked.db"
    await make_log(path, [*honest_words(HONEST_SIZE - 1), "only one reader sees this"])
    folder = keep("10-fork-between-two-readers", "two readers are shown different last entries, both signed", path)
    export_of(path, folder / "export")
    export_of(honest, folder / "earlier")
    (folder / "request.txt").write_text(request(path, HONEST_SIZE))


def stale(honest: Path) -> None:
    folder = keep("11-stale-checkpoint", "a reader is shown an older checkpoint, to keep the last entries from them")
    export_of(honest, folder / "export", size=EARLIER_SIZE, seen_at=AT + timedelta(hours=1))
    export_of(honest, folder / "earlier", seen_at=AT + timedelta(hours=2))


def bad_signature(honest: Path) -> None:
    folder = keep("12-bad-signature", "one bit of the log's signature was turned")
    export = export_of(honest, folder / "export")
    note = (export / "checkpoint").read_text()
    body, _, encoded = note.rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[20] ^= 1
    (export / "checkpoint").write_text(f"{body} {base64.b64encode(raw).decode()}\n")


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        honest = work / "honest.db"
        await make_log(honest, honest_words())
        with closing(sqlite3.connect(honest)) as db:
            db.execute("PRAGMA journal_mode = DELETE")
        folder = keep("honest", "nothing was done to it", honest)
        export_of(honest, folder / "earlier", size=EARLIER_SIZE, seen_at=AT + timedelta(hours=1))
        export_of(honest, folder / "export", seen_at=AT + timedelta(hours=2), earlier=EARLIER_SIZE)
        (folder / "request-280.txt").write_text(request(honest, 0, EARLIER_SIZE))
        (folder / "request.txt").write_text(request(honest, EARLIER_SIZE))
        keys = (log_key(checkpoint_of(honest)), WITNESS)
        (TAMPERING / "keys.txt").write_text("".join(f"{key.verifier}\n" for key in keys))
        for name_, (how, change) in IN_THE_FILE.items():
            tampered_file(honest, name_, how, change, work)
        await rolled_back(honest, work)
        await rewritten(honest, work)
        await forked(honest, work)
        stale(honest)
        bad_signature(honest)


if __name__ == "__main__":
    asyncio.run(main())
