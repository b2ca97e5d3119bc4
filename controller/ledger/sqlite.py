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
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from controller.domain.entry import Caller, Draft, Entry
from controller.domain.guards import ControlRow, EffectRow, Guard, StreamRow
from controller.domain.ids import StreamId
from controller.errors import ConfigError, Unavailable
from controller.ledger import guard_rows, sql
from controller.ledger.database import MEMORY, Sync, explaining, open_reader, open_writer
from controller.ledger.writer import Append, Writer, as_it_is, entry_of, read_stream, read_tip
from controller.ports import Clock, Head, Receipt, Rejected

MAX_GROUP = 512  # appends in one transaction: bounds how long the write lock is held
MAX_IN_LINE = 10_000
PAGE = 200  # entries that `scan` reads at once
CLOSE_S = 30.0

T = TypeVar("T")
Waiting = tuple[Append, "Future[Receipt | Rejected]"]


def _nothing(_: object) -> None: ...


class SqliteLog:
    """The port `Log`.

    `inline=True` commits in the calling coroutine, one append a transaction and without a thread: the same code in a
    deterministic order. ":memory:" needs it. `clean` takes secrets out of clear text before anything else sees it.
    `before_append` sees the drafts before anything happens, `after_append`
    the outcome before the caller does; a simulation raises there to crash.
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
        self._line: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._appender = None if inline else threading.Thread(target=self._serve, name="log-appender", daemon=True)
        if self._appender:
            self._appender.start()

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
        outcome = self._commit_here(append) if self._appender is None else await asyncio.wrap_future(self._join(append))
        self._after(outcome)
        return outcome

    def close(self) -> None:
        """Commit what stands in line, then let go of the file. A second call does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        if self._appender:
            self._appender.join(CLOSE_S)
        with self._reading:
            self._reader.close()
            self._writer.db.close()

    def _commit_here(self, append: Append) -> Receipt | Rejected:
        if self._closed:
            raise _is_closed(self.path)
        (outcome,) = self._writer.commit([append])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _join(self, append: Append) -> Future[Receipt | Rejected]:
        future: Future[Receipt | Rejected] = Future()
        with self._changed:
            if self._closed:
                raise _is_closed(self.path)
            if len(self._line) >= MAX_IN_LINE:
                raise Unavailable(
                    f"{MAX_IN_LINE} appends to {self.path} wait already", "Slow down: the disk does not keep up"
                )
            self._line.append((append, future))
            self._changed.notify()
        return future

    def _serve(self) -> None:
        while group := self._take():
            _settle(self._writer, group)

    def _take(self) -> list[Waiting]:
        """Everything in line, as soon as there is something. Empty: closed, and nobody waits any more."""
        with self._changed:
            while not self._line and not self._closed:
                self._changed.wait()
            return [self._line.popleft() for _ in range(min(MAX_GROUP, len(self._line)))]

    # --- reading ------------------------------------------------------------------------------------------------------

    def _ask(self, query: Callable[[sqlite3.Connection], T]) -> T:
        with self._reading, explaining(self.path):
            if self._closed:
                raise _is_closed(self.path)
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


def _settle(writer: Writer, group: list[Waiting]) -> None:
    """Commit a group and tell each of its callers. A caller that has given up before is left out."""
    wanted = [(append, future) for append, future in group if future.set_running_or_notify_cancel()]
    try:
        outcomes = writer.commit([append for append, _ in wanted])
    except Exception as error:  # noqa: BLE001 - every caller is told, and the appender lives on for the next group
        for _, future in wanted:
            future.set_exception(error)
        return
    for (_, future), outcome in zip(wanted, outcomes, strict=True):
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


def _page(db: sqlite3.Connection, from_index: int, kinds: frozenset[str] | None) -> list[tuple[int, bytes]]:
    if kinds is None:
        return db.execute(sql.LEAVES, (from_index, PAGE)).fetchall()
    return db.execute(sql.LEAVES_OF_KINDS, (from_index, json.dumps(sorted(kinds)), PAGE)).fetchall()


def _is_closed(path: str) -> Unavailable:
    return Unavailable(f"the log at {path} is closed", "This process is ending; the next one goes on")
