"""Answers that may be long, one page at a time: each says where it stops and how to read on. Nothing is ever cut away.

The bound is on bytes as they are sent. Offsets are bytes of UTF-8 in texts, and entries from 0 in lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tools.belt import NotPossible, bounded, whole_schema

NOTE_BYTES = 200  # kept free for the note at a page's end
LEAST_BYTES = 400  # of a page's own text, whatever stands above it
MAX_OFFSET = 100_000_000


def offset_schema(of: str) -> Mapping[str, Any]:
    return whole_schema(f"Where to read on: {of}", minimum=0, maximum=MAX_OFFSET)


def page_of_text(text: str, offset: int, limit_bytes: int, *, head: str = "") -> str:
    """`head` stands on every page. Pages end after a line where they can. Raises NotPossible beyond the end."""
    raw = text.encode(errors="replace")
    if offset and offset >= len(raw):
        raise NotPossible(f"it has {len(raw)} bytes; there is no byte {offset}")
    start = _whole_character(raw, offset)
    end = _page_end(raw, start, _room(head, limit_bytes))
    note = "" if end == len(raw) else f"[bytes {start} to {end} of {len(raw)}; read on with offset {end}]"
    return _joined(head, raw[start:end].decode(), note)


def page_of_entries(entries: Sequence[str], offset: int, limit_bytes: int, *, head: str = "") -> str:
    """An entry that is longer than a page loses its middle, and says so. Raises NotPossible beyond the end."""
    if offset and offset >= len(entries):
        raise NotPossible(f"there are {len(entries)} entries; there is no entry {offset}")
    room = _room(head, limit_bytes)
    shown: list[str] = []
    for entry in entries[offset:]:
        short = bounded(entry, room)
        room -= len(short.encode()) + 1
        if room < 0 and shown:
            break
        shown.append(short)
    end = offset + len(shown)
    note = (
        "" if end == len(entries) else f"[entries {offset} to {end - 1} of {len(entries)}; read on with offset {end}]"
    )
    return _joined(head, "\n".join(shown), note)


def _room(head: str, limit_bytes: int) -> int:
    return max(LEAST_BYTES, limit_bytes - NOTE_BYTES - len(head.encode()))


def _page_end(raw: bytes, start: int, room: int) -> int:
    if start + room >= len(raw):
        return len(raw)
    end = _whole_character(raw, start + room)
    line_end = raw.rfind(b"\n", start + room // 2, end) + 1
    return line_end or end


def _whole_character(raw: bytes, at: int) -> int:
    """The first byte of the character that holds byte `at`."""
    while 0 < at < len(raw) and raw[at] & 0xC0 == 0x80:  # noqa: PLR2004 - how UTF-8 marks what continues a character
        at -= 1
    return at


def _joined(*parts: str) -> str:
    return "\n".join(part.rstrip("\n") for part in parts if part)
