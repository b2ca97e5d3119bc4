"""The guards' tables on Postgres: read for a whole group at once, tested in memory, written back at once.

A group of appends names every guard that it will ask about before the first of them is tested. So its rows are read in
one go, under the lock on the head; what earlier appends of the group change is changed in memory, and the sum of it is
written with the entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import Connection, Cursor

from controller.domain.entry import Entry
from controller.domain.guards import (
    ControlRow,
    CounterAdd,
    EffectRow,
    GuardRow,
    HoldsFence,
    NotStopped,
    StreamRow,
    Under,
    project,
)
from controller.domain.ids import EffectKey, StreamId
from controller.errors import Permanent
from controller.ledger import postgres_sql as sql
from controller.ledger.rebuild import Guards
from controller.ledger.writer import Append

Db = Connection[Any]
LARGEST = 2**63 - 1
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


@dataclass(slots=True)
class GroupGuards:
    """The guards that a group of appends asks about, as they stand after those of its appends that were accepted."""

    found: Guards
    changes: Guards = field(default_factory=Guards)

    def version_of(self, stream: StreamId) -> int:
        row = self.changes.streams.get(stream) or self.found.streams.get(stream)
        return 0 if row is None else row.version

    def control_of(self, scope: str) -> ControlRow | None:
        return self.changes.control.get(scope) or self.found.control.get(scope)

    def effect(self, key: EffectKey) -> EffectRow | None:
        return self.changes.effects.get(key) or self.found.effects.get(key)

    def counter(self, scope: str, window: str) -> tuple[int, int]:
        nothing = CounterAdd(scope, window, 0, 0)
        before = self.found.counters.get((scope, window), nothing)
        moved = self.changes.counters.get((scope, window), nothing)
        return before.reserved + moved.reserved, before.spent + moved.spent

    def take(self, entries: Sequence[Entry]) -> None:
        """What all of them change, or nothing. Raises Permanent for what the tables cannot hold."""
        for entry in entries:
            for row in project(entry):
                _check(row)
        for entry in entries:
            self.changes.add(entry)


def _check(row: GuardRow) -> None:
    """Postgres keeps no NUL and no half of a surrogate pair in its text, and no time without a zone."""
    for value in (getattr(row, name) for name in row.__slots__):
        if isinstance(value, datetime) and value.tzinfo is None:
            raise Permanent(f"{value} has no time zone", "Use aware datetimes; the log keeps UTC")
        if isinstance(value, int) and abs(value) > LARGEST:
            raise Permanent(f"{value} does not fit into 64 bits", "Mend the step that drafted it")
        if isinstance(value, str) and not _is_storable(value):
            raise Permanent(f"{value[:100]!r} is no text that can be stored", "Take NULs and lone surrogates out of it")


def _is_storable(text: str) -> bool:
    return _UNSTORABLE.search(text) is None


# --- one group --------------------------------------------------------------------------------------------------------


def asked_by(db: Db, group: Iterable[Append]) -> GroupGuards:
    """Every guard that a group of appends will ask about. One question a table, and none where nothing is asked."""
    group = list(group)
    guards = [guard for append in group for guard in append.guards]
    names = {stream for append in group for stream in append.expect if _is_storable(stream)}
    keys = {guard.key for guard in guards if isinstance(guard, HoldsFence)}
    money = {(guard.scope, guard.window) for guard in guards if isinstance(guard, Under)}
    scopes = {scope for guard in guards if isinstance(guard, NotStopped) for scope in guard.scopes}
    found = Guards(streams={row[0]: _stream_row(row) for row in _asked(db, sql.STREAMS_NAMED, [list(names)])})
    if keys:
        found.effects = {row[0]: _effect_row(row) for row in _asked(db, sql.EFFECTS_NAMED, [list(keys)])}
    if money:
        columns = [list(column) for column in zip(*money, strict=True)]
        found.counters = {(row[0], row[1]): CounterAdd(*row) for row in _asked(db, sql.COUNTERS_NAMED, columns)}
    if scopes:
        found.control = {row[0]: ControlRow(*row) for row in _asked(db, sql.CONTROL_NAMED, [list(scopes)])}
    return GroupGuards(found)


def _asked(db: Db, query: str, values: list[Any]) -> Cursor[Any]:
    return db.execute(query, values)


def write(db: Db, changes: Guards) -> None:
    streams, effects = changes.streams.values(), changes.effects.values()
    _put(db, sql.PUT_STREAMS, [_stream_values(row) for row in streams])
    _put(db, sql.PUT_EFFECTS, [(row.key, row.state, row.owner, row.fence, row.deadline) for row in effects])
    moved = [(row.scope, row.window, row.reserved, row.spent) for row in changes.counters.values()]
    _put(db, sql.ADD_TO_COUNTERS, moved)
    _put(db, sql.PUT_CONTROL, [(row.scope, row.state, row.reason, row.since) for row in changes.control.values()])


def _put(db: Db, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
    if rows:
        _asked(db, statement, [list(column) for column in zip(*rows, strict=True)])


def _stream_values(row: StreamRow) -> tuple[Any, ...]:
    return row.stream, row.version, row.terminal, row.wake_at, row.waits_on, row.waits_since


# --- read back --------------------------------------------------------------------------------------------------------


def stream(db: Db, name: StreamId) -> StreamRow | None:
    """None: it has no entries."""
    found = db.execute(sql.STREAM, [name]).fetchone()
    return None if found is None else _stream_row(found)


def live(db: Db, prefix: str) -> list[StreamRow]:
    return [_stream_row(row) for row in db.execute(sql.LIVE, [prefix])]


def waiting_on(db: Db, name: StreamId) -> list[StreamRow]:
    return [_stream_row(row) for row in db.execute(sql.WAITING_ON, [name])]


def open_effects(db: Db) -> list[EffectRow]:
    return [_effect_row(row) for row in db.execute(sql.OPEN_EFFECTS)]


def control(db: Db) -> list[ControlRow]:
    return [ControlRow(*row) for row in db.execute(sql.CONTROL_NOT_RUNNING)]


def counter(db: Db, scope: str, window: str) -> tuple[int, int]:
    """(reserved, spent) in micro-USD."""
    reserved, spent = db.execute(sql.COUNTER, [scope, window]).fetchone() or (0, 0)
    return reserved, spent


def stored(db: Db) -> Guards:
    return Guards(
        streams={row[0]: _stream_row(row) for row in db.execute(sql.STREAMS)},
        effects={row[0]: _effect_row(row) for row in db.execute(sql.EFFECTS)},
        counters={(row[0], row[1]): CounterAdd(*row) for row in db.execute(sql.COUNTERS)},
        control={row[0]: ControlRow(*row) for row in db.execute(sql.CONTROL_ALL)},
    )


def _stream_row(row: tuple[Any, ...]) -> StreamRow:
    name, version, terminal, wake_at, waits_on, waits_since = row
    return StreamRow(StreamId(name), version, terminal, wake_at, waits_on, waits_since)


def _effect_row(row: tuple[Any, ...]) -> EffectRow:
    key, state, owner, fence, deadline = row
    return EffectRow(EffectKey(key), state, owner, fence, deadline)
