"""The tree against the reference inputs and roots of Certificate Transparency, and against itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.ledger.merkle import EMPTY_ROOT, Frontier, includes, inclusion_proof, leaf_hash, root_of

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
