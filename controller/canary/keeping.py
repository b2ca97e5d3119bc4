"""A canary's weight: renewed with a fresh verdict in hand, or taken back before a stop is waited out."""

from __future__ import annotations

from datetime import timedelta

from controller.canary import reasons
from controller.canary.common import (
    RESPONDER,
    Ground,
    current,
    draft,
    place,
    unsettled,
)
from controller.canary.weights import set_weight
from controller.domain import events as e
from controller.domain.decision import Decision
from controller.domain.entry import Draft
from controller.domain.ids import CONTROL, EffectKey, rest_of
from controller.domain.rollout import Rollout, RolloutPhase
from controller.domain.verbs import RestoreTraffic
from controller.history.citing import in_clear, newest
from controller.ports import Blocked, Ports, ServiceConfig

EXPOSED = (RolloutPhase.CANARY, RolloutPhase.LIVE)


async def renew(
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


async def paused(r: Rollout, ports: Ports, block: Blocked) -> list[Draft]:
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
