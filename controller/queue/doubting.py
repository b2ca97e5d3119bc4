"""UNVERIFIED: what becomes of a branch whose last landing is not what was tested.

Nothing else lands while the queue is in this phase, and nothing that contains the landing is deployed (canary/choosing
reads the same entry). In one append the branch is frozen, the repair is asked for, and the queue says what it did; so a
crash before it changes nothing, and after it nothing is done again. Whoever asked and whoever is on call are told
first: a message that does not get through stops nothing. A person lifts the freeze with `flyball resume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from controller.domain import events as e
from controller.domain.control import branch_scope, by_agent
from controller.domain.decision import Claim, Decision, at_commit, decide
from controller.domain.delivery import Delivery
from controller.domain.delivery import fold as fold_delivery
from controller.domain.entry import Draft
from controller.domain.events.queue import Doubt
from controller.domain.ids import (
    CONTROL,
    Branch,
    DeliveryId,
    EffectKey,
    Repository,
    delivery_stream,
    rest_of,
)
from controller.domain.queue import Queue
from controller.domain.verbs import Tell
from controller.errors import Permanent
from controller.history.citing import newest_of
from controller.ports import Ports
from controller.provenance.trailers import title_of

AGENT = "merger"
ON_CALL = "on-call"
WORDS: Mapping[Doubt, str] = {
    "missing": "the branch does not hold the commit that was tested",
    "another_tree": "its tree is not the tree that was tested",
    "stray_files": "it touches files that its change does not have",
}


@dataclass(frozen=True, slots=True)
class Repair:
    revert: DeliveryId | None  # None: no revert is safe, a person repairs it
    proposal: str


async def doubt(q: Queue, ports: Ports) -> list[Draft]:
    if not q.unverified:
        raise Permanent(f"{q.stream} doubts no landing", "Run `flyball log verify`")
    landed, (repository, branch) = q.unverified[-1], _place(q)
    name = landed.deliveries[0]
    first = fold_delivery(name, await ports.log.read(delivery_stream(name)))
    repair = repair_of(landed, first, repository, branch)
    scope = branch_scope(repository, branch)
    decision = (await _decision(q, ports, landed, repair)).under(ports.caller.policy)
    await _tell(q, ports, first, telling_words(first, landed, repair, branch), decision)
    why = f"landing {landed.landing} ({landed.commit[:12]}) is not verified: {words_of(landed.doubts)}"
    doubted = e.LandingDoubted(
        landing=landed.landing,
        commit=landed.commit,
        doubts=landed.doubts,
        repair=repair.revert,
        proposal=repair.proposal,
        decision=decision,
    )
    drafts = [Draft(q.stream, doubted), Draft(CONTROL, e.Frozen(scope=scope, reason=why[:600]))]
    if repair.revert is not None and await ports.log.stream(delivery_stream(repair.revert)) is None:
        drafts.append(Draft(delivery_stream(repair.revert), await _revert(first, landed, repair.revert, ports)))
    return drafts


def repair_of(landed: e.Landed, first: Delivery, repository: Repository, branch: Branch) -> Repair:
    """A revert where the branch holds the landing and undoing it is safe; else what a person is to do."""
    scope = branch_scope(repository, branch)
    lift = f"then lift the freeze: `flyball resume {scope}`"
    commit = landed.commit[:12]
    if "missing" in landed.doubts:
        look = f"`git log {landed.base[:12]}..{branch}` in the forge's {repository}"
        return Repair(
            None, f"Somebody outside has moved {branch}: look at {look}, put {commit} back or leave it, {lift}"
        )
    if first.asked.cause is e.Cause.REVERT:
        return Repair(None, f"{commit} is a revert, and undoing it would bring back what it undid: look at it, {lift}")
    revert = DeliveryId(f"{first.id}-revert")
    return Repair(revert, f"Its revert is {revert}, which lands first: look at {commit}, {lift}")


def words_of(doubts: tuple[Doubt, ...]) -> str:
    return "; ".join(WORDS[one] for one in doubts) or "an older version did not say why"


def telling_words(first: Delivery, landed: e.Landed, repair: Repair, branch: Branch) -> str:
    return (
        f"{first.id} landed on {branch} as {landed.commit[:12]}, and that landing is NOT VERIFIED: "
        f"{words_of(landed.doubts)}. {branch} is frozen: nothing lands on it and nothing of it is deployed. "
        f"{repair.proposal}"
    )


async def _tell(q: Queue, ports: Ports, first: Delivery, words: str, decision: Decision) -> None:
    """Once to each of them, however often this is tried."""
    asked_by, landing = first.asked.asked_by, q.unverified[-1].landing
    for to in dict.fromkeys((ON_CALL if by_agent(asked_by) else asked_by, ON_CALL)):
        verb = Tell(to=to, thread=first.asked.root, text=words)
        key = EffectKey(f"unverified/{rest_of(q.stream)}/{landing}/{to}")
        await ports.gate.act(AGENT, verb, key=key, decision=decision, subject=q.stream, on_behalf_of=asked_by)


async def _revert(first: Delivery, landed: e.Landed, revert: DeliveryId, ports: Ports) -> e.TaskRequested:
    title = title_of(await ports.seals.open(first.task))
    return e.TaskRequested(
        delivery=revert,
        repository=first.repository,
        branch=first.branch,
        task=await ports.seals.seal(f"Revert: {title}"),
        asked_by=first.asked.asked_by,
        source="flyball",
        event_id=f"{first.id}/unverified/{landed.landing}",
        feature=first.asked.feature,
        cause=e.Cause.REVERT,
        caused_by=first.id,
        after=None,
        root=first.asked.root,
        depth=first.asked.depth + 1,
        bad_commit=landed.commit,
    )


def _place(q: Queue) -> tuple[Repository, Branch]:
    repository, _, branch = rest_of(q.stream).partition("@")
    return Repository(repository), Branch(branch)


async def _decision(q: Queue, ports: Ports, landed: e.Landed, repair: Repair) -> Decision:
    return decide(
        f"What becomes of {rest_of(q.stream)} after landing {landed.landing}?",
        "freeze it",
        over={
            "go on": "what is on the branch is not what was tested",
            "put the branch back": "whoever moved it may know why; a person looks first",
        },
        because=(
            Claim(text=words_of(landed.doubts), evidence=await newest_of(ports.log, q.stream, e.Landed)),
            Claim(text=repair.proposal[:600], evidence=at_commit(landed.commit)),
        ),
        would_change="a branch that holds the tested commit, with the tested tree and no other files",
        fallback="the branch stays frozen until a named person lifts it",
        rules=("queue/verified-or-frozen",),
    )
