"""What the signer has signed and what witnesses have said to it: `checkpoints.db`, the signer's own file.

Every signed checkpoint is kept for ever; a signer that has kept none signs whatever it is shown, and only a witness
would notice. Cosignatures say a time: all of the last hour are kept, and of older ones the last of each minute and key,
for a later checkpoint proves every earlier one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controller.ledger.checkpoint import Checkpoint
from controller.ledger.database import BUSY_S, explaining, open_reader, to_text, to_time, transaction
from controller.ledger.note import VerifierKey

FULL_HOUR = 60  # minutes of which every cosignature is kept
_MINUTE_S = 60

_SCHEMA = """
CREATE TABLE IF NOT EXISTS checkpoints (
    size INTEGER PRIMARY KEY,
    body TEXT NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS checkpoints_are_never_changed BEFORE UPDATE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'signed checkpoints are never changed'); END;
CREATE TRIGGER IF NOT EXISTS checkpoints_are_never_removed BEFORE DELETE ON checkpoints
    BEGIN SELECT RAISE(ABORT, 'signed checkpoints are never removed'); END;
CREATE TABLE IF NOT EXISTS cosignatures (
    key TEXT NOT NULL,
    minute INTEGER NOT NULL,
    size INTEGER NOT NULL REFERENCES checkpoints (size),
    line TEXT NOT NULL,
    PRIMARY KEY (key, minute, size)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS cosignatures_by_size ON cosignatures (size);
CREATE TABLE IF NOT EXISTS witnesses (
    name TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    trouble TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
"""
_ADD = "INSERT INTO checkpoints VALUES (?, ?, ?, ?)"
_NEWEST = "SELECT size, body, note, at FROM checkpoints ORDER BY size DESC LIMIT 1"
_AT = "SELECT size, body, note, at FROM checkpoints WHERE size = ?"
_COSIGN = "INSERT INTO cosignatures VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET line = excluded.line"
_THIN = """
DELETE FROM cosignatures AS old WHERE key = ?1 AND minute BETWEEN ?2 - 60 AND ?2
AND EXISTS (SELECT 1 FROM cosignatures AS later WHERE later.key = old.key AND later.minute = old.minute
            AND later.size > old.size)
"""
_LINES = "SELECT line, MAX(minute) FROM cosignatures WHERE size = ? GROUP BY key ORDER BY key"  # the newest of each key
_COSIGNED_SIZES = "SELECT DISTINCT size FROM cosignatures ORDER BY size DESC LIMIT ?"
_HEARD = "INSERT INTO witnesses VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET size = ?2, trouble = ?3, at = ?4"
_WITNESSES = "SELECT name, size, trouble, at FROM witnesses ORDER BY name"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    checkpoint: Checkpoint
    note: str  # as the log signed it
    at: datetime
    cosignatures: tuple[str, ...] = ()  # lines, each with its newline

    @property
    def size(self) -> int:
        return self.checkpoint.size

    @property
    def published(self) -> str:
        """The note with everybody's signatures."""
        return self.note + "".join(self.cosignatures)


@dataclass(frozen=True, slots=True)
class Heard:
    """The last that a witness said."""

    name: str
    size: int  # of the largest checkpoint that it has cosigned for us; 0: none
    trouble: str  # why it did not cosign the last one; empty: it did
    at: datetime


class CheckpointBook:
    """The writing end, of which the one signer of a folder has one. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        """Raises Unavailable when the file cannot be had, Permanent when it is another's."""
        self._path = str(path)
        with explaining(self._path):
            self._db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            # No WAL: readers under another user must not need to write beside the file.
            self._db.execute("PRAGMA journal_mode = DELETE")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA fullfsync = ON")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def newest(self) -> SignedCheckpoint | None:
        """None: nothing has been signed yet."""
        with explaining(self._path):
            return _signed(self._db, self._db.execute(_NEWEST).fetchone())

    def add(self, checkpoint: Checkpoint, note: str, at: datetime) -> None:
        """Durable when it returns."""
        with explaining(self._path), transaction(self._db):
            self._db.execute(_ADD, (checkpoint.size, checkpoint.text(), note, to_text(at)))

    def cosigned(self, name: str, size: int, lines: dict[VerifierKey, str], at: datetime) -> None:
        """A witness has cosigned the checkpoint of this size: a line for each of its keys."""
        minute = int(at.timestamp()) // _MINUTE_S
        with explaining(self._path), transaction(self._db):
            for key, line in lines.items():
                self._db.execute(_COSIGN, (str(key), minute, size, line))
                self._db.execute(_THIN, (str(key), minute - FULL_HOUR))
            self._db.execute(_HEARD, (name, size, "", to_text(at)))

    def trouble(self, name: str, size: int, words: str, at: datetime) -> None:
        with explaining(self._path), transaction(self._db):
            self._db.execute(_HEARD, (name, size, words, to_text(at)))

    def heard(self) -> tuple[Heard, ...]:
        with explaining(self._path):
            return _heard(self._db)


class BookReader:
    """What others may see of it, in one snapshot."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def newest(self) -> SignedCheckpoint | None:
        """None: nothing has been signed yet."""
        return _signed(self._db, self._db.execute(_NEWEST).fetchone())

    def at(self, size: int) -> SignedCheckpoint | None:
        """None: no checkpoint of this size was signed."""
        return _signed(self._db, self._db.execute(_AT, (size,)).fetchone())

    def cosigned_sizes(self, most: int) -> tuple[int, ...]:
        """Of the newest checkpoints with at least one cosignature, the largest first."""
        return tuple(size for (size,) in self._db.execute(_COSIGNED_SIZES, (most,)))

    def heard(self) -> tuple[Heard, ...]:
        return _heard(self._db)


@contextmanager
def reading(path: Path) -> Iterator[BookReader | None]:
    """None: nothing has been signed here yet. Raises Unavailable when the file is out of reach."""
    if not path.exists():
        yield None
        return
    with closing(open_reader(str(path))) as db, explaining(str(path)):
        db.execute("BEGIN")
        yield BookReader(db) if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'witnesses'").fetchone() else None


def _signed(db: sqlite3.Connection, row: tuple[int, str, str, str] | None) -> SignedCheckpoint | None:
    if row is None:
        return None
    size, body, note, at = row
    lines = tuple(line for line, _ in db.execute(_LINES, (size,)))
    return SignedCheckpoint(Checkpoint.parse(body), note, to_time(at), lines)


def _heard(db: sqlite3.Connection) -> tuple[Heard, ...]:
    return tuple(Heard(name, size, trouble, to_time(at)) for name, size, trouble, at in db.execute(_WITNESSES))
