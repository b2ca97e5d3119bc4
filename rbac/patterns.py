"""Patterns over canonical names: `*` is anything within a segment, `**` whole segments, everything else itself.

Cedar's `like` knows one wildcard that also crosses slashes, so `src/*.py` would match `src/a/b.py`; segments
therefore are matched here, and Cedar is given the answer as a boolean fact. Patterns that allow are matched exactly;
patterns that protect ignore case and cover the folder itself, because a file system may be blind to case where git is
not.

Patterns come from agents too, so none may take long: one with a single wildcard in each segment is a regular
expression, every other is walked without ever going back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from rbac.canonical import PATH_CHARACTERS, is_spelt

MAX_PATTERN = 300  # characters
MAX_STARS = 40  # in one pattern; a `**` has two
NEVER = r"(?!)"  # matches nothing


@lru_cache(maxsize=4096)
def check_pattern(pattern: str) -> str:
    """The pattern itself. Raises ValueError naming what is wrong with it."""
    if not pattern or len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters, found {len(pattern)}")
    if pattern.count("*") > MAX_STARS:
        raise ValueError(f"a pattern has at most {MAX_STARS} times *, found {pattern.count('*')}")
    for segment in pattern.split("/"):
        if not segment or not is_spelt(segment.replace("*", "")) or segment in {".", ".."}:
            raise ValueError(f"pattern {pattern!r}: {segment!r} is no segment; use [{PATH_CHARACTERS}] with * and **")
        if "**" in segment and segment != "**":
            raise ValueError(f"pattern {pattern!r}: ** stands alone between slashes")
    return pattern


def matches(pattern: str, name: str) -> bool:
    """Whether a canonical name is one that the pattern allows. Takes at most their lengths' product in steps."""
    return _matcher(pattern)(name)


def matches_any(patterns: tuple[str, ...], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


def protects(pattern: str, name: str) -> bool:
    """Whether a canonical name is one that the pattern protects: case does not matter, and `a/**` covers `a` too."""
    lowered, folded = pattern.lower(), name.lower()
    return matches(lowered, folded) or (lowered.endswith("/**") and matches(lowered.removesuffix("/**"), folded))


def protected_by(patterns: tuple[str, ...], name: str) -> str | None:
    """The first pattern that protects this name. None: nothing does."""
    return next((pattern for pattern in patterns if protects(pattern, name)), None)


def protected_by_any(patterns: tuple[str, ...], name: str) -> bool:
    """Whether there is one, at the price of a single match for all plain ones, however many they are."""
    if not patterns:
        return False
    plain, others = _protecting(patterns)
    folded = name.lower()
    return plain.fullmatch(folded) is not None or any(matches(pattern, folded) for pattern in others)


@lru_cache(maxsize=1024)
def _protecting(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """One expression for the plain ones, and the others."""
    lowered = [check_pattern(pattern).lower() for pattern in patterns]
    folders = [pattern.removesuffix("/**") for pattern in lowered if pattern.endswith("/**")]
    both = (*lowered, *folders)
    plain = [_expression(pattern) for pattern in both if _is_plain(pattern)]
    others = tuple(pattern for pattern in both if not _is_plain(pattern))
    return re.compile("|".join(f"(?:{one})" for one in plain) or NEVER), others


@lru_cache(maxsize=4096)
def _matcher(pattern: str) -> Callable[[str], bool]:
    if _is_plain(check_pattern(pattern)):
        expression = re.compile(_expression(pattern))
        return lambda name: expression.fullmatch(name) is not None
    pieces = tuple(tuple(segment.split("*")) if segment != "**" else None for segment in pattern.split("/"))
    return lambda name: _walked(pieces, name)


def _is_plain(pattern: str) -> bool:
    """Whether a regular expression has one way to match: what follows a single wildcard says where it ends.

    With more, each has as many ends as the name has characters, and an expression that fails tries their product.
    """
    *leading, _last = pattern.split("/")
    return leading.count("**") <= 1 and all(segment.count("*") <= 1 or segment == "**" for segment in (*leading, _last))


def _expression(pattern: str) -> str:
    segments = pattern.split("/")
    last = len(segments) - 1
    return "".join(_segment(segment, last=at == last) for at, segment in enumerate(segments))


def _segment(segment: str, *, last: bool) -> str:
    if segment == "**":
        return r"[^/]+(?:/[^/]+)*" if last else r"(?:[^/]+/)*"
    text = "[^/]*".join(re.escape(part) for part in segment.split("*"))
    return text if last else text + "/"


Pieces = tuple[str, ...]  # of a segment, between its `*`


def _walked(pattern: tuple[Pieces | None, ...], name: str) -> bool:
    """All places of the pattern that the name can have come to, segment by segment. None in it: `**`."""
    end = len(pattern)
    places = _with_nothing_for_stars(pattern, {0})
    for segment in name.split("/"):
        found: set[int] = set()
        for at in places - {end}:
            pieces = pattern[at]
            if pieces is None:
                found |= {at, end} if at == end - 1 else {at}  # at the end it stands for one segment at least
            elif _fits(pieces, segment):
                found.add(at + 1)
        places = _with_nothing_for_stars(pattern, found)
    return end in places


def _with_nothing_for_stars(pattern: tuple[Pieces | None, ...], places: set[int]) -> set[int]:
    """Those too that are reached when each `**` with something behind it stands for no segment."""
    reached = set(places)
    for at, pieces in enumerate(pattern[:-1]):
        if pieces is None and at in reached:
            reached.add(at + 1)
    return reached


def _fits(pieces: Pieces, segment: str) -> bool:
    """Each piece at the first place that is free: a later one would leave less for those behind it."""
    if len(pieces) == 1:
        return segment == pieces[0]
    first, *middle, last = pieces
    start, end = len(first), len(segment) - len(last)
    if start > end or not (segment.startswith(first) and segment.endswith(last)):
        return False
    for piece in middle:
        at = segment.find(piece, start, end)
        if at < 0:
            return False
        start = at + len(piece)
    return True
