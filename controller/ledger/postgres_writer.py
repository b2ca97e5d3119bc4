"""One group of appends, one transaction on Postgres.

It locks the head's row and reads every guard that the group asks about; from then on this process alone may append.
Each append in turn is tested in memory against everything before it, in the log or in this group. One that fails takes
no index and harms no other. A last trip writes the entries, tiles, guards and head of the rest, and commits. Processes
that append at once wait for each other at the head, so indices are contiguous and time never runs backwards, whoever
wrote.

**A connection that is cut while it commits** leaves the outcome open. The writer then takes the head's lock again,
which ends the doubt, and asks the server what became of the transaction. **A server that was replaced** by one that had
not received everything shows a shorter log than this writer has seen: it refuses to go on, for to append would fork.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import errors

from controller.domain.entry import Entry, encode
from controller.domain.ids import StreamId
from controller.errors import Permanent, Unavailable
from controller.ledger import postgres_guards as guards
from controller.ledger import postgres_sql as sql
from controller.ledger.admission import Admission
from controller.ledger.database import Sync
from controller.ledger.merkle import Frontier
from controller.ledger.postgres_db import explained, is_lost, open_writer
from controller.ledger.postgres_schema import brought_up_to_date
from controller.ledger.postgres_tree import Tile, TileGrowth, add_tiles, growth_at
from controller.ledger.refusals import refusal
from controller.ledger.writer import MAX_LEAF_BYTES, Append, Outcome, Tip, entry_of
from controller.ports import Clock, Receipt


@dataclass(slots=True)
class _Group:
    """What one transaction holds: where the log stood, what is asked, what is to be written."""

    start: Tip
    transaction: str  # the server's id of it
    guards: guards.GroupGuards
    tip: Tip
    entries: list[Entry] = field(default_factory=list)


class PostgresWriter:
    """The one connection of this process that writes entries. Used by one thread at a time."""

    def __init__(self, dsn: str, name: str, clock: Clock, sync: Sync = Sync.FULL) -> None:
        """Opens the log, making it or bringing it up to date if its role may.

        Raises Unavailable when the server is out of reach.
        """
        self._dsn, self._name, self._clock, self._sync = dsn, name, clock, sync
        self._db = open_writer(dsn, name, sync)
        try:
            brought_up_to_date(self._db, name)
        except psycopg.Error as error:
            self.close()
            raise explained(error, name) from error
        except BaseException:
            self.close()
            raise
        self._admission = Admission(self._stream)
        self._growth: TileGrowth | None = None  # None: to be read from the log
        self._seen = Frontier()  # the log as this process last left it

    def close(self) -> None:
        self._db.close()

    def commit(self, group: Sequence[Append]) -> list[Outcome]:
        """What became of each append, in order.

        Raises Unavailable or Permanent when the whole group failed: then none of them is acknowledged. Unavailable with
        "may have been committed" is the one case where the expectations of a second try must tell.
        """
        try:
            return self._committed(group)
        except (psycopg.IntegrityError, psycopg.DataError) as error:  # one of them; the server does not say which
            self._forget()
            if len(group) == 1:
                return [explained(error, self._name)]
            return [outcome for append in group for outcome in self.commit([append])]
        except psycopg.Error as error:
            self._forget()
            raise explained(error, self._name) from error
        except BaseException:
            self._forget()
            raise

    def _committed(self, group: Sequence[Append]) -> list[Outcome]:
        begun = self._begun_anew(group)
        outcomes: list[Outcome] = [self._tried(append, begun) for append in group]
        if not begun.entries:
            self._db.execute(sql.ROLLBACK)
            return outcomes
        tiles = self._grown(begun)
        try:
            self._write(begun, tiles)
        except psycopg.Error as error:
            if not is_lost(self._db, error) or not self._was_committed(begun, error):
                raise
        self._seen = begun.tip.frontier
        return outcomes

    def _forget(self) -> None:
        """What is kept in memory may rest on entries that were never committed, and a transaction may be open."""
        self._admission.forget()
        self._growth = None
        if not self._db.closed:
            try:
                self._db.rollback()
            except psycopg.Error:  # it is as lost as one that the server ended: the next group opens another
                self._db.close()

    # --- under the lock -----------------------------------------------------------------------------------------------

    def _begun_anew(self, group: Sequence[Append]) -> _Group:
        """Begin. A connection that was lost while nothing was under way costs a second one, and no append."""
        if not self._db.closed:
            try:
                return self._begun(group)
            except psycopg.Error as error:
                if not is_lost(self._db, error):
                    raise
                self._db.close()
        self._db = open_writer(self._dsn, self._name, self._sync)
        return self._begun(group)

    def _begun(self, group: Sequence[Append]) -> _Group:
        # No pipeline here: after one, Postgres 15 does not count the time that a transaction stands idle, and a stopped
        # process would hold the log for ever.
        locked = self._db.execute(sql.BEGIN_AND_LOCK_HEAD)
        locked.nextset()
        tip, transaction = self._tip(locked.fetchone())
        return _Group(tip, transaction, guards.asked_by(self._db, group), tip)

    def _tip(self, row: tuple[int, bytes, object, str] | None) -> tuple[Tip, str]:
        if row is None:
            raise Permanent(f"the log at {self._name} has no head", "Run `flyball log verify`")
        size, frontier, last_time, transaction = row
        tip = Tip(Frontier.from_bytes(size, frontier), last_time)  # type: ignore[arg-type]
        gone = size < self._seen.size or (size == self._seen.size and tip.frontier != self._seen)
        if gone:
            what = f"the log at {self._name} has {size} entries, but {self._seen.size} were acknowledged"
            raise Permanent(what, "Stop every controller: this server has lost entries. See docs/postgres.md, Failover")
        return tip, transaction

    # --- in memory ----------------------------------------------------------------------------------------------------

    def _tried(self, append: Append, group: _Group) -> Outcome:
        try:
            no = refusal(group.guards, append.expect, append.guards)
            if no is not None:
                return no
            entries = self._entries(append, group.tip)
            states = self._admission.check(entries)
            group.guards.take(entries)
        except psycopg.Error:  # the server's trouble is everybody's
            raise
        except Exception as error:  # noqa: BLE001 - a draft's own fault goes to its caller, not to its neighbours
            return error
        self._admission.keep(states)
        return _accepted(entries, group)

    def _entries(self, append: Append, tip: Tip) -> list[Entry]:
        now = self._clock.now()
        time = now if tip.last_time is None else max(now, tip.last_time)
        versions = Counter(append.expect)
        entries = []
        for index, draft in enumerate(append.drafts, tip.frontier.size):
            versions[draft.stream] += 1
            leaf = encode(index, versions[draft.stream], time, draft, append.by)
            if len(leaf) > MAX_LEAF_BYTES:
                what = f"{draft.event.kind()} for {draft.stream} has {len(leaf)} bytes of at most {MAX_LEAF_BYTES}"
                raise Permanent(what, "Put its bulk into a blob and name the digest")
            entries.append(entry_of(index, leaf))
        return entries

    def _stream(self, stream: StreamId, after: int) -> list[Entry]:
        return [entry_of(index, leaf) for index, leaf in self._db.execute(sql.STREAM_LEAVES, [stream, after])]

    def _grown(self, group: _Group) -> list[Tile]:
        if self._growth is None or group.start.frontier != self._seen:
            self._growth = growth_at(self._db, group.start.frontier.size)
        return self._growth.plus(entry.leaf for entry in group.entries)

    # --- the last trip ----------------------------------------------------------------------------------------------

    def _write(self, group: _Group, tiles: Sequence[Tile]) -> None:
        rows = [(entry.index, entry.stream, entry.version, entry.kind, entry.leaf) for entry in group.entries]
        tip = group.tip
        with self._db.pipeline():
            self._db.execute(sql.ADD_ENTRIES, [list(column) for column in zip(*rows, strict=True)])
            add_tiles(self._db, tiles)
            guards.write(self._db, group.guards.changes)
            self._db.execute(sql.MOVE_HEAD, [tip.frontier.size, tip.frontier.to_bytes(), tip.last_time])
            self._db.execute(sql.TELL_NEWS, [sql.NEWS, str(tip.frontier.size)])
            self._db.execute(sql.COMMIT)

    def _was_committed(self, group: _Group, lost: psycopg.Error) -> bool:
        """Whether a transaction was committed whose connection was cut before the server could say so.

        Raises Unavailable when the server cannot be asked either.
        """
        self._db.close()
        try:
            self._db = open_writer(self._dsn, self._name, self._sync)
            self._db.execute(sql.BEGIN)
            self._db.execute(sql.LOCK_HEAD)  # a transaction that still commits holds this lock until it has ended
            status = self._db.execute(sql.BECAME_OF, [group.transaction]).fetchone()
            leaf = self._db.execute(sql.LEAF, [group.entries[0].index]).fetchone()
            self._db.execute(sql.ROLLBACK)
        except errors.InvalidParameterValue:  # this server never came to that transaction
            return False
        except (psycopg.Error, Unavailable) as error:
            what = f"the log at {self._name} was lost while it committed ({lost}): the appends may have been committed"
            raise Unavailable(what, "Read the streams again before a second try") from error
        return status == ("committed",) and leaf == (group.entries[0].leaf,)


def _accepted(entries: list[Entry], group: _Group) -> Receipt:
    frontier = group.tip.frontier
    for entry in entries:
        frontier = frontier.plus(entry.leaf)
    group.entries += entries
    group.tip = Tip(frontier, entries[-1].time)
    return Receipt(entries[0].index, frontier.size)
