"""Which lines of the grants to delete so that a role loses some tools and nothing else."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from rbac.model import Closed
from rbac.strict_yaml import Document, parse


class LineChange(Closed):
    """One line of a file of grants, counted from 1."""

    file: str
    line: int
    old: str
    new: str | None  # None: the line goes


def without(folder: Path, role: str, tools: Collection[str]) -> tuple[LineChange, ...]:
    """For a file that loads. A grant of which no tool is left goes as a whole, and with the last of them every line."""
    name = f"grants/{role}.yaml"
    text = (folder / name).read_text()
    document, lines = parse(text, name), text.splitlines()
    changes: dict[int, str | None] = {}
    for at, grant in enumerate(document.content["grants"]):
        gone = [tool for tool in grant["tools"] if tool in tools]
        if gone and len(gone) == len(grant["tools"]):
            changes |= dict.fromkeys(_lines_of(document, at), None)
        elif gone:
            changes |= _fewer_tools(document, lines, at, gone)
    if all(tool in tools for grant in document.content["grants"] for tool in grant["tools"]):
        changes = dict.fromkeys(range(1, len(lines) + 1), None)
    return tuple(LineChange(file=name, line=line, old=lines[line - 1], new=changes[line]) for line in sorted(changes))


def _lines_of(document: Document, at: int) -> range:
    """From a grant's first value to its last; comments above it are a reader's to judge."""
    within = [line for place, line in document.lines.items() if place[:2] == ("grants", at)]
    return range(min(within), max(within) + 1)


def _fewer_tools(document: Document, lines: list[str], at: int, gone: list[str]) -> dict[int, str | None]:
    changes: dict[int, str | None] = {}
    every = document.content["grants"][at]["tools"]
    for tool in gone:
        number = document.lines["grants", at, "tools", every.index(tool)]
        old = changes.get(number) or lines[number - 1]
        if old.strip().removeprefix("-").strip().strip("\"'") == tool:
            changes[number] = None  # a tool on a line of its own
        else:
            changes[number] = _without_word(old, tool)
    return changes


def _without_word(line: str, tool: str) -> str:
    word = rf"""["']?(?<![\w.-]){re.escape(tool)}(?![\w.-])["']?"""
    shorter = re.sub(rf"{word},\s*", "", line, count=1)
    return shorter if shorter != line else re.sub(rf",\s*{word}", "", line, count=1)
