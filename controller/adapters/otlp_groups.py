"""Finished traces of one service, counted by second and by what they were like; memory is bounded by groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from controller.domain.counts import TraceGroup

MOST_GROUPS = 20_000  # over all seconds; then the oldest second goes
MOST_IN_A_SECOND = 400
MOST_ANSWERED = 2_000
SECONDS_KEPT = 2 * 3600
NO_ROOM = "traces left out of a second with too many kinds of them"
FORGOTTEN = "traces forgotten before they were asked for"


class Alike(NamedTuple):
    """What two traces must share to be counted as one group; see `TraceGroup`."""

    through: tuple[str, ...]
    route: str
    origin: str | None
    files: tuple[str, ...]


class TraceCounts:
    def __init__(self) -> None:
        self._seconds: dict[int, Counter[Alike]] = {}  # in order of arrival, which is nearly that of time
        self._groups = 0
        self.dropped = Counter[str]()  # traces that are in no answer, by reason
        self.settle: Callable[[], None] = _nothing  # folds what is due; whoever assembles traces sets it

    def add(self, at_ms: int, alike: Alike) -> None:
        second = at_ms // 1000
        groups = self._seconds.setdefault(second, Counter())
        if alike not in groups:
            if len(groups) >= MOST_IN_A_SECOND:
                self.dropped[NO_ROOM] += 1
                return
            self._groups += 1
        groups[alike] += 1
        while len(self._seconds) > 1 and (self._groups > MOST_GROUPS or len(self._seconds) > SECONDS_KEPT):
            self._forget(min(self._seconds))

    def between(self, from_ms: int, to_ms: int) -> list[TraceGroup]:
        """Traces whose request ended within [from_ms, to_ms), in whole seconds; most frequent first, then by name."""
        self.settle()
        found: Counter[Alike] = Counter()
        for second, groups in self._seconds.items():
            if from_ms // 1000 <= second < -(-to_ms // 1000):
                found.update(groups)
        ranked = sorted(found.items(), key=lambda one: (-one[1], one[0][:2], one[0].origin or "", one[0].files))
        return [TraceGroup(**alike._asdict(), traces=traces) for alike, traces in ranked[:MOST_ANSWERED]]

    def _forget(self, second: int) -> None:
        gone = self._seconds.pop(second)
        self._groups -= len(gone)
        self.dropped[FORGOTTEN] += gone.total()


def _nothing() -> None:
    """Nobody assembles traces for this source."""
