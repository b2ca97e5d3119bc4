"""Patterns mean what they always meant, and none of them takes long, whoever wrote it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbac.patterns import MAX_PATTERN, MAX_STARS, check_pattern, matches, protected_by, protected_by_any, protects

SEGMENTS = st.one_of(st.just("**"), st.text("ab*", min_size=1, max_size=5).filter(lambda text: "**" not in text))
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)
NAMES = st.lists(st.text("abA", min_size=1, max_size=6), min_size=1, max_size=6).map("/".join)
HOSTILE = [
    ("*a" * 12 + "*b", "a" * 250),
    ("*a" * 19 + "*b", "a" * 250),
    ("**/" * 12 + "b", "/".join(["a"] * 500)),
    ("**/a/" * 19 + "b", "/".join(["a"] * 500)),
    ("**/*a*a*a/" * 5 + "b", "/".join(["aaaa"] * 200)),
    ("*/" * 19 + "**/*b", "/".join(["a"] * 500)),
    ("a*/" * 19 + "b", "/".join(["a" * 50] * 20)),
]


def by_backtracking(pattern: str, name: str) -> bool:
    """What patterns meant from the first, spelt as one regular expression."""
    segments = pattern.split("/")
    parts = []
    for at, segment in enumerate(segments):
        is_last = at == len(segments) - 1
        if segment == "**":
            parts.append(r"[^/]+(?:/[^/]+)*" if is_last else r"(?:[^/]+/)*")
            continue
        text = "".join("[^/]*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", segment))
        parts.append(text if is_last else text + "/")
    return re.fullmatch("".join(parts), name) is not None


@given(PATTERNS, NAMES)
def test_a_pattern_means_what_it_always_meant(pattern: str, name: str) -> None:
    assert matches(pattern, name) is by_backtracking(pattern, name)


@given(st.lists(PATTERNS, max_size=5).map(tuple), NAMES)
def test_asking_many_protecting_patterns_at_once_is_asking_each(patterns: tuple[str, ...], name: str) -> None:
    one_by_one = any(protects(pattern, name) for pattern in patterns)
    assert protected_by_any(patterns, name) is one_by_one
    assert (protected_by(patterns, name) is not None) is one_by_one


@pytest.mark.parametrize(("pattern", "name"), HOSTILE)
@pytest.mark.parametrize(
    "ask",
    [matches, protects, lambda pattern, name: protected_by_any((pattern,), name)],
    ids=["matches", "protects", "protected_by_any"],
)
def test_no_pattern_takes_long_on_any_name(ask: Callable[[str, str], bool], pattern: str, name: str) -> None:
    check_pattern(pattern)
    began = time.process_time()
    assert not ask(pattern, name)
    assert time.process_time() - began < 0.5  # measured: at most 20 ms; one that goes back takes years


def test_stars_have_a_bound() -> None:
    assert check_pattern("*a" * MAX_STARS) == "*a" * MAX_STARS
    with pytest.raises(ValueError, match=f"at most {MAX_STARS} times"):
        check_pattern("*a" * (MAX_STARS + 1))


def test_characters_have_a_bound() -> None:
    assert check_pattern("a" * MAX_PATTERN)
    with pytest.raises(ValueError, match=f"1 to {MAX_PATTERN} characters"):
        check_pattern("a" * (MAX_PATTERN + 1))
