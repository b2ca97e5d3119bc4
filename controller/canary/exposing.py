"""READY, CANARY and PAUSED: show the release to some users, judge what they see, and decide.

Every look seals what it saw before anything is decided on it. A canary's weight carries a deadline that the platform
enforces by itself: it is renewed only with a fresh verdict in hand, so a controller that is dead, blind or forbidden to
write lets the traffic go back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from controller.canary import reasons
from controller.canary.common import (
    RESPONDER,
    Ground,
    blocked,
    current,
    draft,
    ground,
    held_by,
    page,
    place,
    said,
    unsettled,
    wait,
)
from controller.canary.keeping import paused, renew
from controller.canary.looking import Look, look_at, regression, went_down
from controller.canary.weights import set_weight
from controller.domain import events as e
from controller.domain.control import People
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, people_stream, rest_of
from controller.domain.rollout import Release, Rollout
from controller.domain.verbs import RestoreTraffic
from controller.domain.verdict import Outcome as Says
from controller.domain.verdict import Verdict
from controller.history.citing import in_clear, newest
from controller.ports import PlatformStatus, Ports, ServiceConfig

EPOCH = datetime.fromtimestamp(0, UTC)
STARVED_AFTER_MS = 15_000
SEEN = (e.Observed, e.CanaryReady)  # what a step and a promotion stand on
TAKES_BACK = (Says.ROLL_BACK, Says.ABSENT)


async def expose(r: Rollout, ports: Ports) -> list[Draft]:
    """READY: the next step of the plan; the last one is the promotion, whose proof the former step had to bring."""
    release, (_, service) = current(r), place(r, ports)
    if (block := await blocked(r, ports)) is not None:
        return await paused(r, ports, block)
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
        return await went_down(r, ports, service, "canary/down: its canary went down under traffic", status)
    look = await look_at(r, ports, service)
    sealed = look.sealed(r, ports)
    if look.verdict.may_act_alone and look.verdict.outcome in TAKES_BACK:
        return [*sealed, draft(r, await regression(r, ports, look, look.verdict.sentence))]
    if (block := await blocked(r, ports)) is not None:
        return [*sealed, *await paused(r, ports, block)]
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
        return await renew(r, ports, service, status.weight_percent, look.sealed(r, ports), decision=holding)
    windows = look.seen.windows
    due = windows and windows[-1].end_ms - windows[0].start_ms >= plan.segment_ms
    return look.sealed(r, ports) if due else _starved(r, ports, service, look)


def _starved(r: Rollout, ports: Ports, service: ServiceConfig, look: Look) -> list[Draft]:
    """Say that a step goes on for want of requests: nobody else can tell why nothing happens."""
    plan, now = service.plan, ports.clock.now()
    patience = timedelta(milliseconds=max(STARVED_AFTER_MS, 2 * plan.step_dwell_ms))
    if look.verdict.promotion.step_requests >= plan.step_requests or now < (r.step_started_at or now) + patience:
        return []
    if r.waiting is not None and r.waiting.waits_for is e.WaitsFor.PERSON:
        return []  # said already; later looks have other numbers
    seen = "too few requests" if look.verdict.promotion.step_requests else "no request"
    who = current(r).deliveries[0] if current(r).deliveries else "DELIVERY"
    reason = (
        f"{seen} reached the canary at {r.weight_percent} %: this step needs {plan.step_requests}. "
        f"Send {service.name} traffic, or go on without proof: flyball promote {who}"
    )
    if look.verdict.outlook:
        reason += f". {look.verdict.outlook[-1]}"
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


async def _promote(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    decision = reasons.promoting(r, await ground(r, ports, None, *SEEN))
    outcome, until = await set_weight(r, ports, service, 100, decision)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    promoted = e.Promoted(release=release.number, verdict=r.last_verdict, until=until, decision=decision)
    return [draft(r, promoted)]
