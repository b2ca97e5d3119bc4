"""privacy and reading/<reader>: keys destroyed, holds, retention, and who opened which sealed text.

Everything here names scopes of keys ("month/2026-11", "person/<pseudonym>", "delivery/<id>"), never their words. A hold
may also name "all".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from controller.domain.base import Fact
from controller.domain.events.base import Event
from controller.domain.ids import Digest, StreamId
from controller.domain.sealed import Sealed

PRIVACY = StreamId("privacy")
EVERYTHING = "all"
# Regulation (EU) 2024/1689, article 19(1): logs are kept at least six months. Half a leap year and a day.
MINIMUM_DAYS = 184


class KeyDestroyed(Event):
    """In the log before the key is gone from the disk: who finds the key still there finishes what was begun."""

    key_id: str  # "<scope>:<8 hex>"
    why: Literal["erasure", "retention"]
    by: str
    reason: str
    event_id: str


class LegalHoldSet(Event):
    """Nothing in its scope is destroyed until it is lifted, whoever asks and however old it is."""

    scope: str
    by: str
    reason: str
    event_id: str


class LegalHoldLifted(Event):
    scope: str
    by: str
    reason: str
    event_id: str


class RetentionApplied(Event):
    """What was old enough to go: each destroyed key has its own KeyDestroyed beside this entry."""

    days: int  # how long text is kept
    destroyed: tuple[str, ...]  # ids of keys
    held: tuple[str, ...]  # old enough too, but under a legal hold
    by: str
    event_id: str


class ReasoningRead(Event):
    """A person was about to be shown sealed text. When is the entry's own time."""

    by: str
    entry: int | None  # log index of the entry that the text belongs to; None: asked for by its digest alone
    key_id: str
    digest: Digest  # of the ciphertext


def reading_stream(reader: str) -> StreamId:
    """One a reader, so that readers do not wait for one another."""
    return StreamId(f"reading/{reader.replace(':', '/', 1)}")


def sealed_in(value: Any) -> Iterator[Sealed]:
    """Every sealed text of a fact, however deep it lies."""
    if isinstance(value, Sealed):
        yield value
    elif isinstance(value, Fact):
        for name in type(value).model_fields:
            yield from sealed_in(getattr(value, name))
    elif isinstance(value, tuple):
        for one in value:
            yield from sealed_in(one)
