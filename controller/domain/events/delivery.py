"""delivery/<id>: what has become of a task."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.benchmark import Benchmark
from controller.domain.change import TestFacts
from controller.domain.decision import Decision
from controller.domain.events.base import Cause, Event, Label, WaitsFor
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    MicroUsd,
    Repository,
    SessionId,
    StreamId,
)
from controller.domain.risk import RiskInputs, RiskVerdict
from controller.domain.sealed import Sealed


class TaskRequested(Event):
    """The first entry of a delivery: somebody entitled asked, or Flyball itself must revert or fix."""

    delivery: DeliveryId
    repository: Repository
    branch: Branch
    task: Sealed
    asked_by: str  # principal; people are keyed pseudonyms
    source: Literal["cli", "web", "api", "slack", "flyball"]
    event_id: str
    feature: str | None = None  # None: counted to no feature
    cause: Cause = Cause.TASK
    caused_by: DeliveryId | None = None  # None: a person asked
    after: DeliveryId | None = None  # None: starts at once
    root: DeliveryId
    depth: int = Field(0, ge=0)  # spawn depth below the root
    bad_commit: Commit | None = None  # the merge to revert or to fix forward; None for a task


class TaskAccepted(Event):
    budget_micro_usd: MicroUsd
    decision: Decision


class Waited(Event):
    """Nothing to do until something else happens.

    `on` is the stream to watch; `until` is when waiting itself becomes the problem.
    """

    waits_for: WaitsFor
    on: StreamId | None = None  # None: the world is looked at instead of a stream
    until: datetime
    reason: str


class ChangeAuthored(Event):
    base: Commit
    head: Commit
    branch: Branch
    iteration: int
    files: tuple[str, ...]
    lines_changed: int
    session: SessionId | None  # None: made by code alone (a revert)
    model: str | None  # None: no model took part
    label: Label | None  # None: no model took part
    prompt_digest: Digest | None  # None: no prompt
    transcript_digest: Digest | None
    cost_micro_usd: MicroUsd
    tainted: bool
    summary: Sealed | None = None
    decision: Decision | None = None  # why this head was taken; None: an older log


class PullRequestOpened(Event):
    number: int
    head: Commit
    title: Sealed


class TestFailure(Fact):
    """`test` is a name in clear that says nothing: the real one is sealed (older logs have the real one in clear)."""

    __test__ = False
    test: str
    verdict: Literal["defect", "flaky", "unknown"]
    message: Sealed
    name: Sealed | None = None  # None: an older log, where `test` is the name itself


class CiStarted(Event):
    """A head goes to shared CI: this is what a round is counted by.

    The base is pinned, so that a moving main starts no second run.
    """

    head: Commit
    base: Commit
    tested: Commit
    run: str


class CiReported(Event):
    head: Commit
    base: Commit
    tested: Commit  # head merged onto base
    round: int  # distinct heads submitted so far, this one included
    passed: bool
    pushed_at: datetime
    started_at: datetime
    finished_at: datetime
    tests: int
    failures: tuple[TestFailure, ...]
    run: str
    isolation: str  # which sandbox ran it, in words
    log: Sealed  # what the run printed
    results: Sealed | None = None  # `CiResults`, test by test; None: an older log
    decision: Decision | None = None  # why it is green or red; None: an older log
    benchmarks: tuple[Benchmark, ...] = ()  # of `tested`; empty: none recorded, or an older log
    facts: TestFacts | None = None  # None: an older log, or a CI that cannot tell


class MutantsStarted(Event):
    """Mutants of a tested change run against its tests. No round: the head is the one that has been through CI."""

    head: Commit
    base: Commit
    tested: Commit
    run: str


class RiskClassified(Event):
    inputs: RiskInputs
    verdict: RiskVerdict
    decision: Decision


class ApprovalRequested(Event):
    head: Commit
    policy: Digest
    until: datetime


class Cleared(Event):
    """Policy or a person lets this head, and only this head, go to the queue."""

    head: Commit
    policy: Digest
    approver: str
    by_person: bool
    self_approved: bool = False  # by whoever asked for it, where nobody else is configured


class Merged(Event):
    commit: Commit
    head: Commit
    base: Commit
    rebased: bool


class SentBack(Event):
    """The head is no good as it is: back to its author, or to CI after a clean rebase."""

    to: Literal["ACCEPTED", "PROPOSED"]
    reason: str
    new_head: Commit | None = None  # with PROPOSED only: the rebased head, and
    new_base: Commit | None = None  # what it now stands on
    detail: Sealed | None = None  # names of files and tests; None: nothing to add


class RolloutJoined(Event):
    release: int
    commit: Commit


class ReleaseLive(Event):
    release: int


class DeliveryConfirmed(Event):
    terminal: ClassVar[bool] = True
    reason: str
    release: int | None = None  # None: nothing was deployed


class DeliveryRegressed(Event):
    release: int
    reason: str
    verdict_entry: int  # log index of the release's RegressionFound


class RolledBack(Event):
    release: int
    to_commit: Commit
    detected_at: datetime
    traffic_back_at: datetime
    health_checks: int


class WentAgain(Event):
    """Rolled back with others and innocent: it returns to the line for the next release."""

    release: int
    reason: str


class HandedOver(Event):
    terminal: ClassVar[bool] = True
    revert: DeliveryId
    fix: DeliveryId | None  # None: the depth bound is reached and a person was told
    decision: Decision


class Abandoned(Event):
    terminal: ClassVar[bool] = True
    reason: str
    detail: Sealed | None = None  # words of a model, a program or a person; None: nothing to add


class Superseded(Event):
    terminal: ClassVar[bool] = True
    by: DeliveryId


class StepFailed(Event):
    step: str
    error: str
    attempt: int
    detail: Sealed | None = None  # what the world said; None: nothing to add


class Stuck(Event):
    reason: str
    detail: Sealed | None = None  # what the world said; None: nothing to add
    landed: Commit | None = None  # what has landed of it and is not verified; None: another reason


class Unstuck(Event):
    by: str
    to: str
