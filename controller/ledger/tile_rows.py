"""The tiles' table: a tile is written once, in the transaction of the append that completes it.

Tiles are derived. One that is missing is derived again from what lies below it, and the next append that completes one
makes up for those that were never written, so that no missing tile ever stands in an append's way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from controller.errors import Permanent
from controller.ledger import sql
from controller.ledger.merkle import HASH_BYTES, fold
from controller.ledger.tiles import TILE_BYTES, TILE_WIDTH, tile


class SqliteTree:
    """A `TreeReader` over one connection, whose open transaction is the snapshot."""

    def __init__(self, db: sqlite3.Connection, size: int | None = None) -> None:
        """`size` None: what the head says."""
        self._db = db
        self._size: int = db.execute(sql.SIZE).fetchone()[0] if size is None else size

    def size(self) -> int:
        return self._size

    def leaf(self, index: int) -> bytes:
        found = self._db.execute(sql.LEAF, (index,)).fetchone() if 0 <= index < self._size else None
        if found is None:
            raise IndexError(f"the log has no entry {index}")
        return bytes(found[0])

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        count = 0
        for (leaf,) in self._db.execute(sql.LEAVES_FROM_TO, (start, min(stop, self._size))):
            count += 1
            yield leaf
        if count != max(stop - start, 0):
            raise IndexError(f"the log has {count} of the entries from {start} up to {stop}")

    def full_tile(self, level: int, number: int) -> bytes | None:
        found = self._db.execute(sql.TILE, (level, number)).fetchone()
        return bytes(found[0]) if found is not None and len(found[0]) == TILE_BYTES else None

    def tile_roots(self, level: int, start: int, stop: int) -> bytes | None:
        found = b"".join([root for (root,) in self._db.execute(sql.TILE_ROOTS, (level, start, stop))])
        return found if len(found) == (stop - start) * HASH_BYTES else None


def complete_tiles(db: sqlite3.Connection, old_size: int, new_size: int) -> None:
    """Write the tiles that are complete at `new_size` leaves and were not at `old_size`. The leaves must be there.

    Raises Permanent when leaves are missing: somebody has removed them.
    """
    tree, old, new, level = SqliteTree(db, new_size), old_size // TILE_WIDTH, new_size // TILE_WIDTH, 0
    try:
        while old < new:
            (stored,) = db.execute(sql.TILES_STORED, (level,)).fetchone()
            old = min(old, stored)
            for number in range(old, new):
                hashes = tile(tree, level, number)
                db.execute(sql.ADD_TILE, (level, number, fold(hashes), hashes))
            old, new, level = old // TILE_WIDTH, new // TILE_WIDTH, level + 1
    except IndexError as error:
        raise Permanent(f"no tile can be made: {error}", "Run `flyball log verify`") from error
