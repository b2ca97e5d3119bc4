"""The log on Postgres: one truth for several controllers.

Appends stand in line and are committed in groups (`line`, `postgres_writer`). Reads run on a few threads, each with a
connection of its own that cannot write; a read is a single statement, so what it sees was committed together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import ControlRow, EffectRow, Guard, StreamRow
from controller.domain.ids import StreamId
from controller.ledger import postgres_guards as guard_rows
from controller.ledger import postgres_sql as sql
from controller.ledger.database import Sync
from controller.ledger.line import Line, is_closed
from controller.ledger.merkle import Frontier
from controller.ledger.postgres_db import Db, connected, explained, is_lost, named, open_reader
from controller.ledger.postgres_writer import PostgresWriter
from controller.ledger.writer import Append, as_it_is, entry_of
from controller.ports import Clock, Head, Receipt, Rejected

READERS = 4  # threads, and connections, that read at once
PAGE = 200  # entries that `scan` reads at once

T = TypeVar("T")


class PostgresLog:
    """The port `Log`. `dsn` is libpq's: "postgresql://flyball@db/flyball" or "host=… dbname=…"; see docs/postgres.md.

    Opening creates the schema in an empty database where the role may, and asks for the owner where it may not.
    """

    def __init__(
        self,
        dsn: str,
        clock: Clock,
        *,
        sync: Sync = Sync.FULL,
        clean: Callable[[Draft], Draft] = as_it_is,
    ) -> None:
        """`clean` takes secrets out of clear text before anything else sees it."""
        self.name = named(dsn)
        self._clean = clean
        self._dsn = dsn
        self._writer = PostgresWriter(dsn, self.name, clock, sync)
        self._line = Line(self.name, self._writer.commit)
        self._readers = Readers(dsn, self.name)

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expect: Mapping[StreamId, int],
        by: Caller,
        guards: Sequence[Guard] = (),
    ) -> Receipt | Rejected:
        """See `ports.Log.append`. `expect` may also name streams that are only looked at.

        Raises Permanent for drafts that may not happen, and Unavailable when the server is out of reach: nothing is
        acknowledged then, and the appends after it are tried afresh.
        """
        append = Append(tuple(self._clean(draft) for draft in drafts), dict(expect), by, tuple(guards))
        return await asyncio.wrap_future(self._line.join(append))

    def close(self) -> None:
        """Commit what stands in line, then let go of the server. A second call does nothing."""
        self._line.close()
        self._readers.close()
        self._writer.close()

    async def read(self, stream: StreamId, after: int = 0) -> list[Entry]:
        rows = await self._readers.ask(lambda db: db.execute(sql.STREAM_LEAVES, [stream, after]).fetchall())
        return [entry_of(index, leaf) for index, leaf in rows]

    async def scan(self, from_index: int = 0, kinds: frozenset[str] | None = None) -> AsyncIterator[Entry]:
        """Page by page, without holding a snapshot: entries that are appended meanwhile come too."""
        while rows := await self._readers.ask(lambda db, at=from_index: _page(db, at, kinds)):  # type: ignore[misc]
            for index, leaf in rows:
                yield entry_of(index, leaf)
            from_index = rows[-1][0] + 1

    async def head(self) -> Head:
        size, stored, _ = await self._readers.ask(lambda db: db.execute(sql.HEAD).fetchone() or (0, b"", None))
        return Head(size, Frontier.from_bytes(size, stored).root().hex())

    async def stream(self, stream: StreamId) -> StreamRow | None:
        """None: it has no entries."""
        return await self._readers.ask(lambda db: guard_rows.stream(db, stream))

    async def live(self, prefix: str = "") -> list[StreamRow]:
        return await self._readers.ask(lambda db: guard_rows.live(db, prefix))

    async def waiting_on(self, stream: StreamId) -> list[StreamRow]:
        return await self._readers.ask(lambda db: guard_rows.waiting_on(db, stream))

    async def open_effects(self) -> list[EffectRow]:
        return await self._readers.ask(guard_rows.open_effects)

    async def control(self) -> list[ControlRow]:
        return await self._readers.ask(guard_rows.control)

    async def spent(self, scope: str, window: str) -> tuple[int, int]:
        return await self._readers.ask(lambda db: guard_rows.counter(db, scope, window))

    async def news(self, within_s: float, *, heard: Callable[[], None] = lambda: None) -> bool:
        """Wait until somebody appends, for `within_s` seconds at most. Whether somebody did.

        A hint: it may come for nothing, and one that is lost costs `within_s` and nothing else. `heard` is called once
        it listens: what is appended after that is not missed.
        """
        return await asyncio.to_thread(self._listened, within_s, heard)

    def _listened(self, within_s: float, heard: Callable[[], None]) -> bool:
        try:
            with connected(self._dsn, self.name) as db:
                db.execute(sql.LISTEN)
                heard()
                return next(db.notifies(timeout=within_s, stop_after=1), None) is not None
        except psycopg.Error as error:
            raise explained(error, self.name) from error


class Readers:
    """A few threads that each keep a connection, and open another when theirs was cut."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn, self._name = dsn, name
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="log-reader")
        self._mine = threading.local()
        self._open: set[Db] = set()
        self._closed = False

    async def ask(self, query: Callable[[Db], T]) -> T:
        """Raises Unavailable when the server is out of reach, twice in a row."""
        if self._closed:
            raise is_closed(self._name)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._asked, query)

    def close(self) -> None:
        self._closed = True
        self._threads.shutdown(wait=True)
        for db in self._open:
            db.close()

    def _asked(self, query: Callable[[Db], T]) -> T:
        kept: Db | None = getattr(self._mine, "db", None)  # None: this thread has not read yet
        try:
            if kept is not None:
                try:
                    return query(kept)
                except psycopg.Error as error:
                    if not is_lost(kept, error):
                        raise
                    kept.close()
                    self._open.discard(kept)
            return query(self._opened())
        except psycopg.Error as error:
            raise explained(error, self._name) from error

    def _opened(self) -> Db:
        self._mine.db = db = open_reader(self._dsn, self._name)
        self._open.add(db)
        return db


def _page(db: Db, from_index: int, kinds: frozenset[str] | None) -> list[tuple[int, bytes]]:
    if kinds is None:
        return db.execute(sql.LEAVES, [from_index, PAGE]).fetchall()
    return db.execute(sql.LEAVES_OF_KINDS, [from_index, sorted(kinds), PAGE]).fetchall()
