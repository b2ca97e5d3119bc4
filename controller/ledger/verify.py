"""Read the whole log again and believe none of it: what `flyball log verify` reports.

Everything is derived from the leaves alone: every tile of the tree, its head, the versions, the guards. It finds damage
and every edit by hand, including those that drop the triggers first. It cannot find a log that was rewritten whole,
tree included: for that somebody else must have kept an earlier root, as a witness does.

Bodies are read only where the guards still rest on them: the rest of an entry is held against its row as it stands.
Guards that differ are rebuilt a second time, from all entries, read as the controller reads them, before anybody is
accused.
"""

from __future__ import annotations

import gc
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from controller.domain.entry import Entry, UnknownEvent
from controller.domain.events import ALL, Event
from controller.domain.guards import EffectRow, StreamRow, project
from controller.domain.ids import NO_DIGEST, Digest, StreamId
from controller.errors import FlyballError, Permanent
from controller.ledger import sql
from controller.ledger.blobs import FileBlobs, stored_digests
from controller.ledger.database import explaining, open_reader
from controller.ledger.merkle import leaf_hash
from controller.ledger.rebuild import Guards, differences, rebuilt, stored
from controller.ledger.regrown import RegrownTree
from controller.ledger.writer import entry_of, read_tip

MAX_KINDS = 1024  # remembered at once; a file may claim any number of kinds
MAX_FINDINGS = 100  # one edit can put thousands of entries in the wrong; the first ones tell
MAX_OF_A_SORT = 40  # entries, tiles, ...: so that a flood of one hides none of the others
_BODY, _AFTER_BODY = b'{"body":', b',"index":'
_RESTORE = "Stop Flyball, keep this file as evidence, and restore the log from a backup that verifies"
_REBUILD = "Stop Flyball and find out who wrote to the file: the entries decide, and this row disagrees with them"
_UNREADABLE = (ValueError, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    where: str
    way_out: str


@dataclass(frozen=True, slots=True)
class Report:
    size: int  # entries read
    root: str  # hex of the tree head over the leaves as they are
    blobs: int | None  # blobs read; None: they were not asked about
    findings: tuple[Finding, ...]  # at most MAX_FINDINGS, the first of each sort; none: the log is whole

    @property
    def whole(self) -> bool:
        return not self.findings


def verify(path: Path | str, blobs: Path | None = None) -> Report:
    """Check the log at `path`, and every blob that exists in `blobs` (None: blobs are not looked at).

    Never writes; a running controller may go on.

    Raises Unavailable when the file cannot be opened.
    """
    with closing(open_reader(str(path))) as db, explaining(str(path)), uncollected():
        reading = _Reading(db)
        try:
            db.execute("BEGIN")  # one snapshot for entries, tiles, head and guards
            reading.everything()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            reading.found(f"SQLite cannot read the file: {error}", str(path), _RESTORE)
    count = None if blobs is None else _check_blobs(reading, blobs)
    return Report(reading.tree.size, reading.tree.root().hex(), count, tuple(reading.findings))


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage cycles meanwhile: reading makes none, and a million rows are long to search (15 %)."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


class _Reading:
    """One pass over the log: what was read so far, and what was wrong with it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.findings: list[Finding] = []
        self._told: Counter[str] = Counter()
        self.tree = RegrownTree(db, lambda what, where: self.found(what, where, _REBUILD))
        self._db = db
        self._shift = 0  # by how much indices are off already: a gap is told once
        self._versions: dict[str, int] = {}
        self._guards = Guards()
        self._newest: dict[str, int] = {}  # index by stream, where its projection can wait for the end
        self._time: datetime | None = None  # of the newest readable entry; None: there is none yet

    def found(self, what: str, where: str, way_out: str = _RESTORE) -> None:
        sort = where.partition(" ")[0]
        self._told[sort] += 1
        if len(self.findings) < MAX_FINDINGS and self._told[sort] <= MAX_OF_A_SORT:
            self.findings.append(Finding(what, where, way_out))

    def everything(self) -> None:
        for row in self._db.execute(sql.ALL_ENTRIES):
            self._entry(*row)
        self.tree.no_more()
        self._head()
        self._check_guards()

    def _entry(self, index: int, stream: StreamId, version: int, kind: str, leaf: bytes) -> None:
        if index - self.tree.size != self._shift:
            self._shift = index - self.tree.size
            what = f"this is entry number {self.tree.size} of the file: entries are missing or were added"
            self.found(what, f"entry {index}")
        self.tree.add(leaf_hash(leaf))
        try:
            envelope, body = parts_of(leaf)
            said, row = envelope[:4], (index, stream, version, kind)
            if said == row:
                self._order(index, stream, version, aware(envelope[4]))
                self._project(envelope, body, leaf)
            else:
                self.found(f"the leaf says {said}; its row says {row}", f"entry {index}")
        except _UNREADABLE as error:
            self.found(f"entry {index} of the log cannot be read: {error!r}", f"entry {index}")

    def _order(self, index: int, stream: str, version: int, time: datetime) -> None:
        before = self._versions.get(stream, 0)
        self._versions[stream] = version
        if version != before + 1:
            self.found(f"{stream} goes from version {before} to {version}", f"entry {index}")
        if self._time is not None and time < self._time:
            self.found(f"time runs backwards, from {self._time} to {time}", f"entry {index}")
        self._time = time

    def _project(self, envelope: Envelope, body: bytes, leaf: bytes) -> None:
        """Now, if what it says of the guards lasts; else at the end, if nothing has followed it in its stream."""
        index, stream, _, kind, *_ = envelope
        if lasts(kind):
            self._newest.pop(stream, None)
            self._guards.add(_entry_of(envelope, body, leaf))
        else:
            self._newest[stream] = index

    def _head(self) -> None:
        try:
            tip = read_tip(self._db)
        except (ValueError, TypeError) as error:
            self.found(f"the stored head cannot be read: {error}", "head")
            return
        root, grown = self.tree.root(), tip.frontier
        if grown.size != self.tree.size:
            self.found(f"the tree has {grown.size} leaves, the file {self.tree.size} entries", "head")
        elif root != grown.root():
            what = f"the leaves give root {root.hex()}, the tree that grew with them {grown.root().hex()}"
            self.found(f"a leaf or the head was altered: {what}", "head")
        if tip.last_time != self._time:
            self.found(f"the stored head says the last entry is of {tip.last_time}", "head")

    def _check_guards(self) -> None:
        """Whoever is accused by entries that were read lightly is judged by entries that were read in full."""
        for index in self._newest.values():
            self._add_newest(index, *self._db.execute(sql.LEAF, (index,)).fetchone())
        found = stored(self._db)
        if self._guards != found:
            for where, what in differences(rebuilt(self._readable()), found):
                self.found(what, where, _REBUILD)

    def _add_newest(self, index: int, leaf: bytes) -> None:
        try:
            self._guards.add(_entry_of(*parts_of(leaf), leaf))
        except _UNREADABLE as error:
            self.found(f"entry {index} of the log cannot be read: {error!r}", f"entry {index}")

    def _readable(self) -> Iterator[Entry]:
        for index, _, _, _, leaf in self._db.execute(sql.ALL_ENTRIES):
            try:
                yield entry_of(index, leaf)
            except Permanent as error:
                self.found(error.message, f"entry {index}")


# --- reading only what is looked at -----------------------------------------------------------------------------------


# What stands around the body in a leaf, as the leaf spells it: index, stream, version, kind, time, principal, on behalf
# of whom, policy, v. A tuple, for a log has millions of them.
Envelope = tuple[int, StreamId, int, str, str, str, str | None, Digest, int]
_object = TypeAdapter(dict[str, Any]).validate_json  # four times as fast as the standard library's reader
_in_order = itemgetter("index", "stream", "version", "kind", "time", "principal", "on_behalf_of", "policy", "v")


def parts_of(leaf: bytes) -> tuple[Envelope, bytes]:
    """The envelope of a canonical leaf, and its body as it stands.

    Keys are sorted, so the body comes first and the index follows it. A quotation mark within a string is escaped:
    the last `,"index":` of the bytes is the envelope's own.
    Raises ValueError or KeyError when the leaf is no entry.
    """
    end = leaf.rfind(_AFTER_BODY)
    if end < 0 or not leaf.startswith(_BODY):
        raise ValueError("it is not written as the log writes its entries")
    return _in_order(_object(b"{" + leaf[end + 1 :])), leaf[len(_BODY) : end]


def aware(time: str) -> datetime:
    found = datetime.fromisoformat(time)
    if found.tzinfo is None:
        raise ValueError(f"its time has no zone: {found}")
    return found


def _entry_of(envelope: Envelope, body: bytes, leaf: bytes) -> Entry:
    index, stream, version, kind, time, principal, on_behalf_of, policy, v = envelope
    cls = ALL.get(kind)
    if cls is None or v > cls.v:
        event: Event | UnknownEvent = UnknownEvent(kind, v, _object(body))
    else:
        event = cls.model_validate_json(body, strict=False, extra="ignore")
    return Entry(index, stream, version, aware(time), principal, on_behalf_of, policy, kind, v, event, leaf)


@lru_cache(MAX_KINDS)
def lasts(kind: str) -> bool:
    """Whether what an entry of this kind says of the guards outlives the next entry of its stream.

    How a stream or its effect stands does not: the next entry says it anew. Money adds up, and stops have scopes of
    their own. Of a kind that ends its stream nothing will follow. `project` itself is asked, with an event of zeros.
    """
    cls = ALL.get(kind)
    if cls is None or cls.terminal:
        return cls is not None
    fields: dict[str, Any] = dict.fromkeys(cls.model_fields, 0)
    zeros = cls.model_construct(**fields)
    at = datetime(1970, 1, 1, tzinfo=UTC)
    probe = Entry(0, StreamId("probe/kind"), 1, at, "", None, NO_DIGEST, kind, cls.v, zeros, b"")
    return any(not isinstance(row, StreamRow | EffectRow) for row in project(probe))


def _check_blobs(reading: _Reading, directory: Path) -> int:
    """A blob that is gone may have been erased on purpose; one that is there must be what its name says."""
    blobs = FileBlobs(directory, durable=False)
    count = 0
    for digest in stored_digests(directory):
        count += 1
        try:
            blobs.content_of(digest)
        except FlyballError as error:
            reading.found(error.message, str(blobs.path_of(digest)), error.way_out)
    return count
