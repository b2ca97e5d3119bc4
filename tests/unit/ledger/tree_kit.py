"""A tree in memory behind the reader's door, and streams of leaves to grow it from."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from controller.ledger.merkle import HASH_BYTES, fold, leaf_hash
from controller.ledger.tiles import TILE_BYTES, TILE_WIDTH


@cache
def leaves(size: int) -> tuple[bytes, ...]:
    return tuple(b"leaf %d" % index for index in range(size))


class ListTree:
    """`tiles=False`: none is stored, so that all are derived."""

    def __init__(self, kept: tuple[bytes, ...], *, tiles: bool = True) -> None:
        self.kept = kept
        self.levels: list[bytes] = [b"".join(leaf_hash(leaf) for leaf in kept)] if tiles else []
        while self.levels and len(self.levels[-1]) >= TILE_BYTES:
            below = self.levels[-1]
            whole = range(0, len(below) // TILE_BYTES * TILE_BYTES, TILE_BYTES)
            self.levels.append(b"".join(fold(below[at : at + TILE_BYTES]) for at in whole))

    def size(self) -> int:
        return len(self.kept)

    def leaf(self, index: int) -> bytes:
        return self.kept[index]

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        return iter(self.kept[start:stop])

    def full_tile(self, level: int, number: int) -> bytes | None:
        if level >= len(self.levels):
            return None
        found = self.levels[level][number * TILE_BYTES : (number + 1) * TILE_BYTES]
        return found if len(found) == TILE_BYTES else None


class RootedTree(ListTree):
    """One that also knows what its tiles hash to."""

    def tile_roots(self, level: int, start: int, stop: int) -> bytes | None:
        if level + 1 >= len(self.levels):
            return None
        found = self.levels[level + 1][start * HASH_BYTES : stop * HASH_BYTES]
        return found if len(found) == (stop - start) * HASH_BYTES else None


EDGES = (1, 255, 256, 257, 511, 512, 513, 65_535, 65_537, 70_000)  # of tiles of the first two levels
assert max(EDGES) > TILE_WIDTH**2
