"""Virtual time. It stands still until whoever drives the world moves it; who sleeps wakes when it has come that far."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

EPOCH = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class SimClock:
    at: datetime = EPOCH
    _sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)

    def now(self) -> datetime:
        return self.at

    def now_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.at + timedelta(seconds=seconds), next(self._numbers), awake))
        await awake

    @property
    def sleeping(self) -> bool:
        return any(not awake.done() for _, _, awake in self._sleepers)

    def next_waking(self) -> datetime | None:
        """When the first sleeper wakes. None: nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    def advance_to(self, at: datetime) -> None:
        """Time never runs backwards: an earlier instant changes nothing."""
        self.at = max(self.at, at)
        while self._sleepers and self._sleepers[0][0] <= self.at:
            _, _, awake = heapq.heappop(self._sleepers)
            if not awake.done():
                awake.set_result(None)

    def advance(self, seconds: float) -> None:
        self.advance_to(self.at + timedelta(seconds=seconds))
