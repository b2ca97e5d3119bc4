"""Which part of what has landed goes out next: in landing order, and in halves while suspects remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controller.canary.blame import first_half
from controller.domain.control import undo_of
from controller.domain.delivery import TERMINAL, Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.events import Landed
from controller.domain.ids import Commit, DeliveryId, Repository, delivery_stream, queue_stream
from controller.domain.queue import fold as fold_queue
from controller.domain.rollout import Regression, Rollout, deployable
from controller.ports import Ports

OLDEST, SPLIT = "rollout/oldest-first", "rollout/split"


@dataclass(frozen=True, slots=True)
class Target:
    commit: Commit | None  # None: nothing may go out now
    why: str  # the reason for it, or what stands in the way
    rule: str = OLDEST


async def in_landing_order(merged: list[Delivery], repository: Repository, ports: Ports) -> list[Delivery]:
    """First landed first. Main is one line, so of two commits one contains the other.

    How long they wait says something else: what went again has begun to wait anew.
    """
    ordered: list[Delivery] = []
    for one in merged:
        low, high = 0, len(ordered)
        while low < high:
            middle = (low + high) // 2
            if await _contains(one, ordered[middle], repository, ports):
                low = middle + 1
            else:
                high = middle
        ordered.insert(low, one)
    return ordered


async def next_half(r: Rollout, ports: Ports, waiting: list[Delivery]) -> Target | None:
    """The first half of the suspects, once all of them are back in the line. None: there are no suspects."""
    remaining = [one.delivery for one in r.suspects if not await _gone(one.delivery, ports)]
    half = first_half(remaining)
    if not half:
        return None
    back = {one.id: one for one in waiting}
    missing = [one for one in half if one not in back]
    if missing:
        return Target(None, f"{', '.join(missing)} must be back in the line before the suspects go out again", SPLIT)
    last = back[half[-1]].merged
    words = f"no change of the last release stood out: {len(half)} of {len(remaining)} suspects go out again"
    return Target(last.commit if last else None, words, SPLIT)


async def inseparable(r: Rollout, ports: Ports, repository: Repository, suspects: list[Delivery]) -> str | None:
    """Why the first half of them may not go out by itself. None: it may. `suspects` in landing order."""
    last = suspects[len(first_half([one.id for one in suspects])) - 1].merged
    return await undeployable(r, ports, repository, last.commit) if last else None


async def undeployable(r: Rollout, ports: Ports, repository: Repository, commit: Commit) -> str | None:
    """Why a commit may not be deployed. None: it may."""
    if (why := await unproven(ports, repository, commit)) is not None:
        return why
    cures = {regression.bad_commit: await cures_of(regression, ports) for regression in r.open_regressions}
    ancestors = {regression.bad_commit for regression in r.open_regressions} | {
        c for found in cures.values() for c in found
    }
    contained = {a for a in ancestors if await ports.forge.contains(repository, commit, a)}
    return deployable(commit, r.open_regressions, lambda _, a: a in contained, lambda one: cures[one.bad_commit])


async def unproven(ports: Ports, repository: Repository, commit: Commit) -> str | None:
    """Which landing in it is not verified, and neither cured nor let through by a person. None: there is none.

    One that is under way counts: the branch has moved before anybody has looked at what landed.
    """
    line = queue_stream(repository, ports.repository(repository).branch)
    queue = fold_queue(line, await ports.log.read(line))
    plan = queue.plan
    if plan is not None and await ports.forge.contains(repository, commit, plan.tested):
        return f"landing {plan.landing} of it is not verified yet"
    for landed in queue.unverified:
        if not await ports.forge.contains(repository, commit, landed.commit) or await _let_through(landed, ports):
            continue
        cures = await _cures_of(landed.deliveries, ports)
        if not any([await ports.forge.contains(repository, commit, cure) for cure in cures]):
            return f"it contains {landed.commit[:10]}, landing {landed.landing}, which is not verified"
    return None


async def _let_through(landed: Landed, ports: Ports) -> bool:
    """A person has let every delivery of it go on from being stuck: only then is it merged."""
    carried = [await delivery_of(ports, one) for one in landed.deliveries]
    return all(one.merged is not None and one.merged.commit == landed.commit for one in carried)


async def cures_of(regression: Regression, ports: Ports) -> tuple[Commit, ...]:
    return await _cures_of(regression.deliveries, ports)


async def _cures_of(deliveries: Sequence[DeliveryId], ports: Ports) -> tuple[Commit, ...]:
    found = []
    for culprit in deliveries:
        for name in (DeliveryId(f"{culprit}-revert"), undo_of(culprit), DeliveryId(f"{culprit}-fix")):
            one = await delivery_of(ports, name)
            if one.merged is not None:
                found.append(one.merged.commit)
    return tuple(found)


async def delivery_of(ports: Ports, delivery: DeliveryId) -> Delivery:
    return fold_delivery(delivery, await ports.log.read(delivery_stream(delivery)))


async def _gone(delivery: DeliveryId, ports: Ports) -> bool:
    """It has ended, and is in no release any more."""
    return (await delivery_of(ports, delivery)).phase in TERMINAL


async def _contains(one: Delivery, other: Delivery, repository: Repository, ports: Ports) -> bool:
    if one.merged is None or other.merged is None:
        return True
    return await ports.forge.contains(repository, one.merged.commit, other.merged.commit)
