"""REGRESSED, once traffic is back: what the log and the traces know of the release, and whose change it was.

It is asked for after the roll-back, never before: users do not wait for blame, and the traces of their last failures
have come in by then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from controller.canary.blame import Scene, Suspected, blame
from controller.canary.choosing import inseparable
from controller.canary.common import ms, place
from controller.canary.evidence import Arms
from controller.canary.rivals import rivals
from controller.domain import events as e
from controller.domain.blame import Blame, Rival, Share
from controller.domain.delivery import Delivery
from controller.domain.ids import Commit, DeliveryId
from controller.domain.risk import Colour
from controller.domain.rollout import Release, Rollout
from controller.errors import FlyballError
from controller.ports import Ports, ServiceConfig

NO_TRACES = "traces"


@dataclass(frozen=True, slots=True)
class Attribution:
    culprits: tuple[Delivery, ...]  # to be reverted
    suspects: tuple[DeliveryId, ...]  # to go out again in halves, in landing order
    blame: Blame | None  # None: there was only one change to blame
    rivals: tuple[Rival, ...]

    @property
    def bad_commits(self) -> tuple[Commit, ...]:
        return tuple(d.merged.commit for d in self.culprits if d.merged is not None)


async def attribute(r: Rollout, ports: Ports, release: Release, carried: list[Delivery]) -> Attribution:
    """`carried` in landing order. Who can neither be told apart nor sent out apart is reverted together."""
    repository, service = place(r, ports)
    tried: tuple[Rival, ...] = ()
    try:
        scene = await _scene(r, ports, release, service)
    except FlyballError as error:  # traffic is back: what is missing may cost a split, and must not cost the record
        reason = f"the traces of release {release.number} could not be had: {type(error).__name__}"
        scene = _nothing_seen(r, release, service)
        tried = (Rival(name=NO_TRACES, held=False, reason=reason, exculpates=False),)
    tried += rivals(release.regression.verdict if release.regression else None, scene, service.judge)
    possible = to_blame(carried)
    if len(possible) <= 1:
        return Attribution(tuple(possible), (), None, tried)
    known = {one.delivery: one.log_e_micro for one in r.suspects}
    suspected = [_suspected(d, r, known.get(d.id, 0)) for d in possible]
    found = blame(suspected, scene, tried, service.judge)
    culprits = tuple(d for d in possible if d.id == found.culprit)
    vetoed = {one.delivery for one in found.candidates if one.veto}
    if found.share is not Share.SPLIT:
        return Attribution(culprits, (), found, tried)
    suspects = [d for d in possible if d.id not in vetoed]
    if (why := await inseparable(r, ports, repository.name, suspects)) is not None:
        told = found.model_copy(update={"reason": f"{found.reason}; nor can they go out apart: {why}"[:600]})
        return Attribution(tuple(suspects), (), told, tried)
    return Attribution((), tuple(d.id for d in suspects), found, tried)


def to_blame(carried: list[Delivery]) -> list[Delivery]:
    """Who may be reverted: a revert, which restores what has served before, only where there is nothing else."""
    others = [d for d in carried if d.asked.cause is not e.Cause.REVERT]
    return others or carried


def _suspected(d: Delivery, r: Rollout, log_e_micro: int) -> Suspected:
    return Suspected(
        delivery=d.id,
        files=d.change.files if d.change else (),
        lines=d.change.lines_changed if d.change else 0,
        colour=d.risk.verdict.colour if d.risk else Colour.YELLOW,
        exposed_since_ms=ms(r.exposed_at) if r.exposed_at else None,
        log_e_micro=log_e_micro,
    )


async def _scene(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> Scene:
    """Traces of the last step, while both arms served side by side; empty where no user met the release."""
    empty = _nothing_seen(r, release, service)
    if r.step_started_at is None or r.exposed_at is None:
        return empty
    until = r.live_at or release.detected_at or ports.clock.now()
    began = r.exposed_at - timedelta(milliseconds=service.plan.baseline_ms)
    name = service.name
    now = await ports.telemetry.traces(name, from_ms=ms(r.step_started_at), to_ms=ms(until))
    before = await ports.telemetry.traces(name, from_ms=ms(began), to_ms=ms(r.exposed_at))
    return replace(empty, groups=now, before=before)


def _nothing_seen(r: Rollout, release: Release, service: ServiceConfig) -> Scene:
    baseline = r.confirmed.version if r.confirmed else release.commit
    onset = release.regression.first_bad_request_at if release.regression else None
    return Scene(
        arms=Arms(f"{service.name}@{release.commit}", f"{service.name}@{baseline}"),
        groups=(),
        phi_milli=r.ready.phi.milli if r.ready else service.judge.phi_prior_milli,
        onset_ms=ms(onset) if onset and r.exposed_at else None,
    )
