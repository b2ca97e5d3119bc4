"""Where a request goes: which version, by a draw; which instance of it, by least work; on which kept connection.

The draw hashes the trace id with the release, so that one trace sees one version and the next release draws anew.
Routes are a value that is swapped whole, and an expired weight is worth nothing from its deadline on.
"""

from __future__ import annotations

import asyncio
import random
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Protocol

MOST_IN_FLIGHT = 256  # of an instance
MOST_IDLE = 64
REUSE_WITHIN_S = 2.0  # servers close idle connections after 5 s and more: a kept one must not die under a request
CONNECT_WITHIN_S = 2.0


class Target(Protocol):
    """An instance as routing sees it."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int:
        """Another one after each start: what tells an instance's lives apart."""
        ...

    async def connect(self) -> tuple[StreamReader, StreamWriter]:
        """Raises `OSError` when nothing listens."""
        ...

    @property
    def serving(self) -> bool:
        """Started, healthy when last asked, and not on its way out."""
        ...


@dataclass(slots=True)
class Link:
    """A connection to an instance."""

    reader: StreamReader
    writer: StreamWriter
    port: int
    fresh: bool = True
    idle_since: float = 0.0

    @property
    def usable(self) -> bool:
        return not self.reader.at_eof() and time.monotonic() - self.idle_since < REUSE_WITHIN_S

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Upstream:
    """An instance's connections. They are dropped when it comes back on another port."""

    target: Target
    in_flight: int = 0
    idle: list[Link] = field(default_factory=list)

    async def link(self, *, fresh: bool = False) -> Link:
        """Raises `OSError` when nothing listens; nothing was sent then."""
        while self.idle and not fresh:
            kept = self.idle.pop()
            if kept.port == self.target.port and kept.usable:
                kept.fresh = False
                return kept
            kept.close()
        port = self.target.port
        async with asyncio.timeout(CONNECT_WITHIN_S):
            return Link(*await self.target.connect(), port)

    def keep(self, link: Link) -> None:
        if len(self.idle) >= MOST_IDLE or link.reader.at_eof():
            link.close()
            return
        link.idle_since = time.monotonic()
        self.idle.append(link)

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


@dataclass(frozen=True, slots=True)
class Arm:
    """One version and its instances."""

    version: str
    release: int
    upstreams: tuple[Upstream, ...]

    def pick(self) -> Upstream | None:
        """The least busy instance, a serving one if any is. None: all are full."""
        serving = [up for up in self.upstreams if up.target.serving] or list(self.upstreams)
        free = [up for up in serving if up.in_flight < MOST_IN_FLIGHT]
        return min(free, key=lambda up: up.in_flight) if free else None

    @property
    def in_flight(self) -> int:
        return sum(up.in_flight for up in self.upstreams)


@dataclass(frozen=True, slots=True)
class Routes:
    confirmed: Arm | None = None  # None: nothing is deployed
    canary: Arm | None = None
    weight_percent: int = 0
    until_ms: int | None = None  # None: the weight has no deadline

    def exposes(self, now_ms: int) -> bool:
        """Whether a canary gets requests."""
        return self.canary is not None and bool(self._weight(now_ms))

    def _weight(self, now_ms: int) -> int:
        return 0 if self.until_ms is not None and now_ms >= self.until_ms else self.weight_percent

    def choose(self, traceparent: bytes | None, now_ms: int) -> Arm | None:
        """None: no version may take the request."""
        weight = self._weight(now_ms)
        if self.canary is None or not weight:
            return self.confirmed
        return self.canary if draw(traceparent, self.canary.release) * 100 < weight else self.confirmed


def draw(traceparent: bytes | None, release: int) -> float:
    """Uniform in [0, 1), the same for every request of a trace."""
    trace = traceparent.split(b"-") if traceparent else ()
    if len(trace) < 4:  # noqa: PLR2004  version, trace id, parent id, flags
        return random.random()  # noqa: S311  a traffic split keeps no secret
    return int.from_bytes(blake2b(trace[1], digest_size=8, salt=release.to_bytes(8, "big")).digest(), "big") / 2**64


def arm_of(version: str, release: int, targets: Sequence[Target]) -> Arm:
    return Arm(version, release, tuple(Upstream(target) for target in targets))
