"""A merge queue's own stream, folded: one landing at a time on one branch of one repository.

Who waits in line is no state of the queue: it is read from the deliveries that wait on it, in log order, so the order
can be replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from controller.domain import events as e
from controller.domain.entry import Entry, UnknownEvent
from controller.domain.folding import Folds
from controller.domain.ids import Commit, DeliveryId, StreamId

REMEMBERED = 500  # outcomes kept in the fold; a delivery reads its own within one wake


class QueuePhase(StrEnum):
    IDLE = "IDLE"
    PLANNED = "PLANNED"
    CHECKED = "CHECKED"
    UNVERIFIED = "UNVERIFIED"  # the last landing is not what was tested, and nobody has acted on it yet


QUEUE_NEXT: dict[QueuePhase, frozenset[QueuePhase]] = {
    QueuePhase.IDLE: frozenset({QueuePhase.PLANNED}),
    QueuePhase.PLANNED: frozenset({QueuePhase.CHECKED, QueuePhase.IDLE}),
    QueuePhase.CHECKED: frozenset({QueuePhase.IDLE, QueuePhase.UNVERIFIED}),
    QueuePhase.UNVERIFIED: frozenset({QueuePhase.IDLE}),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one head in the queue."""

    head: Commit
    landed: e.Landed | None  # None: evicted
    evicted: e.Evicted | None  # None: landed


@dataclass(frozen=True, slots=True)
class Queue:
    stream: StreamId
    version: int = 0
    phase: QueuePhase = QueuePhase.IDLE
    parked: str | None = None  # None: every entry is understood
    landings: int = 0
    plan: e.LandingPlanned | None = None  # None: idle
    check: e.LandingChecked | None = None
    outcomes: tuple[tuple[DeliveryId, Outcome], ...] = ()
    unverified: tuple[e.Landed, ...] = ()  # all of them: each froze the branch, and a person looked
    waiting: e.Waited | None = None
    failures: int = 0  # of the current step in a row

    def outcome_of(self, delivery: DeliveryId, head: Commit) -> Outcome | None:
        """The last outcome of exactly this head. None: it has had none yet."""
        found = [o for who, o in self.outcomes if who == delivery and o.head == head]
        return found[-1] if found else None


def fold(stream: StreamId, entries: list[Entry]) -> Queue:
    return _folds(stream, entries)


def evolve(state: Queue, entry: Entry) -> Queue:  # noqa: C901, PLR0911, PLR0912 - one flat table of facts
    now = replace(state, version=entry.version)
    if isinstance(entry.event, UnknownEvent):
        return replace(now, parked=entry.event.plea)
    if isinstance(entry.event, e.StepFailed):
        return replace(now, failures=entry.event.attempt)
    now = replace(now, failures=0)
    match entry.event:
        case e.Waited() as event:
            return replace(now, waiting=event)
        case e.LandingPlanned() as event:
            return replace(now, phase=QueuePhase.PLANNED, landings=event.landing, plan=event, check=None, waiting=None)
        case e.LandingChecked() as event:
            return replace(now, phase=QueuePhase.CHECKED, check=event, waiting=None)
        case e.Landed() as event:
            done = now
            for who, head in zip(event.deliveries, event.heads, strict=True):
                done = _remember(done, who, Outcome(head, event, None))
            done = replace(done, phase=QueuePhase.IDLE, plan=None, check=None, waiting=None)
            if event.verified:
                return done
            return replace(done, phase=QueuePhase.UNVERIFIED, unverified=(*done.unverified, event))
        case e.LandingDoubted():
            return replace(now, phase=QueuePhase.IDLE, waiting=None)
        case e.Evicted() as event:
            out = _remember(now, event.delivery, Outcome(event.head, None, event))
            if event.landing is None:
                return out
            return replace(out, phase=QueuePhase.IDLE, plan=None, check=None, waiting=None)
        case e.LandingVoided():
            return replace(now, phase=QueuePhase.IDLE, plan=None, check=None, waiting=None)
        case _:
            return now


def _remember(state: Queue, delivery: DeliveryId, outcome: Outcome) -> Queue:
    return replace(state, outcomes=(*state.outcomes, (delivery, outcome))[-REMEMBERED:])


_folds: Folds[StreamId, Queue] = Folds(Queue, evolve)


def admit(state: Queue, event: e.Event) -> str | None:
    """Why this event may not happen now. None: it may."""
    match event:
        case e.LandingPlanned() if state.phase is not QueuePhase.IDLE:
            return f"{state.stream} is busy with landing {state.landings}"
        case e.LandingChecked() if state.phase is not QueuePhase.PLANNED:
            return f"{state.stream} has no landing to check"
        case e.Landed() if state.phase is not QueuePhase.CHECKED or state.check is None or not state.check.passed:
            return f"{state.stream}: only a landing whose check passed may land"
        case e.LandingDoubted() if state.phase is not QueuePhase.UNVERIFIED:
            return f"{state.stream} has no landing that is not verified"
        case _:
            return None
