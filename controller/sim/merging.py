"""Three-way merge of trees, each a mapping of path to text, line by line where both sides touched one file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import SequenceMatcher

Tree = Mapping[str, str]


def merge_trees(base: Tree, ours: Tree, theirs: Tree) -> tuple[dict[str, str], tuple[str, ...]]:
    """The merged tree and the paths that conflict. A path that conflicts keeps our side."""
    merged: dict[str, str] = {}
    conflicts: list[str] = []
    for path in sorted({*base, *ours, *theirs}):
        was, mine, other = base.get(path), ours.get(path), theirs.get(path)
        text = _merge_file(was, mine, other)
        if text is _CONFLICT:
            conflicts.append(path)
            text = mine
        if text is not None:
            merged[path] = text
    return merged, tuple(conflicts)


_CONFLICT = "\x00conflict"


def _merge_file(was: str | None, mine: str | None, other: str | None) -> str | None:
    """None: the file is gone. `_CONFLICT`: both changed it, and not in the same way."""
    if other in (mine, was):
        return mine
    if mine == was:
        return other
    if was is None or mine is None or other is None:
        return _CONFLICT
    lines = _merge_lines(was.splitlines(keepends=True), mine.splitlines(keepends=True), other.splitlines(keepends=True))
    return _CONFLICT if lines is None else "".join(lines)


def _merge_lines(was: list[str], mine: list[str], other: list[str]) -> list[str] | None:
    """None: a stretch of lines was changed on both sides in different ways."""
    merged: list[str] = []
    at, at_mine, at_other = 0, 0, 0
    for start, start_mine, start_other, length in _agreed(was, mine, other):
        gap = (was[at:start], mine[at_mine:start_mine], other[at_other:start_other])
        settled = _merge_gap(*gap)
        if settled is None:
            return None
        merged += settled + was[start : start + length]
        at, at_mine, at_other = start + length, start_mine + length, start_other + length
    return merged


def _merge_gap(was: list[str], mine: list[str], other: list[str]) -> list[str] | None:
    if other in (mine, was):
        return mine
    return other if mine == was else None


def _agreed(was: list[str], mine: list[str], other: list[str]) -> list[tuple[int, int, int, int]]:
    """Stretches that all three share, as (start in was, in mine, in other, length); the last is empty, at the ends."""
    in_mine = SequenceMatcher(None, was, mine, autojunk=False).get_matching_blocks()
    in_other = SequenceMatcher(None, was, other, autojunk=False).get_matching_blocks()
    found = []
    for one in in_mine:
        for two in in_other:
            start, end = max(one.a, two.a), min(one.a + one.size, two.a + two.size)
            if start < end:
                found.append((start, one.b + start - one.a, two.b + start - two.a, end - start))
    return [*found, (len(was), len(mine), len(other), 0)]
