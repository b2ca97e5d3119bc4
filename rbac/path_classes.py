"""Which classes is a path in? One list of names that mean more than their content, and the one question to it.

Grants, the colour of a change and what an agent is shown all ask here, so that no name is careful in one place and
plain in another. The list is `rbac/path_names.py`. Case does not matter, for some file systems are blind to it, and
neither do compatibility forms of a letter: to class a name too strictly asks a person, to class it too loosely asks
nobody. A path may be in several classes. Matching costs a few look-ups per segment, and time linear in a name.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from rbac.path_names import ROWS, PathClass

__all__ = ["PathClass", "classes_of", "is_in", "patterns_of"]

_EXAMPLES = (".example", ".sample", ".template", ".tmpl", ".dist")  # of a file with secrets, and without them


@lru_cache(maxsize=32_768)
def classes_of(path: str) -> frozenset[PathClass]:
    """The classes of a repository-relative path; empty: a plain file. Never raises, whatever the path is."""
    segments = _folded(path).split("/")
    found = {one for at, segment in enumerate(segments) for one in _at(segments, at, segment)}
    if segments[-1].endswith(_EXAMPLES):
        found.discard(PathClass.HOLDS_SECRETS)
    return frozenset(found)


def is_in(path: str, classes: Iterable[PathClass]) -> bool:
    """Whether the path is in one of these classes."""
    return not classes_of(path).isdisjoint(classes)


def patterns_of(path_class: PathClass) -> tuple[str, ...]:
    """As they stand in the list: for pages and for tests."""
    return tuple(pattern for row in ROWS if row.path_class is path_class for pattern in row.patterns.split())


def _folded(path: str) -> str:
    """Without the differences that some file system does not make."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", path).casefold())


def _at(segments: list[str], at: int, name: str) -> Iterable[PathClass]:
    """What stands at one segment: rows of folders count on the way, rows of files at the end of it."""
    is_last = at == len(segments) - 1
    for rule in (*_INDEX.get(name, ()), *(rule for parts, rule in _GLOBS if is_last and _is_like(name, parts))):
        if (is_last or rule.is_folder) and rule.stands_at(segments, at):
            yield rule.path_class


def _is_like(name: str, parts: tuple[str, ...]) -> bool:
    """Whether these parts stand in the name in order, the first at its start and the last at its end.

    No backtracking: the leftmost place of each part leaves the most room for the next.
    """
    first, *middle, last = parts
    if len(name) < len(first) + len(last) or not (name.startswith(first) and name.endswith(last)):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@dataclass(frozen=True, slots=True)
class _Rule:
    path_class: PathClass
    before: tuple[str, ...]  # segments that must stand before the name
    is_folder: bool
    at_root: bool

    def stands_at(self, segments: list[str], at: int) -> bool:
        start = at - len(self.before)
        return (start == 0 if self.at_root else start >= 0) and tuple(segments[start:at]) == self.before


def _rule(path_class: PathClass, pattern: str) -> tuple[str, _Rule]:
    *before, name = pattern.strip("/").split("/")
    return name, _Rule(path_class, tuple(before), pattern.endswith("/"), pattern.startswith("/"))


def _indexed() -> tuple[dict[str, tuple[_Rule, ...]], tuple[tuple[tuple[str, ...], _Rule], ...]]:
    plain: dict[str, tuple[_Rule, ...]] = {}
    globs = []
    for row in ROWS:
        for pattern in row.patterns.split():
            name, rule = _rule(row.path_class, _folded(pattern))
            if "*" in name:
                globs.append((tuple(name.split("*")), rule))
            else:
                plain[name] = (*plain.get(name, ()), rule)
    return plain, tuple(globs)


_INDEX, _GLOBS = _indexed()
