"""DEPLOYING and DEPLOYED: say what the rollout has decided."""

from __future__ import annotations

from controller.domain import events as e
from controller.domain.delivery import Delivery, Phase
from controller.domain.entry import Draft
from controller.domain.ids import rollout_stream
from controller.domain.rollout import Release, ReleaseEnd, RolloutPhase
from controller.domain.rollout import fold as fold_rollout
from controller.errors import Permanent
from controller.ports import Ports
from controller.steps.common import draft, tell, wait

AGENT = "observer"


async def follow(d: Delivery, ports: Ports) -> list[Draft]:
    service = ports.repository(d.repository).service
    if service is None:
        raise Permanent(
            f"{d.repository} has lost its service while {d.id} was on its way", "Put [service] back into flyball.toml"
        )
    stream = rollout_stream(service.name, service.environment)
    state = fold_rollout(stream, await ports.log.read(stream))
    release = state.release_of(d.id, after=d.left_release)
    if release is None:
        raise Permanent(f"{d.id} is in no release of {stream}", "Run `flyball log verify`")
    if release.regression is not None and release.regression_entry is not None:
        reason = release.regression.reason
        return [
            draft(d, e.DeliveryRegressed(release=release.number, reason=reason, verdict_entry=release.regression_entry))
        ]
    if d.phase is Phase.DEPLOYING and release.live:
        return [draft(d, e.ReleaseLive(release=release.number))]
    if release.end is ReleaseEnd.CONFIRMED:
        return await _confirmed(d, ports, release)
    if state.phase is RolloutPhase.STUCK:
        return [draft(d, e.Stuck(reason=f"the rollout is stuck: {state.stuck_reason}"))]
    reason = f"release {release.number} of {service.name}"
    return wait(d, ports, e.WaitsFor.ROLLOUT, on=stream, seconds=ports.bounds.wait_seconds, reason=reason)


async def _confirmed(d: Delivery, ports: Ports, release: Release) -> list[Draft]:
    if not await tell(d, ports, AGENT, "confirmed", f"{d.id} is live and confirmed in release {release.number}"):
        return []
    return [draft(d, e.DeliveryConfirmed(reason=f"release {release.number} was confirmed", release=release.number))]
