"""The tree as tiles (c2sp.org/tlog-tiles): what a log hands out, and how any root or proof comes from them.

A tile is 256 consecutive hashes of one level: level 0 has the leaves' hashes, each hash of level 1 the root of a whole
tile of level 0, and so on. Only whole tiles are kept; what stands at the right edge is derived from fewer than 256
leaves or tiles below it. A hash between two tile levels is folded from a part of one tile, so a proof in a tree of a
million leaves reads three tiles. Everything here is a pure function over a `TreeReader`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from controller.ledger.merkle import EMPTY_ROOT, HASH_BYTES, fold, leaf_hash, node_hash, split_of

TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
TILE_BYTES = TILE_WIDTH * HASH_BYTES
MAX_LEVEL = 63
MAX_BUNDLED_BYTES = 2**16 - 1  # the length of an entry in a bundle is a uint16


class TreeReader(Protocol):
    """One snapshot of a log's leaves and tiles."""

    def size(self) -> int:
        """How many leaves there are."""
        ...

    def leaf(self, index: int) -> bytes:
        """The exact stored bytes. Raises IndexError when it is not there."""
        ...

    def leaves(self, start: int, stop: int) -> Iterator[bytes]:
        """The leaves [start, stop), in order. Raises IndexError when one is not there."""
        ...

    def full_tile(self, level: int, number: int) -> bytes | None:
        """256 hashes, 8,192 bytes. None: it is not complete, or not stored."""
        ...


@runtime_checkable
class KnowsTileRoots(Protocol):
    """A reader that can also say what whole tiles hash to, without reading them: 255 times less work at the edge."""

    def tile_roots(self, level: int, start: int, stop: int) -> bytes | None:
        """The roots of tiles [start, stop) of a level, 32 bytes each. None: it has not got all of them."""
        ...


# --- roots and proofs -------------------------------------------------------------------------------------------------


def root_at(reader: TreeReader, size: int) -> bytes:
    """The root of the first `size` leaves. Raises IndexError when there are fewer."""
    _check_size(reader, size)
    return _Hashes(reader).span(0, size) if size else EMPTY_ROOT


def inclusion(reader: TreeReader, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962, section 2.1.1: sibling hashes from the leaf up.

    Raises IndexError for a leaf or a size that is not there.
    """
    _check_size(reader, size)
    if not 0 <= index < size:
        raise IndexError(f"leaf {index} of a tree of {size}")
    hashes, path, low, high = _Hashes(reader), [], 0, size
    while high - low > 1:
        middle = low + split_of(high - low)
        if index < middle:
            path.append(hashes.span(middle, high))
            high = middle
        else:
            path.append(hashes.span(low, middle))
            low = middle
    return path[::-1]


def consistency(reader: TreeReader, old: int, new: int) -> list[bytes]:
    """PROOF(old, D[new]) of RFC 9162, section 2.1.4.1. Empty when `old` is 0 or `new`: there is nothing to prove.

    Raises IndexError for sizes that are not there, or in the wrong order.
    """
    _check_size(reader, new)
    if not 0 <= old <= new:
        raise IndexError(f"no tree of {new} leaves grew from one of {old}")
    if old == 0:
        return []
    hashes, path, low, high = _Hashes(reader), [], 0, new
    while old != high:
        middle = low + split_of(high - low)
        if old <= middle:
            path.append(hashes.span(middle, high))
            high = middle
        else:
            path.append(hashes.span(low, middle))
            low = middle
    if low:
        path.append(hashes.span(low, high))
    return path[::-1]


# --- what a log serves ------------------------------------------------------------------------------------------------


def tile(reader: TreeReader, level: int, number: int, width: int = TILE_WIDTH) -> bytes:
    """The first `width` hashes of a tile, as served at `tile_path`. Raises IndexError when they are not there."""
    last = (number * TILE_WIDTH + width) << (TILE_HEIGHT * level) if 0 <= level <= MAX_LEVEL else 0
    if number < 0 or not 1 <= width <= TILE_WIDTH or not 0 < last <= reader.size():
        raise IndexError(f"tile {number} of level {level}, {width} wide, in a tree of {reader.size()} leaves")
    return _Hashes(reader).at_level(level, number * TILE_WIDTH, width)


def entry_bundle(reader: TreeReader, number: int, width: int = TILE_WIDTH) -> bytes:
    """The first `width` leaves of a bundle, each after its length as a uint16.

    Raises IndexError when they are not there, and ValueError for a leaf that is longer than a bundle can say.
    """
    if number < 0 or not 1 <= width <= TILE_WIDTH or number * TILE_WIDTH + width > reader.size():
        raise IndexError(f"bundle {number}, {width} wide, in a tree of {reader.size()} leaves")
    start, parts = number * TILE_WIDTH, []
    for index, leaf in enumerate(reader.leaves(start, start + width), start):
        if len(leaf) > MAX_BUNDLED_BYTES:
            raise ValueError(f"leaf {index} has {len(leaf)} bytes; a bundle carries at most {MAX_BUNDLED_BYTES} of one")
        parts += [len(leaf).to_bytes(2, "big"), leaf]
    return b"".join(parts)


def tile_path(level: int | None, number: int, width: int = TILE_WIDTH) -> str:
    """Where a tile is served, below the log's prefix: "tile/0/x001/x234/067.p/8". `level` None: a bundle of entries."""
    digits = f"{number:03d}"
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    spelled = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
    part = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{'entries' if level is None else level}/{spelled}{part}"


# --- how it is done ---------------------------------------------------------------------------------------------------


class _Hashes:
    """The hashes of one snapshot, for one proof: a tile that several siblings lie in is read once."""

    def __init__(self, reader: TreeReader) -> None:
        self._reader = reader
        self._tiles: dict[tuple[int, int], bytes | None] = {}

    def span(self, start: int, stop: int) -> bytes:
        """MTH(D[start:stop]), where the largest perfect subtree that fits begins at a multiple of its own size."""
        nodes = []
        while start < stop:
            height = (stop - start).bit_length() - 1
            nodes.append(self._perfect(height, start >> height))
            start += 1 << height
        found = nodes.pop()
        while nodes:
            found = node_hash(nodes.pop(), found)
        return found

    def at_level(self, level: int, first: int, count: int) -> bytes:
        """`count` hashes of a tile level from the `first` on, all within one tile."""
        number, offset = divmod(first, TILE_WIDTH)
        whole = self._tile(level, number)
        if whole is not None:
            return whole[offset * HASH_BYTES : (offset + count) * HASH_BYTES]
        if level == 0:
            return b"".join(leaf_hash(leaf) for leaf in self._reader.leaves(first, first + count))
        return self._roots(level - 1, first, first + count)

    def _perfect(self, height: int, number: int) -> bytes:
        """The root of the subtree of 2^height leaves that begins at number * 2^height."""
        level, above = divmod(height, TILE_HEIGHT)
        return fold(self.at_level(level, number << above, 1 << above))

    def _roots(self, level: int, start: int, stop: int) -> bytes:
        stored = self._reader.tile_roots(level, start, stop) if isinstance(self._reader, KnowsTileRoots) else None
        if stored is not None:
            return stored
        return b"".join(fold(self.at_level(level, number * TILE_WIDTH, TILE_WIDTH)) for number in range(start, stop))

    def _tile(self, level: int, number: int) -> bytes | None:
        if (level, number) not in self._tiles:
            self._tiles[level, number] = self._reader.full_tile(level, number)
        return self._tiles[level, number]


def _check_size(reader: TreeReader, size: int) -> None:
    if not 0 <= size <= reader.size():
        raise IndexError(f"a tree of {size} leaves in a log of {reader.size()}")
