"""Where a session stands and what comes next: one pure function of what is recorded, the bounds and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from controller.agents.conversation import Sense, Turn, nonsense_in_a_row, sense_of
from controller.domain.bounds import Bounds
from controller.domain.session import Session

Outcome = Literal["done", "no_change", "refused", "budget", "turns", "stalled", "nonsense", "failed", "revoked"]

KEEPS_ITS_WORK: frozenset[Outcome] = frozenset({"done", "no_change", "budget", "turns", "stalled"})


@dataclass(frozen=True, slots=True)
class Ask:
    """The model is due."""


@dataclass(frozen=True, slots=True)
class Act:
    """A paid reply has not been acted on."""


@dataclass(frozen=True, slots=True)
class End:
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True)
class Over:
    """It has ended already."""


Course = Ask | Act | End | Over


@dataclass(frozen=True, slots=True)
class Times:
    """When the run that is under way began or was taken up, and how often it was taken up since its last turn."""

    since: datetime
    resumed: int


def course_of(session: Session, turns: Sequence[Turn], bounds: Bounds, times: Times, now: datetime) -> Course:
    """`turns` are the session's recorded ones, opened."""
    if session.ended is not None:
        return Over()
    if len(session.replies) > len(session.turns):
        return Act()
    return _end_of(session, turns, bounds) or _out_of(session, bounds, times, now) or Ask()


def _end_of(session: Session, turns: Sequence[Turn], bounds: Bounds) -> End | None:
    """None: nothing that was said ends it."""
    if turns:
        sense, why = sense_of(turns[-1].reply)
        if sense is Sense.REFUSAL:
            return End("refused", why)
        if sense is Sense.FINAL:
            return End("done", "the model finished")
    known = frozenset(session.started.tools) if session.started else frozenset[str]()
    row = nonsense_in_a_row(turns, known)
    if row >= bounds.nonsense_replies:
        why = sense_of(turns[-1].reply)[1] or "it called only tools that do not exist"
        return End(
            "nonsense", f"{row} replies in a row made no sense (bound {bounds.nonsense_replies}); the last: {why}"
        )
    return None


def _out_of(session: Session, bounds: Bounds, times: Times, now: datetime) -> End | None:
    """None: it is within its bounds."""
    if session.refusals >= bounds.session_refusals:
        return End("refused", f"{session.refusals} calls were refused (bound {bounds.session_refusals})")
    if len(session.turns) >= bounds.session_turns:
        return End("turns", f"{len(session.turns)} turns without an end (bound {bounds.session_turns})")
    if times.resumed > bounds.step_attempts:
        at = len(session.turns)
        return End(
            "failed",
            f"taken up {times.resumed} times at turn {at} without getting further (bound {bounds.step_attempts})",
        )
    seconds = int((now - times.since).total_seconds())
    if seconds > bounds.session_seconds:
        return End("stalled", f"it has run for {seconds} s (bound {bounds.session_seconds})")
    return None
