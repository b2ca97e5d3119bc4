"""Search in the texts of a tree: plain text, or a regular expression in a child process with limits.

Files that the session may not read are left out before anything is looked for. If only their hits were, the bound on
hits and the time that an expression takes would tell what stands in them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from controller.confined import NotParsed, Why, confined
from tools.belt import NotPossible, lines_of
from tools.regex_worker import MATCHING
from tools.tree import Tree

MAX_SEARCHED_BYTES = 16 * 1024 * 1024
MAX_HITS = 200
MAX_LINE_CHARS = 400
REGEX_S = 5.0


@dataclass(frozen=True, slots=True)
class Texts:
    """The searchable files of a tree. `left_out` says how many were too large, binary or past the bound."""

    texts: dict[str, str]
    left_out: int


@dataclass(frozen=True, slots=True)
class Searcher:
    """Whoever searches, and what it may read: of many files at once, and then of each that has a hit."""

    session: str
    unreadable: Callable[[Sequence[str]], Awaitable[frozenset[str]]]
    may_read: Callable[[str], Awaitable[bool]]


async def search(tree: Tree, pattern: str, beneath: str, *, regex: bool, by: Searcher) -> str:
    """Hits as path:line: text. Files that this session may not read are as if they were not there."""
    there = await asyncio.to_thread(lambda: [one.path for one in tree.walk(beneath) if not one.is_link])
    hidden = await by.unreadable(there)
    found = await asyncio.to_thread(_texts, tree, [path for path in there if path not in hidden])
    paths = list(found.texts)
    lines = (
        await _by_regex(pattern, list(found.texts.values()), by.session) if regex else _plainly(pattern, found.texts)
    )
    allowed = {paths[at]: await by.may_read(paths[at]) for at in {at for at, _ in lines}}
    hits = [_hit(paths[at], number, found.texts[paths[at]]) for at, number in lines if allowed[paths[at]]]
    return _report(hits, found.left_out)


def _report(hits: list[str], left_out: int) -> str:
    notes = []
    if len(hits) >= MAX_HITS:
        notes.append(f"[the first {MAX_HITS} hits; search for something narrower]")
    if left_out:
        notes.append(f"[{left_out} files were not searched: binary, too large, or too many]")
    return "\n".join([*(hits or ["No hits."]), *notes])


def _hit(path: str, number: int, text: str) -> str:
    line = text.split("\n")[number - 1]
    return f"{path}:{number}: {line.strip()[:MAX_LINE_CHARS]}"


def _texts(tree: Tree, paths: Sequence[str]) -> Texts:
    texts: dict[str, str] = {}
    size = left_out = 0
    for path in paths:
        text = None if size > MAX_SEARCHED_BYTES else _text(tree, path)
        if text is None:
            left_out += 1
        else:
            texts[path] = text
            size += len(text)
    return Texts(texts, left_out)


def _text(tree: Tree, path: str) -> str | None:
    """None: there is no text to search there."""
    try:
        content = tree.read(path)
        return None if b"\0" in content else content.decode()
    except (NotPossible, UnicodeDecodeError):
        return None


def _plainly(pattern: str, texts: dict[str, str]) -> list[tuple[int, int]]:
    lines: list[tuple[int, int]] = []
    for at, text in enumerate(texts.values()):
        if pattern in text:
            lines += [(at, number) for number, line in enumerate(lines_of(text), 1) if pattern in line]
        if len(lines) >= MAX_HITS:
            break
    return lines[:MAX_HITS]


async def _by_regex(pattern: str, texts: list[str], asker: str) -> list[tuple[int, int]]:
    asked = json.dumps({"pattern": pattern, "texts": texts, "limit": MAX_HITS}).encode()
    try:
        answer = json.loads(await confined(MATCHING, asked, seconds=REGEX_S, asker=asker))
    except NotParsed as no:
        if no.why is Why.TIME:
            words = f"the expression took longer than {REGEX_S:g} s; search for plain text instead"
            raise NotPossible(words) from None
        raise NotPossible(f"the expression cannot be run: {no.message}") from no
    if isinstance(answer, dict):
        raise NotPossible(f"the pattern is no regular expression: {answer['error'][:200]}")
    return [(at, number) for at, number in answer]
