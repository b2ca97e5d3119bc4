"""The log on one SQLite file: group commit in, committed reads out.

`append` puts its drafts in line and waits. One appender thread per process takes everything that stands in line,
commits it as one transaction and acknowledges each append on its own; what arrives meanwhile is the next group. One
disk sync is so shared by all who wait for it. Several processes may share the file: SQLite's write lock orders their
groups, and the head is read anew under it. Reads go through a connection that cannot write.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import ControlRow, EffectRow, Guard, StreamRow
from controller.domain.ids import StreamId
from controller.errors import ConfigError
from controller.ledger import guard_rows, sql
from controller.ledger.database import MEMORY, Sync, explaining, open_reader, open_writer
from controller.ledger.line import Line, is_closed
from controller.ledger.writer import Append, Writer, as_it_is, entry_of, read_stream, read_tip
from controller.ports import Clock, Head, Receipt, Rejected

PAGE = 200  # entries that `scan` reads at once

T = TypeVar("T")


def _nothing(_: object) -> None: ...


class SqliteLog:
    """The port `Log`.

    `inline=True` commits in the calling coroutine, one append a transaction and without a thread: the same code in a
    deterministic order. ":memory:" needs it. `clean` takes secrets out of clear text before anything else sees it.
    `before_append` sees the drafts before anything happens, `after_append` the outcome before the caller does; a
    simulation raises there to crash.
    """

    def __init__(
        self,
        path: Path | str,
        clock: Clock,
        *,
        sync: Sync = Sync.FULL,
        inline: bool = False,
        clean: Callable[[Draft], Draft] = as_it_is,
        before_append: Callable[[tuple[Draft, ...]], None] = _nothing,
        after_append: Callable[[Receipt | Rejected], None] = _nothing,
    ) -> None:
        self.path = str(path)
        if self.path == MEMORY and not inline:
            raise ConfigError("a log in memory has no second connection to read from", "Open it with inline=True")
        self._clean, self._before, self._after = clean, before_append, after_append
        self._writer = Writer(open_writer(self.path, sync), self.path, clock)
        self._reader = self._writer.db if self.path == MEMORY else open_reader(self.path)
        self._reading = threading.Lock()
        self._closed = False
        self._line = None if inline else Line(self.path, self._writer.commit)  # None: commits in the calling coroutine

    # --- writing ------------------------------------------------------------------------------------------------------

    async def append(
        self,
        drafts: Sequence[Draft],
        *,
        expect: Mapping[StreamId, int],
        by: Caller,
        guards: Sequence[Guard] = (),
    ) -> Receipt | Rejected:
        """See `ports.Log.append`. `expect` may also name streams that are only looked at.

        Raises Permanent for drafts that may not happen, and Unavailable when the disk or the lock is out of reach:
        nothing is acknowledged then, and the appends after it are tried afresh.
        """
        append = Append(tuple(self._clean(draft) for draft in drafts), dict(expect), by, tuple(guards))
        self._before(append.drafts)
        outcome = (
            self._commit_here(append) if self._line is None else await asyncio.wrap_future(self._line.join(append))
        )
        self._after(outcome)
        return outcome

    def close(self) -> None:
        """Commit what stands in line, then let go of the file. A second call does nothing."""
        if self._closed:
            return
        if self._line is not None:
            self._line.close()
        with self._reading:
            self._closed = True
            self._reader.close()
            self._writer.db.close()

    def _commit_here(self, append: Append) -> Receipt | Rejected:
        if self._closed:
            raise is_closed(self.path)
        (outcome,) = self._writer.commit([append])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    # --- reading ------------------------------------------------------------------------------------------------------

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._reading, explaining(self.path):
            if self._closed:
                raise is_closed(self.path)
            return query(self._reader)

    async def read(self, stream: StreamId, after: int = 0) -> list[Entry]:
        return self._ask(lambda db: read_stream(db, stream, after))

    async def scan(self, from_index: int = 0, kinds: frozenset[str] | None = None) -> AsyncIterator[Entry]:
        """Page by page, without holding a snapshot: entries that are appended meanwhile come too."""
        while rows := self._ask(lambda db, at=from_index: _page(db, at, kinds)):  # type: ignore[misc]
            for index, leaf in rows:
                yield entry_of(index, leaf)
            from_index = rows[-1][0] + 1
            await asyncio.sleep(0)

    async def head(self) -> Head:
        frontier = self._ask(read_tip).frontier
        return Head(frontier.size, frontier.root().hex())

    async def stream(self, stream: StreamId) -> StreamRow | None:
        """None: it has no entries."""
        return self._ask(lambda db: guard_rows.stream(db, stream))

    async def live(self, prefix: str = "") -> list[StreamRow]:
        return self._ask(lambda db: guard_rows.live(db, prefix))

    async def waiting_on(self, stream: StreamId) -> list[StreamRow]:
        return self._ask(lambda db: guard_rows.waiting_on(db, stream))

    async def open_effects(self) -> list[EffectRow]:
        return self._ask(guard_rows.open_effects)

    async def control(self) -> list[ControlRow]:
        return self._ask(guard_rows.control)

    async def spent(self, scope: str, window: str) -> tuple[int, int]:
        return self._ask(lambda db: guard_rows.counter(db, scope, window))


def _page(db: sqlite3.Connection, from_index: int, kinds: frozenset[str] | None) -> list[tuple[int, bytes]]:
    if kinds is None:
        return db.execute(sql.LEAVES, (from_index, PAGE)).fetchall()
    return db.execute(sql.LEAVES_OF_KINDS, (from_index, json.dumps(sorted(kinds)), PAGE)).fetchall()
