"""Flyball tells about itself: the log's tail as spans and figures, to whichever OpenTelemetry backend was named.

The log is the queue. While nobody answers, nothing more is read than fits the short list of spans that wait, so an
outage costs neither memory nor spans: they come later, of their own time. What a receiver refuses for good is dropped
and counted. How far it has come stands in a small file; without it everything is told again, under the same ids. Of
several controllers on one log the one with the lease tells.

It decides nothing, and nothing waits for it but the controller's end, and that not for long.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from controller.domain.ids import StreamId
from controller.errors import Temporary
from controller.ledger.files import replace_file
from controller.metrics import conventions as c
from controller.metrics.figures import Figures
from controller.metrics.traces import KINDS, Traces
from controller.ports import Clock, Held, Lease, Log
from controller.ports.telling import Point, Receiver, Sent, Span

logger = logging.getLogger("flyball.telemetry")
LEASE = StreamId("telemetry")
LEASED_S = 60  # at least; renewed at every look
MOST_WAITING = 4_096  # spans
BATCH = 512  # spans in one request: the OpenTelemetry SDKs' default
BREATH = 50  # entries, and everything else has a turn


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one log has been told."""

    origin: str
    position: int  # every span that ended before this log index has been told

    @staticmethod
    def read(path: Path, origin: str) -> Progress:
        """From the beginning when there is no such file, or it is of another log, or nobody can read it."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = json.loads(path.read_bytes())
            if kept["origin"] == origin:
                return Progress(origin, max(0, int(kept["position"])))
        return Progress(origin, 0)

    def write(self, path: Path) -> None:
        """Raises Unavailable when the disk says no."""
        replace_file(path, json.dumps({"origin": self.origin, "position": self.position}).encode(), 0o600)


class Telling:
    def __init__(
        self,
        *,
        log: Log,
        clock: Clock,
        receiver: Receiver,
        origin: str,
        memory: Path,
        lease: Lease,
        owner: str,
        every_s: float,
    ) -> None:
        self._log = log
        self._clock = clock
        self._receiver = receiver
        self._memory = memory
        self._lease = lease
        self._owner = owner
        self._every_s = every_s
        self._held: Held | None = None  # None: another controller tells, or nobody has looked yet
        self._progress = Progress.read(memory, origin)
        self._traces = Traces(origin)
        self._figures = Figures()
        self._began = clock.now()
        self._read_to = 0
        self._waiting: deque[Span] = deque()
        self._ending = asyncio.Event()
        self._troubles: set[str] = set()  # those that stand; each is said once
        self.refused = 0  # spans

    @property
    def waiting(self) -> int:
        """Spans that have been read and not been taken."""
        return len(self._waiting)

    async def run(self) -> None:
        """Until it is to end; then once more, so that a short run is told too."""
        while not self._ending.is_set():
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._ending.wait()
        if not self._troubles:
            await self.look()

    def ends(self) -> None:
        """What is being sent is sent, unless nobody answers anyway."""
        self._ending.set()
        if self._troubles:
            self._receiver.close()

    async def leave(self) -> None:
        """Another controller's turn. A log that cannot say so frees the lease by itself."""
        self._receiver.close()
        if self._held is not None:
            with suppress(Temporary):
                await self._lease.release(self._held)
            self._held = None

    async def look(self) -> None:
        """Read what is new and tell it, if it is this controller's turn."""
        try:
            if await self._has_the_turn() and await self._told_spans():
                await self._tell_figures()
            self._well("log")
        except Temporary as error:
            self._trouble("log", f"own telemetry waits for the log: {error}")

    async def _has_the_turn(self) -> bool:
        seconds = max(LEASED_S, int(3 * self._every_s))
        if self._held is not None:
            self._held = await self._lease.renew(self._held, seconds)
        if self._held is None:
            self._held = await self._lease.acquire(LEASE, self._owner, seconds)
        return self._held is not None

    async def _told_spans(self) -> bool:
        """To the log's end. False: the receiver does not answer now."""
        while True:
            more = await self._read()
            if not await self._emptied():
                return False
            if not more:
                return True

    async def _read(self) -> bool:
        """As much as may wait. True: there may be more."""
        read = 0
        async for entry in self._log.scan(self._read_to, KINDS):
            read += 1
            self._figures.take(entry)
            ended = self._traces.take(entry)
            self._waiting.extend(span for span in ended if span.index >= self._progress.position)
            self._read_to = entry.index + 1
            if len(self._waiting) >= MOST_WAITING:
                return True
            if read % BREATH == 0:
                await asyncio.sleep(0)
        return False

    async def _emptied(self) -> bool:
        while self._waiting:
            batch = list(islice(self._waiting, BATCH))
            sent = await self._receiver.take_spans(batch)
            if not self._settled(sent, f"{len(batch)} spans", "spans"):
                return False
            self.refused += len(batch) if sent is Sent.REFUSED else 0
            for _ in batch:
                self._waiting.popleft()
            await self._remember()
        return True

    async def _tell_figures(self) -> None:
        now = self._clock.now()
        refused = Point(c.REFUSED, {}, self.refused, self._began)
        points = [*self._figures.points(now), refused]
        self._settled(await self._receiver.take_points(points, now), f"{len(points)} points", "points")

    def _settled(self, sent: Sent, what: str, kind: str) -> bool:
        """Whether there was an answer. Says what has gone wrong once, until it is well again."""
        where = self._receiver.address
        if sent is Sent.UNAVAILABLE:
            self._trouble("silence", f"nobody takes own telemetry at {where}: it waits in the log")
            return False
        self._well("silence")
        if sent is Sent.REFUSED:
            self._trouble(kind, f"{where} refuses {what} of own telemetry for good: they are dropped and counted")
        else:
            self._well(kind)
        return True

    async def _remember(self) -> None:
        position = self._waiting[0].index if self._waiting else self._read_to
        if position <= self._progress.position:
            return
        self._progress = Progress(self._progress.origin, position)
        try:
            await asyncio.to_thread(self._progress.write, self._memory)
            self._well("memory")
        except Temporary as error:  # nothing is lost by it: it is told again after a restart, under the same ids
            self._trouble("memory", f"own telemetry cannot remember how far it has come: {error}")

    def _trouble(self, kind: str, words: str) -> None:
        if kind not in self._troubles:
            self._troubles.add(kind)
            logger.warning(words)

    def _well(self, kind: str) -> None:
        if kind in self._troubles:
            self._troubles.discard(kind)
            logger.info("own telemetry is taken again (%s)", kind)
