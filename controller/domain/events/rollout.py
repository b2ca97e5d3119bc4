"""rollout/<service>@<environment>: what is exposed to users, and what they met."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from controller.domain.blame import Badness, Blame, Rival
from controller.domain.counts import Name, Totals
from controller.domain.decision import Decision
from controller.domain.events.base import Event, Label
from controller.domain.ids import (
    NO_DIGEST,
    Commit,
    DeliveryId,
    Digest,
    Repository,
    Service,
)
from controller.domain.sealed import Sealed
from controller.domain.verdict import Boundaries, Exemplars, Phi, Silence, Verdict


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
    isolation: str = ""  # which sandbox builds and runs it, in words. Empty: the platform does not say


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
    latency_phi: Phi | None = None  # None: not measured, that of errors serves
    callers: bool = False  # whether callers tell what they saw
    routes: tuple[Name, ...] = ()  # judged apart as well
    gauges: tuple[Name, ...] = ()
    silence: Silence | None = None  # None: nobody tells whether a silent version was asked
    history: Totals | None = None  # of the confirmed release, before the canary. None: it was not counted


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
    excluded: dict[str, int] = Field(default_factory=dict)  # received and not counted, by reason, since it began
    policy: Digest = NO_DIGEST  # of the judge's parameters: a blob. Empty: written before segments said so


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
    detail: Sealed | None = None  # last words of a build or an instance; None: nothing to add
    exemplars: Exemplars = Exemplars()


class WeightLapsed(Event):
    """Seen after the fact: nobody renewed the weight in time, and the platform took it back by itself."""

    release: int
    step: int
    seen_weight_percent: int


class ReleasePaused(Event):
    """A stop or a freeze: traffic is on the confirmed release, and the release waits."""

    release: int
    reason: str
    detail: Sealed | None = None  # why it was stopped, in the words of whoever did; None: nothing to add


class ReleaseResumed(Event):
    release: int


class ReleaseRetried(Event):
    """A person had the canary begin again, with no evidence: another rollout's worth of alpha, in their name."""

    release: int
    by: str


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
    suspects: tuple[DeliveryId, ...] = ()  # none of them a clear culprit: they go out again in halves, in this order
    blame: Blame | None = None  # None: there was one change to blame, or an older log
    rivals: tuple[Rival, ...] = ()  # other explanations and what became of them; empty: an older log
    badness: Badness | None = None  # what must be seen to have ended; None: nothing that can be counted


class RecoveryVerified(Event):
    """Users on the confirmed release are seen to fare as before, or the time to see it is over."""

    release: int
    recovered: bool  # False: too few requests to tell, and nothing speaks against it
    requests: int
    errors: int
    log_e_micro: int  # against "it goes on"
    threshold_micro: int
    phi_milli: int
    counts: Digest
    policy: Digest  # of the judge's parameters: a blob
    reason: str


class RecoveryFailed(Event):
    """Traffic is back and users go on being hurt: the release was not the cause, or not all of it."""

    release: int
    requests: int
    errors: int
    log_e_micro: int  # against "it has ended"
    threshold_micro: int
    phi_milli: int
    counts: Digest
    policy: Digest  # of the judge's parameters: a blob
    reason: str


class AlarmRaised(Event):
    """Something that has no control to compare with looks wrong. It holds and pages, and never rolls back."""

    release: int
    what: str  # rule id
    windows: int
    log_e_micro: int  # of the detector, which restarts by itself
    threshold_micro: int
    counts: Digest
    policy: Digest  # of the judge's parameters: a blob
    reason: str


class RolloutStuck(Event):
    release: int
    reason: str
    detail: Sealed | None = None  # what the platform said; None: nothing to add


class RegressionClosed(Event):
    """The bad commit may be in a release again: the release also contains its revert or its fix."""

    bad_commit: Commit
    cured_by: Commit
