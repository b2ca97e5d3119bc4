"""Read the whole log on Postgres again and believe none of it: `verify` for the other store, with the same report.

Every tile, the head, the versions and the guards are derived from the leaves and compared with what is stored, in one
snapshot. Appends go on beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from controller.domain.entry import Entry
from controller.errors import Permanent
from controller.ledger import postgres_guards as guard_rows
from controller.ledger import postgres_sql as sql
from controller.ledger.postgres_tree import Tile, TileGrowth, every, snapshot
from controller.ledger.rebuild import Guards, differences
from controller.ledger.tiles import TILE_HEIGHT
from controller.ledger.verify import MAX_FINDINGS, Finding, Report
from controller.ledger.writer import entry_of

Db = Connection[Any]

_RESTORE = "Stop every controller, keep this database as evidence, and restore the log from a backup that verifies"
_REBUILD = "Find out who wrote to the database: the entries decide, and this row disagrees with them"


def verify_postgres(dsn: str) -> Report:
    """Check the log in this database. It never writes.

    Raises Unavailable when the server is out of reach.
    """
    with snapshot(dsn) as tree:
        reading = _Reading(tree.db)
        reading.everything()
    return Report(reading.tree.size, reading.tree.frontier().root().hex(), None, tuple(reading.findings))


class _Reading:
    """One pass over the log: what was read so far, and what was wrong with it."""

    def __init__(self, db: Db) -> None:
        self.findings: list[Finding] = []
        self.tree = TileGrowth()
        self._db = db
        self._versions: dict[str, int] = {}
        self._guards = Guards()
        self._time: datetime | None = None  # of the newest readable entry; None: there is none yet

    def found(self, what: str, where: str, way_out: str = _RESTORE) -> None:
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(what, where, way_out))

    def everything(self) -> None:
        for row in every(self._db, sql.ALL_ENTRIES, "all_entries"):
            self._entry(*row)
        self._surplus_tiles()
        self._head()
        for where, what in differences(self._guards, guard_rows.stored(self._db)):
            self.found(what, where, _REBUILD)

    def _entry(self, index: int, stream: str, version: int, kind: str, leaf: bytes) -> None:
        where = f"entry {index}"
        if index != self.tree.size:
            self.found(f"this is entry number {self.tree.size}: entries are missing or were added", where)
        for tile in self.tree.plus([leaf]):
            self._tile(tile)
        try:
            entry = entry_of(index, leaf)
        except Permanent as error:
            self.found(error.message, where)
            return
        if (entry.index, entry.stream, entry.version, entry.kind) != (index, stream, version, kind):
            says = f"{entry.index}, {entry.stream}, {entry.version}, {entry.kind}"
            self.found(f"the leaf says {says}; its row says {index}, {stream}, {version}, {kind}", where)
            return
        self._order(entry)
        self._guards.add(entry)

    def _order(self, entry: Entry) -> None:
        before = self._versions.get(entry.stream, 0)
        self._versions[entry.stream] = entry.version
        if entry.version != before + 1:
            self.found(f"{entry.stream} goes from version {before} to {entry.version}", f"entry {entry.index}")
        if self._time is not None and entry.time < self._time:
            self.found(f"time runs backwards, from {self._time} to {entry.time}", f"entry {entry.index}")
        self._time = entry.time

    def _tile(self, tile: Tile) -> None:
        stored = self._db.execute(sql.TILE_AND_ROOT, [tile.level, tile.number]).fetchone()
        if stored != (tile.hashes, tile.root):
            what = "it is missing" if stored is None else "its hashes are not those of the entries"
            self.found(what, f"tile {tile.level}/{tile.number}", _REBUILD)

    def _surplus_tiles(self) -> None:
        for level, number in self._db.execute(sql.TILE_NUMBERS).fetchall():
            if (number + 1) << TILE_HEIGHT * (level + 1) > self.tree.size:
                self.found("the entries do not give this tile", f"tile {level}/{number}", _REBUILD)

    def _head(self) -> None:
        size, frontier, last_time = self._db.execute(sql.HEAD).fetchone() or (None, b"", None)
        if (size, last_time) != (self.tree.size, self._time):
            what = (
                f"the stored head has {size} entries, the last of {last_time}; the log {self.tree.size}, {self._time}"
            )
            self.found(what, "head")
        elif frontier != self.tree.frontier().to_bytes():
            self.found("a leaf or the head was altered: the tree that grew with the leaves has another root", "head")
