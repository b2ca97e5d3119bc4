"""One group of appends, one transaction.

The write lock is taken first. Each append in turn is tested against everything before it, in the log or in this group:
expectations, then guards, then the stream's own rules. One that fails takes no index and harms no other. The rest get
contiguous indices and a time that never runs backwards; entries, guards, the tiles that they complete and the tree's
frontier are written together and committed once. Whatever is projected is projected from the leaf as it reads back, so
that guards rebuilt from the log cannot differ, and nothing is stored that cannot be read.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from controller.domain.entry import Caller, Draft, Entry, decode, encode
from controller.domain.guards import Guard, project
from controller.domain.ids import StreamId
from controller.errors import Permanent
from controller.ledger import guard_rows, sql
from controller.ledger.admission import Admission
from controller.ledger.database import explained, to_text, to_time, transaction
from controller.ledger.merkle import Frontier
from controller.ledger.refusals import refusal
from controller.ledger.tile_rows import complete_tiles
from controller.ledger.tiles import MAX_BUNDLED_BYTES
from controller.ports import Clock, Receipt, Rejected

MAX_LEAF_BYTES = MAX_BUNDLED_BYTES  # the log is served in bundles that say an entry's length in 16 bits
MAX_DRAFTS = 1000  # in one append
KEPT_ENTRIES = 2048
KEPT_LEAF_BYTES = 16 * 1024  # larger ones are read back each time: the entries kept stay below 32 MiB of leaves


@dataclass(frozen=True, slots=True)
class Append:
    drafts: tuple[Draft, ...]
    expect: Mapping[StreamId, int]
    by: Caller
    guards: tuple[Guard, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < len(self.drafts) <= MAX_DRAFTS:
            raise Permanent(f"an append has 1 to {MAX_DRAFTS} drafts, this one {len(self.drafts)}", "Mend the caller")
        blind = {draft.stream for draft in self.drafts} - self.expect.keys()
        if blind:
            raise Permanent(
                f"expect names no version for {', '.join(sorted(blind))}", "Name it; 0 means: must not exist yet"
            )


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the log ends."""

    frontier: Frontier
    last_time: datetime | None  # None: it is empty


def as_it_is(draft: Draft) -> Draft:
    """For logs of which somebody else has made sure that no secret stands in clear text."""
    return draft


Outcome = Receipt | Rejected | Exception  # an exception is this append's alone


def entry_of(index: int, leaf: bytes) -> Entry:
    """A leaf read back. Raises Permanent when it cannot be."""
    return _kept(index, leaf) if len(leaf) <= KEPT_LEAF_BYTES else _read_back(index, leaf)


def _read_back(index: int, leaf: bytes) -> Entry:
    try:
        return decode(leaf)
    except (ValueError, KeyError, TypeError) as error:
        raise Permanent(f"entry {index} of the log cannot be read: {error}", "Run `flyball log verify`") from error


_kept = lru_cache(KEPT_ENTRIES)(_read_back)


def read_stream(db: sqlite3.Connection, stream: StreamId, after: int) -> list[Entry]:
    return [entry_of(index, leaf) for index, leaf in db.execute(sql.STREAM_LEAVES, (stream, after)).fetchall()]


def read_tip(db: sqlite3.Connection) -> Tip:
    size, frontier, last_time = db.execute(sql.HEAD).fetchone()
    return Tip(Frontier.from_bytes(size, frontier), to_time(last_time) if last_time else None)


class Writer:
    """The one connection of this process that writes entries. Used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection, path: str, clock: Clock) -> None:
        self.db = db
        self._path = path
        self._clock = clock
        self._admission = Admission(lambda stream, after: read_stream(db, stream, after))

    def commit(self, group: Sequence[Append]) -> list[Outcome]:
        """What became of each append, in order.

        Raises Unavailable or Permanent when the whole group failed: then none of them is acknowledged.
        After Unavailable the group is not in the log, except when the machine itself fails before the next commit; the
        expectations of a second try tell.
        """
        try:
            with transaction(self.db):
                return self._in_order(group)
        except BaseException as error:
            self._admission.forget()
            if isinstance(error, sqlite3.Error):
                raise explained(error, self._path) from error
            raise

    def _in_order(self, group: Sequence[Append]) -> list[Outcome]:
        start = tip = read_tip(self.db)
        outcomes: list[Outcome] = []
        for append in group:
            outcome, tip = self._one(append, tip)
            outcomes.append(outcome)
        if tip.last_time is not None and tip is not start:
            complete_tiles(self.db, start.frontier.size, tip.frontier.size)
            self.db.execute(sql.MOVE_HEAD, (tip.frontier.size, tip.frontier.to_bytes(), to_text(tip.last_time)))
        return outcomes

    def _one(self, append: Append, tip: Tip) -> tuple[Outcome, Tip]:
        self.db.execute("SAVEPOINT one_append")
        try:
            outcome, tip = self._tried(append, tip)
        except sqlite3.OperationalError:  # the disk or the lock: everybody's trouble
            raise
        except Exception as error:  # noqa: BLE001 - a draft's own fault goes to its caller, not to its neighbours
            self.db.execute("ROLLBACK TO one_append")
            outcome = explained(error, self._path) if isinstance(error, sqlite3.Error) else error
        self.db.execute("RELEASE one_append")
        return outcome, tip

    def _tried(self, append: Append, tip: Tip) -> tuple[Outcome, Tip]:
        no = refusal(guard_rows.Standing(self.db), append.expect, append.guards)
        if no is not None:
            return no, tip
        entries = self._entries(append, tip)
        states = self._admission.check(entries)
        values = [(entry.index, entry.stream, entry.version, entry.kind, entry.leaf) for entry in entries]
        self.db.executemany(sql.ADD_ENTRY, values)
        guard_rows.apply(self.db, [row for entry in entries for row in project(entry)])
        self._admission.keep(states)
        after = Tip(_grown(tip.frontier, entries), entries[-1].time)
        return Receipt(entries[0].index, after.frontier.size), after

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
                raise Permanent(f"{what}, the most that a bundle of entries can say", "Put its bulk into a blob")
            entries.append(entry_of(index, leaf))
        return entries


def _grown(frontier: Frontier, entries: Iterable[Entry]) -> Frontier:
    for entry in entries:
        frontier = frontier.plus(entry.leaf)
    return frontier
