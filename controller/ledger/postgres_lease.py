"""Leases beside the log on Postgres: who of several controllers works on a stream just now.

They save work, and nothing is correct because of them. A fence is the row's own identity, which is never given twice,
so it only grows, over all streams and after any release; a gap in it means nothing. Leases are written without waiting
for the disk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import psycopg

from controller.domain.ids import StreamId
from controller.ledger import postgres_sql as sql
from controller.ledger.database import Sync
from controller.ledger.postgres_db import Db, explaining, is_lost, named, open_writer
from controller.ledger.postgres_schema import brought_up_to_date
from controller.ports import Clock, Held

T = TypeVar("T")


class PostgresLease:
    """The port `Lease`.

    An owner that asks for what it holds gets it again under a higher fence: it has restarted, and its older self has
    lost it.
    """

    def __init__(self, dsn: str, clock: Clock, *, gone: Callable[[str], bool] = lambda _: False) -> None:
        """`gone` says of an owner that it has ended for certain: what it held is free at once."""
        self.name = named(dsn)
        self._dsn, self._clock, self._gone = dsn, clock, gone
        self._db = open_writer(dsn, self.name, Sync.NORMAL)
        self._one_at_a_time = threading.Lock()
        with explaining(self.name):
            brought_up_to_date(self._db, self.name)

    async def acquire(self, stream: StreamId, owner: str, seconds: int) -> Held | None:
        """None: somebody else holds it."""
        return await asyncio.to_thread(self._locked, lambda db: self._acquire(db, stream, owner, seconds))

    async def renew(self, held: Held, seconds: int) -> Held | None:
        """None: it has been lost, to somebody else or to time."""
        return await asyncio.to_thread(self._locked, lambda db: self._renew(db, held, seconds))

    async def release(self, held: Held) -> None:
        """Let go of it. One that has been lost meanwhile stays with its new owner."""
        await asyncio.to_thread(self._locked, lambda db: db.execute(sql.DROP_LEASE, [held.stream, held.fence]))

    def close(self) -> None:
        with self._one_at_a_time:
            self._db.close()

    def _acquire(self, db: Db, stream: StreamId, owner: str, seconds: int) -> Held | None:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        db.execute(sql.LOCK_LEASE, [stream])
        db.execute(sql.CLEAR_LEASE, [stream, owner, now])
        for (holder,) in db.execute(sql.LEASE_OWNER, [stream]).fetchall():
            if self._gone(holder):
                db.execute(sql.CLEAR_LEASE, [stream, holder, now])
        taken = db.execute(sql.TAKE_LEASE, [stream, owner, until]).fetchone()
        return Held(stream, owner, taken[0], until) if taken else None

    def _renew(self, db: Db, held: Held, seconds: int) -> Held | None:
        now = self._clock.now()
        until = now + timedelta(seconds=seconds)
        done = db.execute(sql.RENEW_LEASE, [until, held.stream, held.fence, now])
        return Held(held.stream, held.owner, held.fence, until) if done.rowcount else None

    def _locked(self, work: Callable[[Db], T]) -> T:
        """In one transaction. A connection that was cut is replaced, once: asking twice for a lease is harmless."""
        with self._one_at_a_time, explaining(self.name):
            if not self._db.closed:
                try:
                    return self._done(work)
                except psycopg.Error as error:
                    if not is_lost(self._db, error):
                        raise
                    self._db.close()
            self._db = open_writer(self._dsn, self.name, Sync.NORMAL)
            return self._done(work)

    def _done(self, work: Callable[[Db], T]) -> T:
        with self._db.transaction():
            return work(self._db)
