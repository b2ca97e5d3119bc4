"""A delivery, folded from its stream: one task on its way to production, or back.

`NEXT` is the law of the land: which phase may follow which. `evolve` is total and only reads clear fields; `admit`
says, once, at append, what may happen next.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from controller.domain import events as e
from controller.domain.entry import Entry, UnknownEvent
from controller.domain.folding import Folds
from controller.domain.ids import NO_MONEY, Branch, Commit, DeliveryId, Digest, MicroUsd, Repository, StreamId
from controller.domain.risk import Colour
from controller.domain.sealed import Sealed


class Phase(StrEnum):
    NEW = "NEW"
    ACCEPTED = "ACCEPTED"
    AUTHORED = "AUTHORED"
    PROPOSED = "PROPOSED"
    CHECKED = "CHECKED"
    CLASSIFIED = "CLASSIFIED"
    CLEARED = "CLEARED"
    MERGED = "MERGED"
    DEPLOYING = "DEPLOYING"
    DEPLOYED = "DEPLOYED"
    CONFIRMED = "CONFIRMED"
    REGRESSED = "REGRESSED"
    ROLLED_BACK = "ROLLED_BACK"
    HANDED_OVER = "HANDED_OVER"
    ABANDONED = "ABANDONED"
    SUPERSEDED = "SUPERSEDED"
    STUCK = "STUCK"


P = Phase
_BEFORE_MERGE = (P.NEW, P.ACCEPTED, P.AUTHORED, P.PROPOSED, P.CHECKED, P.CLASSIFIED, P.CLEARED)
_LIVE = (*_BEFORE_MERGE, P.MERGED, P.DEPLOYING, P.DEPLOYED, P.REGRESSED, P.ROLLED_BACK)
TERMINAL = frozenset({P.CONFIRMED, P.HANDED_OVER, P.ABANDONED, P.SUPERSEDED})

_FORWARD: dict[Phase, tuple[Phase, ...]] = {
    P.NEW: (P.ACCEPTED,),
    P.ACCEPTED: (P.AUTHORED,),
    P.AUTHORED: (P.PROPOSED,),
    P.PROPOSED: (P.CHECKED, P.ACCEPTED),
    P.CHECKED: (P.CLASSIFIED,),
    P.CLASSIFIED: (P.CLEARED, P.ACCEPTED),
    P.CLEARED: (P.MERGED, P.PROPOSED, P.ACCEPTED),
    P.MERGED: (P.DEPLOYING, P.CONFIRMED),
    P.DEPLOYING: (P.DEPLOYED, P.REGRESSED),
    P.DEPLOYED: (P.CONFIRMED, P.REGRESSED),
    P.REGRESSED: (P.ROLLED_BACK,),
    P.ROLLED_BACK: (P.HANDED_OVER, P.MERGED),
}

NEXT: dict[Phase, frozenset[Phase]] = {
    phase: frozenset(
        {
            *_FORWARD.get(phase, ()),
            *((P.ABANDONED, P.SUPERSEDED) if phase in _BEFORE_MERGE else ()),
            *((P.STUCK,) if phase in _LIVE else ()),
            *(_LIVE if phase is P.STUCK else ()),
        }
    )
    for phase in Phase
}


@dataclass(frozen=True, slots=True)
class Waiting:
    waits_for: e.WaitsFor
    on: StreamId | None  # None: the world is looked at instead
    since: datetime
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """Everything the next step needs to know, and nothing that a step could not find in the log again."""

    id: DeliveryId
    version: int = 0
    phase: Phase = Phase.NEW
    parked: str | None = None  # None: every entry is understood
    request: e.TaskRequested | None = None  # None: only before the first entry
    requested_at: datetime | None = None
    requested_by: str = ""
    budget_micro_usd: MicroUsd = NO_MONEY
    change: e.ChangeAuthored | None = None  # None: nothing authored since it was last sent back
    iteration: int = 0  # sessions begun
    heads: tuple[Commit, ...] = ()  # distinct heads, in order
    submitted: tuple[Commit, ...] = ()  # distinct heads submitted to shared CI: the rounds
    pull_request: int | None = None  # None: not opened yet
    ci_started: e.CiStarted | None = None  # None: this head is not with CI
    ci: e.CiReported | None = None  # None: not tested yet
    mutants_started: e.MutantsStarted | None = None  # None: no mutants of this head have been asked for
    risk: e.RiskClassified | None = None
    approval: e.ApprovalRequested | None = None
    cleared: e.Cleared | None = None
    merged: e.Merged | None = None
    release: int | None = None  # None: in none now
    left_release: int = 0  # the last release it was rolled back with, as an innocent
    regressed: e.DeliveryRegressed | None = None
    rolled_back: e.RolledBack | None = None
    waiting: Waiting | None = None
    sent_back: str | None = None  # why it is with its author again; None: it is not
    failures: int = 0  # of the current step in a row
    end_reason: str | None = None
    stuck_from: Phase | None = None  # None: not stuck
    unstuck: int = 0  # how often a person has let it go on
    doubted: Commit | None = None  # what landed of it and was not verified: a person looks. None: nothing of the kind
    cost_micro_usd: MicroUsd = NO_MONEY
    tainted: bool = False
    phase_times: tuple[tuple[Phase, datetime], ...] = field(default=())

    @property
    def repository(self) -> Repository:
        return self.asked.repository

    @property
    def branch(self) -> Branch:
        return self.asked.branch

    @property
    def asked(self) -> e.TaskRequested:
        if self.request is None:
            raise ValueError(f"delivery {self.id} has no entries yet")
        return self.request

    @property
    def task(self) -> Sealed:
        return self.asked.task

    @property
    def head(self) -> Commit | None:
        """The head under way. None: nothing is authored."""
        return self.change.head if self.change else None

    @property
    def rounds(self) -> int:
        return len(self.submitted)

    @property
    def policy(self) -> Digest | None:
        return self.risk.verdict.policy if self.risk else None

    @property
    def needs_consent(self) -> bool:
        return self.risk is not None and self.risk.verdict.colour is Colour.YELLOW


def fold(delivery: DeliveryId, entries: list[Entry]) -> Delivery:
    return _folds(delivery, entries)


def evolve(state: Delivery, entry: Entry) -> Delivery:
    """One entry later. Total: whatever was accepted once is understood for ever, or parks the stream."""
    event = entry.event
    if isinstance(event, UnknownEvent):
        return replace(state, version=entry.version, parked=event.plea)
    after = _apply(replace(state, version=entry.version), event, entry)
    if after.phase is not state.phase or state.version == 0:
        after = replace(after, phase_times=(*after.phase_times, (after.phase, entry.time)))
    if isinstance(event, e.StepFailed):
        return after
    return replace(after, failures=0) if isinstance(event, e.Waited) else replace(after, waiting=None, failures=0)


def _apply(d: Delivery, event: e.Event, entry: Entry) -> Delivery:  # noqa: C901, PLR0911, PLR0912 - one flat table of facts
    match event:
        case e.TaskRequested():
            return replace(d, request=event, requested_at=entry.time, requested_by=event.asked_by)
        case e.TaskAccepted():
            return replace(d, phase=P.ACCEPTED, budget_micro_usd=event.budget_micro_usd)
        case e.Waited():
            since = d.waiting.since if d.waiting and d.waiting.waits_for is event.waits_for else entry.time
            return replace(d, waiting=Waiting(event.waits_for, event.on, since, event.until, event.reason))
        case e.ChangeAuthored():
            heads = d.heads if event.head in d.heads else (*d.heads, event.head)
            cost = MicroUsd(d.cost_micro_usd + event.cost_micro_usd)
            tainted = d.tainted or event.tainted
            authored = replace(d, phase=P.AUTHORED, change=event, iteration=event.iteration, heads=heads)
            fresh = replace(authored, ci=None, ci_started=None, mutants_started=None, risk=None)
            return replace(fresh, cost_micro_usd=cost, tainted=tainted, sent_back=None)
        case e.PullRequestOpened():
            return replace(d, phase=P.PROPOSED, pull_request=event.number)
        case e.CiStarted():
            submitted = d.submitted if event.head in d.submitted else (*d.submitted, event.head)
            return replace(d, ci_started=event, submitted=submitted)
        case e.CiReported():
            return replace(d, phase=P.CHECKED if event.passed else d.phase, ci=event)
        case e.MutantsStarted():
            return replace(d, mutants_started=event)
        case e.RiskClassified():
            return replace(d, phase=P.CLASSIFIED, risk=event)
        case e.ApprovalRequested():
            return replace(d, approval=event)
        case e.Cleared():
            return replace(d, phase=P.CLEARED, cleared=event)
        case e.Merged():
            return replace(d, phase=P.MERGED, merged=event)
        case e.SentBack():
            return _sent_back(d, event)
        case e.RolloutJoined():
            return replace(d, phase=P.DEPLOYING, release=event.release)
        case e.ReleaseLive():
            return replace(d, phase=P.DEPLOYED)
        case e.DeliveryConfirmed():
            return replace(d, phase=P.CONFIRMED, end_reason=event.reason)
        case e.DeliveryRegressed():
            return replace(d, phase=P.REGRESSED, regressed=event)
        case e.RolledBack():
            return replace(d, phase=P.ROLLED_BACK, rolled_back=event)
        case e.WentAgain():
            return replace(
                d, phase=P.MERGED, release=None, left_release=event.release, regressed=None, rolled_back=None
            )
        case e.HandedOver():
            return replace(d, phase=P.HANDED_OVER, end_reason=f"reverted by {event.revert}, fixed by {event.fix}")
        case e.Abandoned():
            return replace(d, phase=P.ABANDONED, end_reason=event.reason)
        case e.Superseded():
            return replace(d, phase=P.SUPERSEDED, end_reason=f"superseded by {event.by}")
        case e.StepFailed():
            return replace(d, failures=event.attempt)
        case e.Stuck():
            doubted = event.landed or d.doubted
            return replace(d, phase=P.STUCK, stuck_from=d.phase, end_reason=event.reason, doubted=doubted)
        case e.Unstuck():
            free = replace(d, stuck_from=None, end_reason=None, unstuck=d.unstuck + 1, ci_started=None)
            free = replace(free, mutants_started=None)
            return replace(free, phase=Phase(event.to))
        case _:
            return d


def _sent_back(d: Delivery, event: e.SentBack) -> Delivery:
    if event.to == "ACCEPTED":
        return replace(d, phase=P.ACCEPTED, change=None, risk=None, cleared=None, approval=None, sent_back=event.reason)
    if d.change is None or event.new_head is None or event.new_base is None:
        raise ValueError(f"delivery {d.id}: a rebase needs a change and a new head")
    heads = d.heads if event.new_head in d.heads else (*d.heads, event.new_head)
    change = d.change.model_copy(update={"head": event.new_head, "base": event.new_base})
    again = replace(d, phase=P.PROPOSED, change=change, heads=heads, ci=None, ci_started=None, mutants_started=None)
    return replace(again, risk=None, cleared=None, approval=None)


_folds: Folds[DeliveryId, Delivery] = Folds(lambda name: Delivery(id=name), evolve)


def admit(state: Delivery, event: e.Event) -> str | None:
    """Why this event may not happen now. None: it may."""
    if state.version == 0:
        return None if isinstance(event, e.TaskRequested) else "a delivery begins with TaskRequested"
    if isinstance(event, e.TaskRequested):
        return f"delivery {state.id} has been requested already"
    if state.phase in TERMINAL:
        return f"delivery {state.id} has ended ({state.phase})"
    if (reason := _while_stuck(state, event)) is not None:
        return reason
    now = _probe(state, event)
    if now is not state.phase and now not in NEXT[state.phase]:
        return f"{event.kind()} would take delivery {state.id} from {state.phase} to {now}, which NEXT does not have"
    return None


def _while_stuck(state: Delivery, event: e.Event) -> str | None:
    """Why a stuck delivery, or one that is not, may not be let go on like this. None: nothing of the kind."""
    if isinstance(event, e.Unstuck) and event.to != state.stuck_from:
        return f"delivery {state.id} goes on where it got stuck ({state.stuck_from or 'nowhere'}), not at {event.to}"
    if state.phase is P.STUCK and not isinstance(event, e.Unstuck | e.Waited | e.StepFailed):
        return f"delivery {state.id} is stuck until a named person lets it go on"
    return None


def _probe(state: Delivery, event: e.Event) -> Phase:
    at = state.requested_at
    if at is None:
        raise ValueError("a delivery with entries knows when it was requested")
    entry = Entry(
        index=0,
        stream=StreamId(""),
        version=state.version + 1,
        time=at,
        principal="",
        on_behalf_of=None,
        policy=Digest(""),
        kind=event.kind(),
        v=event.v,
        event=event,
        leaf=b"",
    )
    return _apply(state, event, entry).phase
