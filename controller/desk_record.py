"""One session's own stream, as the desk follows it: what it was refused, and what it has been told.

A refusal is durable before the agent hears of it, and counted on from what any process before this one has counted.
What taints a run and which tools it has used stand in the same stream, so they outlive the process and hold for another
controller too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.domain.entry import Caller, Draft
from controller.domain.events import CallRecord, CallRefused, CallsRecorded, Event, TurnRecorded
from controller.domain.ids import StreamId
from controller.errors import FlyballError
from controller.ports import Log, Receipt

ATTEMPTS = 5  # to append while others append to the same stream

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Kept:
    record: CallRecord
    text: str  # as the model is told it


class SessionRecord:
    """Follows the stream as far as it has been read. Raises Unavailable when it cannot be."""

    def __init__(self, log: Log, stream: StreamId) -> None:
        self._log = log
        self._stream = stream
        self._version = 0
        self._one_at_a_time = asyncio.Lock()
        self.refusals = 0
        self.tainted = False
        self.tools_used: set[str] = set()  # allowed ones

    async def catch_up(self, *, again: bool) -> None:
        """Read on. `again=False`: only if nothing has been read yet, as nobody else writes calls into this stream."""
        if not again and self._version:
            return
        for entry in await self._log.read(self._stream, after=self._version):
            self._version = entry.version
            match entry.event:
                case CallRefused():
                    self.refusals = entry.event.count
                case TurnRecorded() | CallsRecorded():
                    self.tainted = self.tainted or entry.event.tainted
                    self.tools_used |= {call.tool for call in entry.event.calls if call.allowed}

    async def refuse(self, event: CallRefused, by: Caller, *, counts: bool) -> bool:
        """Append it with the count. False: the log did not take it, or the session has not begun."""
        step = 1 if counts else 0
        try:
            return await self._append(lambda: event.model_copy(update={"count": self.refusals + step}), by)
        except FlyballError:
            logger.exception("a refusal in %s is not in the log; the call is refused anyway", self._stream)
            return False

    async def record(self, calls: Sequence[CallRecord], by: Caller, *, tainted: bool) -> bool:
        """Allowed calls of a caller that counts no turns. False: the log did not take them."""
        recorded = CallsRecorded(calls=tuple(calls), tainted=tainted)
        try:
            return await self._append(lambda: recorded, by)
        except FlyballError:
            logger.exception("%d calls in %s are not in the log yet", len(calls), self._stream)
            return False

    async def _append(self, event: Callable[[], Event], by: Caller) -> bool:
        async with self._one_at_a_time:
            for _ in range(ATTEMPTS):
                await self.catch_up(again=True)
                if self._version == 0:
                    return False  # neither a refusal nor a call may be what begins a session
                drafts = [Draft(self._stream, event())]
                kept = await self._log.append(drafts, expect={self._stream: self._version}, by=by)
                if isinstance(kept, Receipt):
                    await self.catch_up(again=True)
                    return True
            return False
