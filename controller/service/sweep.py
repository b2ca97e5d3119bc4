"""The controller's heart: look after every live stream, sooner when something was said, later when nothing was.

What happened is read off the log's tail, whoever wrote it: another controller, a person at a terminal, this process
before it died. A hint only moves a look forward; losing every one of them costs time and nothing else, for each live
stream is looked at again by itself. A stream is driven by one worker at a time in this process, and a lease keeps other
processes from doing the same work; neither is needed for anything to be correct.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Entry
from controller.domain.guards import wakes
from controller.domain.ids import CONTROL, SessionId, StreamId, kind_of, rest_of, rollout_stream
from controller.domain.queue import Queue, QueuePhase
from controller.domain.rollout import Rollout, RolloutPhase
from controller.errors import Temporary
from controller.loop import MACHINES, Driven, Loop, backoff_seconds
from controller.ports import Held, Lease, Ports
from controller.service.breakers import trip
from controller.service.leftovers import Leftovers

logger = logging.getLogger("flyball.sweep")
LEFTOVERS = StreamId("leftovers")  # no stream of the log: how that look is named among the drives

RunSession = Callable[[SessionId], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, in seconds. Hints make most of it unnecessary; the world gives no hints."""

    tail: float = 0.2  # new entries in the log
    sweep: float = 10.0  # every live stream whose time has come
    outside: float = 0.5  # CI runs, starting canaries, effects under way
    window: float = 1.0  # a canary
    patient: float = 15.0  # whatever another stream or a person will end
    concurrent: int = 8  # drives at a time, besides
    sessions: int = 16  # agent sessions


@dataclass
class Sweep:
    ports: Ports
    loop: Loop
    lease: Lease
    run_session: RunSession
    pace: Pace = field(default_factory=Pace)
    position: int = 0  # log index up to which hints have been read
    due: dict[StreamId, datetime] = field(default_factory=dict)
    driving: dict[StreamId, asyncio.Task[None]] = field(default_factory=dict)
    held: dict[StreamId, Held] = field(default_factory=dict)
    next_sweep: datetime | None = None  # None: has not swept yet
    leftovers: Leftovers = field(init=False)

    def __post_init__(self) -> None:
        self.leftovers = Leftovers(self.ports)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`. Then running drives finish and sessions are let go: the log knows where they are."""
        try:
            while not stop.is_set():
                await self.tick()
                await self._pause(stop)
        finally:
            await self._drain()

    async def tick(self) -> None:
        """One round: read hints, sweep if it is time, and begin whatever is due."""
        now = self.ports.clock.now()
        try:
            await self._hints(now)
            if self.next_sweep is None or now >= self.next_sweep:
                await self._sweep(now)
                self.next_sweep = now + timedelta(seconds=self.pace.sweep)
                self._look_for_leftovers()
        except Temporary as error:
            logger.warning("the log does not answer, trying again: %s", error)
            return
        for stream in [s for s, at in self.due.items() if at <= now and s not in self.driving]:
            if self._has_room(kind_of(stream) == "session"):
                self._begin(stream)

    def _has_room(self, session: bool) -> bool:
        """Sessions run for minutes, and have places of their own: they keep no delivery waiting."""
        running = sum((kind_of(stream) == "session") == session for stream in self.driving)
        return running < (self.pace.sessions if session else self.pace.concurrent)

    def idle(self) -> bool:
        """Nothing is being driven at this moment."""
        return not self.driving

    async def settle(self) -> None:
        """Wait for the drives under way."""
        await asyncio.gather(*self.driving.values(), return_exceptions=True)

    async def _hints(self, now: datetime) -> None:
        async for entry in self.ports.log.scan(self.position):
            self.position = entry.index + 1
            await self._hint(entry, now)

    async def _hint(self, entry: Entry, now: datetime) -> None:
        if entry.stream == CONTROL:
            self.due.update(dict.fromkeys(self.due, now))
            return
        for stream in wakes(entry):
            self._soon(stream, now)
        if kind_of(entry.stream) != "effect":
            for row in await self.ports.log.waiting_on(entry.stream):
                self._soon(row.stream, now)
        self.leftovers.hear(entry)
        if isinstance(entry.event, e.TrafficRestored):
            await trip(self.ports, entry)

    def _soon(self, stream: StreamId, now: datetime) -> None:
        if kind_of(stream) in (*MACHINES, "session"):
            self.due[stream] = now

    async def _sweep(self, now: datetime) -> None:
        for repository in self.ports.repositories.values():
            if repository.service is not None:
                stream = rollout_stream(repository.service.name, repository.service.environment)
                self.due.setdefault(stream, now)
        for row in await self.ports.log.live():
            kind = kind_of(row.stream)
            if kind not in (*MACHINES, "session"):
                continue
            if row.waits_on is not None and row.waits_on not in self.due:
                self._soon(row.waits_on, now)
            if row.stream not in self.due or row.wake_at <= now:
                self.due[row.stream] = min(self.due.get(row.stream, now), now + timedelta(seconds=self.pace.patient))

    def _begin(self, stream: StreamId) -> None:
        del self.due[stream]
        task = asyncio.create_task(self._drive(stream), name=stream)
        self.driving[stream] = task
        task.add_done_callback(lambda _: self.driving.pop(stream, None))

    def _look_for_leftovers(self) -> None:
        """Beside the drives: a message may take seconds."""
        if LEFTOVERS not in self.driving:
            self.driving[LEFTOVERS] = asyncio.create_task(self._leftovers(), name=LEFTOVERS)
            self.driving[LEFTOVERS].add_done_callback(lambda _: self.driving.pop(LEFTOVERS, None))

    async def _leftovers(self) -> None:
        try:
            await self.leftovers.look()
        except Temporary as error:
            logger.warning("effects that were left over are looked for again: %s", error)
        except Exception:
            logger.exception("a defect while looking for effects that were left over")

    async def _drive(self, stream: StreamId) -> None:
        try:
            held = await self._hold(stream)
            if held is None:
                self._later(stream, self.pace.patient / 3)
                return
            if kind_of(stream) == "session":
                await self._session(stream, held)
                return
            driven = await self.loop.drive(stream)
            after = self._after(driven)
            if after is not None:
                self._later(stream, after)
            elif stream in self.held:
                await self.lease.release(self.held.pop(stream))
        except Temporary as error:
            logger.warning("%s is left alone for a moment: %s", stream, error)
            self._later(stream, self.pace.outside)
        except Exception:
            logger.exception("a defect while driving %s; it is looked at again", stream)
            self._later(stream, self.pace.patient)

    async def _session(self, stream: StreamId, held: Held) -> None:
        """A session runs for minutes: its lease is renewed beside it, and if it is lost, so is this run of it."""
        work = asyncio.ensure_future(self.run_session(SessionId(rest_of(stream))))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=self.ports.bounds.lease_seconds / 3)
                renewed = await self.lease.renew(held, self.ports.bounds.lease_seconds)
                if renewed is None:
                    work.cancel()
                    return
                held = renewed
            await work
        finally:
            if not work.done():
                work.cancel()
            await self.lease.release(held)
            self.held.pop(stream, None)
            row = await self.ports.log.stream(stream)
            if row is not None and not row.terminal:
                self._later(stream, self.pace.patient / 3)

    async def _hold(self, stream: StreamId) -> Held | None:
        seconds, now = self.ports.bounds.lease_seconds, self.ports.clock.now()
        mine = self.held.get(stream)
        if mine is not None and mine.until - now > timedelta(seconds=seconds / 2):
            return mine
        held = await self.lease.renew(mine, seconds) if mine else None
        held = held or await self.lease.acquire(stream, self.ports.worker, seconds)
        if held is None:
            self.held.pop(stream, None)
        else:
            self.held[stream] = held
        return held

    def _later(self, stream: StreamId, seconds: float) -> None:
        """Look again then, unless a hint has asked for sooner."""
        at = self.ports.clock.now() + timedelta(seconds=seconds)
        self.due[stream] = min(at, self.due.get(stream, at))

    def _after(self, driven: Driven) -> float | None:
        """Seconds until the next look. None: the stream has ended."""
        state = driven.state
        if state.failures:
            return backoff_seconds(state.failures)
        return look_again(state, self.pace)

    async def _pause(self, stop: asyncio.Event) -> None:
        now = self.ports.clock.now()
        soonest = min(
            (at for s, at in self.due.items() if s not in self.driving), default=now + timedelta(seconds=self.pace.tail)
        )
        seconds = min(self.pace.tail, max(0.005, (soonest - now).total_seconds()))
        try:
            await asyncio.wait_for(stop.wait(), seconds)
        except TimeoutError:
            return

    async def _drain(self) -> None:
        for stream, task in list(self.driving.items()):
            if kind_of(stream) == "session":
                task.cancel()
        await asyncio.gather(*self.driving.values(), return_exceptions=True)
        for held in self.held.values():
            await self.lease.release(held)
        self.held.clear()


def look_again(state: Any, pace: Pace) -> float | None:
    """When to look at a stream again if nobody says anything. None: never, it has ended."""
    match state:
        case Delivery() if state.phase not in MACHINES["delivery"].table:
            return None
        case Delivery():
            outside = state.waiting is None or state.waiting.waits_for in (e.WaitsFor.CI, e.WaitsFor.EFFECT)
            return pace.outside if outside else pace.patient
        case Queue():
            return pace.patient if state.phase is QueuePhase.IDLE else pace.outside
        case Rollout() if state.phase in (RolloutPhase.IDLE, RolloutPhase.PAUSED, RolloutPhase.STUCK):
            return pace.patient
        case Rollout():
            exposed = state.phase in (RolloutPhase.CANARY, RolloutPhase.LIVE)
            return pace.window if exposed else pace.outside
        case _:
            return pace.patient
