"""Everything that can have happened: a closed union of facts, past tense, frozen.

A stored kind is never renamed or removed. `v` counts a kind's shapes; old ones are lifted to the newest when read.
Numbers are integers with their unit in the name: floats would make the canonical bytes depend on a printer.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from controller.domain.base import Fact
from controller.domain.decision import Decision
from controller.domain.ids import (
    Branch,
    Commit,
    DeliveryId,
    Digest,
    EffectKey,
    MicroUsd,
    Repository,
    Service,
    SessionId,
    StreamId,
)
from controller.domain.money import Usage
from controller.domain.risk import RiskInputs, RiskVerdict
from controller.domain.sealed import Sealed
from controller.domain.verdict import Boundaries, Phi, Verdict


class Label(StrEnum):
    """How real a model's answer or a metric is. It travels with every figure that rests on it."""

    LIVE = "live"
    REPLAYED = "replayed"
    SCRIPTED = "scripted"
    SIMULATED = "simulated"
    LOAD_TEST = "load_test"


class WaitsFor(StrEnum):
    SESSION = "session"
    CI = "ci"
    CONSENT = "consent"
    QUEUE = "queue"
    ROLLOUT = "rollout"
    AFTER = "after"
    PERSON = "person"
    BUDGET = "budget"
    FREEZE = "freeze"
    EFFECT = "effect"


class Cause(StrEnum):
    TASK = "task"
    REVERT = "revert"
    FIX = "fix"


class Event(Fact):
    v: ClassVar[int] = 1
    terminal: ClassVar[bool] = False  # ends its stream

    @classmethod
    def kind(cls) -> str:
        return cls.__name__


# --- delivery/<id> ----------------------------------------------------------------------------------------------------


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


class PullRequestOpened(Event):
    number: int
    head: Commit
    title: Sealed


class TestFailure(Fact):
    __test__ = False
    test: str
    verdict: Literal["defect", "flaky", "unknown"]
    message: Sealed


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
    detail: Sealed | None = None


class Superseded(Event):
    terminal: ClassVar[bool] = True
    by: DeliveryId


class StepFailed(Event):
    step: str
    error: str
    attempt: int


class Stuck(Event):
    reason: str


class Unstuck(Event):
    by: str
    to: str


# --- people/<delivery> ------------------------------------------------------------------------------------------------


class PersonActed(Event):
    """An act of a person: who, what, on what exactly, and how long it took them."""

    act: Literal["approve", "reject", "hold", "release", "promote", "unstick"]
    person: str
    event_id: str
    head: Commit | None = None  # approve and reject bind to a head; the other acts bind to the delivery
    policy: Digest | None = None
    words: Sealed | None = None
    minutes: int = 0


# --- session/<delivery>/<n> -------------------------------------------------------------------------------------------


class SessionStarted(Event):
    delivery: DeliveryId
    iteration: int
    role: str
    repository: Repository
    base: Commit
    branch: Branch
    model: str
    label: Label
    prompt_digest: Digest
    prompt: Sealed
    tools: tuple[str, ...]
    tools_digest: Digest
    tainted: bool
    allowed_paths: tuple[str, ...]


class ModelCallReserved(Event):
    """Worst-case cost of the next call, reserved before it is made."""

    turn: int
    micro_usd: MicroUsd
    request_digest: Digest


class ReplyRecorded(Event):
    """A paid answer, durable before anything is done with it. A resumed session replays it and never asks again."""

    turn: int
    reply: Digest
    reply_sealed: Sealed
    stop_reason: str
    usage: Usage
    cost_micro_usd: MicroUsd
    reserved_micro_usd: MicroUsd  # what the reservation held, and this settles
    model: str
    label: Label
    request_id: str


class CallRecord(Fact):
    index: int
    tool: str
    tool_class: Literal["effect", "contained", "read"]
    args: Digest
    allowed: bool
    rules: tuple[str, ...]
    result: Digest | None  # None: refused
    result_sealed: Sealed | None = None
    error: bool = False
    effect: EffectKey | None = None  # None: not visible outside


class TurnRecorded(Event):
    turn: int
    reply: Digest
    calls: tuple[CallRecord, ...]
    tainted: bool


class CallRefused(Event):
    """Durable at once. `count` is how often this session has been refused."""

    turn: int
    tool: str
    args: Digest
    rules: tuple[str, ...]
    reason: str
    count: int


class SessionResumed(Event):
    turn: int
    from_checkpoint: bool
    reason: str


class SessionEnded(Event):
    terminal: ClassVar[bool] = True
    outcome: Literal["done", "no_change", "refused", "budget", "turns", "stalled", "nonsense", "failed", "revoked"]
    reason: str
    head: Commit | None  # None: nothing was committed
    files: tuple[str, ...] = ()
    lines_changed: int = 0
    turns: int
    cost_micro_usd: MicroUsd
    transcript: Digest
    tainted: bool
    summary: Sealed | None = None


# --- queue/<repository>@<branch> --------------------------------------------------------------------------------------


class LandingPlanned(Event):
    landing: int
    base: Commit
    tested: Commit
    deliveries: tuple[DeliveryId, ...]
    heads: tuple[Commit, ...]
    lane: Literal["fast", "normal"]
    order: tuple[DeliveryId, ...]  # the whole line as it stood, so that the order can be replayed


class LandingChecked(Event):
    landing: int
    passed: bool
    run: str
    reused: bool  # the very same commit had been tested for the pull request
    failures: tuple[str, ...]


class LandingVoided(Event):
    """Somebody else moved the branch: nothing landed, and the line is looked at again."""

    landing: int
    reason: str


class Landed(Event):
    landing: int
    commit: Commit
    base: Commit
    deliveries: tuple[DeliveryId, ...]
    heads: tuple[Commit, ...]
    verified: bool
    decision: Decision


class Evicted(Event):
    landing: int | None  # None: never got as far as a landing
    delivery: DeliveryId
    head: Commit
    why: Literal["conflict", "red", "refused", "stale_consent", "base_moved"]
    reason: str
    new_head: Commit | None = None  # the clean rebase, if there is one, and
    new_base: Commit | None = None  # what it now stands on


# --- rollout/<service>@<environment> ----------------------------------------------------------------------------------


class ReleaseOpened(Event):
    release: int
    service: Service
    environment: str
    repository: Repository
    commit: Commit
    deliveries: tuple[DeliveryId, ...]
    against: int | None  # the confirmed release it is compared with; None: the very first
    decision: Decision


class ArtefactBuilt(Event):
    release: int
    artefact: Digest
    duration_ms: int


class NothingToDeploy(Event):
    release: int
    artefact: Digest
    reason: str


class CanaryReady(Event):
    release: int
    instances: int
    boundaries: Boundaries
    phi: Phi
    caveats: tuple[str, ...] = ()


class StepStarted(Event):
    release: int
    step: int
    weight_percent: int
    until: datetime  # the platform takes the weight back by itself at this time


class Observed(Event):
    """A sealed segment: the windows' counts are a blob, the running verdict stands here."""

    release: int
    step: int
    weight_percent: int
    step_start_ms: int  # epoch ms; earlier windows count for no step
    segment: int
    windows: int
    from_ms: int
    to_ms: int
    counts: Digest
    canary_requests: int
    canary_errors: int
    baseline_requests: int
    baseline_errors: int
    verdict: Verdict
    source: str  # which telemetry was counted, in words
    label: Label


class WeightRenewed(Event):
    release: int
    segment: int
    until: datetime


class StepPassed(Event):
    release: int
    step: int
    reason: str


class RegressionFound(Event):
    release: int
    step: int | None  # None: it never became healthy, no user saw it
    weight_percent: int
    reason: str
    first_bad_request_at: datetime | None  # None: no request failed
    verdict: Verdict | None  # None: no statistics were needed
    decision: Decision


class WeightLapsed(Event):
    """Seen after the fact: nobody renewed the weight in time, and the platform took it back by itself."""

    release: int
    step: int
    seen_weight_percent: int


class ReleasePaused(Event):
    """A stop or a freeze: traffic is on the confirmed release, and the release waits."""

    release: int
    reason: str


class ReleaseResumed(Event):
    release: int


class Promoted(Event):
    release: int
    until: datetime  # as with StepStarted: until it is confirmed, the platform takes the traffic back by itself
    verdict: Verdict | None  # None: the first release, which has nothing to be compared with
    decision: Decision


class ReleaseConfirmed(Event):
    release: int
    commit: Commit
    artefact: Digest


class TrafficRestored(Event):
    release: int
    to_release: int
    traffic_back_at: datetime
    health_checks: int
    culprits: tuple[DeliveryId, ...]
    bad_commits: tuple[Commit, ...]


class RolloutStuck(Event):
    release: int
    reason: str


class RegressionClosed(Event):
    """The bad commit may be in a release again: the release also contains its revert or its fix."""

    bad_commit: Commit
    cured_by: Commit


# --- effect/<key> -----------------------------------------------------------------------------------------------------


class EffectIntended(Event):
    """The intent is version 1 of its stream, so a key can be claimed once."""

    key: EffectKey
    verb: str
    agent: str
    direction: Literal["forward", "safe"]
    single: Literal["world-CAS", "world-unique", "probeable", "neither"]
    args: Digest
    subject: StreamId
    owner: str
    fence: int
    deadline: datetime
    decision: Decision
    allowed_by: tuple[str, ...]


class EffectClaimed(Event):
    """Another worker takes over after the deadline: a higher fence, and it looks at the world before it acts."""

    owner: str
    fence: int
    deadline: datetime


class EffectDone(Event):
    terminal: ClassVar[bool] = True
    fence: int
    how: Literal["acted", "found"]
    result: str  # canonical JSON of the verb's result


class EffectFailed(Event):
    """The world said no and nothing was changed."""

    terminal: ClassVar[bool] = True
    fence: int
    reason: str


class EffectUnknown(Event):
    """It may or may not have happened, and nothing can tell: a person must look. Never retried."""

    terminal: ClassVar[bool] = True
    fence: int
    reason: str


# --- control ----------------------------------------------------------------------------------------------------------


class Stopped(Event):
    scope: str  # "all" | "agent:<role>" | "service:<name>" | "repository:<name>"
    by: str
    reason: str
    event_id: str


class Resumed(Event):
    scope: str
    by: str
    reason: str
    event_id: str


class Frozen(Event):
    """Forward verbs are blocked by a breaker; a named person lifts it with `resume`."""

    scope: str
    reason: str


class SessionRevoked(Event):
    session: SessionId
    by: str
    reason: str
    event_id: str


class ControllerStarted(Event):
    version: str
    policy: Digest
    settings: Digest
    label: Label


ALL: dict[str, type[Event]] = {cls.kind(): cls for cls in Event.__subclasses__()}
