"""The tree against the reference inputs and roots of Certificate Transparency, and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    extends,
    fold,
    includes,
    inclusion_proof,
    leaf_hash,
    root_of,
)

# The leaves, roots and proofs of google/certificate-transparency's merkle tree tests, over which RFC 6962 logs agree.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PROOF_OF_LEAF_5_IN_8 = [
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]

# Their consistency proofs, by old and new size.
GROWTH = {
    (1, 8): (
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ),
    (6, 8): (
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (2, 5): (
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ),
}


def grown(leaves: list[bytes]) -> Frontier:
    frontier = Frontier()
    for leaf in leaves:
        frontier = frontier.plus(leaf)
    return frontier


@pytest.mark.parametrize("size", range(9))
def test_the_roots_are_those_that_every_rfc_6962_log_has(size: int) -> None:
    assert root_of([leaf_hash(leaf) for leaf in LEAVES[:size]]).hex() == ROOTS[size]
    assert grown(LEAVES[:size]).root().hex() == ROOTS[size]


def test_the_reference_proof_is_found_and_believed() -> None:
    proof = inclusion_proof(5, [leaf_hash(leaf) for leaf in LEAVES])
    assert [node.hex() for node in proof] == PROOF_OF_LEAF_5_IN_8
    assert includes(bytes.fromhex(ROOTS[8]), 8, 5, LEAVES[5], proof)


@given(st.lists(st.binary(max_size=40), max_size=130))
def test_the_growing_frontier_has_the_root_of_the_whole_tree(leaves: list[bytes]) -> None:
    frontier = grown(leaves)
    assert frontier.root() == root_of([leaf_hash(leaf) for leaf in leaves])
    assert Frontier.from_bytes(frontier.size, frontier.to_bytes()) == frontier


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=40), st.data())
def test_a_proof_holds_for_its_own_leaf_place_and_tree_only(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    hashes = [leaf_hash(leaf) for leaf in leaves]
    root, proof, size = root_of(hashes), inclusion_proof(index, hashes), len(leaves)
    assert includes(root, size, index, leaves[index], proof)
    assert not includes(root, size, index, leaves[index] + b"x", proof)
    assert not includes(root, size, index, leaves[index], [*proof, EMPTY_ROOT])
    assert not includes(EMPTY_ROOT, size, index, leaves[index], proof)
    assert not includes(root, size, size, leaves[index], proof)
    if proof:
        assert not includes(root, size, index, leaves[index], proof[:-1])


@pytest.mark.parametrize(("old", "new"), list(GROWTH))
def test_the_reference_growth_is_found_and_believed(old: int, new: int) -> None:
    proof = consistency_proof(old, [leaf_hash(leaf) for leaf in LEAVES[:new]])
    assert [node.hex() for node in proof] == list(GROWTH[old, new])
    assert extends(old, bytes.fromhex(ROOTS[old]), new, bytes.fromhex(ROOTS[new]), proof)


@given(st.integers(1, 70), st.integers(0, 70), st.data())
def test_growth_is_believed_for_its_own_trees_only(new: int, old: int, data: st.DataObject) -> None:
    hashes, old = [leaf_hash(b"%d" % index) for index in range(new)], min(old, new)
    before, after, proof = root_of(hashes[:old]), root_of(hashes), consistency_proof(old, hashes)
    assert extends(old, before, new, after, proof)
    assert not extends(old, before, new, after, [*proof, EMPTY_ROOT])
    assert not extends(old, bytes(32), new, after, proof)
    assert not extends(old + new + 1, before, new, after, proof)
    if 0 < old < new:
        assert not extends(old, before, new, bytes(32), proof)
        assert not extends(old, before, new, after, proof[:-1])
        assert not extends(old, before, new, after, [])
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not extends(old, before, new, after, [*proof[:at], bytes(32), *proof[at + 1 :]])


def test_a_rewritten_history_has_no_proof_of_growth() -> None:
    honest = [leaf_hash(b"%d" % index) for index in range(50)]
    rewritten = [*honest[:20], leaf_hash(b"another"), *honest[21:], leaf_hash(b"50")]
    for old in range(1, 51):
        proof = consistency_proof(old, rewritten)
        assert extends(old, root_of(honest[:old]), 51, root_of(rewritten), proof) is (old <= 20)


def test_folding_a_power_of_two_is_the_recursive_root() -> None:
    for height in range(9):
        hashes = [leaf_hash(b"%d" % index) for index in range(1 << height)]
        assert fold(b"".join(hashes)) == root_of(hashes)


def test_a_node_cannot_be_passed_off_as_a_leaf() -> None:
    one, two = leaf_hash(b"1"), leaf_hash(b"2")
    assert leaf_hash(one + two) != root_of([one, two])


def test_a_frontier_that_does_not_fit_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a frontier of 3 leaves has 2 nodes"):
        Frontier.from_bytes(3, b"\x00" * 32)
    with pytest.raises(ValueError, match="32 bytes"):
        Frontier.from_bytes(1, b"\x00" * 31)


def test_there_is_no_proof_of_a_leaf_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        inclusion_proof(8, [leaf_hash(leaf) for leaf in LEAVES])
