"""An index of the log for reviewers: which entries have which values. It shows, and never decides.

A file of its own beside the log. It may be deleted at any time; the next question builds it again. For every value
(`model` = "claude-…", `word` = "latency") it keeps the set of entries that have it, cut into pieces of 8,192 entries.
A question is answered by laying such sets over each other, so that its cost depends on the length of the log and not
on how common the values are. What is found is read again from the log itself: an index that is wrong can leave
something out, and cannot invent anything.

Reading on is incremental: the index remembers how far it has read and the digest of the last entry there. If the log
has another entry at that place, it is another log, and the index begins anew.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from controller.errors import Permanent, Unavailable
from controller.metrics.audit_facets import ENDS, Facet, Values, begun, handed_on, pairs_of, parent_of

PIECE = 1 << 13  # entries; a full set of one is 1,024 bytes
PIECE_BYTES = PIECE // 8
VERSION = 1  # of what is stored, also set by the script below: another one is thrown away and built again
BUSY_S = 30.0  # two who ask at once: the second waits while the first reads a piece

_SCHEMA = """
CREATE TABLE position (only INTEGER PRIMARY KEY CHECK (only = 0), next INTEGER NOT NULL, last BLOB NOT NULL) STRICT;
INSERT INTO position VALUES (0, 0, x'');
CREATE TABLE keys (id INTEGER PRIMARY KEY, facet TEXT NOT NULL, value TEXT NOT NULL, UNIQUE (facet, value)) STRICT;
CREATE TABLE sets (
    key INTEGER NOT NULL, piece INTEGER NOT NULL, members BLOB NOT NULL, PRIMARY KEY (key, piece)
) STRICT, WITHOUT ROWID;
CREATE TABLE streams (stream TEXT PRIMARY KEY, hands_on TEXT NOT NULL) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""
_POSITION = "SELECT next, last FROM position"
_MOVE = "UPDATE position SET next = ?, last = ?"
_KEY = "SELECT id FROM keys WHERE facet = ? AND value = ?"
_ADD_KEY = "INSERT INTO keys (facet, value) VALUES (?, ?) RETURNING id"
_SET = "SELECT members FROM sets WHERE key = ? AND piece = ?"
_SETS = "SELECT piece, members FROM sets WHERE key = ? AND piece BETWEEN ? AND ?"
_PUT_SET = "INSERT OR REPLACE INTO sets VALUES (?, ?, ?)"
_STREAM = "SELECT hands_on FROM streams WHERE stream = ?"
_PUT_STREAM = "INSERT OR REPLACE INTO streams VALUES (?, ?)"
_DROP_STREAM = "DELETE FROM streams WHERE stream = ?"
_VALUES = "SELECT value FROM keys WHERE facet = ? AND value >= ? ORDER BY value LIMIT ?"


class Leaves(Protocol):
    """One snapshot of the log's stored bytes."""

    def size(self) -> int: ...

    def leaf(self, index: int) -> bytes:
        """Raises IndexError when it is not there."""
        ...

    def leaves(self, start: int, stop: int) -> Iterator[bytes]: ...


class AuditIndex:
    """Used by one thread at a time; several processes may share the file."""

    def __init__(self, path: Path | str) -> None:
        """Raises Unavailable when the file cannot be used."""
        self.path = str(path)
        with self._explaining():
            self._db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = OFF")  # what is lost is read again
            with self._writing():
                if self._db.execute("PRAGMA user_version").fetchone() != (VERSION,):
                    self._begin_anew()

    def close(self) -> None:
        self._db.close()

    @property
    def position(self) -> int:
        """Entries read so far."""
        with self._explaining():
            found: int = self._db.execute(_POSITION).fetchone()[0]
        return found

    def catch_up(self, log: Leaves) -> int:
        """Read what has been appended since; returns how many entries that were."""
        count = 0
        with self._explaining():
            while read := self._read_piece(log):
                count += read
        return count

    def members(self, facet: Facet, value: str, first: int, last: int) -> dict[int, int]:
        """Who has a value, piece by piece, as bits: bit n of piece p is entry p * PIECE + n."""
        with self._explaining():
            key = self._db.execute(_KEY, (facet.value, value)).fetchone()
            rows = self._db.execute(_SETS, (key[0], first, last)).fetchall() if key else []
        return {piece: _bits(members) for piece, members in rows}

    def values(self, facet: Facet, beginning: str = "", limit: int = 20) -> list[str]:
        """Known values of a facet from `beginning` on, in order: what somebody may have meant."""
        with self._explaining():
            return [value for (value,) in self._db.execute(_VALUES, (facet.value, beginning, limit))]

    def _read_piece(self, log: Leaves) -> int:
        """Up to the next multiple of PIECE, in one transaction."""
        with self._writing():
            start, last = self._db.execute(_POSITION).fetchone()
            if not _same(log, start, last):
                self._begin_anew()
                start = 0
            stop = min(log.size(), (start // PIECE + 1) * PIECE)
            if start == stop:
                return 0
            piece = _Piece(self._db, start)
            for leaf in log.leaves(start, stop):
                piece.add(json.loads(leaf))
            piece.write()
            self._db.execute(_MOVE, (stop, hashlib.sha256(leaf).digest()))
        return int(stop - start)

    def _begin_anew(self) -> None:
        for (name,) in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            self._db.execute(f"DROP TABLE {name}")
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise Unavailable(
                f"the index {self.path} cannot be used: {error}", "Free its disk, or delete it"
            ) from error
        except sqlite3.DatabaseError as error:
            raise Permanent(f"the index {self.path} is damaged: {error}", "Delete it; it is built again") from error


class _Piece:
    """The entries of one piece that are read in one go: who has what, until it is written."""

    def __init__(self, db: sqlite3.Connection, start: int) -> None:
        self._db, self._start = db, start
        self._found: dict[tuple[Facet, str], list[int]] = {}
        self._streams: dict[str, Values | None] = {}  # None: it has ended and hands nothing on

    def add(self, entry: Mapping[str, Any]) -> None:
        stream = entry["stream"]
        inherited = self._inherited(stream)
        if inherited is None or entry["version"] == 1:
            parent = parent_of(entry)
            inherited = begun(entry, (self._inherited(parent) if parent else None) or {})
        inherited = handed_on(entry, inherited)
        self._streams[stream] = None if entry["kind"] in ENDS else inherited
        place = entry["index"] % PIECE
        for pair in pairs_of(entry, inherited):
            self._found.setdefault(pair, []).append(place)

    def write(self) -> None:
        piece, fresh = divmod(self._start, PIECE)
        for (facet, value), places in self._found.items():
            key, known = self._key(facet, value)
            before = self._db.execute(_SET, (key, piece)).fetchone() if known and fresh else None
            self._db.execute(_PUT_SET, (key, piece, _members(places, before[0] if before else b"")))
        for stream, values in self._streams.items():
            if values is None:
                self._db.execute(_DROP_STREAM, (stream,))
            else:
                self._db.execute(_PUT_STREAM, (stream, json.dumps(values)))

    def _inherited(self, stream: str) -> Values | None:
        if stream not in self._streams:
            found = self._db.execute(_STREAM, (stream,)).fetchone()
            if found is None:
                return None
            self._streams[stream] = {Facet(name): tuple(values) for name, values in json.loads(found[0]).items()}
        return self._streams[stream]

    def _key(self, facet: Facet, value: str) -> tuple[int, bool]:
        found = self._db.execute(_KEY, (facet.value, value)).fetchone()
        made = found or self._db.execute(_ADD_KEY, (facet.value, value)).fetchone()
        return made[0], found is not None


def _members(places: list[int], before: bytes) -> bytes:
    """A set as it is stored: few as 16-bit numbers, many as bits. Only bits take PIECE_BYTES."""
    if len(before) != PIECE_BYTES and len(before) + 2 * len(places) < PIECE_BYTES:
        return before + array("H", places).tobytes()
    bits = bytearray(_bits(before).to_bytes(PIECE_BYTES, "little"))
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def _bits(members: bytes) -> int:
    if len(members) == PIECE_BYTES:
        return int.from_bytes(members, "little")
    bits = bytearray(PIECE_BYTES)
    for place in array("H", members):
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


def _same(log: Leaves, position: int, last: bytes) -> bool:
    if position == 0:
        return True
    return position <= log.size() and hashlib.sha256(log.leaf(position - 1)).digest() == last
