"""Survivors that somebody has looked at, each with the reason why no test has to notice it.

An entry is known by what it says, not by where it stands: it goes on holding when lines are added above it, and ends
with the line that it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import yaml
from mutation_sites import Mutant

FIELDS = {"file", "function", "was", "becomes", "reason"}
LEAST_REASON = 15  # characters: "equivalent" alone explains nothing


class Key(NamedTuple):
    file: str
    function: str
    was: str
    becomes: str


def accepted(path: Path) -> dict[Key, str]:
    """Reasons. Raises ValueError, which names the entry, for one that is not whole or stands twice."""
    found: dict[Key, str] = {}
    for at, entry in enumerate(yaml.safe_load(path.read_text()) or [], 1):
        if not isinstance(entry, dict) or set(entry) != FIELDS:
            raise ValueError(f"{path}: entry {at} must have exactly {', '.join(sorted(FIELDS))}")
        if len(str(entry["reason"]).strip()) < LEAST_REASON:
            raise ValueError(f"{path}: entry {at} ({entry['file']}) gives no reason: {entry['reason']!r}")
        key = Key(*(str(entry[name]) for name in Key._fields))
        if key in found:
            raise ValueError(f"{path}: entry {at} stands twice: {key}")
        found[key] = str(entry["reason"]).strip()
    return found


def stale(known: Iterable[Key], mutants: Iterable[Mutant]) -> list[Key]:
    """Entries about code that is not there any more."""
    there = {Key(*one.key) for one in mutants}
    return [key for key in known if key not in there]
