"""ROLLED_BACK: the innocent goes again; the culprit is reverted, and its fix is asked for."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.control import family_of
from controller.domain.decision import Claim, Decision, at_entry, decide
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import DeliveryId, delivery_stream, rollout_stream
from controller.domain.rollout import Release, ReleaseEnd
from controller.domain.rollout import fold as fold_rollout
from controller.errors import Permanent
from controller.history.citing import newest, newest_of
from controller.ports import Ports
from controller.provenance.trailers import title_of
from controller.steps.common import draft, tell

AGENT = "responder"


async def hand_over(d: Delivery, ports: Ports) -> list[Draft]:
    service = ports.repository(d.repository).service
    if service is None or d.merged is None or d.regressed is None:
        raise Permanent(f"{d.id} was rolled back outside any release", "Run `flyball log verify`")
    stream = rollout_stream(service.name, service.environment)
    release = fold_rollout(stream, await ports.log.read(stream)).release_of(d.id, after=d.left_release)
    if release is not None and release.end is ReleaseEnd.ROLLED_BACK and release.restored is None:
        reason = "it was in a first release that a person gave up; the next one carries it"
        return [draft(d, e.WentAgain(release=release.number, reason=reason))]
    if release is None or release.restored is None:
        raise Permanent(f"{d.id} was rolled back by no release", "Run `flyball log verify`")
    if d.id not in release.restored.culprits:
        return [draft(d, e.WentAgain(release=release.number, reason=_innocence(d, release.restored)))]
    if d.asked.cause is e.Cause.REVERT:
        return [draft(d, e.Stuck(reason="the revert itself regressed: a person must look"))]
    return await _hand_over(d, ports, release)


def _innocence(d: Delivery, restored: e.TrafficRestored) -> str:
    if restored.culprits:
        return "another change of the same release was the culprit"
    if d.id in restored.suspects:
        return "no change of the release stood out: it goes out again with half of them"
    return "no change of the release is blamed for it"


async def _hand_over(d: Delivery, ports: Ports, release: Release) -> list[Draft]:
    revert = DeliveryId(f"{d.id}-revert")
    fix = DeliveryId(f"{d.id}-fix") if await _may_fix(d, ports) else None
    why = release.regression.reason if release.regression else release.reason
    words = f"{d.id} was rolled back: {why}. Reverting it as {revert}"
    words += f"; the fix is {fix}" if fix else "; it was a fix already, so the next idea is a person's"
    if not await tell(d, ports, AGENT, "rolled-back", words):
        return []
    title = title_of(await ports.seals.open(d.task))
    reverting = await _request(d, ports, revert, f"Revert: {title}", e.Cause.REVERT, after=None)
    streams = [Draft(delivery_stream(revert), reverting)]
    if fix is not None:
        task = await ports.seals.open(d.task)
        streams.append(Draft(delivery_stream(fix), await _request(d, ports, fix, task, e.Cause.FIX, after=revert)))
    return [draft(d, e.HandedOver(revert=revert, fix=fix, decision=await _decision(d, ports, release, fix))), *streams]


async def _may_fix(d: Delivery, ports: Ports) -> bool:
    """Within the bounds on depth and on what one request may spawn. A fix of a fix is a person's business."""
    depth, bounds = d.asked.depth + 1, ports.bounds
    family = family_of(d.asked.root)
    spawned = [one for one in family if await ports.log.stream(delivery_stream(one)) is not None]
    deep = depth > min(bounds.fix_depth, bounds.spawn_depth)
    return d.asked.cause is e.Cause.TASK and not deep and len(spawned) + 2 <= bounds.fan_out_per_root


async def _request(
    d: Delivery, ports: Ports, delivery: DeliveryId, task: str, cause: e.Cause, *, after: DeliveryId | None
) -> e.TaskRequested:
    return e.TaskRequested(
        delivery=delivery,
        repository=d.repository,
        branch=d.branch,
        task=await ports.seals.seal(task),
        asked_by=d.asked.asked_by,
        source="flyball",
        event_id=f"{d.id}/{cause.value}",
        feature=d.asked.feature,
        cause=cause,
        caused_by=d.id,
        after=after,
        root=d.asked.root,
        depth=d.asked.depth + 1,
        bad_commit=d.merged.commit if d.merged else None,
    )


async def _decision(d: Delivery, ports: Ports, release: Release, fix: DeliveryId | None) -> Decision:
    own = delivery_stream(d.id)
    judged = (
        at_entry(release.regression_entry) if release.regression_entry is not None else await newest(ports.log, own)
    )
    why = release.regression.reason if release.regression else "it regressed"
    return decide(
        f"What becomes of {d.id} after its roll-back?",
        "revert and fix" if fix else "revert and tell a person",
        over={
            "leave it on main": "the next release would carry it again",
            ("revert and tell a person" if fix else "revert and fix"): "the bound on fixes is one deep"
            if not fix
            else "a fix is within bounds",
        },
        because=(
            Claim(text=why, evidence=judged),
            Claim(
                text=f"it is a culprit of release {release.number}",
                evidence=await newest_of(ports.log, own, e.RolledBack),
            ),
        ),
        would_change="another culprit in the same release, or a fix depth above the bound",
        fallback="main stays as it is, and the bad commit stays undeployable",
        rules=("responder/revert-first", "responder/fix-depth"),
        policy=ports.caller.policy,
    )
