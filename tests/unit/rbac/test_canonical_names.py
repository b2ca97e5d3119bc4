from __future__ import annotations

import posixpath
import subprocess
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Refused
from rbac import canonical
from rbac.patterns import check_pattern, matches, protected_by

PIECES = [*"aB.-_/~+:@{}*?[]\\^ %$", "\x00", "\n", "\u0430", "\u0301", "\u200b", "\uff0e"]
WORDS = ["..", "/./", ".git", "main", "HEAD", "refs/heads/", ".lock", "src/"]
TRICKY = st.lists(st.sampled_from([*PIECES, *WORDS]), max_size=9).map("".join)
ANYTHING = st.one_of(TRICKY, st.text(max_size=40))
CHECKS: dict[str, Callable[[str], str]] = {
    "path": canonical.path,
    "branch": canonical.branch,
    "repository": canonical.repository,
    "delivery": canonical.delivery,
}


def accepted(check: Callable[[str], str], raw: str) -> str | None:
    try:
        return check(raw)
    except Refused:
        return None


@pytest.mark.parametrize("kind", CHECKS)
@given(raw=ANYTHING)
def test_a_name_comes_back_as_it_is_or_not_at_all(kind: str, raw: str) -> None:
    found = accepted(CHECKS[kind], raw)
    assert found in (None, raw)
    if found is not None:
        assert CHECKS[kind](found) == found


@given(raw=ANYTHING)
def test_an_accepted_path_has_no_second_spelling_and_stays_inside(raw: str) -> None:
    if (path := accepted(canonical.path, raw)) is None:
        return
    assert posixpath.normpath(path) == path
    assert unicodedata.normalize("NFKC", path) == path
    assert posixpath.join("/repository", path).startswith("/repository/")
    assert ".git" not in path.lower().split("/")


PATTERNS = st.lists(st.sampled_from(["src", "*", "**", "a*", "*.py", ".github", "B"]), min_size=1, max_size=4).map(
    "/".join
)


@given(raw=ANYTHING, pattern=PATTERNS)
def test_canonicalising_never_widens_what_a_pattern_allows(raw: str, pattern: str) -> None:
    path = accepted(canonical.path, raw)
    if path is not None and matches(pattern, path):
        assert matches(pattern, posixpath.normpath(raw))


@given(raw=ANYTHING, pattern=PATTERNS)
def test_what_a_pattern_allows_it_also_protects_in_any_case(raw: str, pattern: str) -> None:
    path = accepted(canonical.path, raw)
    if path is not None and matches(pattern, path):
        assert protected_by((pattern,), path.upper())
        assert protected_by((pattern,), path)


@settings(max_examples=60, deadline=None)
@given(
    raw=st.one_of(TRICKY, st.from_regex(r"[a-zA-Z0-9/._@=-]{1,12}", fullmatch=True)).filter(
        lambda raw: "\x00" not in raw
    )
)
def test_git_itself_accepts_every_branch_that_is_accepted(raw: str) -> None:
    if (branch := accepted(canonical.branch, raw)) is not None:
        answer = subprocess.run(
            ["git", "check-ref-format", "--branch", branch], capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, branch
        assert answer.stdout.strip() == branch


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/a/b.py", False),
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", False),
        ("src/**", "src2/a", False),
        ("**/CODEOWNERS", "CODEOWNERS", True),
        ("**/CODEOWNERS", "a/b/CODEOWNERS", True),
        ("**/CODEOWNERS", "a/MYCODEOWNERS", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("**", "a/b", True),
        ("*", "a/b", False),
        ("a.py", "axpy", False),
    ],
)
def test_a_star_stays_within_its_segment(pattern: str, name: str, allowed: bool) -> None:
    assert matches(pattern, name) is allowed


@pytest.mark.parametrize(
    "pattern", ["", "/src/**", "src/../x", "src/**.py", "src//a", "src/a?", "./a", "a/", "a\u0308/**"]
)
def test_a_pattern_that_could_surprise_is_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        check_pattern(pattern)


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        ("a/../b", "path/traversal"),
        ("/a", "path/absolute"),
        ("a//b", "path/empty-segment"),
        ("a\\b", "path/characters"),
        ("", "path/length"),
        ("-a", "path/segment-edges"),
        ("x/.Git/y", "path/git-directory"),
        ("a" * 256, "path/length"),
    ],
)
def test_a_refused_path_names_the_rule_that_it_broke(raw: str, rule: str) -> None:
    with pytest.raises(Refused) as no:
        canonical.path(raw)
    assert no.value.rules == (rule,)
