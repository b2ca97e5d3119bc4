"""people/<delivery>: what people say about it."""

from __future__ import annotations

from typing import Literal

from controller.domain.decision import Decision
from controller.domain.events.base import Event
from controller.domain.ids import (
    Commit,
    Digest,
    SessionId,
)
from controller.domain.sealed import Sealed


class PersonActed(Event):
    """An act of a person: who, what, on what exactly, and how long it took them."""

    act: Literal["approve", "reject", "hold", "release", "promote", "retry", "unstick"]
    person: str
    event_id: str
    head: Commit | None = None  # approve and reject bind to a head; the other acts bind to the delivery
    policy: Digest | None = None
    words: Sealed | None = None
    minutes: int = 0


class AgentActed(Event):
    """What an agent says of a delivery: it may hold it, and take back its own hold, and nothing else."""

    act: Literal["hold", "release"]
    agent: str
    session: SessionId
    event_id: str
    words: Sealed
    decision: Decision
