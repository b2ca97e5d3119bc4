"""RFC 6962 Merkle trees: what a log of n leaves hashes to, and that a leaf is in it.

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


@dataclass(frozen=True, slots=True)
class Frontier:
    """The compact range [0, size): one node per set bit of `size`, largest subtree first."""

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nodes) != self.size.bit_count() or any(len(node) != HASH_BYTES for node in self.nodes):
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
    split = _split(len(leaf_hashes))
    return node_hash(root_of(leaf_hashes[:split]), root_of(leaf_hashes[split:]))


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962, section 2.1.1: the sibling hashes from the leaf up.

    Raises IndexError for a leaf that is not there.
    """
    if not 0 <= index < len(leaf_hashes):
        raise IndexError(f"leaf {index} of a tree of {len(leaf_hashes)}")
    if len(leaf_hashes) == 1:
        return []
    split = _split(len(leaf_hashes))
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


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
