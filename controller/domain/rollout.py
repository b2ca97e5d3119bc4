"""The stream of one service in one environment, folded: the confirmed release, the one under way, what may not go out.

A release carries the set of deliveries merged since the last confirmed one. Roll-back always goes to the confirmed
release; a commit is deployable only if, for every open regression, it does not contain the bad commit or also contains
what cures it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from controller.domain import events as e
from controller.domain.counts import Totals
from controller.domain.entry import Entry, UnknownEvent
from controller.domain.folding import Folds
from controller.domain.ids import Commit, DeliveryId, Digest, StreamId
from controller.domain.verdict import Verdict

REMEMBERED = 200  # ended releases kept in the fold; a delivery reads its own within one wake


class RolloutPhase(StrEnum):
    IDLE = "IDLE"
    OPENED = "OPENED"
    BUILT = "BUILT"
    READY = "READY"  # canary healthy, no user sees it yet, or a step has just passed
    CANARY = "CANARY"  # users see it at a weight
    PAUSED = "PAUSED"  # a stop or freeze: traffic is on the confirmed release
    LIVE = "LIVE"  # promoted; the former release stands by
    REGRESSED = "REGRESSED"
    RECOVERING = "RECOVERING"  # traffic is back; it is not yet seen that users fare as before
    STUCK = "STUCK"


R = RolloutPhase
ROLLOUT_NEXT: dict[RolloutPhase, frozenset[RolloutPhase]] = {
    R.IDLE: frozenset({R.OPENED}),
    R.OPENED: frozenset({R.BUILT, R.IDLE, R.REGRESSED}),
    R.BUILT: frozenset({R.READY, R.REGRESSED, R.PAUSED}),
    R.READY: frozenset({R.CANARY, R.LIVE, R.PAUSED, R.REGRESSED}),
    R.CANARY: frozenset({R.READY, R.REGRESSED, R.PAUSED}),
    R.PAUSED: frozenset({R.BUILT}),
    R.LIVE: frozenset({R.IDLE, R.REGRESSED, R.PAUSED}),
    R.REGRESSED: frozenset({R.IDLE, R.RECOVERING, R.STUCK}),
    R.RECOVERING: frozenset({R.IDLE, R.STUCK}),
    R.STUCK: frozenset({R.IDLE}),
}
_UNDER_WAY = frozenset(R) - {R.IDLE, R.STUCK}
for _phase in _UNDER_WAY:  # whatever the world refuses for good is a person's to look at, and goes on where it stood
    ROLLOUT_NEXT[_phase] |= {R.STUCK}
ROLLOUT_NEXT[R.STUCK] |= _UNDER_WAY


class ReleaseEnd(StrEnum):
    CONFIRMED = "confirmed"
    NOTHING = "nothing"  # the artefact is the one that already serves
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True, slots=True)
class Release:
    number: int
    commit: Commit
    deliveries: tuple[DeliveryId, ...]
    against: int | None  # None: the very first
    opened_at: datetime
    artefact: Digest | None = None  # None: not built yet
    serves: Commit | None = None  # the commit that its running instances name as their version; None: `commit`
    end: ReleaseEnd | None = None  # None: under way
    live: bool = False
    regression: e.RegressionFound | None = None
    regression_entry: int | None = None  # log index
    detected_at: datetime | None = None
    restored: e.TrafficRestored | None = None
    reason: str = ""

    @property
    def version(self) -> Commit:
        """What telemetry of its instances is labelled with."""
        return self.serves or self.commit


@dataclass(frozen=True, slots=True)
class Regression:
    """A bad commit that must not go out again without its cure."""

    bad_commit: Commit
    deliveries: tuple[DeliveryId, ...]
    release: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A change of a release that regressed, when none of its changes stood out."""

    delivery: DeliveryId
    log_e_micro: int  # evidence against it so far: the next look goes on from there


@dataclass(frozen=True, slots=True)
class Rollout:
    stream: StreamId
    version: int = 0
    phase: RolloutPhase = RolloutPhase.IDLE
    parked: str | None = None  # None: every entry is understood
    confirmed: Release | None = None  # None: nothing has ever been deployed
    current: Release | None = None  # None: idle
    ended: tuple[Release, ...] = ()
    open_regressions: tuple[Regression, ...] = ()
    suspects: tuple[Suspect, ...] = ()  # in landing order; empty: nothing is being split
    batch: int = 0  # how many suspects there were when the splitting began
    ready: e.CanaryReady | None = None
    step: int = -1  # canary step under way or last passed
    step_started_at: datetime | None = None
    exposed_at: datetime | None = None  # of its first step: no user has met it before. None: none has yet
    weight_percent: int = 0
    weight_until: datetime | None = None
    segments: tuple[e.Observed, ...] = ()  # of the current release, in order
    last_verdict: Verdict | None = None
    live_at: datetime | None = None
    paused_from: str | None = None
    waiting: e.Waited | None = None
    usual: Totals | None = None  # of the release that served before the one live now. None: not counted
    usual_phi_milli: int = 1000
    alarm: e.AlarmRaised | None = None  # the newest. None: none was ever raised
    alarmed_at: datetime | None = None
    recheck_from_ms: int = 0  # a person let it go on after it had not recovered: what is before this is over
    attempts: int = 0  # at a canary for the current release; a pause or a lapse begins another
    failures: int = 0
    stuck_from: RolloutPhase | None = None  # None: not stuck
    stuck_reason: str | None = None  # None: not stuck
    unstuck: int = 0  # how often a person has let it go on

    @property
    def releases(self) -> int:
        last = self.current or (self.ended[-1] if self.ended else None)
        return last.number if last else 0

    def release_of(self, delivery: DeliveryId, after: int = 0) -> Release | None:
        """The newest release numbered above `after` that carries this delivery. None: it has been in none."""
        known = (*self.ended, *((self.current,) if self.current else ()))
        mine = [r for r in known if delivery in r.deliveries and r.number > after]
        return mine[-1] if mine else None


def fold(stream: StreamId, entries: list[Entry]) -> Rollout:
    return _folds(stream, entries)


def evolve(state: Rollout, entry: Entry) -> Rollout:
    now = replace(state, version=entry.version)
    if isinstance(entry.event, UnknownEvent):
        return replace(now, parked=entry.event.plea)
    if isinstance(entry.event, e.Waited):
        return replace(now, waiting=entry.event)
    if isinstance(entry.event, e.StepFailed):
        return replace(now, failures=entry.event.attempt)
    return _apply(replace(now, waiting=_still(now.waiting, entry.event), failures=0), entry)


def _still(waiting: e.Waited | None, event: e.Event) -> e.Waited | None:
    """A person is still waited for while a canary is merely looked at and kept. None: nothing is waited for now."""
    watching = isinstance(event, e.Observed | e.WeightRenewed)
    return waiting if waiting is not None and watching and waiting.waits_for is e.WaitsFor.PERSON else None


def _apply(s: Rollout, entry: Entry) -> Rollout:  # noqa: C901, PLR0911, PLR0912 - one flat table of facts
    match entry.event:
        case e.ReleaseOpened() as event:
            release = Release(event.release, event.commit, event.deliveries, event.against, entry.time)
            fresh = replace(s, phase=R.OPENED, current=release, ready=None, step=-1, weight_percent=0, segments=())
            return replace(
                fresh,
                last_verdict=None,
                live_at=None,
                attempts=0,
                step_started_at=None,
                weight_until=None,
                exposed_at=None,
            )
        case e.ArtefactBuilt() as event:
            return replace(_on_current(s, artefact=event.artefact), phase=R.BUILT, attempts=1)
        case e.NothingToDeploy() as event:
            running = s.confirmed.version if s.confirmed else None
            same = _on_current(s, artefact=event.artefact, reason=event.reason, serves=running)
            return _end(same, ReleaseEnd.NOTHING)
        case e.CanaryReady() as event:
            ready = replace(s, phase=R.READY, ready=event, step=-1)
            known = event.history is not None
            return replace(ready, usual=event.history, usual_phi_milli=event.phi.milli) if known else ready
        case e.StepStarted() as event:
            started = replace(s, phase=R.CANARY, step=event.step, step_started_at=entry.time)
            started = replace(started, exposed_at=s.exposed_at or entry.time)
            return replace(started, weight_percent=event.weight_percent, weight_until=event.until)
        case e.Observed() as event:
            return replace(s, segments=(*s.segments, event), last_verdict=event.verdict)
        case e.WeightRenewed() as event:
            return replace(s, weight_until=event.until)
        case e.StepPassed():
            return replace(s, phase=R.READY)
        case e.WeightLapsed() | e.ReleasePaused():
            return replace(s, phase=R.PAUSED, weight_percent=0, weight_until=None, step=-1)
        case e.ReleaseResumed():
            return replace(s, phase=R.BUILT, attempts=s.attempts + 1)
        case e.Promoted() as event:
            live = replace(_on_current(s, live=True), phase=R.LIVE, weight_percent=100, live_at=entry.time)
            return replace(live, weight_until=event.until)
        case e.ReleaseConfirmed():
            return _end(s, ReleaseEnd.CONFIRMED)
        case e.RegressionFound() as event:
            found = _on_current(s, regression=event, regression_entry=entry.index, detected_at=entry.time)
            return replace(found, phase=R.REGRESSED)
        case e.TrafficRestored() as event:
            return _restored(s, event)
        case e.RecoveryVerified():
            return _end(s, ReleaseEnd.ROLLED_BACK)
        case e.RecoveryFailed() as event:
            return replace(s, phase=R.STUCK, stuck_from=s.phase, stuck_reason=event.reason)
        case e.AlarmRaised() as event:
            return replace(s, alarm=event, alarmed_at=entry.time)
        case e.ReleaseRetried():
            again = replace(s, phase=R.PAUSED, weight_percent=0, weight_until=None, step=-1)
            return replace(again, ready=None, segments=(), last_verdict=None)
        case e.RolloutStuck() as event:
            return replace(s, phase=R.STUCK, stuck_from=s.phase, stuck_reason=event.reason)
        case e.Unstuck() as event:
            free = replace(s, stuck_from=None, stuck_reason=None, unstuck=s.unstuck + 1)
            if event.to == R.IDLE.value:
                return _end(free, ReleaseEnd.ROLLED_BACK)
            now_ms = int(entry.time.timestamp() * 1000)
            return replace(free, phase=RolloutPhase(event.to), recheck_from_ms=now_ms)
        case e.RegressionClosed() as event:
            still = tuple(r for r in s.open_regressions if r.bad_commit != event.bad_commit)
            return replace(s, open_regressions=still)
        case _:
            return s


def _on_current(s: Rollout, **changes: object) -> Rollout:
    if s.current is None:
        raise ValueError(f"{s.stream} has no release under way")
    return replace(s, current=replace(s.current, **changes))  # type: ignore[arg-type]


def _end(s: Rollout, end: ReleaseEnd) -> Rollout:
    if s.current is None:
        raise ValueError(f"{s.stream} has no release under way")
    done = replace(s.current, end=end)
    confirmed = done if end is not ReleaseEnd.ROLLED_BACK else s.confirmed
    if end is not ReleaseEnd.ROLLED_BACK:
        s = _suspecting(s, tuple(one for one in s.suspects if one.delivery not in done.deliveries))
    idle = replace(s, phase=R.IDLE, confirmed=confirmed, current=None, ended=(*s.ended, done)[-REMEMBERED:])
    return replace(idle, weight_percent=0, weight_until=None, step=-1, ready=None)


def _restored(s: Rollout, event: e.TrafficRestored) -> Rollout:
    alone = len(event.culprits) == len(event.bad_commits)  # each needs its own cure, and not some other's
    whose = [(one,) for one in event.culprits] if alone else [event.culprits] * len(event.bad_commits)
    bad = tuple(Regression(commit, who, event.release) for commit, who in zip(event.bad_commits, whose, strict=True))
    known = replace(_on_current(s, restored=event), open_regressions=(*s.open_regressions, *bad))
    if event.suspects or event.culprits:  # with neither nothing was learnt of those who were suspected before
        reached = {one.delivery: one.log_e_micro for one in event.blame.candidates} if event.blame else {}
        known = _suspecting(known, tuple(Suspect(one, reached.get(one, 0)) for one in event.suspects))
    if event.badness is None:
        return _end(known, ReleaseEnd.ROLLED_BACK)
    return replace(known, phase=R.RECOVERING, weight_percent=0, weight_until=None, step=-1, recheck_from_ms=0)


def _suspecting(s: Rollout, suspects: tuple[Suspect, ...]) -> Rollout:
    batch = s.batch if s.suspects and suspects else len(suspects)
    return replace(s, suspects=suspects, batch=batch)


_folds: Folds[StreamId, Rollout] = Folds(Rollout, evolve)


def deployable(
    commit: Commit,
    regressions: tuple[Regression, ...],
    contains: Callable[[Commit, Commit], bool],
    cures: Callable[[Regression], tuple[Commit, ...]],
) -> str | None:
    """Why a commit may not be deployed. None: it may.

    `contains(a, b)` is "a is b or a descendant of b"; `cures(r)` are the merged reverts and fixes of a regression.
    """
    for regression in regressions:
        if not contains(commit, regression.bad_commit):
            continue
        if not any(contains(commit, cure) for cure in cures(regression)):
            bad, release = regression.bad_commit[:10], regression.release
            return f"it contains {bad}, rolled back in release {release}, without its revert or fix"
    return None
