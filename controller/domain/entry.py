"""The envelope. Callers hand in drafts; who, when, where in the log and under which policy is the log's to say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controller.domain.events import ALL, Event
from controller.domain.ids import Digest, StreamId, canonical


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated identity, as the log records it."""

    principal: str  # "agent:author" | "person:<pseudonym>" | "service:controller"
    policy: Digest  # digest of the grants and policies in force
    on_behalf_of: str | None = None  # None: acts for itself


@dataclass(frozen=True, slots=True)
class Draft:
    stream: StreamId
    event: Event


@dataclass(frozen=True, slots=True)
class UnknownEvent:
    """A kind this version does not know: its stream is parked, nothing else stops."""

    kind: str
    v: int
    body: dict[str, Any]

    @property
    def plea(self) -> str:
        """Why its stream is parked, in words."""
        return f"{self.kind} v{self.v} needs a newer Flyball"


@dataclass(frozen=True, slots=True)
class Entry:
    index: int
    stream: StreamId
    version: int
    time: datetime
    principal: str
    on_behalf_of: str | None  # None: acted for itself
    policy: Digest
    kind: str
    v: int
    event: Event | UnknownEvent
    leaf: bytes  # the exact stored bytes, which the tree hashes


def encode(index: int, version: int, time: datetime, draft: Draft, by: Caller) -> bytes:
    """The canonical leaf of an entry."""
    return canonical(
        {
            "index": index,
            "stream": draft.stream,
            "version": version,
            "time": time.isoformat(timespec="microseconds"),
            "principal": by.principal,
            "on_behalf_of": by.on_behalf_of,
            "policy": by.policy,
            "kind": draft.event.kind(),
            "v": draft.event.v,
            "body": draft.event.model_dump(mode="json"),
        }
    )


def decode(leaf: bytes) -> Entry:
    """Read a leaf back. Fields that this version does not know stay in `leaf` and are left out of the event."""
    raw = json.loads(leaf)
    return Entry(
        index=raw["index"],
        stream=raw["stream"],
        version=raw["version"],
        time=datetime.fromisoformat(raw["time"]),
        principal=raw["principal"],
        on_behalf_of=raw["on_behalf_of"],
        policy=raw["policy"],
        kind=raw["kind"],
        v=raw["v"],
        event=read_event(raw["kind"], raw["v"], raw["body"]),
        leaf=leaf,
    )


def read_event(kind: str, v: int, body: dict[str, Any]) -> Event | UnknownEvent:
    """A stored body as the event it is. Fields that this version does not know are left out, however deep they lie."""
    cls = ALL.get(kind)
    if cls is None or v > cls.v:
        return UnknownEvent(kind, v, body)
    return cls.model_validate_json(json.dumps(body), strict=False, extra="ignore")
