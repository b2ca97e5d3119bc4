"""Leases on the log's own file: who works on a stream just now.

They save work, and nothing is correct because of them.

A fence is the row's own AUTOINCREMENT number, which SQLite never gives twice, so it only grows, over all streams and
after any release. Leases are written without waiting for the disk: one that a power cut takes along has cost nothing
but a second look at its stream.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from controller.domain.ids import StreamId
from controller.ledger import sql
from controller.ledger.database import MEMORY, Sync, explaining, open_writer, to_text, transaction
from controller.ports import Clock, Held

T = TypeVar("T")


class SqliteLease:
    """The port `Lease`.

    An owner that asks for what it holds gets it again under a higher fence: it has restarted, and its older self has
    lost it.

    `inline=True` stays in the calling coroutine (deterministic simulation); otherwise a thread waits for the file's
    write lock.
    """

    def __init__(
        self, path: Path | str, clock: Clock, *, inline: bool = False, gone: Callable[[str], bool] = lambda _: False
    ) -> None:
        """`gone` says of an owner that it has ended for certain: what it held is free at once."""
        self.path = str(path)
        self._clock = clock
        self._gone = gone
        self._inline = inline or self.path == MEMORY
        self._db = open_writer(self.path, Sync.NORMAL)
        self._one_at_a_time = threading.Lock()

    async def acquire(self, stream: StreamId, owner: str, seconds: int) -> Held | None:
        """None: somebody else holds it."""
        return await self._run(lambda db: self._acquire(db, stream, owner, seconds))

    async def renew(self, held: Held, seconds: int) -> Held | None:
        """None: it has been lost, to somebody else or to time."""
        return await self._run(lambda db: self._renew(db, held, seconds))

    async def release(self, held: Held) -> None:
        """Let go of it. One that has been lost meanwhile stays with its new owner."""
        await self._run(lambda db: db.execute(sql.DROP_LEASE, (held.stream, held.fence)).close())

    def close(self) -> None:
        with self._one_at_a_time:
            self._db.close()

    def _acquire(self, db: sqlite3.Connection, stream: StreamId, owner: str, seconds: int) -> Held | None:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        db.execute(sql.CLEAR_LEASE, (stream, owner, to_text(now)))
        for (holder,) in db.execute(sql.LEASE_OWNER, (stream,)).fetchall():
            if self._gone(holder):
                db.execute(sql.CLEAR_LEASE, (stream, holder, to_text(now)))
        taken = db.execute(sql.TAKE_LEASE, (stream, owner, to_text(until))).fetchall()
        return Held(stream, owner, taken[0][0], until) if taken else None

    def _renew(self, db: sqlite3.Connection, held: Held, seconds: int) -> Held | None:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        done = db.execute(sql.RENEW_LEASE, (to_text(until), held.stream, held.fence, to_text(now)))
        return Held(held.stream, held.owner, held.fence, until) if done.rowcount else None

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return self._locked(work) if self._inline else await asyncio.to_thread(self._locked, work)

    def _locked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._one_at_a_time, explaining(self.path), transaction(self._db):
            return work(self._db)
