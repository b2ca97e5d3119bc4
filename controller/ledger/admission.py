"""What may happen next in a stream, asked once, when it is about to be written.

Deliveries and queues have rules of their own (`admit`). The state they are asked of is folded under the lock that
orders entries; it is kept by stream and version, so that the next append to the same stream folds nothing twice. The
kept states are a cache: they may be forgotten at any time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.domain import delivery, queue
from controller.domain.entry import Entry
from controller.domain.events import Event
from controller.domain.ids import DeliveryId, StreamId, kind_of, rest_of
from controller.errors import Permanent

KEPT_STATES = 512

Fold = Callable[[StreamId, int], Iterable[Entry]]  # the entries of a stream above a version


@dataclass(frozen=True, slots=True)
class _Rules:
    begin: Callable[[StreamId], Any]
    evolve: Callable[[Any, Entry], Any]
    admit: Callable[[Any, Event], str | None]


RULES = {
    "delivery": _Rules(lambda name: delivery.Delivery(DeliveryId(rest_of(name))), delivery.evolve, delivery.admit),
    "queue": _Rules(queue.Queue, queue.evolve, queue.admit),
}


class Admission:
    def __init__(self, read: Fold) -> None:
        self._read = read
        self._kept: OrderedDict[StreamId, Any] = OrderedDict()

    def check(self, entries: Sequence[Entry]) -> dict[StreamId, Any]:
        """The states after these entries, for `keep`.

        Raises Permanent when one of them may not happen: whoever drafted it is wrong.
        """
        after: dict[StreamId, Any] = {}
        for entry in entries:
            rules = RULES.get(kind_of(entry.stream))
            if rules is not None and isinstance(entry.event, Event):
                before = (
                    after[entry.stream]
                    if entry.stream in after
                    else self._state(rules, entry.stream, entry.version - 1)
                )
                after[entry.stream] = _admitted(rules, before, entry, entry.event)
        return after

    def keep(self, states: dict[StreamId, Any]) -> None:
        for name, state in states.items():
            self._kept[name] = state
            self._kept.move_to_end(name)
        while len(self._kept) > KEPT_STATES:
            self._kept.popitem(last=False)

    def forget(self) -> None:
        """What was kept may rest on entries that were never committed."""
        self._kept.clear()

    def _state(self, rules: _Rules, name: StreamId, version: int) -> Any:
        state = self._kept.get(name)
        if state is None or state.version > version:
            state = rules.begin(name)
        if state.version < version:
            for entry in self._read(name, state.version):
                state = rules.evolve(state, entry)
        return state


def _admitted(rules: _Rules, before: Any, entry: Entry, event: Event) -> Any:
    try:
        reason = rules.admit(before, event)
        after = rules.evolve(before, entry)
    except ValueError as error:  # an event that its own stream cannot carry
        reason = str(error)
    if reason is not None:
        raise Permanent(
            f"{entry.kind} may not be appended to {entry.stream}: {reason}", "Mend the step that drafted it"
        )
    return after
