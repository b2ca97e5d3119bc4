"""Where secrets stand in a text. Redaction of the log and the facts of a change ask here, by one list of shapes.

Pure, and linear in the text: every repetition of `secret_rules` is bounded, and a rule is asked only where one of its
hints stands.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from controller.domain.secret_rules import CHECKS, MARKED, RULES, Rule

PIECE_CHARS = 1024 * 1024  # a longer text is read in pieces; a secret on such a border may be missed


@dataclass(frozen=True, slots=True)
class Found:
    kind: str
    start: int  # in the text as it was
    end: int


def secrets_in(text: str) -> Iterator[Found]:
    """Where secrets stand, in order and never overlapping."""
    for begin in range(0, len(text), PIECE_CHARS):
        piece = text[begin : begin + PIECE_CHARS]
        marks = [mark.span() for mark in MARKED.finditer(piece)]
        for one in _merged(_matches(piece)):
            if not any(start < one.end and one.start < end for start, end in marks):  # what was redacted once is done
                yield Found(one.kind, begin + one.start, begin + one.end)


def _matches(text: str) -> Iterator[tuple[int, int, int]]:
    """(start, end, number of the rule)."""
    lowered = _lower(text)
    for number, rule in enumerate(RULES):
        for hint in rule.hints:  # plain loops: this line is most of the time that a text without secrets takes
            if hint in lowered:
                break
        else:
            continue
        for match in rule.pattern.finditer(lowered if rule.folded else text):
            start, end = _span(match.start(), match.end(), match.regs[1:])
            if CHECKS[rule.check](text[start:end]) and not (rule.check == "edge" and _within_a_word(text, start, rule)):
                yield start, end, number


def _lower(text: str) -> str:
    """In lower case, every character where it was: a few letters outside ASCII have longer forms, and are left."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c.lower() if c.isascii() else c for c in text)


def _span(start: int, end: int, groups: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    return next((group for group in groups if group[0] >= 0), (start, end))


def _within_a_word(text: str, start: int, rule: Rule) -> bool:
    """Whether a shape begins inside a longer word. The letter of an escape, as in JSON, is no part of a word."""
    if rule.pattern.groups or start == 0 or not text[start - 1].isalnum():
        return False
    return not (start > 1 and text[start - 2] == "\\" and text[start - 1] in "nrt")


def _merged(spans: Iterator[tuple[int, int, int]]) -> Iterator[Found]:
    """Overlapping finds are one, named by the most particular rule."""
    at: tuple[int, int, int] | None = None
    for start, end, number in sorted(spans):
        if at is None or start >= at[1]:
            if at is not None:
                yield Found(RULES[at[2]].name, at[0], at[1])
            at = (start, end, number)
        else:
            at = (at[0], max(at[1], end), min(at[2], number))
    if at is not None:
        yield Found(RULES[at[2]].name, at[0], at[1])
