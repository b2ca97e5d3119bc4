"""Characters that a reader does not see, or takes for others, in lines that a change adds.

Sources: "Trojan Source" (Boucher and Anderson, 2021) for what turns the direction of text, Unicode TR 36 and UTS 39 for
what cannot be seen and what looks alike. Writing systems that need such characters keep them: joiners between letters
that are joined by them, joiners and tags inside emoji, marks of direction in lines of right-to-left script.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from rbac.lookalikes import has_mixed_word, looks_like

Found = tuple[str, int, str]  # a rule, a line counted from 1, words
_TURNING = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))
_MARKS = frozenset("\u200e\u200f\u061c")
_TAGS = frozenset(map(chr, range(0xE0000, 0xE1000)))  # and other variation selectors, which can carry text
_JOINERS = frozenset("\u200c\u200d")
_NOTHING_SEEN = frozenset(
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060\u2061\u2062\u2063\u2064\u3164\ufeff\uffa0"
)
_ALLOWED_CONTROLS = frozenset("\t\r\f")
_BLACK_FLAG, _CANCEL_TAG = "\U0001f3f4", "\U000e007f"
_FLAG = re.compile(f"{_BLACK_FLAG}[\U000e0020-\U000e007e]{{1,8}}{_CANCEL_TAG}")
_WORD = re.compile(r"[^\W\d_]+")


def invisible(text: str, added: frozenset[int]) -> Iterator[Found]:
    """The first of each kind in a line."""
    for number, line in enumerate(text.split("\n"), start=1):
        if number not in added or (line.isascii() and line.isprintable()):
            continue
        kept = line.removeprefix("\ufeff") if number == 1 else line
        for kind in sorted({kind for kind in _kinds(_FLAG.sub("", kept)) if kind}):
            yield f"invisible/{kind}", number, ""


def _kinds(line: str) -> Iterator[str]:
    right_to_left = any(unicodedata.bidirectional(char) in ("R", "AL") and char not in _MARKS for char in line)
    for at, char in enumerate(line):
        if char in _TURNING:
            yield "direction"
        elif char in _MARKS:
            yield "" if right_to_left else "direction"
        elif char in _JOINERS:
            yield "" if _joins(line, at) else "zero-width"
        elif char in _NOTHING_SEEN:
            yield "zero-width"
        elif char in _TAGS:
            yield "tag"
        elif unicodedata.category(char) == "Cc" and char not in _ALLOWED_CONTROLS:
            yield "control"


def _joins(line: str, at: int) -> bool:
    """Between two characters of a script that is not ASCII: letters that it shapes, or emoji."""
    around = (line[at - 1 : at], line[at + 1 : at + 2])
    return all(one and not one.isascii() and not unicodedata.category(one).startswith("Z") for one in around)


def mixed(text: str, added: frozenset[int]) -> Iterator[Found]:
    """A word of two scripts that reads as a word of one: `admin` with a Cyrillic first letter."""
    for number, line in enumerate(text.split("\n"), start=1):
        if number in added and not line.isascii():
            words = [word for word in _WORD.findall(line) if _passes_for_another(word)]
            if words:
                yield "lookalike/mixed", number, words[0]


def _passes_for_another(word: str) -> bool:
    if word.isascii() or not has_mixed_word(word):
        return False
    strange = (char for char in word if not char.isascii() and not unicodedata.name(char, "").startswith("LATIN"))
    return any(looks_like(char).isascii() for char in strange)


def passes_for_ascii(name: str) -> bool:
    """A whole name in another script, or in another shape of its letters, that reads as one in ASCII.

    A single Greek letter is what mathematics calls its quantities.
    """
    if len(name) == 1 and unicodedata.name(name, "").startswith("GREEK"):
        return False
    latin = all(unicodedata.name(char, "").startswith("LATIN") for char in name if not char.isascii())
    return not name.isascii() and not latin and looks_like(name).isascii()
