"""The tree of a log on Postgres: grown with each commit, and read back as tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from controller.ledger import postgres_sql as sql
from controller.ledger.merkle import HASH_BYTES, Frontier, fold, leaf_hash
from controller.ledger.postgres_db import explaining, named, open_reader
from controller.ledger.tiles import MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH

Db = Connection[Any]
LEAVES_AT_ONCE = 256
ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Tile:
    """A whole tile: its 256 hashes, and what they hash to."""

    level: int
    number: int
    hashes: bytes
    root: bytes


@dataclass(slots=True)
class TileGrowth:
    """The tiles at the right edge, none of them whole: what is needed to tell which become whole with the next leaves.

    `edge[level]` has the hashes of that level's last tile so far, fewer than 256.
    """

    size: int = 0
    edge: dict[int, list[bytes]] = field(default_factory=dict)

    def plus(self, leaves: Iterable[bytes]) -> list[Tile]:
        """The tiles that these leaves complete, in the order of their completion."""
        whole: list[Tile] = []
        for leaf in leaves:
            self.size += 1
            self._push(0, leaf_hash(leaf), whole)
        return whole

    def frontier(self) -> Frontier:
        """Of all leaves so far: every level's edge is a run of perfect subtrees, the largest first."""
        nodes = []
        for level in sorted(self.edge, reverse=True):
            hashes = self.edge[level]
            while hashes:
                fits = 1 << len(hashes).bit_length() - 1
                nodes.append(fold(b"".join(hashes[:fits])))
                hashes = hashes[fits:]
        return Frontier(self.size, tuple(nodes))

    def _push(self, level: int, found: bytes, whole: list[Tile]) -> None:
        hashes = self.edge.setdefault(level, [])
        hashes.append(found)
        if len(hashes) == TILE_WIDTH:
            number = (self.size >> TILE_HEIGHT * (level + 1)) - 1
            tile = Tile(level, number, b"".join(hashes), fold(b"".join(hashes)))
            whole.append(tile)
            hashes.clear()
            self._push(level + 1, tile.root, whole)


def growth_at(db: Db, size: int) -> TileGrowth:
    """Where the tiles of a log of this size stand, from fewer than 256 leaves and 256 tiles a level."""
    edge = {0: [leaf_hash(leaf) for (leaf,) in db.execute(sql.LEAVES_BETWEEN, [size - size % TILE_WIDTH, size])]}
    for level in range(1, MAX_LEVEL + 1):
        stop = size >> TILE_HEIGHT * level
        if not stop:
            break
        edge[level] = [root for (root,) in db.execute(sql.TILE_ROOTS, [level - 1, stop - stop % TILE_WIDTH, stop])]
    return TileGrowth(size, edge)


def add_tiles(db: Db, tiles: Sequence[Tile]) -> None:
    if tiles:
        rows = [(tile.level, tile.number, tile.hashes, tile.root) for tile in tiles]
        db.execute(sql.ADD_TILES, [list(column) for column in zip(*rows, strict=True)])


def fill_tiles(db: Db) -> None:
    """Write every whole tile of the entries that are there. The table is empty before."""
    growth = TileGrowth()
    for row in every(db, sql.ALL_ENTRIES, "leaves"):
        add_tiles(db, growth.plus([row[4]]))


def every(db: Db, query: str, name: str) -> Iterator[tuple[Any, ...]]:
    """The rows of a query, a thousand at a time. Within a transaction only; `name` is free in it."""
    with db.cursor(name=name) as cursor:
        cursor.execute(query.encode())
        while rows := cursor.fetchmany(ROWS_AT_ONCE):
            yield from rows


class PostgresTree:
    """The protocol `TreeReader`, in one snapshot."""

    def __init__(self, db: Db) -> None:
        self.db = db

    def size(self) -> int:
        return self.frontier().size

    def frontier(self) -> Frontier:
        found = self.db.execute(sql.HEAD).fetchone()
        if found is None:
            raise ValueError("the log has no head")
        return Frontier.from_bytes(found[0], found[1])

    def leaf(self, index: int) -> bytes:
        found = self.db.execute(sql.LEAF, [index]).fetchone()
        if found is None:
            raise IndexError(f"there is no entry {index}")
        return bytes(found[0])

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        for begin in range(start, stop, LEAVES_AT_ONCE):
            end = min(stop, begin + LEAVES_AT_ONCE)
            rows = self.db.execute(sql.LEAVES_BETWEEN, [begin, end]).fetchall()
            if len(rows) != end - begin:
                raise IndexError(f"of the entries {begin} to {end - 1} there are {len(rows)}")
            for (leaf,) in rows:
                yield leaf

    def full_tile(self, level: int, number: int) -> bytes | None:
        """None: it is not complete."""
        found = self.db.execute(sql.TILE, [level, number]).fetchone()
        return None if found is None else bytes(found[0])

    def tile_roots(self, level: int, start: int, stop: int) -> bytes | None:
        """None: not all of them are complete."""
        found = b"".join(root for (root,) in self.db.execute(sql.TILE_ROOTS, [level, start, stop]))
        return found if len(found) == (stop - start) * HASH_BYTES else None


@contextmanager
def snapshot(dsn: str) -> Iterator[PostgresTree]:
    """The tree as it is now, for as long as the block lasts; appends go on beside it.

    Raises Unavailable when the server cannot be reached.
    """
    name = named(dsn)
    with closing(open_reader(dsn, name)) as db, explaining(name):
        db.execute(sql.BEGIN_SNAPSHOT)
        yield PostgresTree(db)
