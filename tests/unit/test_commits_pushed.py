"""What one commit that is pushed may say, read from its bytes: by whom, when, standing on what, and in which words."""

from __future__ import annotations

import pytest

from controller.adapters.git_commits import AHEAD_S, KEY_CHARS, MESSAGE_BYTES, MOST_PARENTS, OLDEST, faults_of
from controller.provenance.identity import GitIdentity

BY = GitIdentity("flyball-author", "shop-1a2b3c@flyball.invalid")
NOW_S = 1_800_000_000
ONE, OTHER = "1" * 40, "2" * 40


def commit(
    message: str = "Sort by price\n", *, at: int = NOW_S, zone: str = "+0000", parents: tuple[str, ...] = (ONE,)
) -> bytes:
    lines = [f"tree {'a' * 40}", *(f"parent {one}" for one in parents)]
    lines += [f"{who} {BY.spelt} {at} {zone}" for who in ("author", "committer")]
    return ("\n".join(lines) + "\n\n" + message).encode()


def test_a_commit_that_says_what_it_was_told_has_no_fault() -> None:
    assert faults_of(commit(), BY, NOW_S) == frozenset()
    assert faults_of(commit(parents=(ONE, OTHER)), BY, NOW_S) == frozenset()
    assert faults_of(commit("x" * MESSAGE_BYTES, at=NOW_S + AHEAD_S, zone="-1400"), BY, NOW_S) == frozenset()


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (commit(parents=(ONE, ONE)), "odd_parents"),
        (commit(parents=tuple(f"{number:040x}" for number in range(MOST_PARENTS + 1))), "odd_parents"),
        (commit(at=NOW_S + AHEAD_S + 1), "absurd_dates"),
        (commit(at=OLDEST - 1), "absurd_dates"),
        (commit(zone="+0060"), "absurd_dates"),
        (commit(zone="+1401"), "absurd_dates"),
        (commit("x" * (MESSAGE_BYTES + 1)), "unreadable_messages"),
        (commit("Sort\u202e by price\n"), "unreadable_messages"),
        (commit("Sort\n\nSigned-off-by: Ann <ann@example.org>\n"), "signed_off"),
        (commit("Sort\n\nSigned-\u043eff-by: Ann <ann@example.org>\n"), "signed_off"),
        (commit("Sort\n\n\u0421o-authored-by: Ann <ann@example.org>\n"), "forged_trailers"),
        (commit("Use " + "ghp_" + "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3z0A" + "\n"), "secret_messages"),
        (commit().replace(b"\n\n", b"\nencoding latin1\n\n", 1), "extra_headers"),
        (commit().replace(b"flyball-author", b"Ann", 1), "foreign_identities"),
    ],
)
def test_a_commit_that_says_more_has_that_fault_alone(raw: bytes, fault: str) -> None:
    assert faults_of(raw, BY, NOW_S) == {fault}


def test_words_beyond_where_a_key_would_end_are_nobodys_trailer() -> None:
    assert faults_of(commit("\u0430" * KEY_CHARS + " Signed-off-by: Ann\n"), BY, NOW_S) == frozenset()
