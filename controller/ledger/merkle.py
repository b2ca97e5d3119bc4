"""RFC 6962 Merkle trees: what a log of n leaves hashes to, that a leaf is in it, and that it grew from a smaller one.

A leaf's hash is SHA-256(0x00 || leaf), a node's SHA-256(0x01 || left || right); the prefixes keep a node from being
passed off as a leaf. The writer keeps only the frontier: the roots of the perfect subtrees that the leaves so far fall
into, largest first (at most one per bit of the size). One more leaf costs one hash on average, and the frontier gives
the root. The verifier uses `root_of` over all leaves, written from the RFC's recursive definition and sharing nothing
with the frontier but the two hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def fold(hashes: bytes) -> bytes:
    """The root over 2^k concatenated hashes."""
    sha256, pair = hashlib.sha256, 2 * HASH_BYTES
    while len(hashes) > HASH_BYTES:
        hashes = b"".join([sha256(b"\x01" + hashes[at : at + pair]).digest() for at in range(0, len(hashes), pair)])
    return hashes


@dataclass(frozen=True, slots=True)
class Frontier:
    """The compact range [0, size): one node per set bit of `size`, largest subtree first."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nodes) != self.size.bit_count() or not {*map(len, self.nodes)} <= {HASH_BYTES}:
            raise ValueError(
                f"a frontier of {self.size} leaves has {self.size.bit_count()} nodes of {HASH_BYTES} bytes"
            )

    def plus(self, leaf: bytes) -> Frontier:
        """The frontier one leaf later. Every trailing one bit of the size is a subtree that the new leaf completes."""
        nodes, carry, size = list(self.nodes), leaf_hash(leaf), self.size
        while size & 1:
            carry = node_hash(nodes.pop(), carry)
            size >>= 1
        return Frontier(self.size + 1, (*nodes, carry))

    def root(self) -> bytes:
        if not self.nodes:
            return EMPTY_ROOT
        found = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            found = node_hash(left, found)
        return found

    def to_bytes(self) -> bytes:
        return b"".join(self.nodes)

    @staticmethod
    def from_bytes(size: int, stored: bytes) -> Frontier:
        """Raises ValueError when the number of nodes does not fit the size."""
        return Frontier(size, tuple(stored[at : at + HASH_BYTES] for at in range(0, len(stored), HASH_BYTES)))


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962, section 2.1."""
    if not leaf_hashes:
        return EMPTY_ROOT
    if len(leaf_hashes) == 1:
        return leaf_hashes[0]
    split = split_of(len(leaf_hashes))
    return node_hash(root_of(leaf_hashes[:split]), root_of(leaf_hashes[split:]))


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1: the sibling hashes from the leaf up.

    Raises IndexError for a leaf that is not there.
    """
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf {index} of a tree of {len(leaf_hashes)}")
    if len(leaf_hashes) == 1:
        return []
    split = split_of(len(leaf_hashes))
    if index < split:
        return [*inclusion_proof(index, leaf_hashes[:split]), root_of(leaf_hashes[split:])]
    return [*inclusion_proof(index - split, leaf_hashes[split:]), root_of(leaf_hashes[:split])]


def includes(root: bytes, size: int, index: int, leaf: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `size` leaves with this root has `leaf` at `index` (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf_hash(leaf)
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def consistency_proof(old: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PROOF(old, D[n]) of RFC 9162, section 2.1.4.1. Empty when `old` is 0 or n.

    Raises IndexError for an old size that is not there.
    """
    if not 0 <= old <= len(leaf_hashes):
        raise IndexError(f"a tree of {len(leaf_hashes)} leaves did not grow from one of {old}")
    return _subproof(old, leaf_hashes, known=True) if old else []


def _subproof(old: int, leaf_hashes: Sequence[bytes], *, known: bool) -> list[bytes]:
    """`known`: the verifier has this subtree's root already, for it is the old tree."""
    if old == len(leaf_hashes):
        return [] if known else [root_of(leaf_hashes)]
    split = split_of(len(leaf_hashes))
    if old <= split:
        return [*_subproof(old, leaf_hashes[:split], known=known), root_of(leaf_hashes[split:])]
    return [*_subproof(old - split, leaf_hashes[split:], known=False), root_of(leaf_hashes[:split])]


def extends(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `new` leaves begins with the tree of `old` leaves (RFC 9162, section 2.1.4.2).

    Every tree extends the empty one, with an empty proof.
    """
    if not 0 <= old <= new or (old == 0 and old_root != EMPTY_ROOT):
        return False
    if old in (0, new):
        return not proof and (old < new or old_root == new_root)
    path = [old_root, *proof] if old.bit_count() == 1 else list(proof)
    return bool(path) and _grown_roots(old, new, path) == (old_root, new_root)


def _grown_roots(old: int, new: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The two roots that a proof leads to. None: it is too long or too short for these sizes."""
    shift = (~(old - 1) & old).bit_length() - 1  # trailing ones of old - 1: how high the old edge's subtree reaches
    node, last = (old - 1) >> shift, (new - 1) >> shift
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not node & 1 and node != 0:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    return (before, after) if last == 0 else None


def split_of(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
