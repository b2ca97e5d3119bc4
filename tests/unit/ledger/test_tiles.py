"""Roots, proofs and tiles from a reader, against the recursive definitions over all leaves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from tree_kit import EDGES, ListTree, RootedTree, leaves

from controller.errors import Permanent
from controller.ledger import sql
from controller.ledger.database import Sync, transaction
from controller.ledger.merkle import (
    Frontier,
    consistency_proof,
    extends,
    fold,
    includes,
    inclusion_proof,
    leaf_hash,
    root_of,
)
from controller.ledger.sqlite import SqliteLog
from controller.ledger.sqlite_tree import SqliteTree, snapshot
from controller.ledger.tile_rows import complete_tiles
from controller.ledger.tiles import (
    MAX_BUNDLED_BYTES,
    TILE_BYTES,
    TILE_WIDTH,
    TreeReader,
    consistency,
    entry_bundle,
    inclusion,
    root_at,
    tile,
    tile_path,
)
from controller.ledger.writer import MAX_LEAF_BYTES
from controller.ports import Clock, Receipt, Rejected

Say = Callable[..., Coroutine[None, None, Receipt | Rejected]]
SMALL = 130
HASHES = [leaf_hash(leaf) for leaf in leaves(SMALL)]


@pytest.fixture(scope="module")
def large() -> RootedTree:
    return RootedTree(leaves(max(EDGES)))


# --- exhaustive -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", range(SMALL + 1))
def test_every_proof_in_every_small_tree_is_the_recursive_one_and_holds(size: int) -> None:
    tree, hashes = ListTree(leaves(SMALL), tiles=False), HASHES[:size]
    root = root_at(tree, size)
    assert root == root_of(hashes)
    for index in range(size):
        path = inclusion(tree, index, size)
        assert path == inclusion_proof(index, hashes)
        assert includes(root, size, index, tree.leaf(index), path)
    for old in range(size + 1):
        path = consistency(tree, old, size)
        assert path == consistency_proof(old, hashes)
        assert extends(old, root_of(hashes[:old]), size, root, path)


# --- across the edges of tiles ----------------------------------------------------------------------------------------


def check_some_proofs(tree: TreeReader, kept: tuple[bytes, ...], root: bytes) -> None:
    size = len(kept)
    assert root_at(tree, size) == root
    for index in {0, size // 2, max(size - 257, 0), size - 1}:
        assert includes(root, size, index, kept[index], inclusion(tree, index, size))
    for old in {0, 1, size // 2, max(size - 256, 0), size - 1, size}:
        assert extends(old, root_at(tree, old), size, root, consistency(tree, old, size))


@pytest.mark.parametrize("size", EDGES)
def test_proofs_hold_across_the_edges_of_tiles(large: RootedTree, size: int) -> None:
    kept = leaves(size)
    check_some_proofs(RootedTree(kept), kept, root_of([leaf_hash(leaf) for leaf in kept]))
    assert root_at(RootedTree(kept), size) == root_at(large, size)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 513])
def test_proofs_hold_where_no_tile_is_stored(size: int) -> None:
    kept = leaves(size)
    check_some_proofs(ListTree(kept, tiles=False), kept, root_of([leaf_hash(leaf) for leaf in kept]))


def test_a_tree_of_70_000_has_the_tiles_that_the_specification_counts(large: RootedTree) -> None:
    assert [large.full_tile(0, 272) is not None, large.full_tile(0, 273)] == [True, None]
    assert len(tile(large, 0, 273, 112)) == 112 * 32
    assert large.full_tile(1, 0) == tile(large, 1, 0)
    assert len(tile(large, 1, 1, 17)) == 17 * 32
    assert tile(large, 2, 0, 1) == fold(tile(large, 1, 0))
    for level, number, width in ((0, 273, 113), (1, 1, 18), (2, 0, 2), (3, 0, 1), (0, 0, 0), (0, 0, 257), (64, 0, 1)):
        with pytest.raises(IndexError, match="in a tree of 70000 leaves"):
            tile(large, level, number, width)


def test_a_reader_that_knows_no_roots_gives_the_same_tiles(large: RootedTree) -> None:
    plain = ListTree(large.kept)
    assert tile(plain, 1, 1, 17) == tile(large, 1, 1, 17)
    assert tile(plain, 2, 0, 1) == tile(large, 2, 0, 1)


def test_what_is_not_there_is_refused(large: RootedTree) -> None:
    for ask in (
        lambda: root_at(large, 70_001),
        lambda: inclusion(large, 5, 5),
        lambda: inclusion(large, -1, 5),
        lambda: inclusion(large, 0, 70_001),
        lambda: consistency(large, 6, 5),
        lambda: consistency(large, -1, 5),
        lambda: entry_bundle(large, 273, 113),
    ):
        with pytest.raises(IndexError):
            ask()


# --- as it is served --------------------------------------------------------------------------------------------------


def test_a_bundle_is_the_exact_leaves_each_after_its_length() -> None:
    kept = (b"", b"a", b"\xff" * MAX_BUNDLED_BYTES)
    assert entry_bundle(ListTree(kept), 0, 3) == b"\0\0" + b"\0\1a" + b"\xff\xff" + kept[2]


def test_a_leaf_longer_than_a_bundle_can_say_is_named() -> None:
    with pytest.raises(ValueError, match="leaf 1 has 65536 bytes; a bundle carries at most 65535"):
        entry_bundle(ListTree((b"", b"x" * 65_536)), 0, 2)


@pytest.mark.parametrize(
    ("level", "number", "width", "path"),
    [
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        (3, 0, 256, "tile/3/000"),
        (0, 273, 112, "tile/0/273.p/112"),
        (63, 1000, 1, "tile/63/x001/000.p/1"),
        (None, 1_234_067, 8, "tile/entries/x001/x234/067.p/8"),
    ],
)
def test_paths_are_spelled_as_the_specification_spells_them(
    level: int | None, number: int, width: int, path: str
) -> None:
    assert tile_path(level, number, width) == path


# --- on the log's own file --------------------------------------------------------------------------------------------


async def filled(path: Path, clock: Clock, say: Say, size: int) -> SqliteLog:
    log = SqliteLog(path, clock, inline=True, sync=Sync.OFF)
    for version in range(size):
        await say(log, at=version)
    return log


async def test_an_append_that_completes_a_tile_writes_it(path: Path, clock: Clock, say: Say) -> None:
    log = await filled(path, clock, say, 513)
    with snapshot(path) as tree:
        kept = list(tree.leaves(0, 513))
        assert tree.full_tile(0, 1) == b"".join(leaf_hash(leaf) for leaf in kept[256:512])
        assert (tree.full_tile(0, 2), tree.full_tile(1, 0)) == (None, None)
        assert root_at(tree, 513).hex() == (await log.head()).root
        assert tree.leaf(300) == kept[300]
        for index in (0, 255, 256, 512):
            assert includes(root_at(tree, 400), 400, min(index, 399), kept[min(index, 399)], _path(tree, index))
    log.close()


def _path(tree: SqliteTree, index: int) -> list[bytes]:
    return inclusion(tree, min(index, 399), 400)


async def test_a_snapshot_does_not_see_what_is_appended_meanwhile(path: Path, clock: Clock, say: Say) -> None:
    log = await filled(path, clock, say, 10)
    before = (await log.head()).root
    with snapshot(path) as tree:
        for version in range(10, 20):
            await say(log, at=version)
        assert (tree.size(), root_at(tree, 10).hex()) == (10, before)
        for ask in (lambda: tree.leaf(10), lambda: list(tree.leaves(5, 11)), lambda: tree.leaf(-1)):
            with pytest.raises(IndexError):
                ask()
    log.close()


async def test_tiles_that_were_lost_are_derived_and_made_up_for(path: Path, clock: Clock, say: Say) -> None:
    log = await filled(path, clock, say, 511)
    log._writer.db.execute("DELETE FROM tiles")
    with snapshot(path) as tree:
        assert root_at(tree, 511).hex() == (await log.head()).root
    await say(log, at=511)
    with snapshot(path) as tree:
        assert [len(tree.full_tile(0, number) or b"") for number in (0, 1)] == [TILE_BYTES, TILE_BYTES]
    log.close()


def test_a_log_of_65_537_leaves_has_the_root_of_its_growing_frontier(path: Path, clock: Clock) -> None:
    log = SqliteLog(path, clock, inline=True, sync=Sync.OFF)
    db, frontier, kept = log._writer.db, Frontier(), leaves(TILE_WIDTH**2 + 1)
    with transaction(db):
        db.executemany(sql.ADD_ENTRY, [(index, "s", index + 1, "k", leaf) for index, leaf in enumerate(kept)])
        for leaf in kept:
            frontier = frontier.plus(leaf)
        complete_tiles(db, 0, 70)  # in two goes
        complete_tiles(db, 70, len(kept))
        db.execute(sql.MOVE_HEAD, (frontier.size, frontier.to_bytes(), ""))
    log.close()
    with snapshot(path) as tree:
        assert root_at(tree, tree.size()) == frontier.root()
        assert tree.tile_roots(0, 0, 256) == tree.full_tile(1, 0) == tile(ListTree(kept), 1, 0)
        assert tree.tile_roots(0, 0, 257) is None
        assert includes(frontier.root(), len(kept), 65_535, kept[65_535], inclusion(tree, 65_535, len(kept)))


def test_no_tile_is_made_of_leaves_that_are_gone(path: Path, clock: Clock) -> None:
    log = SqliteLog(path, clock, inline=True, sync=Sync.OFF)
    with pytest.raises(Permanent, match="no tile can be made: the log has 0 of the entries from 0 up to 256"):
        complete_tiles(log._writer.db, 0, 256)
    log.close()


async def test_a_leaf_that_no_bundle_can_carry_is_not_appended(path: Path, clock: Clock, say: Say) -> None:
    log = await filled(path, clock, say, 1)
    overhead = len(SqliteTree(log._writer.db).leaf(0)) - 10
    with pytest.raises(Permanent, match=r"has 65536 bytes of at most 65535.*Put its bulk into a blob"):
        await say(log, at=1, size=MAX_LEAF_BYTES + 1 - overhead)
    await say(log, at=1, size=MAX_LEAF_BYTES - overhead)
    assert len(SqliteTree(log._writer.db).leaf(1)) == MAX_BUNDLED_BYTES
    log.close()


def test_the_tree_of_an_older_file_is_not_guessed(path: Path, clock: Clock) -> None:
    log = SqliteLog(path, clock, inline=True)
    log._writer.db.execute("PRAGMA user_version = 1")
    with pytest.raises(Permanent, match="has schema 1, not 2"), snapshot(path):
        pass
    log.close()


def test_the_empty_tree_has_the_hash_of_nothing(path: Path, clock: Clock) -> None:
    SqliteLog(path, clock, inline=True).close()
    with snapshot(path) as tree:
        assert root_at(tree, 0) == hashlib.sha256(b"").digest()
