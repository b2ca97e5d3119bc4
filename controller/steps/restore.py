"""REGRESSED: wait until all traffic is on the confirmed release and its health is verified."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import rollout_stream
from controller.domain.rollout import ReleaseEnd, RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import draft, wait


async def restore(d: Delivery, ports: Ports) -> list[Draft]:
    service = ports.repository(d.repository).service
    if service is None or d.release is None:
        raise Permanent(f"{d.id} regressed outside any release", "Run `flyball log verify`")
    stream = rollout_stream(service.name, service.environment)
    state = fold_rollout(stream, await ports.log.read(stream))
    release = state.release_of(d.id, after=d.left_release)
    if release is not None and release.restored is not None and release.detected_at is not None:
        stable = next((r for r in state.ended if r.number == release.restored.to_release), None)
        back = e.RolledBack(
            release=release.number,
            to_commit=stable.commit if stable else release.commit,
            detected_at=release.detected_at,
            traffic_back_at=release.restored.traffic_back_at,
            health_checks=release.restored.health_checks,
        )
        return [draft(d, back)]
    if release is not None and release.end is ReleaseEnd.ROLLED_BACK and release.detected_at is not None:
        given_up = e.RolledBack(
            release=release.number,
            to_commit=release.commit,
            detected_at=release.detected_at,
            traffic_back_at=ports.clock.now(),
            health_checks=0,  # nothing had served before it, and a person has given it up
        )
        return [draft(d, given_up)]
    if state.phase is RolloutPhase.STUCK:
        return [draft(d, e.Stuck(reason=f"the roll-back failed: {state.stuck_reason}"))]
    return wait(
        d, ports, e.WaitsFor.ROLLOUT, on=stream, seconds=ports.bounds.wait_seconds, reason="traffic is being taken back"
    )
