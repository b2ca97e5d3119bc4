"""Programs outside and their sessions, folded from their streams: client/<name> and client/<name>/<n>."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from controller.domain import events as e
from controller.domain.entry import Entry
from controller.domain.ids import SessionId


@dataclass(frozen=True, slots=True)
class Client:
    name: str
    version: int = 0
    registered: e.ClientRegistered | None = None  # None: nobody has let it in
    since: datetime | None = None  # None: as above
    retired: e.ClientRetired | None = None  # None: it may come in


def evolve_client(state: Client, entry: Entry) -> Client:
    now = replace(state, version=entry.version)
    match entry.event:
        case e.ClientRegistered() as event:
            return replace(now, registered=event, since=entry.time)
        case e.ClientRetired() as event:
            return replace(now, retired=event)
        case _:
            return now


def fold_client(name: str, entries: list[Entry]) -> Client:
    state = Client(name)
    for entry in entries:
        state = evolve_client(state, entry)
    return state


@dataclass(frozen=True, slots=True)
class ClientSession:
    id: SessionId
    version: int = 0
    started: e.ClientSessionStarted | None = None  # None: not begun
    since: datetime | None = None  # None: as above
    issued: tuple[e.TokenIssued, ...] = ()
    tainted: bool = False
    ended: e.ClientSessionEnded | None = None  # None: under way


def evolve_session(state: ClientSession, entry: Entry) -> ClientSession:
    now = replace(state, version=entry.version)
    match entry.event:
        case e.ClientSessionStarted() as event:
            return replace(now, started=event, since=entry.time)
        case e.TokenIssued() as event:
            return replace(now, issued=(*now.issued, event))
        case e.CallsRecorded() as event:
            return replace(now, tainted=now.tainted or event.tainted)
        case e.ClientSessionEnded() as event:
            return replace(now, ended=event)
        case _:
            return now
