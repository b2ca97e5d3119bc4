"""MERGED: join the release that carries it, or end here when there is nothing to deploy."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery
from controller.domain.entry import Draft
from controller.domain.ids import rollout_stream
from controller.domain.rollout import ReleaseEnd, RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import draft, overdue, tell, wait

AGENT = "releaser"


async def deploy(d: Delivery, ports: Ports) -> list[Draft]:
    service = ports.repository(d.repository).service
    if d.merged is None:
        raise Permanent(f"{d.id} is merged without a commit", "Run `flyball log verify`")
    if service is None:
        why = f"no service is configured for {d.repository}, so there is nothing to deploy"
        reason = f"merged as {d.merged.commit[:12]}; {why}"
        return await _confirm(d, ports, reason, None)
    stream = rollout_stream(service.name, service.environment)
    state = fold_rollout(stream, await ports.log.read(stream))
    release = state.release_of(d.id, after=d.left_release)
    if state.phase is RolloutPhase.STUCK and release is None:
        return [draft(d, e.Stuck(reason=f"{stream} is stuck: {state.stuck_reason}"[:600]))]
    if release is not None and release.end is ReleaseEnd.NOTHING:
        return await _confirm(d, ports, f"nothing to deploy: {release.reason}", release.number)
    if release is not None and (release.artefact is not None or release.regression is not None):
        return [draft(d, e.RolloutJoined(release=release.number, commit=release.commit))]
    if overdue(d, ports):
        raise Permanent(f"{d.id} has waited for a release of {service.name} too long", "Look at `flyball status`")
    return wait(
        d,
        ports,
        e.WaitsFor.ROLLOUT,
        on=stream,
        seconds=ports.bounds.wait_seconds,
        reason=f"the next release of {service.name}",
    )


async def _confirm(d: Delivery, ports: Ports, reason: str, release: int | None) -> list[Draft]:
    if not await tell(d, ports, AGENT, "confirmed", f"{d.id} is done: {reason}"):
        return []
    return [draft(d, e.DeliveryConfirmed(reason=reason, release=release))]
