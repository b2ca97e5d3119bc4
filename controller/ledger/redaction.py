"""Secrets taken out of a text before the text is kept: `[secret:<type>:<hmac8>]` stands where one stood.

The eight hex digits are of an HMAC-SHA256 under a key of this state folder: the same secret has the same mark wherever
it turns up, and nobody without the key can try out guesses against it. Redaction is a pure function of text and key,
and a second time changes nothing. It guards what Flyball keeps, not what agents see: it misses what has no known shape
and no telling name before it (docs/privacy.md has the figures and the list).

`Redactor.clean` does the same for the free text that an event carries in clear, and for nothing else in it: ids,
digests, paths, branches and rule ids are what the log is joined by, and stay as they are.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from controller.domain.base import Fact
from controller.domain.entry import Draft
from controller.ledger.redaction_rules import CHECKS, MARK, MARKED, RULES, Rule

SENTENCE_CHARS = 600  # as domain.decision bounds a sentence: one that fitted fits with its marks too
PIECE_CHARS = 1024 * 1024  # a longer text is read in pieces; a secret on such a border may be missed

# Fields of facts that hold free text in clear, by name, however deep they lie. A test asks of every other field of text
# that it be known to hold names, ids, digests or paths.
FREE_TEXT = frozenset({"caveats", "error", "fallback", "question", "reason", "text", "why_not", "would_change"})
F = TypeVar("F", bound=Fact)


@dataclass(frozen=True, slots=True)
class Found:
    kind: str
    start: int  # in the text as it was
    end: int


@dataclass(frozen=True, slots=True)
class Redacted:
    text: str
    found: tuple[Found, ...]


class Redactor:
    """`key`: 32 bytes, as kept beside the other keys."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def redact(self, text: str) -> Redacted:
        """The text with a mark for every secret found, and what was found, in order."""
        found = tuple(secrets_in(text))
        out, at = [], 0
        for one in found:
            out += [text[at : one.start], self.mark(one.kind, text[one.start : one.end])]
            at = one.end
        return Redacted("".join([*out, text[at:]]), found)

    def mark(self, kind: str, secret: str) -> str:
        digest = hmac.digest(self._key, secret.encode("utf-8", "surrogatepass"), "sha256")
        return f"{MARK}{kind}:{digest.hex()[:8]}]"

    def clean(self, draft: Draft) -> Draft:
        """The draft as the log may keep it: its free text in clear redacted. The very same one where nothing is."""
        event = self._fact(draft.event)
        return draft if event is draft.event else replace(draft, event=event)

    def _fact(self, fact: F) -> F:
        changed = {}
        for name in type(fact).model_fields:
            before = getattr(fact, name)
            after = self._value(before, free=name in FREE_TEXT)
            if after is not before:
                changed[name] = after
        return fact.model_copy(update=changed) if changed else fact

    def _value(self, value: Any, *, free: bool) -> Any:
        if isinstance(value, Fact):
            return self._fact(value)
        if isinstance(value, tuple):
            cleaned = tuple(self._value(one, free=free) for one in value)
            return value if all(a is b for a, b in zip(cleaned, value, strict=True)) else cleaned
        return self._sentence(value) if free and type(value) is str else value

    def _sentence(self, text: str) -> str:
        redacted = self.redact(text)
        if not redacted.found:
            return text
        return redacted.text[:SENTENCE_CHARS] if len(text) <= SENTENCE_CHARS else redacted.text


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
