"""The log and what stands beside it: blobs, seals, leases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import ControlRow, EffectRow, Guard, StreamRow
from controller.domain.ids import Digest, StreamId
from controller.domain.sealed import Sealed


@dataclass(frozen=True, slots=True)
class Receipt:
    """Durable and integrated. `index` is the first entry's; `size` is the tree's afterwards."""

    index: int
    size: int


@dataclass(frozen=True, slots=True)
class Rejected:
    """Nothing was appended. `stream` has moved on (another worker won), or a guard said no."""

    reason: str
    stream: StreamId | None = None  # None: a guard said no
    guard: Guard | None = None  # None: a version had moved on


@dataclass(frozen=True, slots=True)
class Head:
    size: int
    root: str  # hex of the Merkle tree head over `size` leaves


class Log(Protocol):
    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expect: Mapping[StreamId, int],
        by: Caller,
        guards: Sequence[Guard] = (),
    ) -> Receipt | Rejected:
        """All of `drafts` or none.

        `expect` names the version of every stream appended to (0: it must not exist yet).
        """
        ...

    async def read(self, stream: StreamId, after: int = 0) -> list[Entry]:
        """The entries of a stream whose version is above `after`, in order."""
        ...

    def scan(self, from_index: int = 0, kinds: frozenset[str] | None = None) -> AsyncIterator[Entry]:
        """Entries in log order. `kinds=None`: all of them."""
        ...

    async def head(self) -> Head: ...

    async def stream(self, stream: StreamId) -> StreamRow | None:
        """None: it has no entries."""
        ...

    async def live(self, prefix: str = "") -> list[StreamRow]:
        """Streams that have not ended and whose name begins with `prefix`, by name."""
        ...

    async def waiting_on(self, stream: StreamId) -> list[StreamRow]:
        """Streams that wait on this one, first come first."""
        ...

    async def open_effects(self) -> list[EffectRow]:
        """Effects that have an intent and no outcome, by key."""
        ...

    async def control(self) -> list[ControlRow]:
        """Scopes that are stopped, frozen or revoked."""
        ...

    async def spent(self, scope: str, window: str) -> tuple[int, int]:
        """(reserved, spent) in micro-USD."""
        ...


class Blobs(Protocol):
    async def put(self, content: bytes) -> Digest:
        """Durable when it returns. Same content, same digest."""
        ...

    async def get(self, digest: Digest) -> bytes:
        """Raises Permanent if it is not there or does not match its digest."""
        ...


class Seals(Protocol):
    async def seal(self, text: str, *, subject: str | None = None) -> Sealed:
        """Secrets are taken out first. `subject`: whose words they are, "person:…" or "delivery/…"; None: nobody's."""
        ...

    async def open(self, sealed: Sealed) -> str:
        """Raises Permanent when the key has been destroyed."""
        ...

    def pseudonym(self, person: str) -> str:
        """The keyed pseudonym of a person, as principals carry it: "person:<12 hex>"."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    stream: StreamId
    owner: str
    fence: int
    until: datetime


class Lease(Protocol):
    """Leases save work. Nothing is correct because of them."""

    async def acquire(self, stream: StreamId, owner: str, seconds: int) -> Held | None:
        """None: somebody else holds it."""
        ...

    async def renew(self, held: Held, seconds: int) -> Held | None:
        """None: it has been lost."""
        ...

    async def release(self, held: Held) -> None: ...
