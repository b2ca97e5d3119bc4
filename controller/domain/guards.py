"""Guards: the few projections that an append may test, under the lock that orders entries.

`project` is pure, so the guards can be rebuilt from the log and compared. Everything else that looks at the log catches
up later and decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import CONTROL, EffectKey, StreamId, kind_of


@dataclass(frozen=True, slots=True)
class StreamRow:
    stream: StreamId
    version: int
    terminal: bool
    wake_at: datetime
    waits_on: StreamId | None  # None: waits for nothing, or for the world
    waits_since: int  # log index of the entry that began the wait: the order of a line


@dataclass(frozen=True, slots=True)
class EffectRow:
    key: EffectKey
    state: str  # "open" | "done" | "failed" | "unknown"
    owner: str
    fence: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class CounterAdd:
    """Money moved in a scope and window. Reserved falls by what a settlement frees."""

    scope: str
    window: str
    reserved: int
    spent: int


@dataclass(frozen=True, slots=True)
class ControlRow:
    scope: str
    state: str  # "stopped" | "frozen" | "revoked" | "running"
    reason: str
    since: int  # log index


GuardRow = StreamRow | EffectRow | CounterAdd | ControlRow


# --- preconditions of an append ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotStopped:
    """None of these scopes is stopped, frozen or revoked."""

    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Under:
    """`amount` still fits under `limit` in this scope and window, counting what is spent and reserved."""

    scope: str
    window: str
    amount: int
    limit: int


@dataclass(frozen=True, slots=True)
class HoldsFence:
    """The effect is still open under this owner and fence: nobody has taken it over."""

    key: EffectKey
    owner: str
    fence: int


Guard = NotStopped | Under | HoldsFence
ENDED_AS: dict[type[e.Event], str] = {e.EffectDone: "done", e.EffectFailed: "failed", e.EffectUnknown: "unknown"}


def scopes_of_session(session: str, day: str) -> tuple[tuple[str, str], ...]:
    """Where a session's spending counts: its own budget, its delivery's, and the day's."""
    delivery = session.partition("/")[0]
    return ((f"session/{session}", "all"), (f"delivery/{delivery}", "all"), ("total", day))


def project(entry: Entry) -> list[GuardRow]:
    """What one entry changes in the guards."""
    event = entry.event
    rows: list[GuardRow] = [_stream(entry)]
    match event:
        case e.EffectIntended():
            rows.append(EffectRow(event.key, "open", event.owner, event.fence, event.deadline))
        case e.EffectClaimed():
            rows.append(EffectRow(_key(entry), "open", event.owner, event.fence, event.deadline))
        case e.EffectDone() | e.EffectFailed() | e.EffectUnknown():
            rows.append(EffectRow(_key(entry), ENDED_AS[type(event)], "", event.fence, entry.time))
        case e.ModelCallReserved():
            rows.extend(_money(entry, reserved=event.micro_usd, spent=0))
        case e.ReplyRecorded():
            rows.extend(_money(entry, reserved=-event.reserved_micro_usd, spent=event.cost_micro_usd))
        case e.Stopped() | e.Frozen():
            state = "stopped" if isinstance(event, e.Stopped) else "frozen"
            rows.append(ControlRow(event.scope, state, event.reason, entry.index))
        case e.Resumed():
            rows.append(ControlRow(event.scope, "running", event.reason, entry.index))
        case e.SessionRevoked():
            rows.append(ControlRow(f"session:{event.session}", "revoked", event.reason, entry.index))
    return rows


def _stream(entry: Entry) -> StreamRow:
    event = entry.event
    terminal = isinstance(event, e.Event) and event.terminal
    waiting = isinstance(event, e.Waited)
    return StreamRow(
        stream=entry.stream,
        version=entry.version,
        terminal=terminal,
        wake_at=event.until if isinstance(event, e.Waited) else entry.time,
        waits_on=event.on if isinstance(event, e.Waited) else None,
        waits_since=entry.index if waiting else -1,
    )


def _key(entry: Entry) -> EffectKey:
    return EffectKey(entry.stream.partition("/")[2])


def _money(entry: Entry, *, reserved: int, spent: int) -> list[GuardRow]:
    session = entry.stream.partition("/")[2]
    day = entry.time.date().isoformat()
    return [CounterAdd(scope, window, reserved, spent) for scope, window in scopes_of_session(session, day)]


def wakes(entry: Entry) -> tuple[StreamId, ...]:
    """Streams that have a reason to look again because of this entry, besides those that wait on its stream."""
    kind = kind_of(entry.stream)
    about = entry.stream.partition("/")[2]
    if kind == "people":
        return (StreamId(f"rollout/{about}"),) if "@" in about else (StreamId(f"delivery/{about}"),)
    event = entry.event
    if entry.stream == CONTROL or isinstance(event, e.StepFailed):
        return ()  # a failed step is left alone for a while
    if isinstance(event, e.Waited) and event.on is not None:
        return (entry.stream, event.on)
    return (entry.stream,)
