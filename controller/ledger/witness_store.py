"""A witness's memory: one row a log, and what speaks against one. SQLite, synced before anything is answered."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from controller.ledger.database import BUSY_S, explaining, to_text, to_time, transaction

MAX_EVIDENCE = 10_000  # rows; the first ones tell, and nobody may fill our disk

_SCHEMA = """
CREATE TABLE IF NOT EXISTS logs (
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
CREATE TRIGGER IF NOT EXISTS a_log_never_shrinks BEFORE UPDATE ON logs WHEN NEW.size < OLD.size
    BEGIN SELECT RAISE(ABORT, 'a log never shrinks'); END;
CREATE TABLE IF NOT EXISTS evidence (
    digest BLOB PRIMARY KEY,
    origin TEXT NOT NULL,
    kind TEXT NOT NULL,
    known TEXT NOT NULL,
    refused TEXT NOT NULL,
    at TEXT NOT NULL
) STRICT;
"""
_REMEMBERED = "SELECT origin, size, root, note FROM logs WHERE origin = ?"
_REMEMBER = (
    "INSERT INTO logs VALUES (?1, ?2, ?3, ?4, ?5) "
    "ON CONFLICT (origin) DO UPDATE SET size = ?2, root = ?3, note = ?4, at = ?5"
)
_KEEP = "INSERT INTO evidence SELECT ?, ?, ?, ?, ?, ? WHERE (SELECT COUNT(*) FROM evidence) < ? ON CONFLICT DO NOTHING"
_EVIDENCE = "SELECT origin, kind, known, refused, at FROM evidence ORDER BY at, digest"


class EvidenceKind(StrEnum):
    """Only FORKED proves by itself that the log lied.

    Whoever gets hold of a signed checkpoint can send it again, or with a wrong proof.
    """

    SHRANK = "shrank"  # smaller than one that was cosigned: a roll-back, or an old copy
    FORKED = "forked"  # of the same size, with another root
    UNPROVEN = "unproven"  # larger, and the proof does not lead from the one to the other


@dataclass(frozen=True, slots=True)
class Remembered:
    """The newest checkpoint that was cosigned for a log."""

    origin: str
    size: int
    root: bytes
    note: str  # with the log's signatures and ours


@dataclass(frozen=True, slots=True)
class Evidence:
    origin: str
    kind: EvidenceKind
    known: str  # the note that was cosigned
    refused: str  # the note that its log has signed too
    at: datetime


class WitnessStore:
    """One connection. `deciding` brackets everything that reads in order to write."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        with explaining(self._path):
            self._db = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA fullfsync = ON")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Durable when it ends. Nobody else decides meanwhile, in this process or another."""
        with explaining(self._path), transaction(self._db):
            yield

    def remembered(self, origin: str) -> Remembered | None:
        """None: nothing was cosigned for this log."""
        with explaining(self._path):
            row = self._db.execute(_REMEMBERED, (origin,)).fetchone()
        return None if row is None else Remembered(*row)

    def remember(self, new: Remembered, at: datetime) -> None:
        self._db.execute(_REMEMBER, (new.origin, new.size, new.root, new.note, to_text(at)))

    def keep_evidence(self, found: Evidence) -> bool:
        """Whether it is new, and there is room for it."""
        digest = hashlib.sha256(found.refused.encode()).digest()
        row = (digest, found.origin, found.kind.value, found.known, found.refused, to_text(found.at), MAX_EVIDENCE)
        return self._db.execute(_KEEP, row).rowcount == 1

    def evidence(self) -> list[Evidence]:
        """The oldest first."""
        with explaining(self._path):
            rows = self._db.execute(_EVIDENCE).fetchall()
        return [Evidence(row[0], EvidenceKind(row[1]), row[2], row[3], to_time(row[4])) for row in rows]
