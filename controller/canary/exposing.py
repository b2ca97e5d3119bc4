"""READY, CANARY and PAUSED: show the release to some users, judge what they see, and decide.

Every look seals what it saw before anything is decided on it. A canary's weight carries a deadline that the platform
enforces by itself: it is renewed only with a fresh verdict in hand, so a controller that is dead, blind or forbidden to
write lets the traffic go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controller.canary import reasons
from controller.canary.common import (
    RELEASER,
    RESPONDER,
    Ground,
    blocked,
    current,
    draft,
    ground,
    held_by,
    ms,
    page,
    place,
    policy_of,
    said,
    unsettled,
    wait,
)
from controller.canary.court import pack, ready_of, segments_of
from controller.canary.watching import alarm
from controller.canary.weights import set_weight
from controller.domain import events as e
from controller.domain.control import People
from controller.domain.decision import Decision, decide
from controller.domain.entry import Draft
from controller.domain.ids import CONTROL, Digest, EffectKey, people_stream, rest_of
from controller.domain.rollout import Release, Rollout, RolloutPhase
from controller.domain.verbs import ConfirmRelease, RestoreTraffic
from controller.domain.verdict import Outcome as Says
from controller.domain.verdict import Verdict
from controller.errors import Unavailable
from controller.history.citing import in_clear, newest
from controller.ports import Blocked, Contradicted, LookRequest, PlatformStatus, Ports, Seen, ServiceConfig

EPOCH = datetime.fromtimestamp(0, UTC)
STARVED_AFTER_MS = 15_000
SEEN = (e.Observed, e.CanaryReady)  # what a step and a promotion stand on
TAKES_BACK = (Says.ROLL_BACK, Says.ABSENT)
EXPOSED = (RolloutPhase.CANARY, RolloutPhase.LIVE)


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a canary found."""

    seen: Seen
    counts: Digest | None  # None: no new window has closed
    policy: Digest  # of the parameters that it was judged by

    @property
    def verdict(self) -> Verdict:
        return self.seen.verdict

    def sealed(self, r: Rollout, ports: Ports) -> list[Draft]:
        """The new windows as a segment of the record. Empty: nothing new was seen."""
        if self.counts is None:
            return []
        return [draft(r, _observed(r, ports, self.seen, self.counts).model_copy(update={"policy": self.policy}))]


async def expose(r: Rollout, ports: Ports) -> list[Draft]:
    """READY: the next step of the plan; the last one is the promotion, whose proof the former step had to bring."""
    release, (_, service) = current(r), place(r, ports)
    if (block := await blocked(r, ports)) is not None:
        return await _paused(r, ports, block)
    step = r.step + 1
    last = len(service.plan.steps_percent) - 1
    if r.confirmed is None or step >= last:
        return await _promote(r, ports, release, service)
    weight = service.plan.steps_percent[step]
    on = await ground(r, ports, None, *SEEN)
    outcome, until = await set_weight(r, ports, service, weight, reasons.stepping(r, on, step, weight))
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    return [draft(r, e.StepStarted(release=release.number, step=step, weight_percent=weight, until=until))]


async def judge(r: Rollout, ports: Ports) -> list[Draft]:  # noqa: PLR0911 - a flat list of what can be
    """CANARY: look, and roll back, go on, or hold."""
    release, (_, service) = current(r), place(r, ports)
    status = await ports.platform.status(service.name, service.environment)
    if status.canary_release != release.number or status.weight_percent == 0:
        lapsed = e.WeightLapsed(release=release.number, step=r.step, seen_weight_percent=status.weight_percent)
        return [draft(r, lapsed)]
    if not status.canary_healthy:
        return await _went_down(r, ports, service, "canary/down: its canary went down under traffic", status)
    look = await _look(r, ports, service)
    sealed = look.sealed(r, ports)
    if look.verdict.may_act_alone and look.verdict.outcome in TAKES_BACK:
        return [*sealed, draft(r, await _regression(r, ports, look, look.verdict.sentence))]
    if (block := await blocked(r, ports)) is not None:
        return [*sealed, *await _paused(r, ports, block)]
    people = await said(release, ports)
    if (again := await _retried(r, ports, people)) is not None:
        return [*sealed, *again]
    why = _passed(r, ports, service, look, people)
    if why is not None and held_by(people) is None:
        return [*sealed, draft(r, e.StepPassed(release=release.number, step=r.step, reason=why[:600]))]
    return await _hold(r, ports, service, look, status)


async def _retried(r: Rollout, ports: Ports, people: list[People]) -> list[Draft] | None:
    """A person wants the canary begun again, without the evidence so far. None: nobody does."""
    asked = [one for one in people if one.retried_at is not None and one.retried_at > (r.step_started_at or EPOCH)]
    if not asked or asked[0].retried_by is None:
        return None
    release, (_, service) = current(r), place(r, ports)
    verb = RestoreTraffic(service=service.name, environment=service.environment, release=release.number)
    key = EffectKey(f"retry/{rest_of(r.stream)}/{release.number}/{r.attempts}/{r.unstuck}")
    on = Ground(await newest(ports.log, people_stream(release.deliveries[0])), None, ports.caller.policy)
    decision = reasons.retrying(r, on, asked[0].retried_by)
    outcome = await ports.gate.act(RESPONDER, verb, key=key, decision=decision, subject=r.stream)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    return [draft(r, e.ReleaseRetried(release=release.number, by=asked[0].retried_by))]


async def resume(r: Rollout, ports: Ports) -> list[Draft]:
    """PAUSED: begin the canary again once nothing forbids it."""
    block = await blocked(r, ports)
    if block is not None:
        return wait(r, ports, e.WaitsFor.FREEZE, ports.bounds.wait_seconds, in_clear(block))
    return [draft(r, e.ReleaseResumed(release=current(r).number))]


async def watch(r: Rollout, ports: Ports) -> list[Draft]:  # noqa: PLR0911 - a flat list of what can be
    """LIVE: all traffic is on the new release and the former one stands by, until it has baked."""
    release, (_, service) = current(r), place(r, ports)
    status = await ports.platform.status(service.name, service.environment)
    first = r.confirmed is None
    if status.confirmed_release == release.number:
        return await _confirm(r, ports, release, service)
    if status.canary_release != release.number or (status.weight_percent == 0 and not first):
        return [
            draft(r, e.WeightLapsed(release=release.number, step=r.step, seen_weight_percent=status.weight_percent))
        ]
    if not status.canary_healthy:
        return await _went_down(r, ports, service, "canary/down: it went down after its promotion", status)
    if (block := await blocked(r, ports)) is not None and not first:
        return await _paused(r, ports, block)
    baked = r.live_at is not None and ports.clock.now() >= r.live_at + timedelta(milliseconds=service.plan.bake_ms)
    people = await said(release, ports)
    found = [] if first else await _alarmed(r, ports, service, release)
    if found:
        return found
    if (baked or first) and held_by(people) is None and not _doubted(r, release, people):
        return await _confirm(r, ports, release, service)
    on = await ground(r, ports, None, e.Promoted)
    return await _renew(r, ports, service, status.weight_percent, [], decision=reasons.baking(r, on))


def _doubted(r: Rollout, release: Release, people: list[People]) -> bool:
    """An alarm stands that nobody has answered by promoting it all the same."""
    since = r.alarmed_at if r.alarm is not None and r.alarm.release == release.number else None
    return since is not None and not any(one.promoted_at and one.promoted_at > since for one in people)


async def _alarmed(r: Rollout, ports: Ports, service: ServiceConfig, release: Release) -> list[Draft]:
    """Empty: nothing new looks wrong."""
    raised = await alarm(r, ports, service, release, ms(r.live_at or ports.clock.now()))
    if raised is None:
        return []
    words = f"{raised.reason}. It is not confirmed until somebody says so: `flyball promote`, or `flyball stop`"
    await page(r, ports, raised.what, words)
    return [draft(r, raised)]


async def _look(r: Rollout, ports: Ports, service: ServiceConfig) -> Look:
    try:
        seen = await ports.court.look(_request(r, service))
    except Contradicted as error:
        await page(r, ports, "judge-contradicted", f"release {current(r).number} of {service.name}: {error}")
        raise
    counts = await ports.blobs.put(pack(seen.windows)) if seen.windows else None
    return Look(seen, counts, await policy_of(r, ports))


def _request(r: Rollout, service: ServiceConfig) -> LookRequest:
    width, release, start = service.plan.window_ms, current(r), _step_start_ms(r, service)
    sealed_to = r.segments[-1].to_ms if r.segments else 0
    return LookRequest(
        service=service.name,
        canary=release.commit,
        baseline=r.confirmed.version if r.confirmed else release.commit,
        from_ms=-(-max(start, sealed_to) // width) * width,
        width_ms=width,
        config=service.judge,
        ready=ready_of(r),
        segments=segments_of(r),
        weight_percent=r.weight_percent,
        step_start_ms=start,
    )


def _step_start_ms(r: Rollout, service: ServiceConfig) -> int:
    """What is before this is not judged: another step's traffic, and the canary's warm-up after the first."""
    if r.step_started_at is None:
        return 0
    warmup = service.plan.warmup_ms if r.step == 0 else 0
    return ms(r.step_started_at) + warmup


def _observed(r: Rollout, ports: Ports, seen: Seen, counts: Digest) -> e.Observed:
    (_, service), windows = place(r, ports), seen.windows
    return e.Observed(
        release=current(r).number,
        step=r.step,
        weight_percent=r.weight_percent,
        step_start_ms=_step_start_ms(r, service),
        segment=len(r.segments) + 1,
        windows=len(windows),
        from_ms=windows[0].start_ms,
        to_ms=windows[-1].end_ms,
        counts=counts,
        canary_requests=sum(w.canary.requests for w in windows),
        canary_errors=sum(w.canary.errors for w in windows),
        baseline_requests=sum(w.baseline.requests for w in windows),
        baseline_errors=sum(w.baseline.errors for w in windows),
        verdict=seen.verdict,
        source=seen.source,
        label=seen.label,
        excluded=seen.excluded,
    )


def _passed(r: Rollout, ports: Ports, service: ServiceConfig, look: Look, people: list[People]) -> str | None:
    """Why this step is over. None: it is not."""
    plan, seen, verdict = service.plan, look.verdict.promotion.step_requests, look.verdict
    started = r.step_started_at
    if started is None or ports.clock.now() < started + timedelta(milliseconds=plan.step_dwell_ms):
        return None
    promoter = next((one.promoted_by for one in people if one.promoted_by), None)
    if promoter is not None:
        return f"promoted by {promoter}, without waiting for the proof: {verdict.sentence}"
    doubtful = verdict.log_e_micro > plan.step_doubt_milli * 1000
    if seen < plan.step_requests or verdict.must_page or doubtful:
        return None
    if r.step + 1 < len(plan.steps_percent) - 1:
        return f"not rolled back after {seen} canary requests at {r.weight_percent} %: {verdict.sentence}"
    return verdict.sentence if verdict.outcome is Says.PROMOTE else None


async def _hold(r: Rollout, ports: Ports, service: ServiceConfig, look: Look, status: PlatformStatus) -> list[Draft]:
    """Neither good enough nor bad: stay, seal what was seen when it is due, and renew the weight's deadline in time."""
    if (words := _to_page(r, ports, service, look.verdict)) is not None:
        await page(r, ports, *words)
    now, plan = ports.clock.now(), service.plan
    left = (r.weight_until or now) - now
    if left <= timedelta(milliseconds=plan.weight_ttl_ms) / 2:
        holding = reasons.holding(r, await ground(r, ports, look.counts, *SEEN), look.verdict)
        return await _renew(r, ports, service, status.weight_percent, look.sealed(r, ports), decision=holding)
    windows = look.seen.windows
    due = windows and windows[-1].end_ms - windows[0].start_ms >= plan.segment_ms
    return look.sealed(r, ports) if due else _starved(r, ports, service, look)


def _starved(r: Rollout, ports: Ports, service: ServiceConfig, look: Look) -> list[Draft]:
    """Say that a step goes on for want of requests: nobody else can tell why nothing happens."""
    plan, now = service.plan, ports.clock.now()
    patience = timedelta(milliseconds=max(STARVED_AFTER_MS, 2 * plan.step_dwell_ms))
    if look.verdict.promotion.step_requests >= plan.step_requests or now < (r.step_started_at or now) + patience:
        return []
    seen = "too few requests" if look.verdict.promotion.step_requests else "no request"
    who = current(r).deliveries[0] if current(r).deliveries else "DELIVERY"
    reason = (
        f"{seen} reached the canary at {r.weight_percent} %: this step needs {plan.step_requests}. "
        f"Send {service.name} traffic, or go on without proof: flyball promote {who}"
    )
    return wait(r, ports, e.WaitsFor.PERSON, plan.step_limit_ms / 1000, reason)


def _to_page(r: Rollout, ports: Ports, service: ServiceConfig, verdict: Verdict) -> tuple[str, str] | None:
    """What a person on call must hear, and why. None: nothing."""
    release = current(r).number
    if verdict.must_page:
        held = f"release {release} of {service.name} is held at {r.weight_percent} %"
        return verdict.rule.value, f"{held}: {verdict.sentence}"
    limit = timedelta(milliseconds=service.plan.step_limit_ms)
    if r.step_started_at is not None and ports.clock.now() >= r.step_started_at + limit:
        words = f"release {release} of {service.name} has been at {r.weight_percent} % for {limit}: {verdict.sentence}"
        return f"step-{r.step}-limit", f"{words}. `flyball promote` or `flyball stop service:{service.name}`"
    return None


async def _renew(
    r: Rollout, ports: Ports, service: ServiceConfig, weight: int, sealed: list[Draft], *, decision: Decision
) -> list[Draft]:
    now = ports.clock.now()
    if r.weight_until is not None and r.weight_until - now > timedelta(milliseconds=service.plan.weight_ttl_ms) / 2:
        return []
    outcome, until = await set_weight(r, ports, service, weight, decision)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return [*sealed, *waiting]
    renewed = e.WeightRenewed(release=current(r).number, segment=len(r.segments) + len(sealed), until=until)
    return [*sealed, draft(r, renewed)]


async def _promote(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    decision = reasons.promoting(r, await ground(r, ports, None, *SEEN))
    outcome, until = await set_weight(r, ports, service, 100, decision)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    promoted = e.Promoted(release=release.number, verdict=r.last_verdict, until=until, decision=decision)
    return [draft(r, promoted)]


async def _confirm(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    verb = ConfirmRelease(service=service.name, environment=service.environment, release=release.number)
    key = EffectKey(f"confirm/{rest_of(r.stream)}/{release.number}/{r.unstuck}")
    decision = reasons.confirming(r, await ground(r, ports, None, e.Promoted))
    outcome = await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    if release.artefact is None:
        raise TypeError(release)
    return [draft(r, e.ReleaseConfirmed(release=release.number, commit=release.commit, artefact=release.artefact))]


async def _paused(r: Rollout, ports: Ports, block: Blocked) -> list[Draft]:
    """A stop takes a running canary to stable first, and only then waits."""
    release, (_, service) = current(r), place(r, ports)
    reason, said = in_clear(block), block.reason.partition(": ")[2]
    if r.phase in EXPOSED or r.step >= 0:
        verb = RestoreTraffic(service=service.name, environment=service.environment, release=release.number)
        key = EffectKey(f"pause/{rest_of(r.stream)}/{release.number}/{r.attempts}/{r.unstuck}")
        on = Ground(await newest(ports.log, CONTROL), None, ports.caller.policy)
        decision = reasons.pausing(r, on, reason)
        outcome = await ports.gate.act(RESPONDER, verb, key=key, decision=decision, subject=r.stream)
        if (waiting := await unsettled(r, ports, outcome)) is not None:
            return waiting
    detail = await ports.seals.seal(said) if said else None
    return [draft(r, e.ReleasePaused(release=release.number, reason=reason, detail=detail))]


async def _went_down(
    r: Rollout, ports: Ports, service: ServiceConfig, reason: str, status: PlatformStatus
) -> list[Draft]:
    """With a last look, if there is anything to compare it with and somebody who looks: it is taken back either way."""
    try:
        look = await _look(r, ports, service) if r.confirmed is not None else None
    except Unavailable:
        look = None
    sealed = look.sealed(r, ports) if look else []
    return [*sealed, await _down(r, ports, look, reason, status)]


async def _down(r: Rollout, ports: Ports, look: Look | None, reason: str, status: PlatformStatus) -> Draft:
    """Its last words go sealed. `look=None`: there was nothing to compare it with, or nobody who looked."""
    said = await ports.seals.seal(status.canary_reason or "its health check fails")
    return draft(r, (await _regression(r, ports, look, reason)).model_copy(update={"detail": said}))


async def _regression(r: Rollout, ports: Ports, look: Look | None, reason: str) -> e.RegressionFound:
    release, (_, service) = current(r), place(r, ports)
    first_ms = await ports.telemetry.first_failure_ms(service.name, release.commit)
    baseline = r.confirmed.version if r.confirmed else release.commit
    exemplars = await ports.telemetry.exemplars(service.name, canary=release.commit, baseline=baseline)
    on = await ground(r, ports, look.counts if look else None, e.Observed)
    return e.RegressionFound(
        release=release.number,
        step=r.step,
        weight_percent=r.weight_percent,
        reason=reason[:600],
        first_bad_request_at=datetime.fromtimestamp(first_ms / 1000, UTC) if first_ms is not None else None,
        verdict=look.verdict if look else None,
        exemplars=exemplars,
        decision=decide(
            f"Is release {release.number} hurting users?",
            "roll back",
            over={
                "hold": "the evidence has crossed its line, or it is down",
                "promote": "it has been shown to be worse",
            },
            because=(on.claim(reason),),
            would_change="fewer bad requests than the line allows at this alpha",
            fallback="all traffic to the confirmed release",
            rules=(_rule(look), "rollout/never-wait-on-doubt"),
            policy=on.policy,
        ),
    )


def _rule(look: Look | None) -> str:
    """The judge's own where it says so; else it went down, whatever the counts say."""
    judged = look is not None and look.verdict.outcome is Says.ROLL_BACK
    return look.verdict.rule.value if look is not None and judged else "canary/down"
