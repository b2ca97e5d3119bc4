"""CODEOWNERS, as GitHub and GitLab read it: the last pattern that matches a path says who owns it.

Patterns are gitignore's, without `!` and character ranges: `*` and `?` stay within a segment, `**` crosses them, a
pattern with a slash that is not its last character is tied to the root, and one that names a folder owns all below it.
GitLab's sections each have their own last match, and all of them count. A pattern with no owner owns nothing, which
takes a path out of what an earlier line says. Matching makes no regular
expression, and its cost is bounded by pattern times path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACES = (".github/CODEOWNERS", ".gitlab/CODEOWNERS", "CODEOWNERS", "docs/CODEOWNERS")  # the first that exists counts
MOST_BYTES = 3 << 20  # GitHub reads no larger one
MOST_LINES = 20_000
_SECTION = re.compile(r"\^?\[([^\]]{1,200})\](?:\[\d{1,3}\])?\s*(.*)")


@dataclass(frozen=True, slots=True)
class Line:
    pattern: tuple[str, ...]  # segments; "**" crosses any number of them
    owners: tuple[str, ...]


class Owners:
    def __init__(self, text: str) -> None:
        self._sections: dict[str, list[Line]] = {}
        section, default = "", tuple[str, ...]()
        for raw in text.removeprefix("\ufeff").splitlines()[:MOST_LINES]:
            line = re.split(r"(?:^|\s)#", raw, maxsplit=1)[0].strip()
            if not line:
                continue
            if (head := _SECTION.fullmatch(line)) is not None:
                section, default = head[1].lower(), tuple(head[2].split())
                continue
            pattern, *owners = re.split(r"(?<!\\)\s+", line)
            self._sections.setdefault(section, []).append(Line(_segments(pattern), tuple(owners) or default))

    def of(self, path: str) -> tuple[str, ...]:
        """Sorted, each once. Empty: nobody owns it."""
        found: set[str] = set()
        parts = tuple(path.split("/"))
        for lines in self._sections.values():
            last = next((line for line in reversed(lines) if _matches(line.pattern, parts)), None)
            found |= set(last.owners) if last else set()
        return tuple(sorted(found))


def _segments(pattern: str) -> tuple[str, ...]:
    plain = pattern.replace("\\ ", " ").replace("\\#", "#")
    tied = "/" in plain.rstrip("/")
    parts = [part for part in plain.strip("/").split("/") if part]
    beneath = [] if plain.endswith("/*") or parts[-1:] == ["**"] else ["**"]
    return tuple(([] if tied else ["**"]) + parts + (["**", "*"] if plain.endswith("/") else beneath))


def _matches(pattern: tuple[str, ...], path: tuple[str, ...]) -> bool:
    """`**` stands for any number of segments, or none. Two marks suffice: the last `**` takes what is left over."""
    at, seen, star, back = 0, 0, -1, 0
    while seen < len(path):
        if at < len(pattern) and pattern[at] == "**":
            star, back = at, seen
            at += 1
        elif at < len(pattern) and _like(pattern[at], path[seen]):
            at, seen = at + 1, seen + 1
        elif star >= 0:
            back += 1
            at, seen = star + 1, back
        else:
            return False
    return all(part == "**" for part in pattern[at:])


def _like(pattern: str, name: str) -> bool:
    """`*` any characters, `?` one."""
    at, seen, star, back = 0, 0, -1, 0
    while seen < len(name):
        if at < len(pattern) and pattern[at] == "*":
            star, back = at, seen
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", name[seen]):
            at, seen = at + 1, seen + 1
        elif star >= 0:
            back += 1
            at, seen = star + 1, back
        else:
            return False
    return all(one == "*" for one in pattern[at:])
