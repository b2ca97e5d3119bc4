"""The tree, grown once more from the leaves alone, and every stored tile held against it.

It shares nothing with the code that wrote the tiles but the two hashes. Per level it keeps the hashes of the tile that
is growing, at most 256; when one is complete it is compared with the stored one and its root goes one level up.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from controller.ledger import sql
from controller.ledger.merkle import EMPTY_ROOT, HASH_BYTES, fold, root_of
from controller.ledger.tiles import TILE_BYTES, TILE_HEIGHT, TILE_WIDTH

NAMED_LEAVES = 8  # that differ in one tile; when there are more, it is the tile that was altered

Found = Callable[[str, str], None]  # what is wrong, and where


class RegrownTree:
    """Takes leaf hashes in order. Tells `found` of each tile that is not what the leaves make it."""

    def __init__(self, db: sqlite3.Connection, found: Found) -> None:
        self.size = 0
        self._db, self._found = db, found
        self._levels: list[list[bytes]] = [[]]
        (self._version,) = db.execute(sql.VERSION).fetchone()

    def add(self, leaf_hash: bytes) -> None:
        self.size += 1
        edge = self._levels[0]
        edge.append(leaf_hash)
        if len(edge) == TILE_WIDTH:
            self._complete(0)

    def root(self) -> bytes:
        """By the recursive definition: each level's growing tile has the root of those below it as its last node."""
        below: list[bytes] = []
        for edge in self._levels:
            nodes = [*edge, *below]
            below = [root_of(nodes)] if nodes else []
        return below[0] if below else EMPTY_ROOT

    def no_more(self) -> None:
        """All leaves have been added: no other tile may be stored."""
        for level, number in self._stored_tiles():
            if level < 0 or number < 0 or number >= self.size >> (TILE_HEIGHT * min(level + 1, 9)):
                self._found("it is stored, but the entries do not fill it", f"tile {level}/{number}")

    def _stored_tiles(self) -> Iterator[tuple[int, int]]:
        if self._version > 1:  # the first version had no tiles
            yield from self._db.execute(sql.TILES)

    def _complete(self, level: int) -> None:
        hashes, number = b"".join(self._levels[level]), (self.size >> (TILE_HEIGHT * (level + 1))) - 1
        root = fold(hashes)
        if self._version > 1:
            self._compare(level, number, hashes, root)
        self._levels[level] = []
        if level + 1 == len(self._levels):
            self._levels.append([])
        above = self._levels[level + 1]
        above.append(root)
        if len(above) == TILE_WIDTH:
            self._complete(level + 1)

    def _compare(self, level: int, number: int, hashes: bytes, root: bytes) -> None:
        stored = self._db.execute(sql.TILE_AND_ROOT, (level, number)).fetchone()
        if stored == (hashes, root):
            return
        where = f"tile {level}/{number}"
        if stored is None:
            self._found("it is missing, though there are entries that fill it", where)
        elif stored[0] == hashes or len(stored[0]) != TILE_BYTES or fold(stored[0]) != stored[1]:
            self._found("it was altered: it does not hash to the root that was stored with it", where)
        else:
            self._differs(level, number, hashes, stored[0])

    def _differs(self, level: int, number: int, hashes: bytes, stored: bytes) -> None:
        """A tile that is whole in itself says other hashes than what lies below it does now."""
        starts = range(0, TILE_BYTES, HASH_BYTES)
        places = [at // HASH_BYTES for at in starts if hashes[at : at + HASH_BYTES] != stored[at : at + HASH_BYTES]]
        where = f"tile {level}/{number}"
        self._found(f"{len(places)} of its hashes are not what lies below it", where)
        if level == 0 and len(places) <= NAMED_LEAVES:
            for place in places:
                was = stored[place * HASH_BYTES : (place + 1) * HASH_BYTES].hex()
                self._found(
                    f"it was altered: when it was appended it hashed to {was}", f"entry {number * TILE_WIDTH + place}"
                )
