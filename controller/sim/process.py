"""One controller process among others in the simulated world: what it does to the world and the log, and how it dies.

Every append and every act has a point before it and one after it. A process is killed at one of them, and from then on
nothing that still runs in it reaches anything: whatever it touches raises `Killed`, as a dead process would be silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import ControlRow, EffectRow, Guard, StreamRow
from controller.domain.ids import EffectKey, StreamId
from controller.domain.verbs import Verb
from controller.errors import Unavailable
from controller.ports import Hands, Head, Held, Lease, Log, Receipt, Rejected
from controller.sim.clock import SimClock

MOST_YIELDS = 3  # turns that others get at a point, where processes race


class Killed(BaseException):  # noqa: N818 - no error: a process ends, and no handler of errors may see it
    """The process ends here."""


@dataclass
class Process:
    """`kill_at` counts its points from 1; None: it lives.

    `slow` maps a verb's name to the virtual seconds that an act of it takes before, and after, it has happened.
    """

    name: str
    clock: SimClock
    kill_at: int | None = None
    racing: Random | None = None  # None: nobody runs beside it
    slow: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    log_is_full: bool = False
    points: int = 0
    dead: bool = False
    died_at: str = ""

    def alive(self) -> None:
        if self.dead:
            raise Killed(self.name)

    def die(self, where: str) -> None:
        self.dead, self.died_at = True, where
        raise Killed(f"{self.name} at {where}")

    async def point(self, where: str) -> None:
        """A moment at which it may be killed, and at which others may run."""
        self.alive()
        self.points += 1
        if self.points == self.kill_at:
            self.die(where)
        if self.racing is not None:
            for _ in range(self.racing.randint(0, MOST_YIELDS)):
                await asyncio.sleep(0)
            self.alive()


@dataclass(frozen=True, eq=False)  # one process's log is no other's
class ProcessLog:
    """`Log`, as one process sees it."""

    log: Log
    process: Process

    async def append(
        self, drafts: Sequence[Draft], *, expect: Mapping[StreamId, int], by: Caller, guards: Sequence[Guard] = ()
    ) -> Receipt | Rejected:
        what = "+".join(draft.event.kind() for draft in drafts)
        await self.process.point(f"before append {what}")
        if self.process.log_is_full:
            raise Unavailable("the log cannot be written: the disk is full", "Free space")
        kept = await self.log.append(drafts, expect=expect, by=by, guards=guards)
        await self.process.point(f"after append {what}")
        return kept

    async def read(self, stream: StreamId, after: int = 0) -> list[Entry]:
        self.process.alive()
        return await self.log.read(stream, after)

    async def scan(self, from_index: int = 0, kinds: frozenset[str] | None = None) -> AsyncIterator[Entry]:
        async for entry in self.log.scan(from_index, kinds):
            self.process.alive()
            yield entry

    async def head(self) -> Head:
        self.process.alive()
        return await self.log.head()

    async def stream(self, stream: StreamId) -> StreamRow | None:
        self.process.alive()
        return await self.log.stream(stream)

    async def live(self, prefix: str = "") -> list[StreamRow]:
        self.process.alive()
        return await self.log.live(prefix)

    async def waiting_on(self, stream: StreamId) -> list[StreamRow]:
        self.process.alive()
        return await self.log.waiting_on(stream)

    async def open_effects(self) -> list[EffectRow]:
        self.process.alive()
        return await self.log.open_effects()

    async def control(self) -> list[ControlRow]:
        self.process.alive()
        return await self.log.control()

    async def spent(self, scope: str, window: str) -> tuple[int, int]:
        self.process.alive()
        return await self.log.spent(scope, window)


@dataclass(frozen=True)
class ProcessHands:
    """`Hands`, as one process moves them."""

    hands: Hands
    process: Process

    async def act(self, key: EffectKey, verb: Verb) -> Any:
        await self.process.point(f"before {verb.name} {key}")
        before, after = self.process.slow.get(verb.name, (0.0, 0.0))
        if before:
            await self.process.clock.sleep(before)  # the request is on its way: it lands whatever becomes of its sender
        result = await self.hands.act(key, verb)
        if after:
            await self.process.clock.sleep(after)
        await self.process.point(f"after {verb.name} {key}")
        return result

    async def find(self, key: EffectKey, verb: Verb) -> Any:
        self.process.alive()
        return await self.hands.find(key, verb)


@dataclass(frozen=True)
class ProcessLease:
    lease: Lease
    process: Process

    async def acquire(self, stream: StreamId, owner: str, seconds: int) -> Held | None:
        self.process.alive()
        return await self.lease.acquire(stream, owner, seconds)

    async def renew(self, held: Held, seconds: int) -> Held | None:
        self.process.alive()
        return await self.lease.renew(held, seconds)

    async def release(self, held: Held) -> None:
        self.process.alive()
        await self.lease.release(held)
