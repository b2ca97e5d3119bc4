"""LIVE: all traffic is on the new release and the former one stands by, until it has baked.

There is nothing left to compare it with: its health is asked for, and it is held against its history (`watching`).
"""

from __future__ import annotations

from datetime import timedelta

from controller.canary import reasons
from controller.canary.common import (
    RELEASER,
    blocked,
    current,
    draft,
    ground,
    held_by,
    ms,
    page,
    place,
    said,
    unsettled,
)
from controller.canary.keeping import paused, renew
from controller.canary.looking import went_down
from controller.canary.watching import alarm
from controller.domain import events as e
from controller.domain.control import People
from controller.domain.entry import Draft
from controller.domain.ids import EffectKey, rest_of
from controller.domain.rollout import Release, Rollout
from controller.domain.verbs import ConfirmRelease
from controller.ports import Ports, ServiceConfig


async def watch(r: Rollout, ports: Ports) -> list[Draft]:  # noqa: PLR0911 - a flat list of what can be
    """LIVE: all traffic is on the new release and the former one stands by, until it has baked."""
    release, (_, service) = current(r), place(r, ports)
    status = await ports.platform.status(service.name, service.environment)
    first = r.confirmed is None
    if status.confirmed_release == release.number:
        return await confirm(r, ports, release, service)
    if status.canary_release != release.number or (status.weight_percent == 0 and not first):
        return [
            draft(r, e.WeightLapsed(release=release.number, step=r.step, seen_weight_percent=status.weight_percent))
        ]
    if not status.canary_healthy:
        return await went_down(r, ports, service, "canary/down: it went down after its promotion", status)
    if (block := await blocked(r, ports)) is not None and not first:
        return await paused(r, ports, block)
    baked = r.live_at is not None and ports.clock.now() >= r.live_at + timedelta(milliseconds=service.plan.bake_ms)
    people = await said(release, ports)
    found = [] if first else await _alarmed(r, ports, service, release)
    if found:
        return found
    if (baked or first) and held_by(people) is None and not _doubted(r, release, people):
        return await confirm(r, ports, release, service)
    on = await ground(r, ports, None, e.Promoted)
    return await renew(r, ports, service, status.weight_percent, [], decision=reasons.baking(r, on))


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


async def confirm(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    verb = ConfirmRelease(service=service.name, environment=service.environment, release=release.number)
    key = EffectKey(f"confirm/{rest_of(r.stream)}/{release.number}/{r.unstuck}")
    decision = reasons.confirming(r, await ground(r, ports, None, e.Promoted))
    outcome = await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    if release.artefact is None:
        raise TypeError(release)
    return [draft(r, e.ReleaseConfirmed(release=release.number, commit=release.commit, artefact=release.artefact))]
