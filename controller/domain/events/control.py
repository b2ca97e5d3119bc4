"""control: stops, freezes, revocations, and who writes under which rules."""

from __future__ import annotations

from controller.domain.events.base import Event, Label
from controller.domain.ids import (
    Digest,
    SessionId,
)


class Stopped(Event):
    scope: str  # "all" | "agent:<role>" | "service:<name>" | "repository:<name>" | "branch:<repository>@<branch>"
    by: str
    reason: str
    event_id: str


class Resumed(Event):
    scope: str
    by: str
    reason: str
    event_id: str


class Frozen(Event):
    """Forward verbs are blocked by a breaker; a named person lifts it with `resume`."""

    scope: str
    reason: str


class SessionRevoked(Event):
    session: SessionId
    by: str
    reason: str
    event_id: str


class ControllerStarted(Event):
    version: str
    policy: Digest
    settings: Digest
    label: Label
