"""Read the whole log again and believe none of it: what `flyball log verify` reports.

Everything is derived from the leaves alone: the tree, the versions, the guards. It finds damage and every edit by hand,
including those that drop the triggers first. It cannot find a log that was rewritten whole, tree included: for that
somebody else must have kept an earlier root.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from controller.domain.entry import Entry
from controller.errors import FlyballError, Permanent
from controller.ledger import sql
from controller.ledger.blobs import FileBlobs, stored_digests
from controller.ledger.database import explaining, open_reader
from controller.ledger.merkle import Frontier, leaf_hash, root_of
from controller.ledger.rebuild import Guards, differences, stored
from controller.ledger.writer import entry_of, read_tip

MAX_FINDINGS = 100  # one edit can put thousands of entries in the wrong; the first ones tell

_RESTORE = "Stop Flyball, keep this file as evidence, and restore the log from a backup that verifies"
_REBUILD = "Stop Flyball and find out who wrote to the file: the entries decide, and this row disagrees with them"


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
    findings: tuple[Finding, ...]  # the first MAX_FINDINGS; none: the log is whole

    @property
    def whole(self) -> bool:
        return not self.findings


def verify(path: Path | str, blobs: Path | None = None) -> Report:
    """Check the log at `path`, and every blob that exists in `blobs` (None: blobs are not looked at).

    Never writes; a running controller may go on.

    Raises Unavailable when the file cannot be opened.
    """
    reading = _Reading()
    with closing(open_reader(str(path))) as db, explaining(str(path)):
        try:
            db.execute("BEGIN")  # one snapshot for entries, head and guards
            for row in db.execute(sql.ALL_ENTRIES):
                reading.entry(*row)
            reading.derived(db)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            reading.found(f"SQLite cannot read the file: {error}", str(path), _RESTORE)
    count = None if blobs is None else _check_blobs(reading, blobs)
    return Report(len(reading.hashes), root_of(reading.hashes).hex(), count, tuple(reading.findings))


@dataclass(slots=True)
class _Reading:
    """One pass over the log: what was read so far, and what was wrong with it."""

    hashes: list[bytes] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    guards: Guards = field(default_factory=Guards)
    last: Entry | None = None  # None: no readable entry yet
    findings: list[Finding] = field(default_factory=list)

    def found(self, what: str, where: str, way_out: str) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(what, where, way_out))

    def entry(self, index: int, stream: str, version: int, kind: str, leaf: bytes) -> None:
        where, expected = f"entry {index}", len(self.hashes)
        self.hashes.append(leaf_hash(leaf))
        if index != expected:
            self.found(
                f"this is entry number {expected} of the file: entries are missing or were added", where, _RESTORE
            )
        try:
            entry = entry_of(index, leaf)
        except Permanent as error:
            self.found(error.message, where, _RESTORE)
            return
        if (entry.index, entry.stream, entry.version, entry.kind) != (index, stream, version, kind):
            says = f"{entry.index}, {entry.stream}, {entry.version}, {entry.kind}"
            self.found(f"the leaf says {says}; its row says {index}, {stream}, {version}, {kind}", where, _RESTORE)
            return
        if entry.time.tzinfo is None:
            self.found(f"its time has no zone: {entry.time}", where, _RESTORE)
            return
        self._order(entry, where)
        self.guards.add(entry)
        self.last = entry

    def _order(self, entry: Entry, where: str) -> None:
        self.versions[entry.stream] += 1
        if entry.version != self.versions[entry.stream]:
            what = f"{entry.stream} goes from version {self.versions[entry.stream] - 1} to {entry.version}"
            self.found(what, where, _RESTORE)
            self.versions[entry.stream] = entry.version
        if self.last is not None and entry.time < self.last.time:
            self.found(f"time runs backwards, from {self.last.time} to {entry.time}", where, _RESTORE)

    def derived(self, db: sqlite3.Connection) -> None:
        """Head and guards against what the entries give, once all of them have been read."""
        try:
            tip = read_tip(db)
        except (ValueError, TypeError) as error:
            self.found(f"the stored head cannot be read: {error}", "head", _RESTORE)
        else:
            self._tree(tip.frontier)
            if tip.last_time != (self.last.time if self.last else None):
                self.found(f"the stored head says the last entry is of {tip.last_time}", "head", _RESTORE)
        for where, what in differences(self.guards, stored(db)):
            self.found(what, where, _REBUILD)

    def _tree(self, frontier: Frontier) -> None:
        if frontier.size != len(self.hashes):
            self.found(f"the tree has {frontier.size} leaves, the file {len(self.hashes)} entries", "head", _RESTORE)
            return
        root = root_of(self.hashes)
        if root != frontier.root():
            grown = frontier.root().hex()
            what = f"a leaf was altered: the leaves give root {root.hex()}, the tree that grew with them {grown}"
            self.found(what, "head", _RESTORE)


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
