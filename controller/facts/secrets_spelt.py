"""Secrets in a text as it is, and as a program would put it together: strings joined, base64 and hexadecimal decoded.

What is put together counts only where its own shape makes it a secret. Keys that are computed in any other way, or that
have no shape, are not found.
"""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from controller.domain.secret_rules import SHAPES
from controller.domain.secrets_found import secrets_in

_SHAPED = frozenset(rule.name for rule in SHAPES)
_JOINT = re.compile(r"([\"'`])\s{0,40}(?:[+.,&]{0,2}|\\)\s{0,40}[rbfu]{0,2}\1")  # "a" + "b", 'a' 'b', ["a", "b"]
_CODED = re.compile(r"[A-Za-z0-9+/_-]{24,4000}={0,2}")
MOST_CODED = 2_000  # words of a text that are decoded


@dataclass(frozen=True, slots=True)
class Spelt:
    kind: str
    first: int  # lines, from 1
    last: int


def secrets_spelt(text: str) -> Iterator[Spelt]:
    """The same secret may come more than once."""
    lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def between(kind: str, start: int, end: int) -> Spelt:
        return Spelt(kind, bisect_right(lines, start), bisect_right(lines, max(start, end - 1)))

    yield from (between(one.kind, one.start, one.end) for one in secrets_in(text))
    joined, places = _joined(text)
    for one in secrets_in(joined) if places else ():
        if one.kind in _SHAPED:
            yield between(one.kind, _before(places, one.start), _before(places, one.end - 1) + 1)
    for number, word in enumerate(_CODED.finditer(text)):
        if number >= MOST_CODED:
            return
        for kind in _decoded(word.group()):
            yield between(kind, word.start(), word.end())


def _joined(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Without what stands between two strings; from where on, how many characters are missing."""
    parts, places, at, gone = [], list[tuple[int, int]](), 0, 0
    for joint in _JOINT.finditer(text):
        parts.append(text[at : joint.start()])
        gone += joint.end() - joint.start()
        at = joint.end()
        places.append((at - gone, gone))
    return "".join([*parts, text[at:]]), places


def _before(places: list[tuple[int, int]], at: int) -> int:
    """Where a character of the joined text stood."""
    found = bisect_right(places, at, key=lambda place: place[0])
    return at + (places[found - 1][1] if found else 0)


def _decoded(word: str) -> Iterator[str]:
    """Kinds of secrets that a word of base64 or hexadecimal stands for."""
    for decode in (_base64, _hexadecimal):
        try:
            text = decode(word).decode("ascii")
        except (ValueError, binascii.Error):
            continue
        yield from (one.kind for one in secrets_in(text) if one.kind in _SHAPED)


def _base64(word: str) -> bytes:
    plain = word.rstrip("=").translate(str.maketrans("-_", "+/"))
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _hexadecimal(word: str) -> bytes:
    return bytes.fromhex(word)
