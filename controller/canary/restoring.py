"""REGRESSED: all traffic to the confirmed release, its health verified, and the culprit named."""

from __future__ import annotations

from datetime import UTC, datetime

from controller.canary.attributing import attribute
from controller.canary.choosing import in_landing_order
from controller.canary.common import RESPONDER, current, draft, page, place, unsettled, wait
from controller.canary.plain_words import culprit
from controller.canary.recovery import badness_of
from controller.domain import events as e
from controller.domain.blame import Badness, Share
from controller.domain.control import fold_people
from controller.domain.decision import Claim, Decision, at_entry, decide
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Draft
from controller.domain.ids import DeliveryId, EffectKey, delivery_stream, people_stream, rest_of
from controller.domain.rollout import Release, Rollout, RolloutPhase
from controller.domain.verbs import RestoreTraffic
from controller.domain.verdict import JudgeConfig
from controller.history.citing import last_of, newest, opened
from controller.ports import Done, Ports


async def restore(r: Rollout, ports: Ports) -> list[Draft]:
    release, (repository, service) = current(r), place(r, ports)
    if r.confirmed is None:
        failed = release.regression.reason if release.regression else "it failed"
        said = release.regression.detail if release.regression else None
        reason = f"{failed}; there is no confirmed release to return to"
        return [draft(r, e.RolloutStuck(release=release.number, reason=reason[:600], detail=said))]
    verb = RestoreTraffic(service=service.name, environment=service.environment, release=release.number)
    key = EffectKey(f"restore/{rest_of(r.stream)}/{release.number}/{r.unstuck}")
    decision = await _restoring(r, ports, release)
    outcome = await ports.gate.act(RESPONDER, verb, key=key, decision=decision, subject=r.stream)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    if outcome.result.health_checks == 0:
        reason = f"all traffic is on release {r.confirmed.number}, but that is not healthy either"
        return [draft(r, e.RolloutStuck(release=release.number, reason=reason))]
    carried = [fold_delivery(one, await ports.log.read(delivery_stream(one))) for one in release.deliveries]
    found = await attribute(r, ports, release, await in_landing_order(carried, repository.name, ports))
    if found.blame is not None and found.blame.share is Share.SHARED:
        words = f"release {release.number} was rolled back, and no change of it is blamed: {found.blame.reason}"
        await page(r, ports, "shared", words)
    restored = e.TrafficRestored(
        release=release.number,
        to_release=r.confirmed.number,
        traffic_back_at=datetime.fromtimestamp(outcome.result.at_ms / 1000, UTC),
        health_checks=outcome.result.health_checks,
        culprits=tuple(d.id for d in found.culprits),
        bad_commits=found.bad_commits,
        suspects=found.suspects,
        blame=found.blame,
        rivals=found.rivals,
        badness=_badness(release, service.judge),
    )
    return [draft(r, restored)]


async def unstick(r: Rollout, ports: Ports) -> list[Draft]:
    """STUCK: a named person lets it go on where it stood; a first release that failed makes room for another."""
    words = fold_people(await ports.log.read(people_stream(DeliveryId(rest_of(r.stream)))))
    if words.unstuck_times > r.unstuck and words.unstuck_by is not None:
        nowhere = r.stuck_from is None or (r.confirmed is None and r.stuck_from is RolloutPhase.REGRESSED)
        to = RolloutPhase.IDLE if nowhere or r.stuck_from is None else r.stuck_from
        return [draft(r, e.Unstuck(by=words.unstuck_by, to=to.value))]
    reason = f"a person must look: {r.stuck_reason}; then `flyball unstick {rest_of(r.stream)}`"
    await page(r, ports, f"stuck-{r.unstuck}", f"{rest_of(r.stream)} is stuck. {reason}", await _said(r, ports))
    return wait(r, ports, e.WaitsFor.PERSON, ports.bounds.consent_seconds, reason)


def _badness(release: Release, config: JudgeConfig) -> Badness | None:
    """What must be seen to have ended. None: it went down or never ran, and the health checks have said that it is."""
    verdict = release.regression.verdict if release.regression else None
    if verdict is None or verdict.first_crossing_window is None:
        return None
    return badness_of(culprit(verdict.evidence), config)


async def _said(r: Rollout, ports: Ports) -> str:
    """What the world said when it got stuck. Empty: nothing."""
    found = last_of(await ports.log.read(r.stream), e.RolloutStuck)
    return await opened(ports.seals, found.event.detail) if found and isinstance(found.event, e.RolloutStuck) else ""


async def _restoring(r: Rollout, ports: Ports, release: Release) -> Decision:
    found = release.regression_entry
    judged = at_entry(found) if found is not None else await newest(ports.log, r.stream)
    why = release.regression.reason if release.regression else "it regressed"
    return decide(
        f"Take all traffic off release {release.number}?",
        "roll back",
        over={
            "wait for more evidence": "it has crossed its line",
            "restart the canary": "users would go on being hurt",
        },
        because=(Claim(text=why, evidence=judged),),
        would_change="nothing: a safe verb needs no permission beyond its grant",
        fallback="the platform's own deadline does the same",
        rules=("rollout/restore-confirmed",),
        policy=ports.caller.policy,
    )
