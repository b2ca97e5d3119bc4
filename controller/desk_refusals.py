"""The refusals of one session, as its stream counts them: each one durable before the agent hears of it."""

from __future__ import annotations

import asyncio
import logging

from controller.domain.entry import Caller, Draft
from controller.domain.events import CallRefused
from controller.domain.ids import SessionId, session_stream
from controller.errors import FlyballError
from controller.ports import Log, Receipt

ATTEMPTS = 5  # to append while others append to the same stream

logger = logging.getLogger(__name__)


class Refusals:
    """Follows the session's stream as far as it has been read. Raises Unavailable when it cannot be."""

    def __init__(self, log: Log, session: str) -> None:
        self._log = log
        self._session = session
        self._stream = session_stream(SessionId(session))
        self._version = 0
        self._count = 0
        self._one_at_a_time = asyncio.Lock()

    async def count(self) -> int:
        """How often the session has been refused, by this process or one before it."""
        if self._version == 0:
            await self._catch_up()
        return self._count

    async def record(self, event: CallRefused, by: Caller) -> bool:
        """Append it with the next count. False: the log did not take it, or the session has not begun."""
        try:
            async with self._one_at_a_time:
                return await self._append(event, by)
        except FlyballError:
            logger.exception("a refusal of session %s is not in the log; the call is refused anyway", self._session)
            return False

    async def _append(self, event: CallRefused, by: Caller) -> bool:
        for _ in range(ATTEMPTS):
            await self._catch_up()
            if self._version == 0:
                return False  # a refusal may not be what begins a session
            counted = event.model_copy(update={"count": self._count + 1})
            kept = await self._log.append([Draft(self._stream, counted)], expect={self._stream: self._version}, by=by)
            if isinstance(kept, Receipt):
                self._version, self._count = self._version + 1, counted.count
                return True
        return False

    async def _catch_up(self) -> None:
        for entry in await self._log.read(self._stream, after=self._version):
            self._version = entry.version
            if isinstance(entry.event, CallRefused):
                self._count = entry.event.count
