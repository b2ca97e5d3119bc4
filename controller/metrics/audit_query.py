"""Questions to the audit index: values that an entry must have, words of its reasons, a span of time; newest first.

Time in the log never runs backwards, so a span of time is a span of entries, found in the log itself by halving.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from controller.errors import ConfigError
from controller.metrics.audit_facets import Facet, words_of
from controller.metrics.audit_index import PIECE, AuditIndex, Leaves

MAX_PAGE = 1000
_ALL = (1 << PIECE) - 1
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


@dataclass(frozen=True, slots=True)
class Question:
    """All of it must hold; of several values of one facet, one."""

    where: Mapping[Facet, tuple[str, ...]] = field(default_factory=dict)
    text: str = ""  # words of a reason, all of them, in any order
    since: datetime | None = None  # None: from the first entry on
    until: datetime | None = None  # None: up to the last; itself not included
    before: int | None = None  # None: the first page; else the index that the page before ended at
    limit: int = 50

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= MAX_PAGE:
            raise ConfigError(f"a page of {self.limit} entries", f"Ask for 1 to {MAX_PAGE}")


@dataclass(frozen=True, slots=True)
class Answer:
    hits: tuple[int, ...]  # log indices, newest first
    total: int  # of this and all older pages
    before: int | None  # for the next page. None: there is none


def ask(index: AuditIndex, log: Leaves, question: Question) -> Answer:
    """The index must have caught up; entries beyond it are not found."""
    hits: list[int] = []
    total = 0
    for piece, bits in _matching(index, log, question):
        total += bits.bit_count()
        while bits and len(hits) < question.limit:
            top = bits.bit_length() - 1
            hits.append(piece * PIECE + top)
            bits ^= 1 << top  # noqa: PLW2901 - taken off from the top
    more = total > len(hits)
    return Answer(tuple(hits), total, hits[-1] if more and hits else None)


def every(index: AuditIndex, log: Leaves, question: Question) -> list[int]:
    """All of them, oldest first."""
    found: list[int] = []
    for piece, bits in _matching(index, log, question):
        found.extend(piece * PIECE + place for place in range(bits.bit_length() - 1, -1, -1) if bits >> place & 1)
    return found[::-1]


def time_of(text: str, now: datetime) -> datetime:
    """A date, a time, or how long ago: "30d", "12h", "2026-11-22", "2026-11-22T09:30+01:00". No zone means UTC."""
    if text[-1:] in _UNITS and text[:-1].isdigit():
        return now - int(text[:-1]) * _UNITS[text[-1]]
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time", "Say 30d, 12h, 2026-11-22 or 2026-11-22T09:30") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def place_at(log: Leaves, at: datetime) -> int:
    """The index of the first entry at this time or later; the log's size when there is none."""
    return bisect_left(range(log.size()), at, key=lambda index: _time(log.leaf(index)))


def _matching(index: AuditIndex, log: Leaves, question: Question) -> Iterator[tuple[int, int]]:
    """The newest piece first, with the bits of the entries in it for which everything holds."""
    low, high = _span(index, log, question)
    if low >= high:
        return
    first, last = low // PIECE, (high - 1) // PIECE
    wanted = [_any_of(index, facet, values, first, last) for facet, values in question.where.items()]
    wanted += [index.members(Facet.WORD, word, first, last) for word in words_of(question.text)]
    for piece in range(last, first - 1, -1):
        bits = _between(low - piece * PIECE, high - piece * PIECE)
        for members in wanted:
            bits &= members.get(piece, 0)
        if bits:
            yield piece, bits


def _any_of(index: AuditIndex, facet: Facet, values: tuple[str, ...], first: int, last: int) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        for piece, bits in index.members(facet, value, first, last).items():
            found[piece] = found.get(piece, 0) | bits
    return found


def _span(index: AuditIndex, log: Leaves, question: Question) -> tuple[int, int]:
    low = place_at(log, question.since) if question.since else 0
    high = min(index.position, log.size())
    if question.until is not None:
        high = min(high, place_at(log, question.until))
    if question.before is not None:
        high = min(high, question.before)
    return low, high


def _between(low: int, high: int) -> int:
    """Bits [low, high) of a piece; both may lie outside it."""
    return _ALL & ((1 << max(0, min(high, PIECE))) - 1) & ~((1 << max(0, min(low, PIECE))) - 1)


def _time(leaf: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(leaf)["time"])
