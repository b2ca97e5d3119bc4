"""effect/<key>: one effect on the world."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from controller.domain.decision import Decision
from controller.domain.events.base import Event
from controller.domain.ids import (
    Digest,
    EffectKey,
    StreamId,
)
from controller.domain.sealed import Sealed


class EffectIntended(Event):
    """The intent is version 1 of its stream, so a key can be claimed once."""

    key: EffectKey
    verb: str
    agent: str
    direction: Literal["forward", "safe"]
    single: Literal["world-CAS", "world-unique", "probeable", "neither"]
    args: Digest
    subject: StreamId
    owner: str
    fence: int
    deadline: datetime
    decision: Decision
    allowed_by: tuple[str, ...]


class EffectClaimed(Event):
    """Another worker takes over after the deadline: a higher fence, and it looks at the world before it acts."""

    owner: str
    fence: int
    deadline: datetime


class EffectDone(Event):
    terminal: ClassVar[bool] = True
    fence: int
    how: Literal["acted", "found"]
    result: str  # canonical JSON of the verb's result


class EffectFailed(Event):
    """The world said no and nothing was changed."""

    terminal: ClassVar[bool] = True
    fence: int
    reason: str
    detail: Sealed | None = None  # in the world's own words; None: nothing to add, or an older log


class EffectUnknown(Event):
    """It may or may not have happened, and nothing can tell: a person must look. Never retried."""

    terminal: ClassVar[bool] = True
    fence: int
    reason: str
