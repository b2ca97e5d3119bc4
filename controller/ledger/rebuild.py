"""The guards, rebuilt from the log alone, and how they differ from those that are stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from controller.domain.entry import Entry
from controller.domain.guards import ControlRow, CounterAdd, EffectRow, StreamRow, project
from controller.domain.ids import EffectKey, StreamId
from controller.ledger import guard_rows


@dataclass(slots=True)
class Guards:
    """All guards at one size of the log, by their keys."""

    streams: dict[StreamId, StreamRow] = field(default_factory=dict)
    effects: dict[EffectKey, EffectRow] = field(default_factory=dict)
    counters: dict[tuple[str, str], CounterAdd] = field(default_factory=dict)  # the sums, by scope and window
    control: dict[str, ControlRow] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        for row in project(entry):
            match row:
                case StreamRow():
                    self.streams[row.stream] = row
                case EffectRow():
                    self.effects[row.key] = row
                case CounterAdd():
                    self._add_money(row)
                case ControlRow():
                    self.control[row.scope] = row

    def _add_money(self, row: CounterAdd) -> None:
        key = (row.scope, row.window)
        before = self.counters.get(key, CounterAdd(row.scope, row.window, 0, 0))
        self.counters[key] = CounterAdd(row.scope, row.window, before.reserved + row.reserved, before.spent + row.spent)


def rebuilt(entries: Iterable[Entry]) -> Guards:
    guards = Guards()
    for entry in entries:
        guards.add(entry)
    return guards


def stored(db: sqlite3.Connection) -> Guards:
    return Guards(
        streams={row.stream: row for row in guard_rows.streams(db)},
        effects={row.key: row for row in guard_rows.effects(db)},
        counters={(row.scope, row.window): row for row in guard_rows.counters(db)},
        control={row.scope: row for row in guard_rows.control(db, running_too=True)},
    )


def differences(from_log: Guards, found: Guards) -> Iterator[tuple[str, str]]:
    """(where, what) of every guard row that is missing, too many or not what the log says."""
    tables = (
        ("streams", from_log.streams, found.streams),
        ("effects", from_log.effects, found.effects),
        ("counters", from_log.counters, found.counters),
        ("control", from_log.control, found.control),
    )
    for table, expected, present in tables:
        for key in sorted({*expected, *present}, key=str):
            here, there = expected.get(key), present.get(key)
            if here != there:
                yield f"{table} {key}", f"the log says {here or 'nothing'}, the table {there or 'nothing'}"
