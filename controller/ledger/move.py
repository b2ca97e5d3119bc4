"""A log moves from its file to Postgres, and every receipt, proof and checkpoint of it stays valid.

The entries are copied byte for byte; tiles and guards are derived from them again and compared with the file's. Nothing
is left half done, and nobody can append to both:

1. The file is sealed: a trigger in it, committed, refuses every further append and names where the log has gone.
2. One transaction on Postgres takes all entries, tiles, guards and the head, reads them back and compares.
3. Whatever goes wrong before its commit removes the seal again. Whoever is killed in between runs the same command
   again: it goes on from a sealed file and an empty database, or finds that all is done.

The file stays, readable and verifiable, as the log was when it moved. Blobs and keys are not in it and stay where they
are. Leases are not moved; fences begin above those that were given.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from controller.domain.entry import Entry
from controller.errors import ConfigError, Permanent, Unavailable
from controller.ledger import postgres_guards, rebuild
from controller.ledger import postgres_sql as sql
from controller.ledger import sql as file_sql
from controller.ledger.database import Sync, explaining, open_writer, transaction
from controller.ledger.merkle import Frontier
from controller.ledger.moved import SEAL, SEALED, UNSEAL, seal_of
from controller.ledger.postgres_db import explained, named
from controller.ledger.postgres_db import open_writer as open_postgres
from controller.ledger.postgres_schema import brought_up_to_date
from controller.ledger.postgres_tree import PostgresTree, Tile, TileGrowth, add_tiles, every
from controller.ledger.sqlite_tree import SqliteTree
from controller.ledger.writer import Tip, entry_of, read_tip

Db = psycopg.Connection[Any]

LAST_FENCE = "SELECT seq FROM sqlite_sequence WHERE name = 'leases'"


@dataclass(frozen=True, slots=True)
class Moved:
    size: int  # entries
    root: str  # hex
    tiles: int  # whole tiles, each equal to the file's
    checkpoints: int  # earlier sizes at which the root was compared with the one that was signed


def move(path: Path | str, dsn: str, checkpoints: Mapping[int, bytes]) -> Moved:
    """Move the log at `path` into the empty database `dsn`. `checkpoints` maps sizes that were signed to their roots.

    A second call finds it done and compares again.

    Raises ConfigError when the database has another log or the file went elsewhere, Permanent when anything differs,
    and Unavailable when disk or server are out of reach; run it again then.
    """
    name = named(dsn)
    with closing(open_writer(str(path), Sync.FULL)) as file, explaining(str(path)):
        try:
            with closing(open_postgres(dsn, name, Sync.FULL)) as db:
                brought_up_to_date(db, name)
                return _Move(file, db, name, checkpoints).done()
        except psycopg.Error as error:
            raise explained(error, name) from error


def stay(path: Path | str, dsn: str) -> None:
    """Take the seal off a file whose move was killed and is not wanted any more.

    Raises ConfigError when the log is in the database: then the file must stay sealed.
    """
    name = named(dsn)
    with closing(open_writer(str(path), Sync.FULL)) as file, closing(open_postgres(dsn, name, Sync.FULL)) as db:
        if brought_up_to_date(db, name) and not (db.execute(sql.IS_EMPTY).fetchone() or (True,))[0]:
            raise ConfigError(f"the log is in {name}", "Use it there; the file is what it was when it moved")
        with explaining(str(path)):
            _unseal(file)


class _Move:
    """One attempt, with both ends open."""

    def __init__(self, file: sqlite3.Connection, db: Db, name: str, checkpoints: Mapping[int, bytes]) -> None:
        self._file, self._db, self._name = file, db, name
        self._checkpoints = checkpoints
        self._tip = Tip(Frontier(), None)

    def done(self) -> Moved:
        self._db.execute(sql.BEGIN)
        self._db.execute(sql.TAKE_TIME)
        self._db.execute(sql.LOCK_HEAD)
        went = seal_of(self._file)
        if went not in (None, self._name):
            raise ConfigError(f"this log has moved to {went} already", "Use it there")
        (empty,) = self._db.execute(sql.IS_EMPTY).fetchone() or (False,)
        if not empty and went is None:
            raise ConfigError(f"{self._name} has a log already", "Name an empty database")
        if went is None:
            _seal(self._file, self._name)
        return self._copied() if empty else self._compared()

    def _copied(self) -> Moved:
        try:
            self._tip = read_tip(self._file)
            self._copy_entries()
            postgres_guards.write(self._db, rebuild.rebuilt(self._copied_entries()))
            self._move_head()
            found = self._compared()
        except BaseException:
            self._db.close()  # the server forgets what was not committed
            _unseal(self._file)
            raise
        try:
            self._db.execute(sql.COMMIT)
        except psycopg.OperationalError as error:
            what = f"{self._name} was lost while it committed: the log may have moved. The file stays sealed"
            raise Unavailable(what, "Run the same command again: it finds out") from error
        return found

    def _copy_entries(self) -> None:
        growth = TileGrowth()
        with self._db.cursor() as cursor, cursor.copy(sql.COPY_ENTRIES) as copy:
            copy.set_types(sql.COPIED_TYPES)
            tiles = []
            for row in self._file.execute(file_sql.ALL_ENTRIES):
                copy.write_row(row)
                tiles += growth.plus([row[4]])
        for tile in tiles:
            add_tiles(self._db, [tile])

    def _copied_entries(self) -> Iterator[Entry]:
        for index, _, _, _, leaf in every(self._db, sql.ALL_ENTRIES, "copied"):
            yield entry_of(index, leaf)

    def _move_head(self) -> None:
        frontier = self._tip.frontier
        if frontier.size:
            self._db.execute(sql.MOVE_HEAD, [frontier.size, frontier.to_bytes(), self._tip.last_time])
        (fence,) = self._file.execute(LAST_FENCE).fetchone() or (0,)
        if fence:
            self._db.execute(sql.GIVE_FENCES_ABOVE, [fence])

    # --- what was copied is what was there ----------------------------------------------------------------------------

    def _compared(self) -> Moved:
        """Read both ends again: every row, every tile, the root at every checkpoint, and the guards."""
        tip, growth, tiles = read_tip(self._file), TileGrowth(), 0
        here, there = self._file.execute(file_sql.ALL_ENTRIES), every(self._db, sql.ALL_ENTRIES, "both")
        for ours, theirs in zip(here, there, strict=False):  # after the move the log grows there
            if tuple(ours) != theirs:
                raise _differs(f"entry {ours[0]}")
            whole = growth.plus([theirs[4]])
            tiles += len(whole)
            self._check_tiles(whole)
            self._check_root(growth)
        if growth.frontier() != tip.frontier:
            raise _differs("the root")
        unknown = [size for size in self._checkpoints if size > growth.size]
        if unknown:
            raise Permanent(f"a checkpoint of {max(unknown)} entries was signed, the log has {growth.size}", _VERIFY)
        if PostgresTree(self._db).size() == growth.size:
            for where, what in rebuild.differences(rebuild.stored(self._file), postgres_guards.stored(self._db)):
                raise _differs(f"{where} ({what})")
        return Moved(growth.size, tip.frontier.root().hex(), tiles, len(self._checkpoints))

    def _check_tiles(self, whole: list[Tile]) -> None:
        for tile in whole:
            for tree in (SqliteTree(self._file), PostgresTree(self._db)):
                if tree.full_tile(tile.level, tile.number) != tile.hashes:
                    raise _differs(f"tile {tile.level}/{tile.number}")

    def _check_root(self, growth: TileGrowth) -> None:
        signed = self._checkpoints.get(growth.size)
        if signed is not None and growth.frontier().root() != signed:
            raise _differs(f"the root at {growth.size} entries, as it was signed,")


_VERIFY = "Run `flyball log verify` on the file"


def _differs(what: str) -> Permanent:
    return Permanent(f"{what} is not the same at both ends", _VERIFY)


def _seal(file: sqlite3.Connection, name: str) -> None:
    with transaction(file):
        file.execute(SEAL.format((SEALED + name).replace("'", "''")))


def _unseal(file: sqlite3.Connection) -> None:
    with transaction(file):
        file.execute(UNSEAL)
