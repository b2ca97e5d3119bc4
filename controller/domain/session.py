"""An agent's run, folded from its stream. Everything a second process needs to take it up where the first one fell."""

from __future__ import annotations

from dataclasses import dataclass, replace

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import NO_MONEY, MicroUsd, SessionId


@dataclass(frozen=True, slots=True)
class Session:
    id: SessionId
    version: int = 0
    started: e.SessionStarted | None = None  # None: not begun
    replies: tuple[e.ReplyRecorded, ...] = ()  # in turn order
    turns: tuple[e.TurnRecorded, ...] = ()
    reserved: e.ModelCallReserved | None = None  # None: no call is under way
    refusals: int = 0
    tainted: bool = False
    ended: e.SessionEnded | None = None  # None: under way
    cost_micro_usd: MicroUsd = NO_MONEY


def fold(session: SessionId, entries: list[Entry]) -> Session:
    state = Session(session)
    for entry in entries:
        state = evolve(state, entry)
    return state


def evolve(state: Session, entry: Entry) -> Session:  # noqa: PLR0911 - one flat table of facts
    now = replace(state, version=entry.version)
    match entry.event:
        case e.SessionStarted() as event:
            return replace(now, started=event, tainted=event.tainted)
        case e.ModelCallReserved() as event:
            return replace(now, reserved=event)
        case e.ReplyRecorded() as event:
            cost = MicroUsd(now.cost_micro_usd + event.cost_micro_usd)
            return replace(now, replies=(*now.replies, event), reserved=None, cost_micro_usd=cost)
        case e.TurnRecorded() as event:
            return replace(now, turns=(*now.turns, event), tainted=now.tainted or event.tainted)
        case e.CallRefused() as event:
            return replace(now, refusals=event.count)
        case e.SessionEnded() as event:
            return replace(now, ended=event)
        case _:
            return now
