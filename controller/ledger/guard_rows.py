"""The guards' tables: what `project` says of each entry, written, read back, and asked before an append."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from controller.domain.guards import (
    ControlRow,
    CounterAdd,
    EffectRow,
    GuardRow,
    StreamRow,
)
from controller.domain.ids import EffectKey, StreamId, rest_of
from controller.ledger import sql
from controller.ledger.database import to_text, to_time

_AFTER_EVERY_NAME = "\U0010ffff"


def apply(db: sqlite3.Connection, rows: Iterable[GuardRow]) -> None:
    """Rows replace their predecessors; money adds up."""
    for row in rows:
        match row:
            case StreamRow():
                values = (
                    row.stream,
                    row.version,
                    int(row.terminal),
                    to_text(row.wake_at),
                    row.waits_on,
                    row.waits_since,
                )
                db.execute(sql.PUT_STREAM, values)
            case EffectRow():
                db.execute(sql.PUT_EFFECT, (row.key, row.state, row.owner, row.fence, to_text(row.deadline)))
            case CounterAdd():
                db.execute(sql.ADD_TO_COUNTER, (row.scope, row.window, row.reserved, row.spent))
            case ControlRow():
                db.execute(sql.PUT_CONTROL, (row.scope, row.state, row.reason, row.since))


# --- asked before an append -------------------------------------------------------------------------------------------


class Standing:
    """`refusals.Standing` over the file, inside the transaction that would append."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def version_of(self, stream: StreamId) -> int:
        return version_of(self._db, stream)

    def control_of(self, scope: str) -> ControlRow | None:
        found = self._db.execute(sql.CONTROL_OF, (scope,)).fetchone()
        return None if found is None else ControlRow(*found)

    def counter(self, scope: str, window: str) -> tuple[int, int]:
        return counter(self._db, scope, window)

    def effect(self, key: EffectKey) -> EffectRow | None:
        found = self._db.execute(sql.EFFECT, (key,)).fetchone()
        return None if found is None else _effect_row(found)


# --- read back --------------------------------------------------------------------------------------------------------


def stream(db: sqlite3.Connection, name: StreamId) -> StreamRow | None:
    """None: it has no entries."""
    found = db.execute(sql.STREAM, (name,)).fetchone()
    return None if found is None else _stream_row(found)


def version_of(db: sqlite3.Connection, name: StreamId) -> int:
    """0: it has no entries."""
    found = stream(db, name)
    return 0 if found is None else found.version


def streams(db: sqlite3.Connection) -> list[StreamRow]:
    return [_stream_row(row) for row in db.execute(sql.STREAMS).fetchall()]


def live(db: sqlite3.Connection, prefix: str) -> list[StreamRow]:
    rows = db.execute(sql.LIVE, (prefix, prefix + _AFTER_EVERY_NAME)).fetchall()
    return [_stream_row(row) for row in rows]


def waiting_on(db: sqlite3.Connection, name: StreamId) -> list[StreamRow]:
    return [_stream_row(row) for row in db.execute(sql.WAITING_ON, (name,)).fetchall()]


def effects(db: sqlite3.Connection) -> list[EffectRow]:
    rows = db.execute(sql.EFFECTS).fetchall()
    return [_effect_row(row) for row in rows]


def open_effects(db: sqlite3.Connection) -> list[EffectRow]:
    """By the streams that have not ended: few, however many effects there have ever been."""
    keys = [EffectKey(rest_of(row.stream)) for row in live(db, "effect/")]
    found = [db.execute(sql.EFFECT, (key,)).fetchone() for key in keys]
    rows = [_effect_row(row) for row in found]
    return [row for row in rows if row.state == "open"]  # one may have ended between the two questions


def counter(db: sqlite3.Connection, scope: str, window: str) -> tuple[int, int]:
    """(reserved, spent) in micro-USD."""
    reserved, spent = db.execute(sql.COUNTER, (scope, window)).fetchone() or (0, 0)
    return reserved, spent


def counters(db: sqlite3.Connection) -> list[CounterAdd]:
    return [CounterAdd(*row) for row in db.execute(sql.COUNTERS).fetchall()]


def control(db: sqlite3.Connection, *, running_too: bool = False) -> list[ControlRow]:
    query = sql.CONTROL_ALL if running_too else sql.CONTROL_NOT_RUNNING
    return [ControlRow(*row) for row in db.execute(query).fetchall()]


def _stream_row(row: tuple[Any, ...]) -> StreamRow:
    name, version, terminal, wake_at, waits_on, waits_since = row
    return StreamRow(StreamId(name), version, bool(terminal), to_time(wake_at), waits_on, waits_since)


def _effect_row(row: tuple[Any, ...]) -> EffectRow:
    key, state, owner, fence, deadline = row
    return EffectRow(EffectKey(key), state, owner, fence, to_time(deadline))
