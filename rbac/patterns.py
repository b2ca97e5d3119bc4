"""Patterns over canonical names: `*` is anything within a segment, `**` whole segments, everything else itself.

Cedar's `like` knows one wildcard that also crosses slashes, so `src/*.py` would match `src/a/b.py`; segments
therefore are matched here, and Cedar is given the answer as a boolean fact. Patterns that allow are matched exactly;
patterns that protect ignore case and cover the folder itself, because a file system may be blind to case where git is
not.
"""

from __future__ import annotations

import re
from functools import lru_cache

from rbac.canonical import PATH_CHARACTERS

MAX_PATTERN = 300  # characters
_SEGMENT = re.compile(f"[*{PATH_CHARACTERS}]+")


@lru_cache(maxsize=4096)
def check_pattern(pattern: str) -> str:
    """The pattern itself. Raises ValueError naming what is wrong with it."""
    if not pattern or len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has 1 to {MAX_PATTERN} characters, found {len(pattern)}")
    for segment in pattern.split("/"):
        if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
            raise ValueError(f"pattern {pattern!r}: {segment!r} is no segment; use [{PATH_CHARACTERS}] with * and **")
        if "**" in segment and segment != "**":
            raise ValueError(f"pattern {pattern!r}: ** stands alone between slashes")
    return pattern


def matches(pattern: str, name: str) -> bool:
    """Whether a canonical name is one that the pattern allows."""
    return _compiled(pattern).fullmatch(name) is not None


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
    """Whether there is one, at the price of a single match however many they are."""
    return bool(patterns) and _protecting(patterns).fullmatch(name.lower()) is not None


@lru_cache(maxsize=1024)
def _protecting(patterns: tuple[str, ...]) -> re.Pattern[str]:
    lowered = [pattern.lower() for pattern in patterns]
    folders = [pattern.removesuffix("/**") for pattern in lowered if pattern.endswith("/**")]
    return re.compile("|".join(f"(?:{_compiled(pattern).pattern})" for pattern in (*lowered, *folders)))


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    segments = check_pattern(pattern).split("/")
    last = len(segments) - 1
    parts = [_segment(segment, last=at == last) for at, segment in enumerate(segments)]
    return re.compile("".join(parts))


def _segment(segment: str, *, last: bool) -> str:
    if segment == "**":
        return r"[^/]+(?:/[^/]+)*" if last else r"(?:[^/]+/)*"
    text = "".join("[^/]*" if part == "*" else re.escape(part) for part in re.split(r"(\*)", segment))
    return text if last else text + "/"
