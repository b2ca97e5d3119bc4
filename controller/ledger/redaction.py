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
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from controller.domain.base import Fact
from controller.domain.entry import Draft
from controller.domain.secret_rules import MARK
from controller.domain.secrets_found import Found, secrets_in

SENTENCE_CHARS = 600  # as domain.decision bounds a sentence: one that fitted fits with its marks too

# Fields of facts that hold free text in clear, by name, however deep they lie. A test asks of every other field of text
# that it be known to hold names, ids, digests or paths.
FREE_TEXT = frozenset({"caveats", "error", "fallback", "question", "reason", "text", "why_not", "would_change"})
F = TypeVar("F", bound=Fact)

__all__ = ["FREE_TEXT", "SENTENCE_CHARS", "Found", "Redacted", "Redactor", "secrets_in"]


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

    def clean_text(self, text: str) -> str:
        """The text without its secrets, for whoever is told it. A second time changes nothing."""
        return self.redact(text).text

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
