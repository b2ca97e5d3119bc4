"""IDLE, OPENED and BUILT: choose what to release, build it, and get its canary on its feet."""

from __future__ import annotations

from datetime import timedelta

from controller.canary.boundaries import choose_boundaries, no_boundaries
from controller.canary.choosing import (
    Target,
    cures_of,
    delivery_of,
    in_landing_order,
    next_half,
    undeployable,
    unproven,
)
from controller.canary.common import RELEASER, blocked, current, draft, held_by, ms, page, place, said, unsettled, wait
from controller.canary.dispersion import estimate_latency_phi, estimate_phi, prior_phi
from controller.canary.silence import silence_of
from controller.canary.watching import alarm
from controller.canary.weights import settle
from controller.domain import events as e
from controller.domain.counts import Totals
from controller.domain.decision import Claim, Decision, at_commit, decide
from controller.domain.delivery import Delivery, Phase
from controller.domain.entry import Draft
from controller.domain.ids import Commit, DeliveryId, EffectKey, rest_of
from controller.domain.rollout import Release, Rollout
from controller.domain.verbs import Build, StartCanary
from controller.domain.verdict import BoundarySource
from controller.errors import Permanent
from controller.history.citing import in_clear
from controller.ports import Done, Failed, Ports, RepositoryConfig, ServiceConfig

ROUTES_APART = 8  # the busiest: each route more makes the others' share of alpha smaller
FIRST = "there is no confirmed release to compare with: only its health is judged"


async def open_release(r: Rollout, ports: Ports) -> list[Draft]:  # noqa: PLR0911 - a flat list of what can be
    """IDLE: the oldest merged change that may be deployed, with everything that came with it."""
    await settle(r, ports)
    if (closed := await _closed(r, ports)) is not None:
        return [draft(r, closed)]
    repository, service = place(r, ports)
    if (raised := await _live_alarm(r, ports, service)) is not None:
        return [raised]
    waiting = await _waiting(r, ports)
    if not waiting and r.confirmed is not None:
        return []
    if (block := await blocked(r, ports)) is not None:
        return wait(r, ports, e.WaitsFor.FREEZE, ports.bounds.wait_seconds, in_clear(block))
    target = await _target(r, ports, repository, service, waiting)
    if (commit := target.commit) is None:
        return wait(r, ports, e.WaitsFor.AFTER, ports.bounds.wait_seconds, target.why)
    carried = tuple(
        [d.id for d in waiting if d.merged and await ports.forge.contains(repository.name, commit, d.merged.commit)]
    )
    release = Release(r.releases + 1, commit, carried, None, ports.clock.now())
    if (person := held_by(await said(release, ports))) is not None:
        return wait(r, ports, e.WaitsFor.PERSON, ports.bounds.wait_seconds, f"held by {person}")
    opened = e.ReleaseOpened(
        release=release.number,
        service=service.name,
        environment=service.environment,
        repository=repository.name,
        commit=commit,
        deliveries=carried,
        against=r.confirmed.number if r.confirmed else None,
        decision=_opening(r, commit, carried, target).under(ports.caller.policy),
    )
    return [draft(r, opened)]


async def _live_alarm(r: Rollout, ports: Ports, service: ServiceConfig) -> Draft | None:
    """What is live goes on being held against its history. None: nothing new looks wrong."""
    if r.confirmed is None:
        return None
    raised = await alarm(r, ports, service, r.confirmed, ms(ports.clock.now()))
    if raised is None:
        return None
    await page(r, ports, raised.what, f"{raised.reason}. Look at it, or ask for its revert")
    return draft(r, raised)


async def build(r: Rollout, ports: Ports) -> list[Draft]:
    """OPENED: what is deployed is what the build command makes of the commit; the same output is not deployed twice."""
    release, (repository, service) = current(r), place(r, ports)
    verb = Build(
        service=service.name, environment=service.environment, repository=repository.name, commit=release.commit
    )
    key = EffectKey(f"build/{rest_of(r.stream)}/{release.commit}/{r.unstuck}")
    decision = _building(release).under(ports.caller.policy)
    outcome = await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)
    if isinstance(outcome, Failed):
        return [await _never_ran(r, ports, "rollout/build-failed: the build failed", outcome.reason)]
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    if not isinstance(outcome, Done):
        raise TypeError(outcome)
    artefact = outcome.result.artefact
    if r.confirmed is not None and r.confirmed.artefact == artefact:
        reason = f"the build of {release.commit[:12]} is byte for byte what release {r.confirmed.number} already serves"
        return [draft(r, e.NothingToDeploy(release=release.number, artefact=artefact, reason=reason))]
    how = {"duration_ms": outcome.result.duration_ms, "isolation": outcome.result.isolation}
    return [draft(r, e.ArtefactBuilt(release=release.number, artefact=artefact, **how))]


async def start(r: Rollout, ports: Ports) -> list[Draft]:
    """BUILT: instances beside the confirmed release, at weight 0, until they are healthy and the baseline is known."""
    release, (_, service) = current(r), place(r, ports)
    if (block := await blocked(r, ports)) is not None:
        return [draft(r, e.ReleasePaused(release=release.number, reason=in_clear(block)))]
    if release.artefact is None:
        raise Permanent(f"release {release.number} is built without an artefact", "Run `flyball log verify`")
    verb = StartCanary(
        service=service.name,
        environment=service.environment,
        release=release.number,
        commit=release.commit,
        artefact=release.artefact,
        instances=service.plan.canary_instances,
    )
    key = EffectKey(f"canary/{rest_of(r.stream)}/{release.number}/{r.attempts}/{r.unstuck}")
    decision = _starting(release, r.attempts).under(ports.caller.policy)
    outcome = await ports.gate.act(RELEASER, verb, key=key, decision=decision, subject=r.stream)
    if isinstance(outcome, Failed):
        return [await _never_ran(r, ports, "rollout/not-started: its canary could not start", outcome.reason)]
    if (waiting := await unsettled(r, ports, outcome)) is not None:
        return waiting
    return await _starting_up(r, ports, release, service)


async def _starting_up(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    """Healthy, not yet, or never."""
    status = await ports.platform.status(service.name, service.environment)
    if status.canary_release != release.number:
        said = status.canary_reason or "the platform does not know it"
        return [await _never_ran(r, ports, "rollout/canary-gone: its canary is gone", said)]
    if not status.canary_healthy:
        if status.canary_reason or (r.waiting is not None and ports.clock.now() >= r.waiting.until):
            reason = f"rollout/not-healthy: it never became healthy within {service.plan.ready_seconds} s"
            return [await _never_ran(r, ports, reason, status.canary_reason)]
        return wait(r, ports, e.WaitsFor.EFFECT, service.plan.ready_seconds, "its canary is starting")
    return await _ready(r, ports, release, service)


async def _ready(r: Rollout, ports: Ports, release: Release, service: ServiceConfig) -> list[Draft]:
    instances = service.plan.canary_instances
    if r.ready is not None:  # another attempt of the same release goes on with the same e-process
        return [draft(r, r.ready.model_copy(update={"instances": instances}))]
    if r.confirmed is None:
        ready = e.CanaryReady(
            release=release.number,
            instances=instances,
            boundaries=no_boundaries(),
            phi=prior_phi(service.judge),
            caveats=(FIRST,),
        )
        return [draft(r, ready)]
    return [draft(r, await _measured(r.confirmed, release, service, ports))]


async def _measured(confirmed: Release, release: Release, service: ServiceConfig, ports: Ports) -> e.CanaryReady:
    """What the confirmed release is like, before the canary has any traffic: everything that a judge may presume."""
    plan, now = service.plan, ports.clock.now()
    since = now - timedelta(milliseconds=plan.baseline_ms)
    seen = await ports.telemetry.baseline(
        service.name, confirmed.version, from_ms=ms(since), to_ms=ms(now), width_ms=plan.window_ms
    )
    boundaries = choose_boundaries(seen.latency, service.judge, BoundarySource.HISTORY)
    return e.CanaryReady(
        release=release.number,
        instances=plan.canary_instances,
        boundaries=boundaries,
        phi=estimate_phi(seen.instances, service.judge),
        latency_phi=estimate_latency_phi(seen.instances, boundaries, service.judge),
        callers=seen.callers,
        routes=tuple(sorted(seen.routes[:ROUTES_APART])) if len(seen.routes) > 1 else (),
        gauges=tuple(name for name in service.judge.gauges if name in seen.gauges),
        silence=silence_of(seen.windows_asked, seen.windows_silent, service.judge) if seen.callers else None,
        history=Totals(requests=seen.requests, errors=seen.errors) if seen.requests else None,
        caveats=(
            f"the baseline was {seen.requests} requests of the last {plan.baseline_ms // 1000} s",
            f"judged by {ports.telemetry.source}",
        ),
    )


async def _waiting(r: Rollout, ports: Ports) -> list[Delivery]:
    found = []
    for row in await ports.log.waiting_on(r.stream):
        if not row.stream.startswith("delivery/"):
            continue
        one = await delivery_of(ports, DeliveryId(rest_of(row.stream)))
        if one.phase is Phase.MERGED and one.merged and r.release_of(one.id, after=one.left_release) is None:
            found.append(one)
    return await in_landing_order(found, place(r, ports)[0].name, ports)


async def _target(
    r: Rollout, ports: Ports, repository: RepositoryConfig, service: ServiceConfig, waiting: list[Delivery]
) -> Target:
    """`waiting` in landing order."""
    tip = await ports.forge.tip(repository.name, repository.branch)
    if tip is None:
        raise Permanent(f"{repository.name} has no branch {repository.branch}", "Create it, or set repository.branch")
    if not waiting or r.confirmed is None:
        if (why := await unproven(ports, repository.name, tip)) is not None:
            return Target(None, why)
        return Target(tip, "nothing has been deployed yet: the tip of the branch is the first release")
    wanted = await next_half(r, ports, waiting) or _oldest(waiting[: service.plan.changes_per_release])
    if wanted.commit is None:
        return wanted
    why = await undeployable(r, ports, repository.name, wanted.commit)
    if why is None:
        return wanted
    if (still := await undeployable(r, ports, repository.name, tip)) is None:
        return Target(tip, f"the tip, for {wanted.commit[:12]} may not go out: {why}")
    return Target(None, still)


def _oldest(waiting: list[Delivery]) -> Target:
    newest = waiting[-1].merged
    if newest is None:
        raise Permanent(f"{waiting[-1].id} waits for a release without being merged", "Run `flyball log verify`")
    if len(waiting) == 1:
        return Target(newest.commit, "the oldest merged change that waits")
    return Target(newest.commit, f"the {len(waiting)} oldest merged changes that wait")


async def _closed(r: Rollout, ports: Ports) -> e.RegressionClosed | None:
    """A regression whose cure is in the confirmed release. None: there is none."""
    if r.confirmed is None:
        return None
    repository, _ = place(r, ports)
    for regression in r.open_regressions:
        for cure in await cures_of(regression, ports):
            if await ports.forge.contains(repository.name, r.confirmed.commit, cure):
                return e.RegressionClosed(bad_commit=regression.bad_commit, cured_by=cure)
    return None


async def _never_ran(r: Rollout, ports: Ports, reason: str, said: str) -> Draft:
    """`said` by the world, sealed. Empty: nothing."""
    decision = decide(
        f"Release {current(r).number} cannot serve: what now?",
        "give it up",
        over={"try again": "the same commit gives the same result"},
        because=(Claim(text=reason, evidence=at_commit(current(r).commit)),),
        would_change="a build that works or a health check that answers 200",
        fallback="no user has seen it; the confirmed release serves on",
        rules=("rollout/must-become-healthy",),
        policy=ports.caller.policy,
    )
    found = e.RegressionFound(
        release=current(r).number,
        step=None,
        weight_percent=0,
        reason=reason,
        first_bad_request_at=None,
        verdict=None,
        decision=decision,
        detail=await ports.seals.seal(said) if said else None,
    )
    return draft(r, found)


def _opening(r: Rollout, commit: Commit, carried: tuple[DeliveryId, ...], target: Target) -> Decision:
    against = f"release {r.confirmed.number}" if r.confirmed else "nothing"
    return decide(
        f"What is the next release of {rest_of(r.stream)}?",
        commit[:12],
        over={"nothing yet": "a merged change waits" if carried else "the service is not running"},
        because=(
            Claim(
                text=f"it carries {', '.join(carried) or 'the branch as it is'}; compared with {against}"[:600],
                evidence=at_commit(commit),
            ),
            Claim(text=target.why[:600], evidence=at_commit(commit)),
        ),
        would_change="an open regression in it that nothing in it cures, a stop, or a hold",
        fallback="traffic stays on the confirmed release",
        rules=(target.rule, "rollout/deployable"),
    )


def _building(release: Release) -> Decision:
    return decide(
        f"Build {release.commit[:12]}?",
        "build",
        over={"deploy the tree": "what is deployed is named by the digest of its build"},
        because=(Claim(text=f"release {release.number} is open for it", evidence=at_commit(release.commit)),),
        would_change="an earlier build of the same commit, which is taken as it is",
        fallback="a build touches nothing that serves",
        rules=("rollout/build-by-commit",),
    )


def _starting(release: Release, attempt: int) -> Decision:
    return decide(
        f"Start a canary of release {release.number}?",
        "start",
        over={"replace the confirmed release": "nothing is known of how it behaves"},
        because=(
            Claim(
                text=f"artefact {release.artefact}, attempt {attempt}, at weight 0", evidence=at_commit(release.commit)
            ),
        ),
        would_change="a stop or a freeze",
        fallback="stop the canary; it has no traffic",
        rules=("rollout/canary-first",),
    )
