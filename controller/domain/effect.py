"""An effect, folded from its stream: claimed once, taken over only with a higher fence, and ended exactly once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import EffectKey


class EffectState(StrEnum):
    ABSENT = "absent"
    OPEN = "open"
    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Effect:
    key: EffectKey
    version: int = 0
    state: EffectState = EffectState.ABSENT
    intent: e.EffectIntended | None = None  # None: absent
    owner: str = ""
    fence: int = 0
    deadline: datetime | None = None  # None: absent
    result: str = ""  # canonical JSON once done
    reason: str = ""


def fold(key: EffectKey, entries: list[Entry]) -> Effect:
    state = Effect(key)
    for entry in entries:
        state = evolve(state, entry)
    return state


def evolve(state: Effect, entry: Entry) -> Effect:
    now = replace(state, version=entry.version)
    match entry.event:
        case e.EffectIntended() as event:
            opened = replace(now, state=EffectState.OPEN, intent=event, owner=event.owner)
            return replace(opened, fence=event.fence, deadline=event.deadline)
        case e.EffectClaimed() as event:
            return replace(now, owner=event.owner, fence=event.fence, deadline=event.deadline)
        case e.EffectDone() as event:
            return replace(now, state=EffectState.DONE, result=event.result)
        case e.EffectFailed() as event:
            return replace(now, state=EffectState.FAILED, reason=event.reason)
        case e.EffectUnknown() as event:
            return replace(now, state=EffectState.UNKNOWN, reason=event.reason)
        case _:
            return now
